#pragma once
/// Golden files of channel memories.
#include <filesystem>

#include "golden_check/report.hpp"

namespace aviary::golden_check {

/// A file of WKV-4 through its kernels, those for a device among them, with the number of channels known at run time and, where it is a common one, at
/// compile time.
void check_wkv4(std::filesystem::path const& path, Report& report);

}  // namespace aviary::golden_check
