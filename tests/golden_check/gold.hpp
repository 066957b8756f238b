#pragma once
/// Golden files of GOLD attention.
#include <filesystem>

#include "golden_check/report.hpp"

namespace aviary::golden_check {

/// A file through the token cache and the layer over it, in float and in double: all tokens at once, and single tokens.
void check_gold_attention(std::filesystem::path const& path, Report& report);

}  // namespace aviary::golden_check
