#pragma once
/// Random packed sequences through a channel memory, and what the reference makes of them.
#include <limits>
#include <numbers>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "aviary/channel/memory.hpp"
#include "support/random.hpp"

namespace aviary::test {

/// What keys, decays and bonuses are like.
enum class Keys {
  natural,  ///< k = 2 N(0, 1), log_w = -exp(N(0, 1)), u = N(0, 1)
  strong,   ///< k in (-60, 60), log_w = -exp of -12 to 5: as the extreme golden files
  huge,     ///< k in (-300, 300), log_w and u each at times 0, infinite, enormous
  rising,   ///< k from -300 to 300 along a sequence
  falling,  ///< and back
};

std::string name(Keys keys);

inline constexpr Keys all_keys[] = {Keys::natural, Keys::strong, Keys::huge, Keys::rising, Keys::falling};

/// Every number is a float. The state of every second sequence is empty before its first token.
struct ChannelCase {
  Index channels;
  std::vector<Index> offsets;
  std::vector<float> log_w, k, v, u, aa, bb, pp;  // (C), (tokens, C) ..., (sequences, C)

  ChannelCase(std::uint64_t seed, Index channels, std::vector<Index> offsets, Keys keys = Keys::natural);

  Index tokens() const { return offsets.back(); }
  Index sequences() const { return static_cast<Index>(offsets.size()) - 1; }
};

/// Outputs, and states in a gauge that all implementations share: means num / den, and logarithms of den.
struct ChannelResult {
  std::vector<double> y, mean, weight;  // (tokens, C), (sequences, C) each

  void add_state(long double num, long double den, long double exponent);
};

/// The reference, in long double: where keys are large, an exponent of its own has few digits after the point.
ChannelResult reference_result(ChannelCase const& c);

/// A loss over the outputs and the final states of a case: the sum of y dy, mean dmean and weight dweight, as ChannelResult
/// has them.
struct ChannelLoss {
  std::vector<float> dy, dmean, dweight;  // (tokens, C), (sequences, C) each

  ChannelLoss(std::uint64_t seed, ChannelCase const& c);
};

/// Its gradients. Those of the sums of an initial state are in units that all implementations share: times that state's sum of
/// weights or, if it is empty, times the first token's largest weight in anything, by channel_unit.
struct ChannelGradients {
  std::vector<double> log_w, k, v, u, num, den;  // (C), (tokens, C) ..., (sequences, C) each
};

/// The logarithm of the unit of gradients of the sums of a sequence's initial state.
long double channel_unit(ChannelCase const& c, Index sequence, Index channel);

/// Token by token from stored states, in long double (equations of "RWKV: Reinventing RNNs", made stable by a running
/// exponent for the gradients too).
ChannelGradients reference_gradients(ChannelCase const& c, ChannelLoss const& loss);

/// The same by central differences of the reference, for small cases with natural numbers.
ChannelGradients difference_gradients(ChannelCase const& c, ChannelLoss const& loss);

template <class S> S channel_state(Index channels) {
  if constexpr (std::is_constructible_v<S, Index>)
    return S(channels);
  else
    return S{};
}

/// A case in the numbers of memory M, with its states and its outputs.
template <class M> struct ChannelRun {
  using Memory = M;
  using T = typename M::T;
  using State = typename M::State;
  static constexpr bool same_bits = true;  // however a sequence is split
  ChannelCase c;
  std::vector<T> log_w, k, v, u, y;
  std::vector<State> states;

  explicit ChannelRun(ChannelCase const& from)
      : c(from),
        log_w(from.log_w.begin(), from.log_w.end()),
        k(from.k.begin(), from.k.end()),
        v(from.v.begin(), from.v.end()),
        u(from.u.begin(), from.u.end()),
        y(k.size(), T(-77)),
        states(to_size(from.sequences()), channel_state<State>(from.channels)) {
    for (Index s = 0; s < c.sequences(); ++s) {
      auto const row = [&](std::vector<float> const& x) {
        return std::vector<T>(x.begin() + s * c.channels, x.begin() + (s + 1) * c.channels);
      };
      import_state(states[to_size(s)].view(), row(c.aa), row(c.bb), row(c.pp));
    }
  }

  typename M::Inputs inputs() const {
    return {.log_w = {log_w.data(), 1, c.channels},
            .k = {k.data(), c.tokens(), 1, c.channels},
            .v = {v.data(), c.tokens(), 1, c.channels},
            .u = {u.data(), 1, c.channels}};
  }
  Index heads() const { return 1; }
  std::vector<Index> const& offsets() const { return c.offsets; }
  Sink<M::channels> sink(T* to) const { return {to, c.tokens(), 1, c.channels}; }
  typename M::ForwardCall call() { return call(c.offsets, 0); }
  /// The same inputs in other sequences, whose states are those from `sequence` on.
  typename M::ForwardCall call(std::span<Index const> other, Index sequence) {
    return {.x = inputs(),
            .y = sink(y.data()),
            .states = std::span(states).subspan(to_size(sequence), other.size() - 1),
            .offsets = other};
  }
  typename M::Token token(Index t) const {
    auto const row = [&](std::vector<T> const& x) {
      return std::span(x).subspan(to_size(t * c.channels), to_size(c.channels));
    };
    return {.log_w = log_w, .k = row(k), .v = row(v), .u = u};
  }
  VecView<T, M::channels> output(Index t) { return std::span(y).subspan(to_size(t * c.channels), to_size(c.channels)); }
  void steps() {
    for (Index s = 0; s < c.sequences(); ++s)
      for (Index t = c.offsets[to_size(s)]; t < c.offsets[to_size(s + 1)]; ++t)
        M::step(states[to_size(s)], token(t), output(t));
  }
  /// What lies beside the numbers of a state.
  static std::vector<double> padding(State const& state) {
    auto const s = state.view();
    std::vector<double> numbers;
    for (auto const* const row : {s.num, s.den, s.exponent})
      numbers.insert(numbers.end(), row + s.channels(), row + padded<T>(s.channels()));
    return numbers;
  }
  ChannelResult result() const {
    ChannelResult out{std::vector<double>(y.begin(), y.end()), {}, {}};
    for (auto const& state : states)
      for (Index i = 0; i < c.channels; ++i) {
        auto const s = state.view();
        out.add_state(s.num[i], s.den[i], std::numbers::ln2_v<long double> * static_cast<long double>(s.exponent[i]));
      }
    return out;
  }
};

/// The bound on max|x - ref| / max|ref| of outputs and means: that of a plain implementation in T with natural keys.
template <class T> inline constexpr double channel_bound = sizeof(T) == 4 ? 1e-5 : 1e-12;

/// The same where sums may go through all tokens of a case with hardly a new one: a decay of a few units in the last place
/// is rounded to the same side by every token, by up to half a unit. It also bounds the relative error of sums of weights.
/// Exponents are never rounded: nothing is added for large keys.
template <class T> double channel_bound_of(ChannelCase const& c) {
  return channel_bound<T> +
         static_cast<double>(c.tokens()) * static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
}

/// The largest difference of logarithms: the error of what they are the logarithms of.
double log_error(std::vector<double> const& x, std::vector<double> const& expected);

}  // namespace aviary::test
