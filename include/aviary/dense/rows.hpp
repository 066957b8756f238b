#pragma once
/// What layers share: elementwise functions of rows, copies of weights, and checks of their shapes.
#include <string>

#include "aviary/core/aligned.hpp"
#include "aviary/core/error.hpp"
#include "aviary/core/view.hpp"
#include "aviary/dense/weights.hpp"
#include "aviary/simd/pack.hpp"

namespace AVIARY_NAMESPACE::detail {

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

}  // namespace AVIARY_NAMESPACE::detail
