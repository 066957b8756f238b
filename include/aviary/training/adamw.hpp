#pragma once
/// AdamW: gradient descent with moments of the gradients, and decay of the weights beside it.
///
///   m = b1 m + (1 - b1) g       m^ = m / (1 - b1^t)
///   v = b2 v + (1 - b2) g^2     v^ = v / (1 - b2^t)       x -= rate (m^ / (sqrt(v^) + epsilon) + weight_decay x)
///
/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2, but with the learning rate in front of
/// both terms, as torch has it. Weights, gradients and moments are arrays of the caller's: whoever saves weights, moments and
/// the number of the step goes on with the same bits.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include "aviary/core/executor.hpp"
#include "aviary/core/view.hpp"
#include "aviary/dense/linear.hpp"
#include "aviary/simd/pack.hpp"
#include "aviary/training/parameter_groups.hpp"

namespace AVIARY_NAMESPACE {

/// One array of weights, of any shape. All have as many numbers; none overlaps another.
template <class T> struct Parameter {
  VecView<T> values;
  VecView<T const> gradients;
  VecView<T> first, second;  ///< the moments m and v: zeros before step 1
  ParameterGroup group = {};
};

/// The constants of the training code published with RWKV-7; that of RWKV-4 to 6 has an epsilon of 1e-8.
struct AdamW {
  double beta1 = 0.9, beta2 = 0.99, epsilon = 1e-18;
};

/// One update of all weights.
struct UpdateCall {
  Index step;                 ///< 1, 2, ...: t above
  double learning_rate;       ///< see Schedule
  double loss = 0;            ///< only looked at: one that is not finite stops the update
  double gradient_scale = 1;  ///< of all gradients, before anything else: 1 / tokens where they are sums over tokens
  double largest_norm = std::numeric_limits<double>::infinity();  ///< longer gradients are shortened; 1 for RWKV
};

/// What came of it. Nothing has been written unless it is `done`.
struct Update {
  enum class Outcome : unsigned char { done, loss_not_finite, norm_not_finite };
  Outcome outcome;
  double norm;  ///< of all gradients together, scaled, before they are shortened

  explicit operator bool() const noexcept { return outcome == Outcome::done; }
};

namespace detail {

inline constexpr Index block_of_update = 4096;

/// Whether x is no infinity and no NaN, from its bits: -ffast-math takes std::isfinite for true.
constexpr bool is_finite(double x) noexcept {
  constexpr std::uint64_t exponent = 0x7ff0000000000000u;
  return (__builtin_bit_cast(std::uint64_t, x) & exponent) != exponent;
}

/// f(parameter, first, count) for blocks begin ... end - 1 of all parameters, one after another.
template <class T, class F>
void for_blocks(std::span<Parameter<T> const> parameters, Index begin, Index end, F const& f) noexcept {
  Index at = 0;
  for (Parameter<T> const& p : parameters) {
    Index const size = p.values.size(), blocks = (size + block_of_update - 1) / block_of_update;
    for (Index b = std::max(begin - at, Index{0}); b < std::min(end - at, blocks); ++b)
      f(p, b * block_of_update, std::min(block_of_update, size - b * block_of_update));
    at += blocks;
  }
}

template <class T> Index blocks_of(std::span<Parameter<T> const> parameters) noexcept {
  Index blocks = 0;
  for (Parameter<T> const& p : parameters) blocks += (p.values.size() + block_of_update - 1) / block_of_update;
  return blocks;
}

/// The sum of squares of n numbers, in double.
template <class T> double sum_of_squares_in_double(T const* x, Index n) noexcept {
  using P = simd::Native<double>;
  using L = simd::Pack<P>;
  P sums(0.0);
  for (Index i = 0; i < n; i += L::lanes) {
    P const e = simd::load_part<P>(x, i, n);
    sums = L::fma(e, e, sums);
  }
  return L::sum(sums);
}

/// The norm of all gradients. Blocks are summed in a number of stretches that follows from nothing but their number.
template <class T, class E> double norm_of_gradients(std::span<Parameter<T> const> parameters, E& executor) {
  constexpr Index stretches = 256;
  std::array<double, stretches> sums{};
  Index const blocks = blocks_of(parameters);
  share_out(executor, stretches, blocks * block_of_update, [&](Index begin, Index end) noexcept {
    for (Index s = begin; s < end; ++s)
      for_blocks<T>(parameters, blocks * s / stretches, blocks * (s + 1) / stretches,
                    [&](Parameter<T> const& p, Index first, Index n) noexcept {
                      sums[to_size(s)] += sum_of_squares_in_double(p.gradients.data() + first, n);
                    });
  });
  double sum = 0;
  for (double const e : sums) sum += e;
  return std::sqrt(sum);
}

/// The update of some weights of one group.
template <class T> class AdamWRow {
 public:
  AdamWRow(AdamW const& adam, UpdateCall const& call, double gradient_factor) noexcept
      : gradient_factor_(static_cast<T>(gradient_factor)),
        beta1_(static_cast<T>(adam.beta1)),
        beta2_(static_cast<T>(adam.beta2)),
        rest1_(static_cast<T>(1 - adam.beta1)),
        rest2_(static_cast<T>(1 - adam.beta2)),
        unbias1_(static_cast<T>(1 / (1 - std::pow(adam.beta1, static_cast<double>(call.step))))),
        unbias2_(static_cast<T>(1 / (1 - std::pow(adam.beta2, static_cast<double>(call.step))))),
        epsilon_(static_cast<T>(adam.epsilon)),
        learning_rate_(call.learning_rate) {}

  void operator()(Parameter<T> const& p, Index first, Index n) const noexcept {
    using P = simd::Native<T>;
    using L = simd::Pack<P>;
    using std::sqrt;
    P const rate(static_cast<T>(-learning_rate_ * p.group.rate)), decay(static_cast<T>(p.group.weight_decay));
    P const factor(gradient_factor_), beta1(beta1_), beta2(beta2_), rest1(rest1_), rest2(rest2_), unbias1(unbias1_),
        unbias2(unbias2_), epsilon(epsilon_);
    Index const last = first + n;
    for (Index i = first; i < last; i += L::lanes) {
      P const g = factor * simd::load_part<P>(p.gradients.data(), i, last);
      P const m = L::fma(beta1, simd::load_part<P>(p.first.data(), i, last), rest1 * g);
      P const v = L::fma(beta2, simd::load_part<P>(p.second.data(), i, last), rest2 * g * g);
      P const x = simd::load_part<P>(p.values.data(), i, last);
      P const step = L::fma(decay, x, m * unbias1 / (sqrt(v * unbias2) + epsilon));
      simd::store_part<P>(p.first.data(), i, last, m);
      simd::store_part<P>(p.second.data(), i, last, v);
      simd::store_part<P>(p.values.data(), i, last, L::fma(rate, step, x));
    }
  }

 private:
  T gradient_factor_, beta1_, beta2_, rest1_, rest2_, unbias1_, unbias2_, epsilon_;
  double learning_rate_;
};

}  // namespace detail

/// Updates all weights and moments, unless the loss or the norm of the gradients is not finite, or the gradients are so long
/// that T does not hold their squares: then it writes nothing, and says so. The norm is summed in double. Results have the
/// same bits whatever the executor.
///   Error: 10 eps of a weight's update.  Cost: four numbers read and three written for each weight, and the gradients once
///   more. It does not allocate.
template <class T, class E = Serial>
Update adamw_update(AdamW const& adam, std::span<Parameter<T> const> parameters, UpdateCall const& call,
                    E&& executor = {}) {
  AVIARY_ASSERT(call.step >= 1 && call.largest_norm > 0);
  for ([[maybe_unused]] Parameter<T> const& p : parameters)
    AVIARY_ASSERT(p.gradients.size() == p.values.size() && p.first.size() == p.values.size() &&
                  p.second.size() == p.values.size());
  double const norm = std::abs(call.gradient_scale) * detail::norm_of_gradients(parameters, executor);
  if (!detail::is_finite(call.loss)) return {Update::Outcome::loss_not_finite, norm};
  double const shortened = std::min(norm, call.largest_norm);
  if (!detail::is_finite(norm) || !(shortened * shortened <= static_cast<double>(std::numeric_limits<T>::max())))
    return {Update::Outcome::norm_not_finite, norm};

  double const shorter = norm > call.largest_norm ? call.largest_norm / norm : 1;
  detail::AdamWRow<T> const row(adam, call, call.gradient_scale * shorter);
  Index const blocks = detail::blocks_of(parameters);
  constexpr Index multiplies = 8;  // what the update of a weight is worth
  detail::share_out(executor, blocks, blocks * detail::block_of_update * multiplies,
                    [&](Index begin, Index end) noexcept { detail::for_blocks<T>(parameters, begin, end, row); });
  return {Update::Outcome::done, norm};
}

}  // namespace AVIARY_NAMESPACE
