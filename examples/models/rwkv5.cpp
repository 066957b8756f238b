#include "models/rwkv5.hpp"

namespace models {
inline namespace AVIARY_ISA {

template Loaded load_rwkv5<float>(aviary::TensorFile const&, LoadOptions const&);

}  // namespace AVIARY_ISA
}  // namespace models
