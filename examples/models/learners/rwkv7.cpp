#include "models/learners.hpp"

namespace models {
inline namespace AVIARY_ISA {

template std::unique_ptr<Learner<float>> make_block_learner<Rwkv7<float, 64>>(WeightStore<float>&,
                                                                              LearnerOptions const&);
template std::unique_ptr<Learner<float>> make_block_learner<Rwkv7<float, aviary::dynamic>>(WeightStore<float>&,
                                                                                           LearnerOptions const&);

}  // namespace AVIARY_ISA
}  // namespace models
