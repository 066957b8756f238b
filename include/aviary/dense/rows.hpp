#pragma once
/// What layers share: elementwise functions of rows, copies of weights, and checks of their shapes.
#include <algorithm>
#include <string>

#include "aviary/core/aligned.hpp"
#include "aviary/core/error.hpp"
#include "aviary/core/view.hpp"
#include "aviary/dense/weights.hpp"
#include "aviary/simd/pack.hpp"

namespace AVIARY_NAMESPACE {

/// Rows that a call writes or, where they are a gradient, adds to. {} means that they are not wanted.
template <class T> struct MatSink : MatView<T> {
  MatSink() noexcept : MatView<T>(nullptr, 0, 0) {}
  MatSink(MatView<T> m) noexcept : MatView<T>(m) {}
  bool wanted() const noexcept { return this->data() != nullptr; }
  /// The n rows from row `first` on; still none if none is wanted.
  MatSink rows_of(Index first, Index n) const noexcept { return wanted() ? MatSink(this->rows(first, n)) : MatSink(); }
};

/// The same for a row of numbers.
template <class T> struct VecSink : VecView<T> {
  VecSink() noexcept : VecView<T>(nullptr, 0) {}
  VecSink(VecView<T> v) noexcept : VecView<T>(v) {}
  bool wanted() const noexcept { return this->data() != nullptr; }
};

namespace detail {

template <class T> AlignedVector<std::remove_const_t<T>> copy_of(VecView<T> v) { return {v.begin(), v.end()}; }

template <class T> AlignedVector<std::remove_const_t<T>> copy_of(MatView<T> m) {
  AlignedVector<std::remove_const_t<T>> to;
  for (Index i = 0; i < m.rows(); ++i) to.insert(to.end(), m[i].begin(), m[i].end());
  return to;
}

/// Row t of a matrix; a vector is the same for every row.
template <class Rows> auto const* row_of(Rows const& x, Index t) noexcept {
  if constexpr (requires { x.stride(); })
    return x.data() + t * x.stride();
  else
    return x.data();
}

/// to(t, i) = f(from(t, i)...) for all rows. Vectors among `from` are the same for every row. `to` may be one of `from`.
template <class T, class F, class... From> void transform_rows(MatView<T> to, F&& f, From const&... from) noexcept {
  for (Index t = 0; t < to.rows(); ++t) simd::transform(to.columns(), to[t].data(), f, row_of(from, t)...);
}

/// Columns first ... last - 1 of x, as a matrix.
template <class T> MatView<T> columns_of(MatView<T> x, Index first, Index last) noexcept {
  AVIARY_ASSERT(0 <= first && first <= last && last <= x.columns());
  return {x.data() + first, x.rows(), last - first, x.stride()};
}

template <class T> void fill_rows(MatView<T> to, T number) noexcept {
  for (Index t = 0; t < to.rows(); ++t) std::fill_n(to[t].data(), to.columns(), number);
}

/// to += x, for all rows.
template <class T> void add_rows(MatView<T> to, MatView<T const> x) noexcept {
  transform_rows(
      to, [](auto const& sum, auto const& e) { return sum + e; }, to, x);
}

/// sum += the sum of f(x(t)...) over all rows t, one after another, if it is wanted.
template <class T, class F, class... From>
void add_sum_of_rows(VecSink<T> sum, F&& f, MatView<T const> x, From const&... more) noexcept {
  if (!sum.wanted()) return;
  AVIARY_ASSERT(sum.size() == x.columns());
  auto const add = [&f](auto const& so_far, auto const&... e) { return so_far + f(e...); };
  for (Index t = 0; t < x.rows(); ++t)
    simd::transform(sum.size(), sum.data(), add, sum.data(), x[t].data(), row_of(more, t)...);
}
/// The same of the rows themselves.
template <class T> void add_sum_of_rows(VecSink<T> sum, MatView<T const> x) noexcept {
  add_sum_of_rows<T>(
      sum, [](auto const& e) { return e; }, x);
}

/// Checks the shapes of a layer's weights.
/// @throws std::invalid_argument with layer, weight, found and expected shape
struct ExpectShapes {
  char const* layer;

  template <class T> void operator()(char const* name, VecView<T> weight, Index size) const {
    if (weight.size() != size) fail(name, std::to_string(weight.size()), std::to_string(size));
  }
  void operator()(char const* name, WeightMatrix weight, Index rows, Index columns) const {
    auto const text = [](Index r, Index c) { return std::to_string(r) + " x " + std::to_string(c); };
    if (weight.rows() != rows || weight.columns() != columns)
      fail(name, text(weight.rows(), weight.columns()), text(rows, columns));
  }

 private:
  [[noreturn]] void fail(char const* name, std::string const& found, std::string const& expected) const {
    refuse(std::string(layer) + ": " + name + " is " + found + ", expected " + expected);
  }
};

}  // namespace detail
}  // namespace AVIARY_NAMESPACE
