#pragma once
/// Packed sequences through all channels. A pack of channels goes through a tile of tokens with its sums in registers. Tiles
/// are few tokens and many channels: rows as long as that are fetched ahead by the hardware, short pieces of many rows are
/// not.
#include <algorithm>
#include <span>

#include "aviary/channel/step.hpp"
#include "aviary/core/executor.hpp"
#include "aviary/core/packing.hpp"
#include "aviary/core/sequence.hpp"
#include "aviary/core/tape.hpp"

namespace AVIARY_NAMESPACE::detail {

/// Which part of a call: channels [first, first + size), and of a sequence tokens [token, token + tokens).
struct ChannelTile {
  Index first, size, token = 0, tokens = 0;

  static constexpr Index most_tokens = 4;
  /// Channels that a tile has at most: 2 KiB of every token.
  template <class T> static constexpr Index most_channels = 2048 / static_cast<Index>(sizeof(T));
};

/// Numbers of a tile, for input or output that is stored in another type.
template <class T> struct ChannelScratch {
  alignas(alignment) T rows[to_size(ChannelTile::most_tokens)][to_size(ChannelTile::most_channels<T>)];
};

/// The rows of a tile that are read.
template <class T> class ChannelRowsIn {
 public:
  template <Index C> ChannelRowsIn const& open(Source<C> const& source, ChannelTile const& at) noexcept {
    for (Index m = 0; m < at.tokens; ++m)
      row_[m] = source.template part<T>(at.token + m, 0, at.first, at.size, scratch_.rows[m]).data();
    return *this;
  }
  T const* operator[](Index m) const noexcept { return row_[m]; }

 private:
  T const* row_[to_size(ChannelTile::most_tokens)];
  ChannelScratch<T> scratch_;
};

/// The rows of a tile that are written, if they are wanted.
template <class T> class ChannelRowsOut {
 public:
  template <Index C> void open(Sink<C> const& sink, ChannelTile const& at) noexcept {
    for (Index m = 0; m < at.tokens; ++m) {
      T* const row = sink ? sink.template row<T>(at.token + m, 0) : nullptr;
      row_[m] = row != nullptr ? row + at.first : scratch_.rows[m];
    }
  }
  T* operator[](Index m) const noexcept { return row_[m]; }
  /// Converts what is stored in another type.
  template <Index C> void close(Sink<C> const& sink, ChannelTile const& at) noexcept {
    if (!sink) return;
    for (Index m = 0; m < at.tokens; ++m)
      if (row_[m] == scratch_.rows[m]) sink.put(at.token + m, 0, at.first, at.size, row_[m]);
  }

 private:
  T* row_[to_size(ChannelTile::most_tokens)];
  ChannelScratch<T> scratch_;
};

/// A span of channels of memory M with packs P, ready to be run over tokens.
template <class M, class P> class ChannelSpan {
  using T = typename M::T;
  using L = simd::Pack<P>;
  using Kernel = ChannelKernel<P>;
  using View = typename M::View;
  using Inputs = typename M::Inputs;

 public:
  ChannelSpan(Inputs const& x, Index first, Index size) noexcept : x_(x) {
    AVIARY_ASSERT(size <= most);
    T scratch[2][to_size(most)];
    auto const log_w = x.log_w.template part<T>(0, 0, first, size, scratch[0]);
    auto const u = x.u.template part<T>(0, 0, first, size, scratch[1]);
    for (Index i = 0; i < size; i += L::lanes)
      constants_[i / L::lanes] =
          Kernel::prepare(simd::load_part<P>(log_w.data(), i, size), simd::load_part<P>(u.data(), i, size));
  }

  /// What the pack that begins with channel i needs of log_w and u.
  typename Kernel::Constants const& constants(Index i) const noexcept { return constants_[i / L::lanes]; }
  /// The rows of k and of v in a tile, until the next.
  ChannelRowsIn<T> const& keys(ChannelTile const& at) noexcept { return k_.open(x_.k, at); }
  ChannelRowsIn<T> const& values(ChannelTile const& at) noexcept { return v_.open(x_.v, at); }

  /// Runs state s through a tile. put.operator()<whole>(i, m, y, before, k) takes the output of the pack that begins with
  /// channel i, for token m with key k, and the sums before it; `whole` says that no lane is past the end of the span.
  template <class Put> void run(View s, ChannelTile const& at, Put&& put) noexcept {
    k_.open(x_.k, at);
    v_.open(x_.v, at);
    Index i = 0;
    for (; i + L::lanes <= at.size; i += L::lanes) run_pack<true>(s, at, i, put);
    if (i < at.size) run_pack<false>(s, at, i, put);
  }

 private:
  static constexpr Index most = ChannelTile::most_channels<T>;

  template <bool whole, class Put>
  AVIARY_INLINE void run_pack(View s, ChannelTile const& at, Index i, Put&& put) noexcept {
    auto const load = [&](T const* row) {
      if constexpr (whole)
        return L::load(row + i);
      else
        return simd::load_part<P>(row, i, at.size);
    };
    typename Kernel::Constants const constants = constants_[i / L::lanes];
    typename Kernel::Sums sums{load(s.num + at.first), load(s.den + at.first), load(s.exponent + at.first)};
    for (Index m = 0; m < at.tokens; ++m) {
      auto const before = sums;
      P const k = load(k_[m]);
      put.template operator()<whole>(i, m, Kernel::advance(sums, constants, Kernel::weigh(k), load(v_[m])), before, k);
    }
    simd::store_part(s.num + at.first, i, at.size, sums.num);
    simd::store_part(s.den + at.first, i, at.size, sums.den);
    simd::store_part(s.exponent + at.first, i, at.size, sums.exponent);
  }

  Inputs const& x_;
  typename Kernel::Constants constants_[to_size((most + L::lanes - 1) / L::lanes)];
  ChannelRowsIn<T> k_, v_;
};

/// pass(sequence, first, size, begin) for the spans of channels of all sequences, as tasks of an executor, which begin with
/// channel `begin`. Where they are cut changes no bit.
template <class T, class E, class Pass>
void for_channel_spans(Packing const& packing, Index channels, E& executor, Pass&& pass) {
  Index const sequences = packing.sequences();
  if (sequences * channels == 0) return;
  Index const multiplies = 32 * packing.tokens * channels;  // what an exponential and a division take
  constexpr Index line = alignment / static_cast<Index>(sizeof(T)), most = ChannelTile::most_channels<T>;
  Cut const cut = Cut::of(sequences, 1, padded<T>(channels), line, tasks_worth(executor, multiplies));
  run_tasks(executor, sequences * cut.row_tasks, [&](Index task) noexcept {
    Index const begin = task % cut.row_tasks * cut.row_per_task, end = std::min(channels, begin + cut.row_per_task);
    for (Index first = begin; first < end; first += most)
      pass(task / cut.row_tasks, first, std::min(most, end - first), begin);
  });
}

/// The forward pass of memory M with packs P.
template <class M, class P> class ChannelForward {
  using T = typename M::T;
  using Call = typename M::ForwardCall;
  using View = typename M::View;

 public:
  template <class E> static void run(Call const& call, E& executor) {
    Packing const packing{call.offsets, call.tokens()};
    for_channel_spans<T>(packing, call.x.k.size(), executor, [&](Index sequence, Index first, Index size, Index) {
      sequence_span(call, packing, sequence, first, size);
    });
  }

 private:
  static void sequence_span(Call const& call, Packing const& packing, Index sequence, Index first,
                            Index size) noexcept {
    View const state = *call.states.of(sequence, 1);
    ChannelSpan<M, P> span(call.x, first, size);
    ChannelRowsOut<T> y;
    for_stretches(packing, sequence, call.tape, ChannelTile::most_tokens, [&](Index t, Index n, Index kept) {
      if (kept >= 0) keep(state, call.tape.states[to_size(kept)], first, size);
      ChannelTile const tile{first, size, t, n};
      y.open(call.y, tile);
      span.run(state, tile, [&]<bool whole>(Index i, Index m, ChannelReading<P> const& reading, auto const&...) {
        store<whole>(y[m], i, size, reading.num / reading.den);
      });
      y.close(call.y, tile);
    });
  }

  template <bool whole> static AVIARY_INLINE void store(T* row, Index i, Index size, P const& y) noexcept {
    if constexpr (whole)
      simd::Pack<P>::store(row + i, y);
    else
      simd::store_part(row, i, size, y);
  }

  static void keep(View from, View to, Index first, Index size) noexcept {
    std::copy_n(from.num + first, size, to.num + first);
    std::copy_n(from.den + first, size, to.den + first);
    std::copy_n(from.exponent + first, size, to.exponent + first);
  }
};

}  // namespace AVIARY_NAMESPACE::detail
