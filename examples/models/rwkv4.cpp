#include "models/rwkv4.hpp"

namespace models {
inline namespace AVIARY_ISA {

template Loaded load_rwkv4<float>(aviary::TensorFile const&, LoadOptions const&);

}  // namespace AVIARY_ISA
}  // namespace models
