#pragma once
/// The matrix recurrence as a kernel. A block takes one head of one sequence, or some columns of its state, which lie in the
/// threads' registers from the first token to the last. Tokens go through it in groups of four, as they do on the host
/// (matrix/group.hpp, matrix/pass.hpp): sums over keys run across neighbouring lanes, values never meet, and bits do not depend on
/// how columns are shared out.
#include "aviary/cuda/groups.hpp"
#include "aviary/matrix/memory.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// Tokens of a group.
inline constexpr int group_tokens = 4;

AVIARY_HOST_DEVICE constexpr int power_of_two_from(Index n) noexcept {
  int p = 1;
  while (p < n) p *= 2;
  return p;
}

/// A state of K keys in registers: how its numbers are dealt out. Neighbouring lanes have 4 keys each by turns, up to 16 in all, and
/// `columns` columns.
template <Index K, int Columns> struct Tile {
  static_assert(K != dynamic, "aviary: kernels for a device have sizes known at compile time");
  static constexpr int columns = Columns;
  /// Lanes that share a column.
  static constexpr int lanes = power_of_two_from((K + 15) / 16);
  /// Fours of keys of a lane.
  static constexpr int fours = static_cast<int>((K + 4 * lanes - 1) / (4 * lanes));
  static constexpr int numbers = 4 * fours * columns;
  /// Columns whose sums a lane gets in the end; with more lanes than columns neighbours get the same.
  static constexpr int own_columns = columns > lanes ? columns / lanes : 1;

  AVIARY_HOST_DEVICE static constexpr int lane(int thread) noexcept { return thread % lanes; }
  /// The first column of a thread, and the first of those that are its own.
  AVIARY_HOST_DEVICE static constexpr Index column(int thread) noexcept { return Index{thread / lanes} * columns; }
  AVIARY_HOST_DEVICE static constexpr Index own_column(int thread) noexcept {
    return column(thread) + (columns > lanes ? lane(thread) * own_columns : lane(thread) / (lanes / columns));
  }
  /// Whether this thread has its own columns alone, or first among those that have the same.
  AVIARY_HOST_DEVICE static constexpr bool first_of_own(int thread) noexcept {
    return columns > lanes || lane(thread) % (lanes / columns) == 0;
  }
  /// The first key of four number i.
  AVIARY_HOST_DEVICE static constexpr Index key(int thread, int i) noexcept {
    return (Index{i} * lanes + lane(thread)) * 4;
  }
};

/// Four neighbouring numbers of a row in shared memory.
template <class T> struct alignas(4 * sizeof(T)) Four { T x[4]; };

/// The forward pass of memory M by blocks of `Width` columns, each thread having `Columns` of them.
template <class M, int Width, int Columns> class ForwardKernel {
  using R = typename M::Rule;
  using T = typename M::T;
  using State = typename M::State;
  static constexpr int N = group_tokens;
  static constexpr Index K = M::keys, V = M::values;
  using Tokens = Groups<M, N, 2>;
  using Group = typename Tokens::Group;
  using Tile = cuda::Tile<K, Columns>;
  static constexpr int lanes = Tile::lanes, reads = Group::reads, writes = Group::writes;

 public:
  static constexpr int threads = (lanes * (Width / Columns) + warp - 1) / warp * warp;
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
    T s[Tile::numbers];       // s[4 i + e][column]
    T sums[Columns * reads];  // [column][row]
    T written[Columns * writes];
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
    block.each([&](int thread) { load(own[thread].s, state, thread); });
    tokens_.open(block);
    tokens_.prepare(block, own, 0);
    block.sync();
    tokens_.complete(block, 0);
    for (Index g = 0, groups = grouping_.count(); g < groups; ++g) {
      tokens_.advance(block, g);
      tokens_.prepare(block, own, g + 1);
      if (x_.kept != nullptr && grouping_.begins_interval(g)) {
        State& kept = x_.kept[(kept_ + g / grouping_.per_interval()) * x_.heads + head_];
        block.each([&](int thread) { store(own[thread].s, kept, thread); });
      }
      take(block, own, g);
      block.sync();
      tokens_.complete(block, g + 1);
    }
    block.each([&](int thread) { store(own[thread].s, state, thread); });
  }

  /// The state through the tokens of group g.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void take(Block& block, Own<Block>& own, Index g) noexcept {
    Group const group = tokens_.group(g);
    block.each([&](int thread) { read(own[thread], group, thread); });
    sum_and_scatter<Columns * reads, lanes, reads>(block, [&](int thread, int i) -> T& { return own[thread].sums[i]; });
    block.each([&](int thread) { meet(own[thread], group, g, thread); });
    gather<Columns * writes, lanes, writes>(block, [&](int thread, int i) -> T& { return own[thread].written[i]; });
    block.each([&](int thread) { write(own[thread], group, thread); });
  }

  AVIARY_HOST_DEVICE static AVIARY_INLINE bool in_row(int thread, int i) noexcept {
    return 4 * Tile::fours * lanes <= Tokens::row || Tile::key(thread, i) < Tokens::row;
  }
  AVIARY_HOST_DEVICE static AVIARY_INLINE Four<T> four(T const* row, int thread, int i) noexcept {
    return *reinterpret_cast<Four<T> const*>(row + Tile::key(thread, i));
  }

  /// What of the state every token reads, in the keys of a thread.
  AVIARY_HOST_DEVICE static AVIARY_INLINE void read(Registers& x, Group group, int thread) noexcept {
    detail::unroll<Columns * reads>([&](auto i) { x.sums[int(i)] = T(0); });
    detail::unroll<Tile::fours>([&](auto i) {
      if (!in_row(thread, i)) return;
      detail::unroll<reads>([&](auto n) {
        Four<T> const row = four(group.read(n), thread, i);
        detail::unroll<4>([&](auto e) {
          detail::unroll<Columns>([&](auto c) {
            T& sum = x.sums[c * reads + n];
            sum = simd::Pack<T>::fma(x.s[(4 * i + e) * Columns + c], row.x[int(e)], sum);
          });
        });
      });
    });
  }

  /// What tokens read of one another, in the columns that are the thread's own; their outputs.
  AVIARY_HOST_DEVICE AVIARY_INLINE void meet(Registers& x, Group group, Index g, int thread) const noexcept {
    Index const token = grouping_.token(g), count = grouping_.size(g);
    detail::unroll<Tile::own_columns>([&](auto c) {
      Index const column = first_ + Tile::own_column(thread) + c;
      bool const there = column < V && Tile::own_column(thread) + c < Width, puts = there && Tile::first_of_own(thread);
      Index const place = there ? column : 0;  // threads without a column follow another
      auto const put = [&](Sink<V> const& sink, int m, T number) {
        if (puts && sink && m < count)
          store_number(row_of(sink, token + m, head_, x_.heads), sink.format(), column, number);
      };
      detail::meet<form_of<R>, N>(
          group, x.sums + c * reads, x.written + c * writes, [&](auto m) { return group.value(m)[place]; },
          [&](auto n, T const& number) { put(x_.readings, n % N, number); },
          [&](auto m, T const& number) { put(x_.y, m, number); });
    });
  }

  AVIARY_HOST_DEVICE static AVIARY_INLINE void write(Registers& x, Group group, int thread) noexcept {
    T scalar_w = T(0);
    if constexpr (gate_of<R> == Gate::scalar) scalar_w = *group.w();
    detail::unroll<Tile::fours>([&](auto i) {
      if (!in_row(thread, i)) return;
      Four<T> w{}, rows[writes];
      if constexpr (gate_of<R> == Gate::vector) w = four(group.w(), thread, i);
      detail::unroll<writes>([&](auto n) { rows[int(n)] = four(group.write(n), thread, i); });
      detail::unroll<4>([&](auto e) {
        detail::unroll<Columns>([&](auto c) {
          T& s = x.s[(4 * i + e) * Columns + c];
          s = detail::after_group<form_of<R>, writes>(s, gate_of<R> == Gate::vector ? w.x[int(e)] : scalar_w,
                                                      x.written + c * writes,
                                                      [&](auto n) { return rows[int(n)].x[int(e)]; });
        });
      });
    });
  }

  /// f(number, key, column) for the numbers of a thread that a state has.
  template <class F> AVIARY_HOST_DEVICE AVIARY_INLINE void for_numbers(T* s, int thread, F&& f) const noexcept {
    detail::unroll<4 * Tile::fours>([&](auto j) {
      Index const key = Tile::key(thread, j / 4) + j % 4;
      detail::unroll<Columns>([&](auto c) {
        Index const column = first_ + Tile::column(thread) + c;
        f(s[j * Columns + c], key, column, key < K && column < V && Tile::column(thread) + c < Width);
      });
    });
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE void load(T* s, State const& state, int thread) const noexcept {
    for_numbers(s, thread, [&](T& number, Index key, Index column, bool there) {
      number = there ? static_cast<T>(widen(state.s[key][column])) : T(0);
    });
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE void store(T* s, State& state, int thread) const noexcept {
    for_numbers(s, thread, [&](T& number, Index key, Index column, bool there) {
      if (there) state.s[key][column] = narrow<typename M::StateNumber>(number);
    });
  }

  Arguments const& x_;
  Grouping<N> grouping_;
  Tokens tokens_;
  Index first_, head_, kept_;
};

}  // namespace AVIARY_NAMESPACE::cuda
