#pragma once
/// Golden files of matrix memories.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "golden_check/report.hpp"
#include "support/golden_models.hpp"
#include "support/memories.hpp"

namespace aviary::golden_check {

/// max|x - ref| / max|ref| of a recurrence.
inline double recurrence_bound(test::Arithmetic number) { return number == test::Arithmetic::float32 ? 2e-6 : 1e-12; }

/// Every gradient of a file, grad_X for whatever X, against one of ours.
template <class Golden>
void compare_gradients(test::MatrixGolden const& file, std::string const& type, double bound,
                       test::GradientResult<typename Golden::Rule> g, Report& report) {
  using R = typename Golden::Rule;
  auto inputs = Golden::fields(file);
  std::vector<double> log_w;
  for (auto const& field : test::named_fields<R>(inputs))
    if (std::string(field.name) == "log_w") log_w = *field.numbers;
  for (std::string_view const name : file.tensors().names()) {
    if (!name.starts_with("grad_")) continue;
    std::string const tensor(name.substr(5)), field = test::golden_field(tensor);
    if (tensor == "state0") {
      report.compare(file.path(), "grad_state0", type, g.dstates, file.state("grad_state0"), bound);
      continue;
    }
    auto const ours = test::named_fields<R>(g.dx);
    auto const found = std::find_if(ours.begin(), ours.end(), [&](auto const& x) { return x.name == field; });
    if (found == ours.end()) {
      report.fail(file.path(), "nothing to compare " + std::string(name) + " with");
      continue;
    }
    report.compare(file.path(), std::string(name), type, test::golden_gradient(file, tensor, *found->numbers, log_w),
                   file.numbers(std::string(name)), bound);
  }
}

/// One file through the kernels of its model, in float and in double: with sizes known at run time, and at compile time
/// where tests have memories of these sizes. Where they have them in the other arithmetic alone, token by token. Gradients with
/// readings on the tape, and without.
template <class Golden> void check_matrix(std::filesystem::path const& path, Report& report) {
  using test::Arithmetic, test::Sizes;
  using Memories = test::Memories<typename Golden::Rule>;
  constexpr bool erases = Golden::Rule::erase != Erase::none;
  test::MatrixGolden const file(path);
  auto const inputs = test::golden_case<Golden>(file);
  test::MatrixResult const expected = test::golden_result(file);
  auto const compare = [&](Arithmetic number, std::string const& how, test::MatrixResult const& x) {
    std::string const type = test::name(number) + how;
    report.compare(file.path(), "out", type, x.y, expected.y, recurrence_bound(number));
    report.compare(file.path(), "stateT", type, x.state, expected.state, recurrence_bound(number));
  };
  bool const has_gradients = file.contains("gout");
  auto const check_gradients = [&](Arithmetic number, std::string const& how, Sizes sizes, test::Keep keep) {
    if (has_gradients)
      compare_gradients<Golden>(file, test::name(number) + how, test::matrix_bound_of(number),
                                Memories::gradients(test::golden_gradient_case<Golden>(file), number, sizes, keep),
                                report);
  };
  auto const check_fixed = [&](Arithmetic number, Index size, Sizes sizes) {
    if (file.keys() != size || file.values() != size) return;
    if (test::has(number, sizes))
      check_gradients(number, "<" + std::to_string(size) + ">", sizes, {.readings = erases});
    if (test::has(number, sizes))
      compare(number, "<" + std::to_string(size) + ">", Memories::forward(inputs, number, sizes));
    else
      compare(number, " token by token", Memories::steps(inputs, number, Sizes::run_time));
  };
  for (Arithmetic const number : {Arithmetic::float32, Arithmetic::float64}) {
    compare(number, "", Memories::forward(inputs, number, Sizes::run_time));
    check_gradients(number, "", Sizes::run_time, {});
    check_fixed(number, 16, Sizes::k16_v16);
    check_fixed(number, 64, Sizes::k64_v64);
  }
}

}  // namespace aviary::golden_check
