#include "models/goldfinch.hpp"

namespace models {
inline namespace AVIARY_ISA {

template Loaded load_goldfinch<float>(aviary::TensorFile const&, LoadOptions const&);

}  // namespace AVIARY_ISA
}  // namespace models
