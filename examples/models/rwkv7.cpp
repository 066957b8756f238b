#include "models/rwkv7.hpp"

namespace models {

template Loaded load_rwkv7<float>(aviary::TensorFile const&, LoadOptions const&);

}  // namespace models
