#pragma once
/// Golden files of matrix memories through the kernels.
#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "cuda/matrix_suite.hpp"
#include "golden_check/matrix.hpp"

namespace aviary::test {

/// (n, rows, columns) numbers with other rows and columns: those that are new are 0.
inline std::vector<double> resized(std::vector<double> const& x, Index rows, Index columns, Index to_rows,
                                   Index to_columns) {
  std::vector<double> to;
  for (Index n = 0, all = static_cast<Index>(x.size()) / (rows * columns); n < all; ++n)
    for (Index i = 0; i < to_rows; ++i)
      for (Index j = 0; j < to_columns; ++j)
        to.push_back(i < rows && j < columns ? x[to_size((n * rows + i) * columns + j)] : 0);
  return to;
}

/// Numbers of every field for heads of other sizes.
template <class R> void resize_fields(FieldNumbers<R>& x, Shape const& from, Shape const& to) {
  for (NamedNumbers const& field : named_fields<R>(x)) {
    if (one_number(field.axis)) continue;
    bool const along_values = field.axis == Axis::value;
    *field.numbers =
        resized(*field.numbers, 1, along_values ? from.values : from.keys, 1, along_values ? to.values : to.keys);
  }
}

/// The files of an op through the kernels of a memory that is as large as the largest: keys and values of 0 change nothing.
template <class Golden> void check_golden_files() {
  using R = typename Golden::Rule;
  using M = MatrixMemory<R, float, 64, 64>;
  constexpr Arithmetic number = Arithmetic::float32;
  constexpr bool erases = R::erase != Erase::none;
  golden_check::Report report;
  auto const check_file = [&](MatrixGolden const& file) {
    bool const has_gradients = file.contains("gout");
    auto c = has_gradients ? golden_gradient_case<Golden>(file) : GradientCase<R>{golden_case<Golden>(file), {}, {}};
    if (!has_gradients) c.dy.assign(file.numbers("out").size(), 0), c.dstates.assign(c.state.size(), 0);
    Shape const shape = c.shape;
    c.shape.keys = M::keys, c.shape.values = M::values;
    resize_fields<R>(c.x, shape, c.shape);
    auto const state = [&](std::vector<double> const& x, Shape const& from, Shape const& to) {
      return resized(x, from.values, from.keys, to.values, to.keys);
    };
    auto const output = [&](std::vector<double> const& x, Shape const& from, Shape const& to) {
      return resized(x, 1, from.values, 1, to.values);
    };
    c.state = state(c.state, shape, c.shape);
    c.dstates = state(c.dstates, shape, c.shape);
    c.dy = output(c.dy, shape, c.shape);
    auto const expected = golden_result(file);
    if (has_tensor_cores()) {
      RuleRun<Device<M>> chunks(c);
      Device<M>::template forward_by<cuda::WideChunks<M, void>>(chunks.call());
      report.compare(file.path(), "out", "on tensor cores", output({chunks.y.begin(), chunks.y.end()}, c.shape, shape),
                     expected.y, chunk_bound);
      report.compare(file.path(), "stateT", "on tensor cores",
                     state(numbers_of(chunks.states, M::keys, M::values), c.shape, shape), expected.state, chunk_bound);
      if (has_gradients) {
        GradientRun<Device<M>> run(c);
        run.forward();
        auto g = back_in_chunks<M>(run, c.shape.tokens()).result();
        resize_fields<R>(g.dx, c.shape, shape);
        g.dstates = state(g.dstates, c.shape, shape);
        golden_check::compare_gradients<Golden>(file, "on tensor cores", chunk_gradient_bound, g, report);
      }
    }
    for (Keep const keep : {Keep{cuda::Backward<M>::longest_interval, false}, Keep{5, erases}}) {
      GradientRun<Device<M>> run(c, keep);
      run.forward();
      auto const compare = [&](char const* what, std::vector<double> const& x, std::vector<double> const& y) {
        report.compare(file.path(), what, "float on a device", x, y, golden_check::recurrence_bound(number));
      };
      compare("out", output({run.y.begin(), run.y.end()}, c.shape, shape), expected.y);
      compare("stateT", state(numbers_of(run.states, M::keys, M::values), c.shape, shape), expected.state);
      if (!has_gradients) continue;
      auto g = run.backward().result();
      resize_fields<R>(g.dx, c.shape, shape);
      g.dstates = state(g.dstates, c.shape, shape);
      golden_check::compare_gradients<Golden>(file, "float on a device", matrix_bound<float>, g, report);
    }
  };
  std::vector<std::string> folders{AVIARY_TEST_GOLDEN_DIR};
  if (std::string const more = AVIARY_TEST_DATA_DIR; !more.empty()) folders.push_back(more + "/golden");
  for (auto const& folder : folders)
    for (auto const& path : golden_files(folder))
      if (GoldenFile(path).op() == Golden::op) check_file(MatrixGolden(path));
  check_that(report.seen() > 0, "there are files");
  check_that(report.finish(), "all numbers are within their bounds");
}

}  // namespace aviary::test
