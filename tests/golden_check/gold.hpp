#pragma once
/// Golden files of GOLD attention, and of a model with it.
#include <filesystem>

#include "golden_check/report.hpp"

namespace aviary::golden_check {

/// A file through the token cache and the layer over it, in float and in double: all tokens at once, and single tokens.
void check_gold_attention(std::filesystem::path const& path, Report& report);

/// A file of a whole GoldFinch, in float and in double: logits token by token and at once, and the context after all.
void check_goldfinch_model(std::filesystem::path const& path, Report& report);

}  // namespace aviary::golden_check
