#pragma once
/// Golden files of blocks: a few layers and their states, through the library's layers and the models' readers.
#include <filesystem>

#include "golden_check/report.hpp"

namespace aviary::golden_check {

/// A file of one generation, one of those of support/generations.hpp, in float and in double, with head sizes known at run
/// time and, where it is 16, at compile time. Defined in block_layers.hpp and instantiated in the sources beside it: there
/// are many layers.
template <class Generation> void check_block(std::filesystem::path const& path, Report& report);

}  // namespace aviary::golden_check
