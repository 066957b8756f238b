#pragma once
/// Low-rank maps: the input-dependent parts of RWKV-6, RWKV-7 and GoldFinch.
#include "aviary/core/math.hpp"
#include "aviary/core/scratch.hpp"
#include "aviary/dense/gradient.hpp"
#include "aviary/dense/linear.hpp"
#include "aviary/dense/rows.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {
/// tanh_gradient_of_value as an object, to be passed on.
inline constexpr auto pull_tanh = [](auto const& y, auto const& dy) { return tanh_gradient_of_value(y, dy); };
}  // namespace detail

/// y = f(x W1) W2 for row vectors, with W1 (in, rank) and W2 (rank, out). f is applied to each number between the two.
template <class T> class LowRank {
 public:
  /// Copies the factors and keeps them in the format.
  /// @throws std::invalid_argument if the factors do not fit together
  LowRank(WeightMatrix first, WeightMatrix second, WeightFormat format = WeightFormat::exact)
      : first_(first, format, WeightLayout::in_out), second_(second, format, WeightLayout::in_out) {
    detail::ExpectShapes{"LowRank"}("the second factor", second, first.columns(), second.columns());
  }

  Index in() const noexcept { return first_.in(); }
  Index rank() const noexcept { return first_.out(); }
  Index out() const noexcept { return second_.out(); }
  /// The numbers of scratch that a token needs.
  Index scratch_size() const noexcept { return padded<T>(rank()); }

  /// Maps x (tokens, in) to y (tokens, out). The activation is a function of a pack. y must not overlap x.
  template <class F, Executor E = Serial>
  void operator()(MatView<T const> x, F&& activation, MatView<T> y, Scratch<T>& scratch, E&& executor = {}) const {
    typename Scratch<T>::Frame const frame(scratch);
    (*this)(x, activation, scratch.rows(x.rows(), rank()), y, executor);
  }
  /// The same, and leaves h = f(x W1) in `hidden` (tokens, rank).
  template <class F, Executor E = Serial>
  void operator()(MatView<T const> x, F&& activation, MatView<T> hidden, MatView<T> y, E&& executor = {}) const {
    first_(x, hidden, executor);
    detail::transform_rows(hidden, activation, hidden);
    second_(hidden, y, executor);
  }

  /// What the gradients of the factors are added to: (in, rank), (rank, out).
  struct Gradients {
    MatSink<T> first = {}, second = {};
  };

  /// Adds to dx (tokens, in) and to the gradients of the factors what reaches them from dy (tokens, out).
  ///   Cost: twice that of forward, half of it for the factors. Scratch: scratch_size() a token.
  /// @param first, second  the factors that the constructor was given     @param x, hidden  as in the call
  /// @param pull  maps h and dh to what reaches f's argument, numbers or packs     @param dx  overlaps nothing else
  template <class F, Executor E = Serial>
  void backward(WeightMatrix const& first, WeightMatrix const& second, MatView<T const> x, MatView<T const> hidden,
                F&& pull, MatView<T const> dy, MatView<T> dx, Gradients const& d, Scratch<T>& scratch,
                E&& executor = {}) const {
    typename Scratch<T>::Frame const frame(scratch);
    MatView<T> const dhidden = scratch.rows(x.rows(), rank());
    detail::fill_rows(dhidden, T(0));
    add_input_gradient<T>(second, WeightLayout::in_out, dy, dhidden, executor);
    add_weight_gradient<T>(hidden, dy, d.second, executor);
    detail::transform_rows(dhidden, pull, hidden, dhidden);
    add_input_gradient<T>(first, WeightLayout::in_out, dhidden, dx, executor);
    add_weight_gradient<T>(x, dhidden, d.first, executor);
  }

 private:
  Linear<T> first_, second_;
};

/// log_w = -exp(time_decay + tanh(x w1) w2) for row vectors: the decay of RWKV-6 and GoldFinch.
template <class T> class LowRankDecay {
 public:
  /// Copies time_decay (out), and the factors w1 (in, rank), w2 (rank, out) in the format.
  /// @throws std::invalid_argument if shapes do not fit together
  LowRankDecay(VecView<T const> time_decay, WeightMatrix w1, WeightMatrix w2, WeightFormat format = WeightFormat::exact)
      : lora_(w1, w2, format), time_decay_(detail::copy_of(time_decay)) {
    detail::ExpectShapes{"LowRankDecay"}("time_decay", time_decay, lora_.out());
  }

  Index rank() const noexcept { return lora_.rank(); }
  /// The numbers of scratch that a token needs.
  Index scratch_size() const noexcept { return lora_.scratch_size(); }

  /// Maps x (tokens, in) to log_w (tokens, out). log_w must not overlap x.
  template <Executor E = Serial>
  void operator()(MatView<T const> x, MatView<T> log_w, Scratch<T>& scratch, E&& executor = {}) const {
    typename Scratch<T>::Frame const frame(scratch);
    (*this)(x, scratch.rows(x.rows(), rank()), log_w, executor);
  }
  /// The same, and leaves tanh(x w1) in `hidden` (tokens, rank).
  template <Executor E = Serial>
  void operator()(MatView<T const> x, MatView<T> hidden, MatView<T> log_w, E&& executor = {}) const {
    lora_(x, activation::tanh, hidden, log_w, executor);
    detail::transform_rows(
        log_w, [](auto const& w, auto const& w0) { return log_w_of_exponential(w0 + w); }, log_w, time_decay_);
  }

  /// What the gradients of the weights are added to: (out), (in, rank), (rank, out).
  struct Gradients {
    VecSink<T> time_decay = {};
    MatSink<T> w1 = {}, w2 = {};
  };

  /// Adds to dx (tokens, in) and to the gradients of the weights what reaches them from dlog_w (tokens, out).
  ///   Cost: twice that of forward, half of it for the factors. Scratch: scratch_size() a token.
  /// @param w1, w2  the factors that the constructor was given     @param x, hidden, log_w  as in the call
  /// @param dlog_w  becomes what reaches time_decay of each token     @param dx  overlaps nothing else
  template <Executor E = Serial>
  void backward(WeightMatrix const& w1, WeightMatrix const& w2, MatView<T const> x, MatView<T const> hidden,
                MatView<T const> log_w, MatView<T> dlog_w, MatView<T> dx, Gradients const& d, Scratch<T>& scratch,
                E&& executor = {}) const {
    detail::transform_rows(
        dlog_w, [](auto const& y, auto const& dy) { return log_w_of_exponential_gradient_of_value(y, dy); }, log_w,
        dlog_w);
    detail::add_sum_of_rows<T>(d.time_decay, dlog_w);
    lora_.backward(w1, w2, x, hidden, detail::pull_tanh, dlog_w, dx, {d.w1, d.w2}, scratch, executor);
  }

 private:
  LowRank<T> lora_;
  AlignedVector<T> time_decay_;
};

namespace detail {

/// Checks the shapes of the factors of a low-rank map, whatever its rank.
inline void expect_low_rank(ExpectShapes expect, char const* name1, WeightMatrix const& w1, Index in, char const* name2,
                            WeightMatrix const& w2, Index out) {
  expect(name1, w1, in, w1.columns());
  expect(name2, w2, w1.columns(), out);
}

}  // namespace detail
}  // namespace AVIARY_NAMESPACE
