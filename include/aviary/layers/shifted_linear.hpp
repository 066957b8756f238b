#pragma once
/// A token shift and the linear map after it.
#include "aviary/core/scratch.hpp"
#include "aviary/dense/linear.hpp"
#include "aviary/layers/token_shift.hpp"

namespace AVIARY_NAMESPACE {

/// y_t = W (x_t + (x_{t-1} - x_t) mix): what time mixes and channel mixes begin with.
template <class T> class ShiftedLinear {
 public:
  /// Copies the shares (in) as TokenShift does, and the weight (out, in), which it keeps in the format.
  /// @throws std::invalid_argument if there are not as many shares as inputs
  ShiftedLinear(VecView<T const> shares, ShareOf of, WeightMatrix weight, WeightFormat format)
      : shift_(shares, of), weight_(weight, format) {
    detail::ExpectShapes{"ShiftedLinear"}("shares", shares, weight.columns());
  }

  Index in() const noexcept { return weight_.in(); }
  Index out() const noexcept { return weight_.out(); }
  /// The numbers of scratch that a token needs.
  Index scratch_size() const noexcept { return padded<T>(in()); }

  /// Maps x (tokens, in) to y (tokens, out). `before` (tokens, in) has the row before each: see rows_before(). y must not
  /// overlap x.
  template <Executor E = Serial>
  void operator()(MatView<T const> x, MatView<T const> before, MatView<T> y, Scratch<T>& scratch,
                  E&& executor = {}) const {
    typename Scratch<T>::Frame const frame(scratch);
    MatView<T> const shifted = scratch.rows(x.rows(), in());
    shift_(x, before, shifted);
    weight_(shifted, y, executor);
  }

 private:
  TokenShift<T> shift_;
  Linear<T> weight_;
};

}  // namespace AVIARY_NAMESPACE
