#pragma once
/// The token shift of RWKV-6 "Finch" (Peng et al. 2024, arXiv:2404.05892): what a channel takes of the token before depends
/// on the token through a low-rank map. GoldFinch (Goldstein et al. 2024, arXiv:2407.12077) shifts in the same way.
#include <array>

#include "aviary/core/math.hpp"
#include "aviary/dense/gradient.hpp"
#include "aviary/dense/linear.hpp"
#include "aviary/dense/low_rank.hpp"
#include "aviary/layers/parameters.hpp"
#include "aviary/layers/token_shift.hpp"

namespace AVIARY_NAMESPACE {

/// N shifted versions of one row:
///
///   h = tanh((x + (x' - x) base) W1)            x' is the row before; h is N slices of D numbers
///   y_n = x + (x' - x) (mix_n + h_n W2_n)       for slice n
///
/// RWKV-6 has five slices. The h of one sequence may shift another: in GoldFinch that of the embeddings shifts
/// the keys.
template <class T, Index N> class LowRankTokenShift {
 public:
  static constexpr Index slices = N;

  /// The names of the weights. All shares are those of the previous token. Factors are (in, out).
  template <class As> struct Parameters {
    typename As::Vector base;                         ///< (C)
    typename As::Matrix w1;                           ///< (C, N D)
    std::array<typename As::Matrix, to_size(N)> w2;   ///< (D, C) for each slice
    std::array<typename As::Vector, to_size(N)> mix;  ///< (C) for each slice
    typename As::template Setting<WeightFormat> format = WeightFormat::exact;
  };
  using Weights = Parameters<GivenWeights<T>>;       ///< the constructor copies them
  using Gradients = Parameters<WeightGradients<T>>;  ///< added to

  /// @throws std::invalid_argument if shapes do not fit together
  explicit LowRankTokenShift(Weights const& w) : base_(w.base), first_(w.w1, w.format, WeightLayout::in_out) {
    detail::ExpectShapes const expect{"LowRankTokenShift"};
    Index const rank = w.w2[0].rows();
    expect("w1", w.w1, channels(), N * rank);
    for (std::size_t n = 0; n < to_size(N); ++n) {
      expect("w2", w.w2[n], rank, channels());
      expect("mix", w.mix[n], channels());
      second_[n] = Linear<T>(w.w2[n], w.format, WeightLayout::in_out);
      mix_[n] = detail::copy_of(w.mix[n]);
    }
  }

  Index channels() const noexcept { return base_.channels(); }
  /// The columns of h, N D.
  Index hidden_size() const noexcept { return first_.out(); }
  /// The numbers of scratch that a token needs.
  Index scratch_size() const noexcept { return padded<T>(channels()); }

  /// Computes h (tokens, N D) from x (tokens, C). `before` (tokens, C) has the row before each: see rows_before().
  template <Executor E = Serial>
  void prepare(MatView<T const> x, MatView<T const> before, MatView<T> h, Scratch<T>& scratch,
               E&& executor = {}) const {
    typename Scratch<T>::Frame const frame(scratch);
    MatView<T> const shifted = scratch.rows(x.rows(), channels());
    base_(x, before, shifted);
    first_(shifted, h, executor);
    detail::transform_rows(h, activation::tanh, h);
  }

  /// Computes y (tokens, C), which is x (tokens, C) shifted by slice n of h. y must not overlap x.
  template <Executor E = Serial>
  void operator()(Index n, MatView<T const> h, MatView<T const> x, MatView<T const> before, MatView<T> y,
                  E&& executor = {}) const {
    AVIARY_ASSERT(0 <= n && n < N && h.columns() == hidden_size());
    second_[to_size(n)](slice(h, n), y, executor);
    detail::transform_rows(
        y,
        [](auto const& now, auto const& past, auto const& mix, auto const& more) {
          return simd::Pack<std::remove_cvref_t<decltype(now)>>::fma(past - now, mix + more, now);
        },
        x, before, mix_[to_size(n)], y);
  }

  /// The numbers of scratch that a token needs for gradients.
  Index backward_scratch_size() const noexcept { return 2 * padded<T>(channels()); }

  /// Adds what reaches x and `before` through slice n from dy, and sets the slice's columns of dh (tokens, N D) to what
  /// reaches h; the rest as in the call. Sequences that are shifted by one h share dh, and each has slices of its own.
  ///   Cost: three times that of forward.
  /// @param w  what the constructor was given     @param dy  (tokens, C), is used up
  /// @param dx, dbefore  (tokens, C); may be rows of one matrix, one row apart
  template <Executor E = Serial>
  void backward(Index n, Weights const& w, MatView<T const> h, MatView<T const> x, MatView<T const> before,
                MatView<T> dy, MatView<T> dh, MatView<T> dx, MatView<T> dbefore, Gradients const& d,
                Scratch<T>& scratch, E&& executor = {}) const {
    AVIARY_ASSERT(0 <= n && n < N && h.columns() == hidden_size() && dh.columns() == hidden_size());
    typename Scratch<T>::Frame const frame(scratch);
    MatView<T> const mix = scratch.rows(x.rows(), channels());
    MatView<T const> const h_n = slice(h, n);
    MatView<T> const dh_n = slice(dh, n);
    second_[to_size(n)](h_n, mix, executor);
    detail::transform_rows(
        mix, [](auto const& more, auto const& own) { return own + more; }, mix, mix_[to_size(n)]);
    detail::shift_backward(x, before, mix, dy, dx, dbefore);
    detail::add_sum_of_rows<T>(d.mix[to_size(n)], dy);
    add_weight_gradient<T>(h_n, dy, d.w2[to_size(n)], executor);
    detail::fill_rows(dh_n, T(0));
    add_input_gradient<T>(w.w2[to_size(n)], WeightLayout::in_out, dy, dh_n, executor);
  }

  /// Adds what reaches x and `before` from dh (tokens, N D), which is used up; the rest as in prepare().
  template <Executor E = Serial>
  void prepare_backward(Weights const& w, MatView<T const> x, MatView<T const> before, MatView<T const> h,
                        MatView<T> dh, MatView<T> dx, MatView<T> dbefore, Gradients const& d, Scratch<T>& scratch,
                        E&& executor = {}) const {
    typename Scratch<T>::Frame const frame(scratch);
    MatView<T> const shifted = scratch.rows(x.rows(), channels()), dshifted = scratch.rows(x.rows(), channels());
    detail::transform_rows(dh, detail::pull_tanh, h, dh);
    base_(x, before, shifted);
    add_weight_gradient<T>(shifted, dh, d.w1, executor);
    detail::fill_rows(dshifted, T(0));
    add_input_gradient<T>(w.w1, WeightLayout::in_out, dh, dshifted, executor);
    base_.backward(x, before, dshifted, dx, dbefore, d.base);
  }

 private:
  /// Columns of slice n.
  template <class U> MatView<U> slice(MatView<U> h, Index n) const noexcept {
    Index const rank = second_[to_size(n)].in();
    return detail::columns_of(h, n * rank, (n + 1) * rank);
  }

  TokenShift<T> base_;
  Linear<T> first_;
  std::array<Linear<T>, to_size(N)> second_;
  std::array<AlignedVector<T>, to_size(N)> mix_;
};

}  // namespace AVIARY_NAMESPACE
