#include "models/rwkv6.hpp"

namespace models {

template Loaded load_rwkv6<float>(aviary::TensorFile const&, LoadOptions const&);

}  // namespace models
