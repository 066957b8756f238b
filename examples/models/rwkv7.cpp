#include "models/rwkv7.hpp"

namespace models {
inline namespace AVIARY_ISA {

template Loaded load_rwkv7<float>(aviary::TensorFile const&, LoadOptions const&);

}  // namespace AVIARY_ISA
}  // namespace models
