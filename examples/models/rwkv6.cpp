#include "models/rwkv6.hpp"

namespace models {
inline namespace AVIARY_ISA {

template Loaded load_rwkv6<float>(aviary::TensorFile const&, LoadOptions const&);

}  // namespace AVIARY_ISA
}  // namespace models
