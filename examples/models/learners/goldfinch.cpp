#include "models/learners.hpp"

namespace models {
inline namespace AVIARY_ISA {

template std::unique_ptr<Learner<float>> make_goldfinch_learner<GoldFinch<float, aviary::dynamic>>(
    WeightStore<float>&, LearnerOptions const&);

}  // namespace AVIARY_ISA
}  // namespace models
