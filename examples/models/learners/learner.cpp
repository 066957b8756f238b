#include "models/learners.hpp"

namespace models {
inline namespace AVIARY_ISA {

template WeightStore<float> read_weights(aviary::TensorFile const&, std::function<bool(std::string_view)> const&,
                                         LoadOptions const&);
template std::unique_ptr<Learner<float>> make_learner(WeightStore<float>&, LearnerOptions const&);

}  // namespace AVIARY_ISA
}  // namespace models
