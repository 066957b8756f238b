#pragma once
/// A stretch of tokens as one map of the state: a decay, and the sums of its own tokens. Segments compose associatively,
/// so that the states between stretches follow from a scan: one long sequence on many threads, or on many machines.
#include <cmath>
#include <numbers>

#include "aviary/channel/forward.hpp"
#include "aviary/core/math.hpp"

namespace AVIARY_NAMESPACE {

/// num' = num e^log_w + sums.num and the same for den. ChannelSegment(channels) is the segment of no token, whatever the
/// number of channels; where it is fixed, so is ChannelSegment().
template <class T, Index C> struct ChannelSegment {
  ChannelRow<T, C> log_w;   ///< the sum of the tokens' log_w
  ChannelState<T, C> sums;  ///< the state after these tokens if it was empty before them

  ChannelSegment() = default;
  explicit ChannelSegment(Extent<C> channels) : log_w(channels), sums(channels) {}
  friend bool operator==(ChannelSegment const&, ChannelSegment const&) = default;
};

namespace detail {

/// The logarithm of a sum of weights, -1e30 of none.
template <class P> P log_den(ChannelSums<P> const& s) noexcept {
  using L = simd::Pack<P>;
  using T = typename L::value_type;
  P const smallest(PowerLimits<T>::smallest);
  P const logarithm = L::fma(s.exponent, P(std::numbers::ln2_v<T>), Elementary<P>::log(L::max(smallest, s.den)));
  return L::select(s.den < smallest, P(T(-1e30)), logarithm);
}

/// out = the sums after `later`, over a stretch with decay e^log_w, from `earlier`.
template <class P, class T, Index C>
void join_channels(ChannelView<T const, C> earlier, T const* log_w, ChannelView<T const, C> later,
                   ChannelView<T, C> out) noexcept {
  Index const channels = out.channels();
  auto const load = [&](ChannelView<T const, C> s, Index c) -> ChannelSums<P> {
    return {simd::load_part<P>(s.num, c, channels), simd::load_part<P>(s.den, c, channels),
            simd::load_part<P>(s.exponent, c, channels)};
  };
  for (Index c = 0; c < channels; c += simd::Pack<P>::lanes) {
    ChannelSums<P> const sums =
        ChannelKernel<P>::join(load(earlier, c), simd::load_part<P>(log_w, c, channels), load(later, c));
    simd::store_part(out.num, c, channels, sums.num);
    simd::store_part(out.den, c, channels, sums.den);
    simd::store_part(out.exponent, c, channels, sums.exponent);
  }
}

/// What stretches of tokens do: see ChannelMemory::summarize.
template <class M, class P> class ChannelSummary {
  using T = typename M::T;
  using L = simd::Pack<P>;
  using Call = typename M::SummarizeCall;

 public:
  template <class E> static void run(Call const& call, E& executor) {
    Packing const packing{call.offsets, call.x.k.tokens()};
    for_channel_spans<T>(packing, call.x.k.size(), executor, [&](Index sequence, Index first, Index size, Index) {
      stretch(call, call.segments[to_size(sequence)], packing.begin(sequence), packing.end(sequence), first, size);
    });
  }

 private:
  static void stretch(Call const& call, typename M::Segment& segment, Index begin, Index end, Index first,
                      Index size) noexcept {
    typename M::View const s = segment.sums;
    std::fill_n(s.num + first, size, T(0));
    std::fill_n(s.den + first, size, T(0));
    std::fill_n(s.exponent + first, size, T(0));
    T* const log_w = segment.log_w.data() + first;
    decay_of_one(call, log_w, first, size);

    T u_scratch[to_size(ChannelTile::most_channels<T>)];
    T const* const u = call.x.u.template part<T>(0, 0, first, size, u_scratch).data();
    ChannelSpan<M, P> span(call.x, first, size);
    ChannelRowsOut<T> y, m;
    for (Index t = begin, n = 0; t < end; t += n) {
      n = std::min(end - t, ChannelTile::most_tokens);
      ChannelTile const tile{first, size, t, n};
      if (call.y) y.open(call.y, tile);
      if (call.state_weights) m.open(call.state_weights, tile);
      span.run(s, tile, [&]<bool whole>(Index i, Index at, auto const& reading, auto const& before, P const& k) {
        if (call.y) simd::store_part(y[at], i, size, reading.num / reading.den);
        if (!call.state_weights) return;
        P const bonus = finite(k) + finite(simd::load_part<P>(u, i, size));
        P const decays = simd::load_part<P>(log_w, i, size), tokens(static_cast<T>(t + at - begin));
        simd::store_part(m[at], i, size, L::fma(tokens, decays, -log_sum(log_den(before), bonus)));
      });
      if (call.y) y.close(call.y, tile);
      if (call.state_weights) m.close(call.state_weights, tile);
    }
    for (Index c = 0; c < size; ++c) log_w[c] *= static_cast<T>(end - begin);
  }

  /// log_w of one token, a finite number.
  static void decay_of_one(Call const& call, T* to, Index first, Index size) noexcept {
    T scratch[to_size(ChannelTile::most_channels<T>)];
    T const* const log_w = call.x.log_w.template part<T>(0, 0, first, size, scratch).data();
    for (Index i = 0; i < size; i += L::lanes)
      simd::store_part(to, i, size, finite(simd::load_part<P>(log_w, i, size)));
  }

  static P finite(P const& x) noexcept {
    return L::max(P(-PowerLimits<T>::largest), L::min(P(PowerLimits<T>::largest), x));
  }

  /// log(e^a + e^b)
  static P log_sum(P const& a, P const& b) noexcept {
    P const top = L::max(a, b);
    return top + Elementary<P>::log1p(L::exp(L::min(a, b) - top));
  }
};

/// Outputs made from an empty state, and the initial state added: see ChannelMemory::add_initial_state.
template <class M, class P> class ChannelCorrection {
  using T = typename M::T;
  using L = simd::Pack<P>;
  using Call = typename M::AddInitialStateCall;

 public:
  template <class E> static void run(Call const& call, E& executor) {
    Packing const packing{call.offsets, call.y.tokens()};
    for_channel_spans<T>(packing, call.y.size(), executor, [&](Index sequence, Index first, Index size, Index) {
      stretch(call, call.states[to_size(sequence)], packing.begin(sequence), packing.end(sequence), first, size);
    });
  }

 private:
  static void stretch(Call const& call, ChannelView<T const, M::channels> s, Index begin, Index end, Index first,
                      Index size) noexcept {
    ChannelRowsIn<T> y0, m;
    ChannelRowsOut<T> y;
    for (Index t = begin, n = 0; t < end; t += n) {
      n = std::min(end - t, ChannelTile::most_tokens);
      ChannelTile const tile{first, size, t, n};
      y0.open(call.y0, tile);
      m.open(call.state_weights, tile);
      y.open(call.y, tile);
      for (Index i = 0; i < size; i += L::lanes) {
        auto const load = [&](T const* row) { return simd::load_part<P>(row, i, size); };
        ChannelSums<P> const sums{load(s.num + first), load(s.den + first), load(s.exponent + first)};
        P const mean = sums.num / L::max(P(PowerLimits<T>::smallest), sums.den), weight = log_den(sums);
        for (Index at = 0; at < n; ++at) {
          P const before = load(y0[at]), share = sigmoid(weight + load(m[at]));
          simd::store_part(y[at], i, size, L::fma(share, mean - before, before));
        }
      }
      y.close(call.y, tile);
    }
  }
};

}  // namespace detail
}  // namespace AVIARY_NAMESPACE
