#pragma once
/// Random packed sequences through a channel memory, and what the reference makes of them.
#include <cmath>
#include <limits>
#include <numbers>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "aviary/channel/memory.hpp"
#include "aviary/reference/wkv4.hpp"
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

inline std::string name(Keys keys) {
  switch (keys) {
    case Keys::natural:
      return "natural";
    case Keys::strong:
      return "strong";
    case Keys::huge:
      return "huge";
    case Keys::rising:
      return "rising";
    case Keys::falling:
      return "falling";
  }
  return "?";
}

inline constexpr Keys all_keys[] = {Keys::natural, Keys::strong, Keys::huge, Keys::rising, Keys::falling};

/// Every number is a float. The state of every second sequence is empty before its first token.
struct ChannelCase {
  Index channels;
  std::vector<Index> offsets;
  std::vector<float> log_w, k, v, u, aa, bb, pp;  // (C), (tokens, C) ..., (sequences, C)

  ChannelCase(std::uint64_t seed, Index channels_, std::vector<Index> offsets_, Keys keys = Keys::natural)
      : channels(channels_), offsets(std::move(offsets_)) {
    Random random(seed);
    for (Index t = 0; t < tokens(); ++t) {
      double const place = static_cast<double>(t) / static_cast<double>(tokens()), way = 600 * place - 300;
      for (Index c = 0; c < channels; ++c) k.push_back(static_cast<float>(key(random, keys, way)));
    }
    v = random.normals<float>(tokens() * channels);
    for (Index c = 0; c < channels; ++c) {
      log_w.push_back(static_cast<float>(decay(random, keys)));
      u.push_back(static_cast<float>(bonus(random, keys)));
    }
    for (Index s = 0; s < sequences(); ++s)
      for (Index c = 0; c < channels; ++c) {
        bool const empty = s % 2 == 0;
        double const weight = random.uniform(0.5, 3);
        bb.push_back(empty ? 0 : static_cast<float>(weight));
        aa.push_back(empty ? 0 : static_cast<float>(weight * random.normal()));
        pp.push_back(empty ? -1e30f : static_cast<float>(key(random, keys, 0)));
      }
  }
  Index tokens() const { return offsets.back(); }
  Index sequences() const { return static_cast<Index>(offsets.size()) - 1; }

 private:
  static double key(Random& random, Keys keys, double way) {
    switch (keys) {
      case Keys::natural:
        return 2 * random.normal();
      case Keys::strong:
        return random.uniform(-60, 60);
      case Keys::huge:
        return random.uniform(-300, 300);
      case Keys::rising:
        return way + random.normal();
      case Keys::falling:
        return -way + random.normal();
    }
    return 0;
  }
  static double decay(Random& random, Keys keys) {
    if (keys == Keys::natural) return -std::exp(random.normal());
    if (keys == Keys::huge) {
      double const choices[] = {0, -std::numeric_limits<double>::infinity(), -std::exp(40.0), -1e-8, -21, -23, -150};
      return choices[random.below(7)];
    }
    return -std::exp(random.uniform(-12, 5));
  }
  static double bonus(Random& random, Keys keys) {
    if (keys != Keys::huge) return random.normal();
    double const choices[] = {0, 80, -80, 1e4, -1e4, 1e30, -1e20};
    return choices[random.below(7)];
  }
};

/// Outputs, and states in a gauge that all implementations share: means num / den, and logarithms of den.
struct ChannelResult {
  std::vector<double> y, mean, weight;  // (tokens, C), (sequences, C) each

  void add_state(long double num, long double den, long double exponent) {
    bool const empty = !(den > 0) && den <= 0;
    mean.push_back(static_cast<double>(empty ? 0 : num / den));
    weight.push_back(static_cast<double>(empty ? -1e30L : exponent + std::log(den)));
  }
};

/// The reference, in long double: where keys are large, an exponent of its own has few digits after the point.
inline ChannelResult reference_result(ChannelCase const& c) {
  using Number = long double;
  using Numbers = std::vector<Number>;
  auto const take = [](std::vector<float> const& from, Index first, Index n) {
    return Numbers(from.begin() + first, from.begin() + first + n);
  };
  ChannelResult out;
  Index const n = c.channels;
  Numbers const log_w = take(c.log_w, 0, n), u = take(c.u, 0, n);
  for (Index s = 0; s < c.sequences(); ++s) {
    Index const begin = c.offsets[to_size(s)], tokens = c.offsets[to_size(s + 1)] - begin;
    Numbers const k = take(c.k, begin * n, tokens * n), v = take(c.v, begin * n, tokens * n);
    Numbers aa = take(c.aa, s * n, n), bb = take(c.bb, s * n, n), pp = take(c.pp, s * n, n), y(k.size());
    reference::Wkv4<Number>::forward({aa, bb, pp},
                                     {.log_w = log_w, .k = {k.data(), tokens, n}, .v = {v.data(), tokens, n}, .u = u},
                                     {y.data(), tokens, n});
    for (Number const e : y) out.y.push_back(static_cast<double>(e));
    for (std::size_t i = 0; i < to_size(n); ++i) out.add_state(aa[i], bb[i], pp[i]);
  }
  return out;
}

template <class S> S channel_state(Index channels) {
  if constexpr (std::is_constructible_v<S, Index>)
    return S(channels);
  else
    return S{};
}

/// The inputs of a case in number type T, and the states of memory M: what a call of M::forward needs.
template <class M> struct ChannelCall {
  using T = typename M::T;
  using State = typename M::State;
  ChannelCase const& c;
  std::vector<T> log_w, k, v, u, y;
  std::vector<State> states;

  explicit ChannelCall(ChannelCase const& from)
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
  typename M::ForwardCall call() {
    return {.x = inputs(), .y = {y.data(), c.tokens(), 1, c.channels}, .states = states, .offsets = c.offsets};
  }
  typename M::Token token(Index t) const {
    auto const row = [&](std::vector<T> const& x) {
      return std::span(x).subspan(to_size(t * c.channels), to_size(c.channels));
    };
    return {.log_w = log_w, .k = row(k), .v = row(v), .u = u};
  }
  VecView<T, M::channels> output(Index t) { return std::span(y).subspan(to_size(t * c.channels), to_size(c.channels)); }
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
inline double log_error(std::vector<double> const& x, std::vector<double> const& expected) {
  double worst = x.size() == expected.size() ? 0 : std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < x.size() && i < expected.size(); ++i)
    if (double const e = std::abs(x[i] - expected[i]); !(e <= worst)) worst = e;
  return worst;
}

}  // namespace aviary::test
