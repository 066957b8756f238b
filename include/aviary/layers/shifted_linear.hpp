#pragma once
/// A token shift and the linear map after it.
#include "aviary/core/scratch.hpp"
#include "aviary/dense/gradient.hpp"
#include "aviary/dense/linear.hpp"
#include "aviary/layers/token_shift.hpp"

namespace AVIARY_NAMESPACE {

/// y_t = W (x_t + (x_{t-1} - x_t) mix): what time mixes and channel mixes begin with.
template <class T> class ShiftedLinear {
 public:
  /// Copies the shares (in) as TokenShift does, and the weight (out, in), which it keeps in the format.
  /// @throws std::invalid_argument if there are not as many shares as inputs
  ShiftedLinear(VecView<T const> shares, ShareOf of, WeightMatrix weight, WeightFormat format)
      : shift_(shares, of), weight_(weight, format), of_(of) {
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

  /// What the gradients of the shares (in) and of the weight (out, in) are added to.
  struct Gradients {
    VecSink<T> shares = {};
    MatSink<T> weight = {};
  };

  /// The numbers of scratch that a token needs for gradients.
  Index backward_scratch_size() const noexcept { return 2 * padded<T>(in()); }

  /// Adds what reaches x, `before`, the shares and the weight from dy (tokens, out).
  ///   Cost: twice that of forward.
  /// @param weight  what the constructor was given     @param x, before  as in the call
  /// @param dx, dbefore  (tokens, in); may be rows of one matrix, one row apart
  template <Executor E = Serial>
  void backward(WeightMatrix const& weight, MatView<T const> x, MatView<T const> before, MatView<T const> dy,
                MatView<T> dx, MatView<T> dbefore, Gradients const& d, Scratch<T>& scratch, E&& executor = {}) const {
    typename Scratch<T>::Frame const frame(scratch);
    MatView<T> const shifted = scratch.rows(x.rows(), in()), dshifted = scratch.rows(x.rows(), in());
    if (d.weight.wanted()) {
      shift_(x, before, shifted);
      add_weight_gradient<T>(dy, shifted, d.weight, executor);
    }
    detail::fill_rows(dshifted, T(0));
    add_input_gradient<T>(weight, WeightLayout::out_in, dy, dshifted, executor);
    shift_.backward(x, before, dshifted, dx, dbefore, {});  // leaves what reaches shares of the previous token
    T const sign = of_ == ShareOf::previous ? T(1) : T(-1);
    detail::add_sum_of_rows<T>(
        d.shares, [sign](auto const& e) { return std::remove_cvref_t<decltype(e)>(sign) * e; }, dshifted);
  }

 private:
  TokenShift<T> shift_;
  Linear<T> weight_;
  ShareOf of_;
};

}  // namespace AVIARY_NAMESPACE
