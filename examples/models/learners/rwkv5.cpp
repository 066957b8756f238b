#include "models/learners.hpp"

namespace models {
inline namespace AVIARY_ISA {

template std::unique_ptr<Learner<float>> make_block_learner<Rwkv5PerHead<float, aviary::dynamic>>(
    WeightStore<float>&, LearnerOptions const&);
template std::unique_ptr<Learner<float>> make_block_learner<Rwkv5PerChannel<float, aviary::dynamic>>(
    WeightStore<float>&, LearnerOptions const&);

}  // namespace AVIARY_ISA
}  // namespace models
