#include "models/rwkv4.hpp"

namespace models {

template Loaded load_rwkv4<float>(aviary::TensorFile const&, LoadOptions const&);

}  // namespace models
