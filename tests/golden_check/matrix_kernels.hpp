#pragma once
/// Golden files of matrix memories through the kernels.
#include <string>
#include <type_traits>

#include "golden_check/matrix.hpp"
#include "support/golden_models.hpp"

namespace aviary::golden_check {

/// max|x - ref| / max|ref| of a recurrence in arithmetic T.
template <class T> inline constexpr double recurrence_bound = std::is_same_v<T, float> ? 2e-6 : 1e-12;

/// One file through forward of memory M.
template <class M, class Case>
void check_memory(test::MatrixGolden const& file, Case const& inputs, std::string const& type, Report& report) {
  test::MatrixResult const expected = test::golden_result(file), x = test::RuleRun<M>(inputs).forward().result();
  report.compare(file.path(), "out", type, x.y, expected.y, recurrence_bound<typename M::T>);
  report.compare(file.path(), "stateT", type, x.state, expected.state, recurrence_bound<typename M::T>);
}

/// One file with sizes known at run time, and at compile time where the sizes are among those.
template <class Golden, class T>
void check_type(test::MatrixGolden const& file, std::string const& type, Report& report) {
  auto const inputs = test::golden_case<Golden>(file);
  check_memory<typename Golden::template Memory<T, dynamic, dynamic>>(file, inputs, type, report);
  Index const keys = file.keys(), values = file.values();
  if (keys == 16 && values == 16)
    check_memory<typename Golden::template Memory<T, 16, 16>>(file, inputs, type + "<16>", report);
  if (keys == 64 && values == 64)
    check_memory<typename Golden::template Memory<T, 64, 64>>(file, inputs, type + "<64>", report);
}

template <class Golden> void check_matrix(std::filesystem::path const& path, Report& report) {
  test::MatrixGolden const file(path);
  check_type<Golden, float>(file, "float", report);
  check_type<Golden, double>(file, "double", report);
}

}  // namespace aviary::golden_check
