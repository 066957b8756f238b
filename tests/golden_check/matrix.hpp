#pragma once
/// Golden files of matrix memories.
#include <string>

#include "golden_check/report.hpp"
#include "support/golden_models.hpp"
#include "support/memories.hpp"

namespace aviary::golden_check {

/// max|x - ref| / max|ref| of a recurrence.
inline double recurrence_bound(test::Arithmetic number) { return number == test::Arithmetic::float32 ? 2e-6 : 1e-12; }

/// One file through the kernels of its model, in float and in double: with sizes known at run time, and at compile time
/// where tests have memories of these sizes.
template <class Golden> void check_matrix(std::filesystem::path const& path, Report& report) {
  using test::Arithmetic, test::Sizes;
  test::MatrixGolden const file(path);
  auto const inputs = test::golden_case<Golden>(file);
  test::MatrixResult const expected = test::golden_result(file);
  auto const check = [&](Arithmetic number, Sizes sizes, char const* how) {
    test::MatrixResult const x = test::Memories<typename Golden::Rule>::forward(inputs, number, sizes);
    std::string const type = std::string(test::name(number)) + how;
    report.compare(file.path(), "out", type, x.y, expected.y, recurrence_bound(number));
    report.compare(file.path(), "stateT", type, x.state, expected.state, recurrence_bound(number));
  };
  for (Arithmetic const number : {Arithmetic::float32, Arithmetic::float64}) {
    check(number, Sizes::run_time, "");
#if !defined(AVIARY_TEST_ONE_SIZE)
    if (file.keys() == 16 && file.values() == 16) check(number, Sizes::k16_v16, "<16>");
    if (file.keys() == 64 && file.values() == 64) check(number, Sizes::k64_v64, "<64>");
#endif
  }
}

}  // namespace aviary::golden_check
