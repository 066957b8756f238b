#pragma once
/// The matrix recurrence as a kernel. A block takes one head of one sequence, or some columns of its state, which lie in the
/// threads' registers from the first token to the last. Tokens go through it in groups of four, as they do on the host
/// (matrix/group.hpp, matrix/pass.hpp): sums over keys run across neighbouring lanes, values never meet, and bits do not depend on
/// how columns are shared out.
#include "aviary/cuda/tile.hpp"
#include "aviary/matrix/memory.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// Tokens of a group.
inline constexpr int group_tokens = 4;

/// The forward pass of memory M by blocks of `Width` columns, each thread having `Columns` of them.
template <class M, int Width, int Columns> class ForwardKernel {
  using R = typename M::Rule;
  using T = typename M::T;
  using State = typename M::State;
  static constexpr int N = group_tokens;
  static constexpr Index K = M::keys, V = M::values;
  using Tokens = Groups<M, N, 2, 3>;
  using Group = typename Tokens::Group;
  using Tile = cuda::Tile<T, K, V, Tokens::row, Width, Columns>;
  static constexpr int reads = Group::reads, writes = Group::writes;

 public:
  static constexpr int threads = Tile::threads;
  static constexpr std::size_t shared_bytes = to_size(Tokens::shared_bytes);

  struct Arguments {
    typename M::Inputs x;
    Sink<V> y;
    detail::Packing packing;
    Index heads;
    State* states;  ///< (sequences, heads): initial in, final out
    State* kept;    ///< of the tape, or null
    Index every;
    Sink<V> readings;  ///< of the tape, or none
  };
  static constexpr Index slices = (V + Width - 1) / Width;
  static Index blocks(Arguments const& x) noexcept { return x.packing.sequences() * x.heads * slices; }

  template <class Block> AVIARY_HOST_DEVICE static void run(Block& block, Arguments const& x, Index index) noexcept {
    Index const slice = index % slices, unit = index / slices, head = unit % x.heads, sequence = unit / x.heads;
    Index const begin = x.packing.begin(sequence), end = x.packing.end(sequence);
    if (begin >= end) return;
    Grouping<N> const grouping{begin, end, x.kept != nullptr ? x.every : end - begin};
    ForwardKernel pass(x, grouping, block, slice * Width, head,
                       x.kept != nullptr ? x.packing.kept_before(sequence, x.every) : 0);
    pass.run_groups(block, x.states[unit]);
  }

 private:
  struct Registers : Tokens::Registers {
    typename Tile::Numbers s;
    T sums[to_size(Columns * reads)], written[to_size(Columns * writes)];  // [column][row]
  };
  template <class Block> using Own = typename Block::template Own<Registers>;

  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE ForwardKernel(Arguments const& x, Grouping<N> grouping, Block& block, Index first,
                                                 Index head, Index kept) noexcept
      : x_(x),
        grouping_(grouping),
        tokens_(block.shared(), x.x, grouping, head, x.heads),
        first_(first),
        head_(head),
        kept_(kept) {}

  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void run_groups(Block& block, State& state) noexcept {
    Own<Block> own;
    block.each([&](int thread) { Tile::load(own[thread].s, state, first_, thread); });
    tokens_.clear(block);
    tokens_.begin_stream(block);
    tokens_.prepare(block, own, 0);
    block.sync();
    tokens_.complete(block, 0);
    for (Index g = 0, groups = grouping_.count(); g < groups; ++g) {
      tokens_.advance(block, g);
      tokens_.prepare(block, own, g + 1);
      if (x_.kept != nullptr && grouping_.begins_interval(g)) {
        State& kept = x_.kept[(kept_ + g / grouping_.per_interval()) * x_.heads + head_];
        block.each([&](int thread) { Tile::store(own[thread].s, kept, first_, thread); });
      }
      take(block, own, g);
      block.sync();
      tokens_.complete(block, g + 1);
    }
    block.each([&](int thread) { Tile::store(own[thread].s, state, first_, thread); });
  }

  /// The state through the tokens of group g.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void take(Block& block, Own<Block>& own, Index g) noexcept {
    Group const group = tokens_.group(g);
    block.each([&](int thread) {
      T* const sums = own[thread].sums;
      detail::unroll<Columns * reads>([&](auto i) { sums[int(i)] = T(0); });
      Tile::template dots<reads>(
          own[thread].s, [&](auto n) { return group.read(n); }, thread, sums);
    });
    Tile::template sum_over_keys<reads>(block, [&](int thread, int i) -> T& { return own[thread].sums[i]; });
    block.each([&](int thread) { meet(own[thread], group, g, thread); });
    Tile::template gather<writes>(block, [&](int thread, int i) -> T& { return own[thread].written[i]; });
    block.each([&](int thread) {
      T const* w = nullptr;
      if constexpr (gate_of<R> != Gate::none) w = group.w();
      Tile::template update<form_of<R>, writes>(
          own[thread].s, w, own[thread].written, [&](auto n) { return group.write(n); }, thread);
    });
  }

  /// What tokens read of one another, in the columns that are the thread's own; their outputs.
  AVIARY_HOST_DEVICE AVIARY_INLINE void meet(Registers& x, Group group, Index g, int thread) const noexcept {
    Index const token = grouping_.token(g), count = grouping_.size(g);
    Tile::for_own_columns(thread, first_, [&](auto c, Index column, bool, bool chosen) {
      auto const put = [&](Sink<V> const& sink, int m, T number) {
        if (chosen && sink && m < count)
          store_number(row_of(sink, token + m, head_, x_.heads), sink.format(), column, number);
      };
      detail::meet<form_of<R>, N>(
          group, x.sums + c * reads, x.written + c * writes, [&](auto m) { return group.value(m)[column]; },
          [&](auto n, T const& number) { put(x_.readings, n % N, number); },
          [&](auto m, T const& number) { put(x_.y, m, number); });
    });
  }

  Arguments const& x_;
  Grouping<N> grouping_;
  Tokens tokens_;
  Index first_, head_, kept_;
};

}  // namespace AVIARY_NAMESPACE::cuda
