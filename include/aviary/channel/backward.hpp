#pragma once
/// Gradients of packed sequences, from the last token to the first. With the gradients dnum, dden of the sums after a token,
///
///     c    = dy / (den + bonus)                                      bonus = e^(u + k)
///     dv   = c bonus + weight dnum                                   weight = e^k
///     dk   = c bonus (v - y) + weight (dnum v + dden)                du     = sum of c bonus (v - y)
///     dnum = w dnum + c               dden = w dden - c y            dlog_w = sum of w (dnum num + dden den)
///
/// where num and den are the sums before the token. These are the derivatives of the sums as `forward` keeps them, relative to
/// 2^exponent: dnum and dden lie relative to 2^-exponent, and where the exponent moves they go along by the same power of
/// two. So no size of k makes them overflow, as |dnum| is at most the sum of the later |dy| over den. The way back needs no
/// exponential: the sums, bonuses and weights are kept from a way forwards, from one state of the tape to the next.
#include <algorithm>
#include <cstdint>
#include <span>

#include "aviary/channel/forward.hpp"

namespace AVIARY_NAMESPACE::detail {

/// What the way back needs of a token, for a pack of channels. In the workspace it lies side by side.
template <class P> struct ChannelKept {
  using L = simd::Pack<P>;
  using T = typename L::value_type;
  static constexpr Index numbers = 5;  ///< for each channel

  P num, den;       ///< the sums before the token
  P bonus, weight;  ///< of the token
  P moved;          ///< what moved the sums to another exponent

  AVIARY_HOST_DEVICE static AVIARY_INLINE ChannelKept load(T const* p) noexcept {
    return {L::load(p), L::load(p + L::lanes), L::load(p + 2 * L::lanes), L::load(p + 3 * L::lanes),
            L::load(p + 4 * L::lanes)};
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE void store(T* p) const noexcept {
    L::store(p, num);
    L::store(p + L::lanes, den);
    L::store(p + 2 * L::lanes, bonus);
    L::store(p + 3 * L::lanes, weight);
    L::store(p + 4 * L::lanes, moved);
  }
};

/// Gradients on the way back, for a pack of channels.
template <class P> struct ChannelAdjoint {
  using L = simd::Pack<P>;
  using T = typename L::value_type;
  struct Token {
    P dk, dv;
  };

  P dnum, dden;  ///< of the sums
  P dlog_w, du;  ///< so far; dlog_w lacks the factor w

  /// Goes back over a token, from after it to before it.
  AVIARY_HOST_DEVICE AVIARY_INLINE Token go_back(ChannelKept<P> const& x, ChannelConstants<P> const& constants,
                                                 P const& v, P const& dy) noexcept {
    P const zero(T(0)), w = constants.w, w_low = constants.w_low;
    P const inverse = P(T(1)) / (x.den + x.bonus), y = L::fma(x.bonus, v, x.num) * inverse;
    P const c = dy * inverse, own = c * x.bonus;
    // v - y in the sums before the token, which tells it where the bonus is all of the weight
    P const past = own * (L::fma(x.den, v, zero - x.num) * inverse);
    Token const token{L::fma(x.weight, L::fma(dnum, v, dden), past), L::fma(x.weight, dnum, own)};
    du = du + past;
    dnum = dnum * x.moved;
    dden = dden * x.moved;
    dlog_w = dlog_w + L::fma(dnum, x.num, dden * x.den);
    dnum = L::fma(dnum, w, L::fma(dnum, w_low, c));
    dden = L::fma(dden, w, L::fma(dden, w_low, (zero - c) * y));
    return token;
  }
  /// Begins with the gradient of a state, in units of sums with this exponent.
  AVIARY_HOST_DEVICE AVIARY_INLINE void take(ChannelSums<P> const& ds, P const& exponent) noexcept {
    P const units = ds.exponent + exponent;
    dnum = ChannelKernel<P>::rescale(ds.num, units);
    dden = ChannelKernel<P>::rescale(ds.den, units);
  }
};

/// Where things lie in the workspace of a call: rows of whole lines, for each sequence; then what is kept of the tokens
/// between two states of the tape, for each task. A serial executor has one task at a time, and stays in the cache.
template <class T> struct ChannelWorkspace {
  static constexpr Index line = alignment / static_cast<Index>(sizeof(T));
  static constexpr Index kept = ChannelKept<T>::numbers;
  /// The running state, gradients of its sums, and the sums that are the gradients of log_w and u.
  enum Row : Index { num, den, exponent, dnum, dden, dlog_w, du, rows };

  Index sequences, channels, tokens;  ///< tokens: at most so many are kept at once

  ChannelWorkspace(Packing const& packing, Index all_channels, Index every) noexcept
      : sequences(packing.sequences()), channels(padded<T>(all_channels)), tokens(0) {
    for (Index s = 0; s < sequences; ++s) tokens = std::max(tokens, packing.end(s) - packing.begin(s));
    tokens = std::max(std::min(tokens, every), Index{0});
  }
  /// Numbers of all, with room to begin on a line.
  Index size() const noexcept { return line + sequences * channels * (rows + kept * tokens); }

  static T* begin(std::span<T> all) noexcept {
    auto const misplaced = static_cast<Index>(reinterpret_cast<std::uintptr_t>(all.data()) % to_size(alignment));
    return all.data() + (alignment - misplaced) / static_cast<Index>(sizeof(T)) % line;
  }
  T* row(T* all, Index sequence, Index row) const noexcept { return all + (sequence * rows + row) * channels; }
  T* tokens_of_task(T* all, Index sequence, Index begin) const noexcept {
    return row(all, sequences, 0) + (sequence * channels + begin) * kept * tokens;
  }
};

/// Gradients of a span of channels of a sequence, for memory M with packs P.
template <class M, class P> class ChannelBackwardSpan {
  using T = typename M::T;
  using L = simd::Pack<P>;
  using Kernel = ChannelKernel<P>;
  using Workspace = ChannelWorkspace<T>;
  using Call = typename M::BackwardCall;
  using View = typename M::View;
  using ConstView = ChannelView<T const, M::channels>;

 public:
  /// `row(n)` is a row of the workspace for this sequence, `kept` where tokens of this task are kept.
  template <class Row>
  ChannelBackwardSpan(Call const& call, Index first, Index size, Row&& row, T* kept) noexcept
      : call_(call),
        span_(call.x, first, size),
        first_(first),
        size_(size),
        token_(padded<T>(size) * Workspace::kept),
        state_{row(Workspace::num), row(Workspace::den), row(Workspace::exponent), call.x.k.size()},
        dnum_(row(Workspace::dnum) + first),
        dden_(row(Workspace::dden) + first),
        dlog_w_(row(Workspace::dlog_w) + first),
        du_(row(Workspace::du) + first),
        kept_(kept) {}

  /// Tokens [begin, end), whose states are those of the tape from number `state` on. ds: the gradient of the state, or null.
  void run(Index begin, Index end, Index state, typename M::StateGradient* ds) noexcept {
    for (T* const row : {dnum_, dden_, dlog_w_, du_}) std::fill_n(row, padded<T>(size_), T(0));
    if (begin == end) return;
    Index const every = call_.tape.every;
    for (Index i = (end - begin - 1) / every; i >= 0; --i) {
      Index const t = begin + i * every, n = std::min(every, end - t);
      restore(call_.tape.states[to_size(state + i)], i == 0 ? t : Index{-1});
      forwards(t, n);
      if (ds != nullptr && t + n == end) take(*ds);
      backwards(t, n);
    }
    for_packs([&](Index i) { L::store(dlog_w_ + i, L::load(dlog_w_ + i) * span_.constants(i).w); });
    if (ds == nullptr) return;
    restore(call_.tape.states[to_size(state)], begin);
    give(*ds);
  }

 private:
  template <class F> AVIARY_INLINE void for_packs(F&& f) noexcept {
    for (Index i = 0; i < size_; i += L::lanes) f(i);
  }

  /// The state before a token. If it is the first of its sequence, and not -1, empty sums get an exponent that suits it.
  void restore(ConstView from, Index token) noexcept {
    Index const n = padded<T>(size_);
    std::copy_n(from.num + first_, n, state_.num + first_);
    std::copy_n(from.den + first_, n, state_.den + first_);
    std::copy_n(from.exponent + first_, n, state_.exponent + first_);
    if (token < 0) return;
    T const* const k = span_.keys({first_, size_, token, 1})[0];
    for_packs([&](Index i) {
      typename Kernel::Sums const sums{L::load(state_.num + first_ + i), L::load(state_.den + first_ + i),
                                       L::load(state_.exponent + first_ + i)};
      L::store(state_.exponent + first_ + i,
               Kernel::exponent_before(sums, span_.constants(i), simd::load_part<P>(k, i, size_)));
    });
  }

  /// Goes from the state before token t through n tokens, and keeps what the way back needs.
  void forwards(Index t, Index n) noexcept {
    for (Index at = 0; at < n; at += ChannelTile::most_tokens) {
      ChannelTile const tile{first_, size_, t + at, std::min(ChannelTile::most_tokens, n - at)};
      span_.run(state_, tile, [&]<bool whole>(Index i, Index m, auto const& x, auto const& before, P const&) {
        ChannelKept<P>{before.num, before.den, x.bonus, x.weight, x.moved}.store(kept_ + (at + m) * token_ +
                                                                                 i * Workspace::kept);
      });
    }
  }

  void backwards(Index t, Index n) noexcept {
    for (Index at = (n - 1) / ChannelTile::most_tokens * ChannelTile::most_tokens; at >= 0;
         at -= ChannelTile::most_tokens) {
      ChannelTile const tile{first_, size_, t + at, std::min(ChannelTile::most_tokens, n - at)};
      auto const& v = span_.values(tile);
      dy_.open(call_.dy, tile);
      dk_.open(call_.dx.k, tile);
      dv_.open(call_.dx.v, tile);
      T const* const kept = kept_ + at * token_;
      Index i = 0;
      for (; i + L::lanes <= size_; i += L::lanes) backwards<true>(v, kept, i, tile.tokens);
      if (i < size_) backwards<false>(v, kept, i, tile.tokens);
      dk_.close(call_.dx.k, tile);
      dv_.close(call_.dx.v, tile);
    }
  }

  /// The pack that begins with channel i, through the tokens of a tile.
  template <bool whole>
  AVIARY_INLINE void backwards(ChannelRowsIn<T> const& values, T const* kept, Index i, Index tokens) noexcept {
    auto const load = [&](T const* row) AVIARY_INLINE_LAMBDA -> P {
      if constexpr (whole)
        return L::load(row + i);
      else
        return simd::load_part<P>(row, i, size_);
    };
    auto const store = [&](T* row, P const& x) AVIARY_INLINE_LAMBDA {
      if constexpr (whole)
        L::store(row + i, x);
      else
        simd::store_part(row, i, size_, x);
    };
    auto const constants = span_.constants(i);
    auto adjoint = load_adjoint(i);
    kept += i * Workspace::kept;
    for (Index m = tokens - 1; m >= 0; --m) {
      auto const token =
          adjoint.go_back(ChannelKept<P>::load(kept + m * token_), constants, load(values[m]), load(dy_[m]));
      store(dk_[m], token.dk);
      store(dv_[m], token.dv);
    }
    store_adjoint(i, adjoint);
  }

  AVIARY_INLINE ChannelAdjoint<P> load_adjoint(Index i) const noexcept {
    return {L::load(dnum_ + i), L::load(dden_ + i), L::load(dlog_w_ + i), L::load(du_ + i)};
  }
  AVIARY_INLINE void store_adjoint(Index i, ChannelAdjoint<P> const& x) noexcept {
    L::store(dnum_ + i, x.dnum);
    L::store(dden_ + i, x.dden);
    L::store(dlog_w_ + i, x.dlog_w);
    L::store(du_ + i, x.du);
  }

  /// The gradient of the state after the last token, in units of that state.
  void take(ConstView ds) noexcept {
    for_packs([&](Index i) {
      auto const load = [&](T const* row) { return simd::load_part<P>(row + first_, i, size_); };
      auto adjoint = load_adjoint(i);
      adjoint.take({load(ds.num), load(ds.den), load(ds.exponent)}, L::load(state_.exponent + first_ + i));
      store_adjoint(i, adjoint);
    });
  }
  /// The gradient of the state before the first token, which is restored.
  void give(View ds) const noexcept {
    std::copy_n(dnum_, size_, ds.num + first_);
    std::copy_n(dden_, size_, ds.den + first_);
    for (Index c = first_; c < first_ + size_; ++c) ds.exponent[c] = T(0) - state_.exponent[c];
  }

  Call const& call_;
  ChannelSpan<M, P> span_;
  ChannelRowsIn<T> dy_;
  ChannelRowsOut<T> dk_, dv_;
  Index first_, size_, token_;
  View state_;
  T *dnum_, *dden_, *dlog_w_, *du_, *kept_;  // rows of the span
};

/// The gradients of memory M with packs P.
template <class M, class P> class ChannelBackward {
  using T = typename M::T;
  using Call = typename M::BackwardCall;

 public:
  template <class E> static void run(Call const& call, E& executor) {
    Index const channels = call.x.k.size();
    Packing const packing{call.offsets, call.tokens()};
    ChannelWorkspace<T> const plan(packing, channels, call.tape.every);
    T* const all = plan.begin(call.workspace);
    bool const one_by_one = executor.concurrency() <= 1;
    for_channel_spans<T>(packing, channels, executor, [&](Index sequence, Index first, Index size, Index begin) {
      auto const row = [&](Index n) { return plan.row(all, sequence, n); };
      T* const kept = one_by_one ? plan.tokens_of_task(all, 0, 0) : plan.tokens_of_task(all, sequence, begin);
      ChannelBackwardSpan<M, P> span(call, first, size, row, kept);
      span.run(packing.begin(sequence), packing.end(sequence), packing.kept_before(sequence, call.tape.every),
               call.dstates.empty() ? nullptr : call.dstates.of(sequence, 1));
    });
    add_up(call.dx.log_w, plan, all, plan.dlog_w);
    add_up(call.dx.u, plan, all, plan.du);
  }

 private:
  /// The sum of a row of the workspace over the sequences, in their order.
  static void add_up(HeadSink<M::channels> const& to, ChannelWorkspace<T> const& plan, T* all, Index row) noexcept {
    if (!to) return;
    constexpr Index most = ChannelTile::most_channels<T>;
    for (Index first = 0; first < to.size(); first += most) {
      Index const size = std::min(most, to.size() - first);
      T total[to_size(most)] = {};
      for (Index s = 0; s < plan.sequences; ++s)
        for (Index c = 0; c < size; ++c) total[c] += plan.row(all, s, row)[first + c];
      to.put(0, 0, first, size, total);
    }
  }
};

}  // namespace AVIARY_NAMESPACE::detail
