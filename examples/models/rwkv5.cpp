#include "models/rwkv5.hpp"

namespace models {

template Loaded load_rwkv5<float>(aviary::TensorFile const&, LoadOptions const&);

}  // namespace models
