#pragma once
/// Gradients of WKV-4 as kernels (channel/backward.hpp has the equations). A thread takes a channel of a sequence from the last
/// token to the first, in tiles of 16: through each tile it goes forwards from a state that was kept, and leaves in shared memory
/// what the way back needs. Where the states of the tape are further apart than a tile, it first goes through all tokens between
/// two of them, and keeps states between tiles in the workspace. A second kernel adds up the sequences' gradients of log_w and u
/// in their order: no bit depends on the order in which blocks run.
#include "aviary/cuda/channel_forward.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// Where things lie in the workspace of a call: rows of each sequence. They are gradients of log_w and u, then states.
template <class T> struct ChannelBackwardPlan {
  static constexpr int tile_tokens = 16;
  enum Row : Index { dlog_w, du, states };

  Index channels;
  Index inner;  ///< states of a sequence that are kept at once

  AVIARY_HOST_DEVICE static constexpr Index tiles(Index tokens) noexcept {
    return (tokens + tile_tokens - 1) / tile_tokens;
  }
  /// @param tokens  of all sequences: how long each is lies on the device
  ChannelBackwardPlan(Index channels_, Index tokens, Index every) noexcept
      : channels(channels_), inner(std::max(tiles(std::min(tokens, every)) - 1, Index{0})) {}

  AVIARY_HOST_DEVICE Index rows() const noexcept { return states + 3 * inner; }
  Index size(Index sequences) const noexcept { return sequences * rows() * padded<T>(channels); }
  AVIARY_HOST_DEVICE T* row(T* all, Index sequence, Index row) const noexcept {
    return all + (sequence * rows() + row) * padded<T>(channels);
  }
};

/// The backward pass with arithmetic T, but for the sums over sequences.
template <class T> class ChannelBackwardKernel {
  using Plan = ChannelBackwardPlan<T>;
  using Kept = detail::ChannelKept<T>;
  using Stream = ChannelStream<T>;
  static constexpr int N = Plan::tile_tokens;
  enum Field : int { k_field, v_field, dy_field, fields };
  using Tile = SharedRows<T, fields, N>;
  /// What is kept of a tile's tokens; a stream may lie there before.
  static constexpr Index kept_bytes = N * Kept::numbers * ChannelSlice::threads * static_cast<Index>(sizeof(T));
  static_assert(Stream::shared_bytes <= kept_bytes);

 public:
  static constexpr int threads = ChannelSlice::threads;
  static constexpr std::size_t shared_bytes = to_size(kept_bytes + 2 * Tile::bytes);

  struct Arguments {
    ChannelRows log_w, k, v, u, dy, dk, dv;
    detail::Packing packing;
    Plan plan;
    ChannelStates<T> tape;
    Index every;
    ChannelStates<T> dstates;  ///< (sequences): of the final states in, of the initial ones out; or none
    T* workspace;

    /// A call of ChannelMemory's, whose tape and gradients of states lie side by side.
    template <class Call>
    Arguments(Call const& call, T* tape_, T* dstates_) noexcept
        : log_w(call.x.log_w),
          k(call.x.k),
          v(call.x.v),
          u(call.x.u),
          dy(call.dy),
          dk(call.dx.k),
          dv(call.dx.v),
          packing{call.offsets, call.tokens()},
          plan(call.x.k.size(), call.tokens(), call.tape.every),
          tape{tape_, plan.channels},
          every(call.tape.every),
          dstates{dstates_, plan.channels},
          workspace(call.workspace.data()) {}
  };
  static Index blocks(Arguments const& x) noexcept {
    return x.packing.sequences() * ChannelSlice::count(x.plan.channels);
  }

  template <class Block> AVIARY_HOST_DEVICE static void run(Block& block, Arguments const& x, Index index) noexcept {
    Index const slices = ChannelSlice::count(x.plan.channels);
    ChannelBackwardKernel(x, block.shared(), ChannelSlice(index % slices, x.plan.channels), index / slices)
        .run_tiles(block);
  }

 private:
  struct Registers {
    detail::ChannelConstants<T> constants;
    detail::ChannelSums<T> before;  // the state of the tape before the tile, if it is the first of its interval
    detail::ChannelAdjoint<T> adjoint;
    T exponent;  // of the sums before the sequence
  };
  template <class Block> using Own = typename Block::template Own<Registers>;

  /// A tile of a sequence. `interval` tokens from one state of the tape to the next hold several.
  struct Place {
    Index interval, token;  ///< number and first token of the interval
    Index number, last;     ///< of the tile, and of the last one, in the interval
    int size;

    AVIARY_HOST_DEVICE static Place last_of(Index interval, Index token, Index tokens) noexcept {
      Index const last = Plan::tiles(tokens) - 1;
      return {interval, token, last, last, static_cast<int>(tokens - last * N)};
    }
    AVIARY_HOST_DEVICE Index begin() const noexcept { return token + number * N; }
    AVIARY_HOST_DEVICE bool first() const noexcept { return interval == 0 && number == 0; }
    AVIARY_HOST_DEVICE Place earlier(Index every) const noexcept {
      return number == 0 ? last_of(interval - 1, token - every, every) : Place{interval, token, number - 1, last, N};
    }
  };

  AVIARY_HOST_DEVICE AVIARY_INLINE ChannelBackwardKernel(Arguments const& x, std::byte* shared, ChannelSlice slice,
                                                         Index sequence) noexcept
      : x_(x),
        slice_(slice),
        shared_(shared),
        sequence_(sequence),
        begin_(x.packing.begin(sequence)),
        end_(x.packing.end(sequence)) {}

  /// f(registers, channel, thread) for the threads that have a channel.
  template <class Block, class F>
  AVIARY_HOST_DEVICE AVIARY_INLINE void each(Block& block, Own<Block>& own, F&& f) const noexcept {
    block.each([&](int thread) {
      if (thread < slice_.size) f(own[thread], slice_.first + thread, thread);
    });
  }

  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void run_tiles(Block& block) const noexcept {
    Own<Block> own;
    each(block, own, [&](Registers& r, Index channel, int) {
      r.constants = channel_constants<T>(x_.log_w, x_.u, channel);
      r.adjoint = {T(0), T(0), T(0), T(0)};
    });
    if (begin_ < end_) {
      Index const kept = x_.packing.kept_before(sequence_, x_.every), last = (end_ - begin_ - 1) / x_.every;
      Place at = Place::last_of(last, begin_ + last * x_.every, end_ - begin_ - last * x_.every);
      begin_copies(block, at, 0);
      if (at.number == 0) load_state(block, own, kept + at.interval);
      for (int buffer = 0;; buffer = 1 - buffer) {
        bool const more = !at.first();
        Place const next = more ? at.earlier(x_.every) : at;
        if (more)
          begin_copies(block, next, 1 - buffer);
        else
          block.end_batch();
        if (at.number == at.last && at.last > 0) {
          load_state(block, own, kept + at.interval);
          keep_inner_states(block, own, at);
        }
        block.template wait_for_copies<1>();
        block.sync();
        each(block, own, [&](Registers& r, Index channel, int thread) {
          detail::ChannelSums<T> sums = at.number == 0 ? r.before : inner(at.number).load(0, channel);
          if (more && next.number == 0) r.before = x_.tape.load(kept + next.interval, channel);
          take(r, sums, at, buffer, channel, thread);
        });
        block.sync();
        if (!more) break;
        at = next;
      }
    }
    each(block, own, [&](Registers& r, Index channel, int) { finish(r, channel); });
  }

  AVIARY_HOST_DEVICE Tile tile(int buffer) const noexcept { return Tile(shared_ + kept_bytes + buffer * Tile::bytes); }
  AVIARY_HOST_DEVICE T* kept(int thread, int m) const noexcept {
    return reinterpret_cast<T*>(shared_) + (m * ChannelSlice::threads + thread) * Kept::numbers;
  }
  /// The state before a tile that is not the first of its interval, as state 0.
  AVIARY_HOST_DEVICE ChannelStates<T> inner(Index number) const noexcept {
    return {x_.plan.row(x_.workspace, sequence_, Plan::states + 3 * (number - 1)), x_.plan.channels};
  }

  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void begin_copies(Block& block, Place at, int buffer) const noexcept {
    tile(buffer).copy(block, k_field, x_.k, slice_, at.begin(), at.size);
    tile(buffer).copy(block, v_field, x_.v, slice_, at.begin(), at.size);
    tile(buffer).copy(block, dy_field, x_.dy, slice_, at.begin(), at.size);
    block.end_batch();
  }

  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void load_state(Block& block, Own<Block>& own, Index state) const noexcept {
    each(block, own, [&](Registers& r, Index channel, int) { r.before = x_.tape.load(state, channel); });
  }

  /// Goes from the state of the tape through all tiles of an interval but its last, and keeps the states after them.
  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void keep_inner_states(Block& block, Own<Block>& own, Place at) const noexcept {
    static_assert(N % Stream::tile_tokens == 0);
    typename Block::template Own<detail::ChannelSums<T>> running;
    each(block, own, [&](Registers& r, Index, int thread) { running[thread] = r.before; });
    Stream const stream(shared_, x_.k, x_.v, slice_);
    stream.run(block, at.token, at.begin(), [&](auto rows, Index token, int n) {
      each(block, own, [&](Registers& r, Index channel, int thread) {
        detail::ChannelSums<T>& sums = running[thread];
        for (int m = 0; m < n; m += channel_group) {
          T k[to_size(channel_group)], v[to_size(channel_group)];
          stream.template load<channel_group>(rows, m, thread, k, v);
          advance_channel<channel_group>(sums, r.constants, k, v, [](auto&&...) {});
        }
        Index const after = token + n - at.token;
        if (after % N == 0) inner(after / N).store(0, channel, sums);
      });
    });
    block.sync();
  }

  /// A tile, forwards from the state before it, then backwards.
  AVIARY_HOST_DEVICE AVIARY_INLINE void take(Registers& r, detail::ChannelSums<T> sums, Place at, int buffer,
                                             Index channel, int thread) const noexcept {
    Tile const rows = tile(buffer);
    if (at.first()) {  // empty sums get an exponent that suits the first token
      T k;
      rows.template load<1>(k_field, x_.k, 0, thread, &k);
      sums.exponent = r.exponent = detail::ChannelKernel<T>::exponent_before(sums, r.constants, k);
    }
    for (int m = 0; m < at.size;)
      m += take_channel_group(at.size - m, [&](auto group) {
        constexpr int G = group;
        T k[to_size(G)], v[to_size(G)];
        rows.template load<G>(k_field, x_.k, m, thread, k);
        rows.template load<G>(v_field, x_.v, m, thread, v);
        advance_channel<G>(sums, r.constants, k, v, [&](auto i, auto const& token, auto const& before) {
          Kept{before.num, before.den, token.bonus, token.weight, token.moved}.store(kept(thread, m + i));
        });
      });
    if (x_.dstates && at.begin() + at.size == end_) r.adjoint.take(x_.dstates.load(sequence_, channel), sums.exponent);
    for (int m = at.size; m > 0;)
      m -= take_channel_group(m, [&](auto group) {
        constexpr int G = group;
        int const first = m - G;
        T v[to_size(G)], dy[to_size(G)], dk[to_size(G)], dv[to_size(G)];
        rows.template load<G>(v_field, x_.v, first, thread, v);
        rows.template load<G>(dy_field, x_.dy, first, thread, dy);
        detail::unroll<G>([&](auto back) {
          constexpr int i = G - 1 - back;
          auto const token = r.adjoint.go_back(Kept::load(kept(thread, first + i)), r.constants, v[i], dy[i]);
          dk[i] = token.dk;
          dv[i] = token.dv;
        });
        x_.dk.template put<G>(at.begin() + first, channel, dk);
        x_.dv.template put<G>(at.begin() + first, channel, dv);
      });
  }

  AVIARY_HOST_DEVICE AVIARY_INLINE void finish(Registers const& r, Index channel) const noexcept {
    x_.plan.row(x_.workspace, sequence_, Plan::dlog_w)[channel] = r.adjoint.dlog_w * r.constants.w;
    x_.plan.row(x_.workspace, sequence_, Plan::du)[channel] = r.adjoint.du;
    if (x_.dstates && begin_ < end_)
      x_.dstates.store(sequence_, channel, {r.adjoint.dnum, r.adjoint.dden, T(0) - r.exponent});
  }

  Arguments const& x_;
  ChannelSlice slice_;
  std::byte* shared_;
  Index sequence_, begin_, end_;
};

/// Adds up what the sequences have for the gradients of log_w and u.
template <class T> struct ChannelSumKernel {
  static constexpr int threads = ChannelSlice::threads;
  static constexpr std::size_t shared_bytes = 0;

  struct Arguments {
    ChannelBackwardPlan<T> plan;
    Index sequences;
    T* workspace;
    ChannelRows dlog_w, du;

    template <class Call>
    explicit Arguments(Call const& call) noexcept
        : plan(call.x.k.size(), call.tokens(), call.tape.every),
          sequences(detail::Packing{call.offsets, call.tokens()}.sequences()),
          workspace(call.workspace.data()),
          dlog_w(call.dx.log_w),
          du(call.dx.u) {}
  };
  static Index blocks(Arguments const& x) noexcept {
    return x.dlog_w || x.du ? ChannelSlice::count(x.plan.channels) : 0;
  }

  template <class Block> AVIARY_HOST_DEVICE static void run(Block& block, Arguments const& x, Index index) noexcept {
    ChannelSlice const slice(index, x.plan.channels);
    block.each([&](int thread) {
      if (thread >= slice.size) return;
      add_up(x, ChannelBackwardPlan<T>::dlog_w, x.dlog_w, slice.first + thread);
      add_up(x, ChannelBackwardPlan<T>::du, x.du, slice.first + thread);
    });
  }

 private:
  AVIARY_HOST_DEVICE static AVIARY_INLINE void add_up(Arguments const& x, Index row, ChannelRows const& to,
                                                      Index channel) noexcept {
    if (!to) return;
    T total = T(0);
    for (Index s = 0; s < x.sequences; ++s) total += x.plan.row(x.workspace, s, row)[channel];
    to.template put<1>(0, channel, &total);
  }
};

}  // namespace AVIARY_NAMESPACE::cuda
