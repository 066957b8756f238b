#pragma once
/// WKV-4 as a kernel. A thread takes a channel of a sequence, with its sums in registers from the first token to the last, and a
/// block takes as many neighbouring channels as a warp has threads. Rows of tokens are copied to shared memory while earlier ones
/// are worked on, all threads copying; then a thread takes its own channel of them. So no thread waits for another within a
/// token, and bits are those of the host's scalar packs.
///
/// The number of channels is known at run time: there is one kernel for each T.
#include "aviary/channel/memory.hpp"
#include "aviary/cuda/rows.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// Rows of channels, in any format: (tokens, 1, C), evenly spaced.
struct ChannelRows {
  std::byte* first = nullptr;
  Index step = 0;  ///< bytes from a token to the next; 0 where all have the same
  NumberFormat format = NumberFormat::f32;

  ChannelRows() = default;
  template <class Sequence>
  explicit ChannelRows(Sequence const& x) noexcept
      : first(const_cast<std::byte*>(x.rows(0, 0).at())), step(x.rows(0, 0).step()), format(x.format()) {}

  AVIARY_HOST_DEVICE explicit operator bool() const noexcept { return first != nullptr; }
  /// Where the numbers of a token lie, from some channel on.
  AVIARY_HOST_DEVICE AVIARY_INLINE std::byte* at(Index token, Index channel) const noexcept {
    return first + token * step + channel * static_cast<Index>(size_of(format));
  }
  /// Writes a channel's numbers of n tokens, if they are wanted.
  template <int n, class T>
  AVIARY_HOST_DEVICE AVIARY_INLINE void put(Index token, Index channel, T const* x) const noexcept {
    if (!*this) return;
    detail::with_stored(format, [&]<class S>(S) {
      detail::unroll<n>([&](auto i) { *reinterpret_cast<S*>(at(token + i, channel)) = narrow<S>(x[int(i)]); });
    });
  }
};

/// States side by side: (n, 3, padded<T>(C)) numbers, as ChannelState<T, C> has them. A null pointer: none.
template <class T> struct ChannelStates {
  T* numbers = nullptr;
  Index channels = 0;

  AVIARY_HOST_DEVICE explicit operator bool() const noexcept { return numbers != nullptr; }
  AVIARY_HOST_DEVICE AVIARY_INLINE detail::ChannelSums<T> load(Index state, Index channel) const noexcept {
    Index const row = padded<T>(channels);
    T const* const p = numbers + 3 * state * row + channel;
    return {p[0], p[row], p[2 * row]};
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE void store(Index state, Index channel,
                                              detail::ChannelSums<T> const& sums) const noexcept {
    Index const row = padded<T>(channels);
    T* const p = numbers + 3 * state * row + channel;
    p[0] = sums.num;
    p[row] = sums.den;
    p[2 * row] = sums.exponent;
  }
};

/// The channels of a block: a thread each.
struct ChannelSlice {
  static constexpr int threads = warp;
  Index first, size;

  AVIARY_HOST_DEVICE ChannelSlice(Index slice, Index channels) noexcept
      : first(slice * threads), size(channels - first < threads ? channels - first : threads) {}
  AVIARY_HOST_DEVICE static Index count(Index channels) noexcept { return (channels + threads - 1) / threads; }
};

/// Rows of a few tokens in shared memory, for `fields` inputs of the same channels.
template <class T, int fields, int most_tokens> class SharedRows {
  static constexpr Index row = ChannelSlice::threads * static_cast<Index>(sizeof(T));
  /// Threads that copy the rows of one token.
  static constexpr int copiers = ChannelSlice::threads / most_tokens;
  static_assert(copiers * most_tokens == ChannelSlice::threads);

 public:
  static constexpr Index bytes = fields * most_tokens * row;

  AVIARY_HOST_DEVICE explicit SharedRows(std::byte* shared) noexcept : shared_(shared) {}

  /// Begins to copy field f of n tokens. What takes more room than a T becomes one on the way.
  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void copy(Block& block, int f, ChannelRows const& rows, ChannelSlice slice,
                                             Index token, Index n) const noexcept {
    block.each([&](int thread) {
      int const m = thread / copiers;
      if (m >= n) return;
      Share const share{thread % copiers, copiers};
      std::byte const* const from = rows.at(token + m, slice.first);
      std::byte* const to = at(f, m);
      if (size_of(rows.format) <= sizeof(T)) {
        copy_row(block, share, to, from, slice.size * static_cast<Index>(size_of(rows.format)));
      } else {
        detail::StoredRow<T> const wide{from, rows.format};
        AVIARY_KEEP_LOOP
        for (Index i = share.thread; i < slice.size; i += share.threads) reinterpret_cast<T*>(to)[i] = wide[i];
      }
    });
  }
  /// A thread's numbers of field f of tokens m, ..., m + n - 1.
  template <int n>
  AVIARY_HOST_DEVICE AVIARY_INLINE void load(int f, ChannelRows const& rows, int m, int thread, T* to) const noexcept {
    NumberFormat const format = size_of(rows.format) <= sizeof(T) ? rows.format : format_of<T>;
    std::byte const* const from = at(f, m);
    detail::with_stored(format, [&]<class S>(S) {
      detail::unroll<n>(
          [&](auto i) { to[int(i)] = static_cast<T>(widen(reinterpret_cast<S const*>(from + i * row)[thread])); });
    });
  }

 private:
  AVIARY_HOST_DEVICE std::byte* at(int f, int m) const noexcept { return shared_ + (f * most_tokens + m) * row; }

  std::byte* shared_;
};

/// Tokens whose weights are computed together, as they do not wait for the sums.
inline constexpr int channel_group = 4;

/// f(constant), with the number of tokens that are taken together where `left` are left. Returns that number.
template <class F> AVIARY_HOST_DEVICE AVIARY_INLINE int take_channel_group(Index left, F&& f) noexcept {
  if (left >= channel_group) {
    f(detail::Constant<channel_group>());
    return channel_group;
  }
  f(detail::Constant<1>());
  return 1;
}

/// The sums of a channel through n tokens; put(i, reading, sums before) is told of token i.
template <int n, class T, class Put>
AVIARY_HOST_DEVICE AVIARY_INLINE void advance_channel(detail::ChannelSums<T>& sums,
                                                      detail::ChannelConstants<T> const& constants, T const* k,
                                                      T const* v, Put&& put) noexcept {
  using Kernel = detail::ChannelKernel<T>;
  detail::ChannelWeight<T> weights[to_size(n)];
  detail::unroll<n>([&](auto i) { weights[int(i)] = Kernel::weigh(k[int(i)]); });
  detail::unroll<n>([&](auto i) {
    detail::ChannelSums<T> const before = sums;
    put(i, Kernel::advance(sums, constants, weights[int(i)], v[int(i)]), before);
  });
}

/// What the threads need of log_w and u.
template <class T>
AVIARY_HOST_DEVICE AVIARY_INLINE detail::ChannelConstants<T> channel_constants(ChannelRows const& log_w,
                                                                               ChannelRows const& u,
                                                                               Index channel) noexcept {
  auto const one = [&](ChannelRows const& rows) { return detail::StoredRow<T>{rows.at(0, channel), rows.format}[0]; };
  return detail::ChannelKernel<T>::prepare(one(log_w), one(u));
}

/// k and v of a stretch of tokens, which go through shared memory in tiles.
template <class T> class ChannelStream {
  /// Tiles that are here or on their way.
  static constexpr int stages = 4;

 public:
  static constexpr int tile_tokens = 8;
  using Tile = SharedRows<T, 2, tile_tokens>;
  static constexpr Index shared_bytes = stages * Tile::bytes;

  AVIARY_HOST_DEVICE ChannelStream(std::byte* shared, ChannelRows const& k, ChannelRows const& v,
                                   ChannelSlice slice) noexcept
      : shared_(shared), k_(k), v_(v), slice_(slice) {}

  /// f(tile, token, n) for each tile of tokens [begin, end). No thread may still use the shared memory; when this returns,
  /// some may do so.
  template <class Block, class F>
  AVIARY_HOST_DEVICE AVIARY_INLINE void run(Block& block, Index begin, Index end, F&& f) const noexcept {
    for (int i = 0; i < stages - 1; ++i) begin_copies(block, begin + i * tile_tokens, end, i);
    int stage = 0;
    for (Index token = begin; token < end; token += tile_tokens) {
      block.template wait_for_copies<stages - 2>();
      block.sync();
      begin_copies(block, token + (stages - 1) * tile_tokens, end, (stage + stages - 1) % stages);
      f(tile(stage), token, count(token, end));
      stage = (stage + 1) % stages;
    }
    block.template wait_for_copies<0>();
  }
  template <int n> AVIARY_HOST_DEVICE AVIARY_INLINE void load(Tile tile, int m, int thread, T* k, T* v) const noexcept {
    tile.template load<n>(0, k_, m, thread, k);
    tile.template load<n>(1, v_, m, thread, v);
  }

 private:
  AVIARY_HOST_DEVICE Tile tile(int stage) const noexcept { return Tile(shared_ + stage * Tile::bytes); }
  AVIARY_HOST_DEVICE static int count(Index token, Index end) noexcept {
    return end - token < tile_tokens ? static_cast<int>(end - token) : tile_tokens;
  }
  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void begin_copies(Block& block, Index token, Index end, int stage) const noexcept {
    if (token < end) {
      tile(stage).copy(block, 0, k_, slice_, token, count(token, end));
      tile(stage).copy(block, 1, v_, slice_, token, count(token, end));
    }
    block.end_batch();
  }

  std::byte* shared_;
  ChannelRows const &k_, &v_;
  ChannelSlice slice_;
};

/// The forward pass with arithmetic T.
template <class T> class ChannelForwardKernel {
  using Stream = ChannelStream<T>;

 public:
  static constexpr int threads = ChannelSlice::threads;
  static constexpr std::size_t shared_bytes = to_size(Stream::shared_bytes);

  struct Arguments {
    ChannelRows log_w, k, v, u, y;
    detail::Packing packing;
    Index channels;
    ChannelStates<T> states;  ///< (sequences): initial in, final out
    ChannelStates<T> kept;    ///< of the tape, or none
    Index every;

    /// A call of ChannelMemory's, whose states and tape lie side by side.
    template <class Call>
    Arguments(Call const& call, T* states_, T* kept_) noexcept
        : log_w(call.x.log_w),
          k(call.x.k),
          v(call.x.v),
          u(call.x.u),
          y(call.y),
          packing{call.offsets, call.tokens()},
          channels(call.x.k.size()),
          states{states_, channels},
          kept{kept_, channels},
          every(call.tape.every) {}
  };
  static Index blocks(Arguments const& x) noexcept { return x.packing.sequences() * ChannelSlice::count(x.channels); }

  template <class Block> AVIARY_HOST_DEVICE static void run(Block& block, Arguments const& x, Index index) noexcept {
    Index const slices = ChannelSlice::count(x.channels), sequence = index / slices;
    Index const begin = x.packing.begin(sequence), end = x.packing.end(sequence);
    if (begin >= end) return;
    ChannelSlice const slice(index % slices, x.channels);
    Index const kept = x.kept ? x.packing.kept_before(sequence, x.every) : 0;
    typename Block::template Own<Registers> own;
    block.each([&](int thread) {
      if (thread >= slice.size) return;
      Index const channel = slice.first + thread;
      own[thread] = {channel_constants<T>(x.log_w, x.u, channel), x.states.load(sequence, channel), kept,
                     x.kept ? Index{0} : end - begin};
    });
    Stream const stream(block.shared(), x.k, x.v, slice);
    stream.run(block, begin, end, [&](auto tile, Index token, int n) {
      block.each([&](int thread) {
        if (thread < slice.size) take(x, stream, tile, own[thread], token, n, slice.first + thread, thread);
      });
    });
    block.each([&](int thread) {
      if (thread < slice.size) x.states.store(sequence, slice.first + thread, own[thread].sums);
    });
  }

 private:
  struct Registers {
    detail::ChannelConstants<T> constants;
    detail::ChannelSums<T> sums;
    Index kept, until_kept;  // the next state of the tape, and after how many tokens it is kept
  };

  AVIARY_HOST_DEVICE static AVIARY_INLINE void take(Arguments const& x, Stream const& stream,
                                                    typename Stream::Tile tile, Registers& own, Index token, int n,
                                                    Index channel, int thread) noexcept {
    for (int m = 0, taken = 0; m < n; m += taken, own.until_kept -= taken) {
      if (own.until_kept == 0) {
        x.kept.store(own.kept++, channel, own.sums);
        own.until_kept = x.every;
      }
      taken = take_channel_group(n - m < own.until_kept ? n - m : own.until_kept, [&](auto group) {
        constexpr int G = group;
        T k[to_size(G)], v[to_size(G)], num[to_size(G)], den[to_size(G)];
        stream.template load<G>(tile, m, thread, k, v);
        advance_channel<G>(own.sums, own.constants, k, v, [&](auto i, auto const& reading, auto const&) {
          num[int(i)] = reading.num;
          den[int(i)] = reading.den;
        });
        T y[to_size(G)];
        detail::unroll<G>([&](auto i) { y[int(i)] = num[int(i)] / den[int(i)]; });
        x.y.template put<G>(token + m, channel, y);
      });
    }
  }
};

}  // namespace AVIARY_NAMESPACE::cuda
