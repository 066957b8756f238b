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
/// where tests have memories of these sizes. Where they have them in the other arithmetic alone, token by token.
template <class Golden> void check_matrix(std::filesystem::path const& path, Report& report) {
  using test::Arithmetic, test::Sizes;
  using Memories = test::Memories<typename Golden::Rule>;
  test::MatrixGolden const file(path);
  auto const inputs = test::golden_case<Golden>(file);
  test::MatrixResult const expected = test::golden_result(file);
  auto const compare = [&](Arithmetic number, std::string const& how, test::MatrixResult const& x) {
    std::string const type = test::name(number) + how;
    report.compare(file.path(), "out", type, x.y, expected.y, recurrence_bound(number));
    report.compare(file.path(), "stateT", type, x.state, expected.state, recurrence_bound(number));
  };
  auto const check_fixed = [&](Arithmetic number, Index size, Sizes sizes) {
    if (file.keys() != size || file.values() != size) return;
    if (test::has(number, sizes))
      compare(number, "<" + std::to_string(size) + ">", Memories::forward(inputs, number, sizes));
    else
      compare(number, " token by token", Memories::steps(inputs, number, Sizes::run_time));
  };
  for (Arithmetic const number : {Arithmetic::float32, Arithmetic::float64}) {
    compare(number, "", Memories::forward(inputs, number, Sizes::run_time));
    check_fixed(number, 16, Sizes::k16_v16);
    check_fixed(number, 64, Sizes::k64_v64);
  }
}

}  // namespace aviary::golden_check
