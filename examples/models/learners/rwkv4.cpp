#include "models/learners.hpp"

namespace models {
inline namespace AVIARY_ISA {

template std::unique_ptr<Learner<float>> make_block_learner<Rwkv4<float>>(WeightStore<float>&, LearnerOptions const&);

}  // namespace AVIARY_ISA
}  // namespace models
