#pragma once
/// Low-rank maps: the input-dependent parts of RWKV-6 and RWKV-7.
#include "aviary/layers/linear.hpp"
#include "aviary/layers/rows.hpp"
#include "aviary/layers/scratch.hpp"

namespace aviary {

/// y = f(x W1) W2 of row vectors, with W1 (in, rank), W2 (rank, out) and f for each number of the middle.
template <class T> class Lora {
 public:
  /// Copies the factors, in the format.
  Lora(WeightMatrix first, WeightMatrix second, WeightFormat format = WeightFormat::exact)
      : first_(first, format, WeightLayout::in_out), second_(second, format, WeightLayout::in_out) {
    detail::ExpectShapes{"Lora"}("the second factor", second, first.columns(), second.columns());
  }

  Index in() const noexcept { return first_.in(); }
  Index rank() const noexcept { return first_.out(); }
  Index out() const noexcept { return second_.out(); }
  /// Numbers of scratch for a token.
  Index scratch_size() const noexcept { return padded<T>(rank()); }

  /// x (tokens, in), y (tokens, out), activation(pack); y must not overlap x.
  template <class F, Executor E = Serial>
  void operator()(MatView<T const> x, F&& activation, MatView<T> y, Scratch<T>& scratch, E&& executor = {}) const {
    typename Scratch<T>::Frame const frame(scratch);
    MatView<T> const hidden = scratch.rows(x.rows(), rank());
    first_(x, hidden, executor);
    detail::transform_rows(hidden, activation, hidden);
    second_(hidden, y, executor);
  }

 private:
  Linear<T> first_, second_;
};

}  // namespace aviary
