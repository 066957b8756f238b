#include "models/goldfinch.hpp"

namespace models {

template Loaded load_goldfinch<float>(aviary::TensorFile const&, LoadOptions const&);

}  // namespace models
