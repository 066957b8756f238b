#pragma once
/// Golden files of matrix memories.
#include <filesystem>

#include "golden_check/report.hpp"

namespace aviary::golden_check {

/// One file through the kernels of its model, one of those of support/golden_models.hpp. Defined in matrix_kernels.hpp and
/// instantiated in the sources beside it: there are many kernels.
template <class Golden> void check_matrix(std::filesystem::path const& path, Report& report);

}  // namespace aviary::golden_check
