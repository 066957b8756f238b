#pragma once
/// Golden files of blocks: a few layers and their states, through the library's layers and the models' readers.
#include <filesystem>

#include "golden_check/report.hpp"

namespace aviary::golden_check {

/// A file of one generation, in float and in double, with head sizes known at run time and, where it is 16, at compile
/// time. Defined and instantiated in sources of their own: there are many layers.
void check_rwkv4_block(std::filesystem::path const& path, Report& report);
void check_rwkv5_per_head_block(std::filesystem::path const& path, Report& report);
void check_rwkv5_block(std::filesystem::path const& path, Report& report);
void check_rwkv6_block(std::filesystem::path const& path, Report& report);
void check_rwkv7_block(std::filesystem::path const& path, Report& report);

}  // namespace aviary::golden_check
