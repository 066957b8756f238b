#pragma once
/// A wrong size is an exception that names the model and the input.
#include <stdexcept>
#include <string>

#include "aviary/core/config.hpp"

namespace AVIARY_NAMESPACE::reference::detail {

/// Throws std::invalid_argument unless have == want.
inline void expect_size(char const* model, std::string const& input, Index have, Index want) {
  if (have != want)
    throw std::invalid_argument(std::string("aviary::reference::") + model + ": " + input + " has size " +
                                std::to_string(have) + ", expected " + std::to_string(want));
}

}  // namespace AVIARY_NAMESPACE::reference::detail
