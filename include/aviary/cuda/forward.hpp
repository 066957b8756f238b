#pragma once
/// The matrix recurrence as kernels. A block takes one head of one sequence, or some columns of its state, which lie in the
/// threads' registers from the first token to the last. Tokens go through it in groups of four, as they do on the host
/// (matrix/group.hpp, matrix/pass.hpp): sums over keys run across neighbouring lanes, values never meet, and bits do not depend on
/// how columns are shared out.
///
/// Where there are too few heads for a device, a sequence is cut into pieces. MapKernel makes one affine map of each, all at once;
/// ScanKernel finds the states between them; then ForwardKernel takes all pieces at once (equations, 2.7).
#include "aviary/cuda/tile.hpp"
#include "aviary/matrix/memory.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// Tokens of a group.
inline constexpr int group_tokens = 4;

/// Sequences cut into `count` pieces of `tokens` tokens; the last ones of a sequence may be shorter, or empty.
struct Pieces {
  detail::Packing packing;
  Index heads, tokens, count;

  AVIARY_HOST_DEVICE Index units() const noexcept { return packing.sequences() * count * heads; }
};

/// A head of a piece of a sequence.
struct Piece {
  Index sequence, number, head, begin, end;

  /// Number `unit` of all: sequences, pieces, heads.
  AVIARY_HOST_DEVICE Piece(Pieces const& x, Index unit) noexcept
      : sequence(unit / x.heads / x.count), number(unit / x.heads % x.count), head(unit % x.heads) {
    Index const last = x.packing.end(sequence);
    begin = x.packing.begin(sequence) + number * x.tokens;
    end = last - begin < x.tokens ? last : begin + x.tokens;
  }
};

/// Tokens on their way in groups through `Width` columns of a state with V of them, of which each thread has `Columns`.
template <class M, Index V, int Width, int Columns> class GroupPassage {
  using R = typename M::Rule;
  using T = typename M::T;
  static constexpr int N = group_tokens;
  using Tokens = Groups<M, Grouping<N>, 2, 3>;
  using Group = typename Tokens::Group;
  static constexpr int reads = Group::reads, writes = Group::writes;

 public:
  /// That go together.
  static constexpr int tokens = N;
  using Tile = cuda::Tile<T, M::keys, V, Tokens::row, Width, Columns>;
  static constexpr std::size_t shared_bytes = to_size(Tokens::shared_bytes);
  struct Registers : Tokens::Registers {
    typename Tile::Numbers s;
    T sums[to_size(Columns * reads)], written[to_size(Columns * writes)];  // [column][row]
  };

  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE GroupPassage(Block& block, typename M::Inputs const& x, Grouping<N> grouping,
                                                Index first, Index head, Index heads) noexcept
      : grouping_(grouping), tokens_(block.shared(), x, grouping, head, heads), first_(first) {}

  /// All tokens through the states in the threads' registers. before(g) comes before each group; value(v, column) is what a token
  /// writes into a column, v being its row; keep and put(token, column, number) take what it wrote because of what it read, and its
  /// output, if there are several of them once.
  template <class Block, class Own, class Before, class Value, class Keep, class Put>
  AVIARY_HOST_DEVICE AVIARY_INLINE void run(Block& block, Own& own, Before const& before, Value const& value,
                                            Keep const& keep, Put const& put) noexcept {
    tokens_.clear(block);
    tokens_.begin_stream(block);
    tokens_.prepare(block, own, 0);
    block.sync();
    tokens_.complete(block, 0);
    for (Index g = 0, groups = grouping_.count(); g < groups; ++g) {
      tokens_.advance(block, g);
      tokens_.prepare(block, own, g + 1);
      before(g);
      take(block, own, g, value, keep, put);
      block.sync();
      tokens_.complete(block, g + 1);
    }
  }

 private:
  template <class Block, class Own, class Value, class Keep, class Put>
  AVIARY_HOST_DEVICE AVIARY_INLINE void take(Block& block, Own& own, Index g, Value const& value, Keep const& keep,
                                             Put const& put) noexcept {
    Group const group = tokens_.group(g);
    block.each([&](int thread) {
      T* const sums = own[thread].sums;
      detail::unroll<Columns * reads>([&](auto i) { sums[int(i)] = T(0); });
      Tile::template dots<reads>(
          own[thread].s, [&](auto n) { return group.read(n); }, thread, sums);
    });
    Tile::template sum_over_keys<reads>(block, [&](int thread, int i) -> T& { return own[thread].sums[i]; });
    block.each([&](int thread) {
      Index const token = grouping_.token(g), count = grouping_.size(g);
      Tile::for_own_columns(thread, first_, [&](auto c, Index column, bool, bool chosen) {
        detail::meet<form_of<R>, N>(
            group, own[thread].sums + c * reads, own[thread].written + c * writes,
            [&](auto m) { return value(group.value(m), column); },
            [&](auto n, T const& number) {
              if (chosen && n % N < count) keep(token + n % N, column, number);
            },
            [&](auto m, T const& number) {
              if (chosen && m < count) put(token + m, column, number);
            });
      });
    });
    Tile::template gather<writes>(block, [&](int thread, int i) -> T& { return own[thread].written[i]; });
    block.each([&](int thread) {
      T const* w = nullptr;
      if constexpr (gate_of<R> != Gate::none) w = group.w();
      Tile::template update<form_of<R>, writes>(
          own[thread].s, w, own[thread].written, [&](auto n) { return group.write(n); }, thread);
    });
  }

  Grouping<N> grouping_;
  Tokens tokens_;
  Index first_;
};

/// How tokens go through states: in groups, by blocks of `Width` columns of which each thread has `Columns`.
template <int Width, int Columns> struct InGroups {
  static constexpr int width = Width;
  template <class M, Index V> using Passage = GroupPassage<M, V, Width, Columns>;
};

/// The forward pass of memory M, its tokens going as Way says.
template <class M, class Way> class ForwardKernel {
  using T = typename M::T;
  using State = typename M::State;
  static constexpr Index V = M::values, Width = Way::width;
  using Passage = typename Way::template Passage<M, V>;
  using Tile = typename Passage::Tile;

 public:
  static constexpr int threads = Tile::threads;
  static constexpr std::size_t shared_bytes = Passage::shared_bytes;

  struct Arguments {
    typename M::Inputs x;
    Sink<V> y;
    Pieces pieces;
    State const* initial;  ///< (sequences, pieces, heads)
    State* final;          ///< (sequences, heads)
    State* kept;           ///< of the tape, or null
    Index every;           ///< a piece has a multiple of it
    Sink<V> readings;      ///< of the tape, or none
  };
  static constexpr Index slices = (V + Width - 1) / Width;
  static Index blocks(Arguments const& x) noexcept { return x.pieces.units() * slices; }

  template <class Block> AVIARY_HOST_DEVICE static void run(Block& block, Arguments const& x, Index index) noexcept {
    Index const first = index % slices * Width, heads = x.pieces.heads;
    Piece const piece(x.pieces, index / slices);
    if (piece.begin >= piece.end) return;
    Grouping<Passage::tokens> const grouping{piece.begin, piece.end, x.kept != nullptr ? x.every : x.pieces.tokens};
    Passage passage(block, x.x, grouping, first, piece.head, heads);
    typename Block::template Own<typename Passage::Registers> own;
    block.each([&](int thread) { load_state<Tile>(own[thread].s, x.initial[index / slices], first, thread); });
    Index kept = 0;
    if (x.kept != nullptr)
      kept = x.pieces.packing.kept_before(piece.sequence, x.every) + piece.number * (x.pieces.tokens / x.every);
    auto const put = [&](Sink<V> const& sink) { return HeadWriter<V>{sink, piece.head, heads}; };
    passage.run(
        block, own,
        [&](Index g) {
          if (x.kept == nullptr || grouping.in_interval(g) != 0) return;
          State& to = x.kept[(kept + grouping.interval_of(g)) * heads + piece.head];
          block.each([&](int thread) { store_state<Tile>(own[thread].s, to, first, thread); });
        },
        [](T const* v, Index column) { return v[column]; }, put(x.readings), put(x.y));
    if (piece.end < x.pieces.packing.end(piece.sequence)) return;
    State& to = x.final[piece.sequence * heads + piece.head];
    block.each([&](int thread) { store_state<Tile>(own[thread].s, to, first, thread); });
  }
};

/// The map of a piece of tokens, S' = S A + B, as kernels leave it: B, and A with its row i as column i, [key][i]. Without erasure A is
/// a diagonal, in column 0.
template <class M> struct PieceMap {
  static constexpr Index rows = M::Rule::erase != Erase::none ? M::keys : 1;
  State<typename M::T, M::keys, M::values> b;
  State<typename M::T, M::keys, rows> a;
};

/// The maps of all pieces but the last of each sequence: blocks of B go through their tokens from an empty state, those of A write
/// nothing and go from the identity.
template <class M, class Way> class MapKernel {
  using T = typename M::T;
  static constexpr Index K = M::keys, V = M::values, rows = PieceMap<M>::rows, Width = Way::width;
  using Passage = typename Way::template Passage<M, (V > rows ? V : rows)>;
  using Tile = typename Passage::Tile;
  static constexpr Index slices_of_b = (V + Width - 1) / Width, slices = slices_of_b + (rows + Width - 1) / Width;

 public:
  static constexpr int threads = Tile::threads;
  static constexpr std::size_t shared_bytes = Passage::shared_bytes;

  struct Arguments {
    typename M::Inputs x;
    Pieces pieces;
    PieceMap<M>* maps;  ///< (sequences, pieces, heads)
  };
  static Index blocks(Arguments const& x) noexcept { return x.pieces.units() * slices; }

  template <class Block> AVIARY_HOST_DEVICE static void run(Block& block, Arguments const& x, Index index) noexcept {
    Index const slice = index % slices;
    bool const of_a = slice >= slices_of_b;
    Index const first = (of_a ? slice - slices_of_b : slice) * Width;
    Piece const piece(x.pieces, index / slices);
    if (piece.begin >= piece.end || piece.end == x.pieces.packing.end(piece.sequence)) return;
    Passage passage(block, x.x, {piece.begin, piece.end, x.pieces.tokens}, first, piece.head, x.pieces.heads);
    typename Block::template Own<typename Passage::Registers> own;
    block.each([&](int thread) {
      Tile::for_numbers(first, thread, [&](int i, Index key, Index column, bool there) {
        bool const one = rows == 1 ? column == 0 && key < K : column == key;
        own[thread].s[i] = there && of_a && one ? T(1) : T(0);
      });
    });
    passage.run(
        block, own, [](Index) {}, [&](T const* v, Index column) { return of_a ? T(0) : v[column]; }, NoWriter(),
        NoWriter());
    PieceMap<M>& map = x.maps[index / slices];
    block.each([&](int thread) {
      Tile::for_numbers(first, thread, [&](int i, Index key, Index column, bool there) {
        if (there && of_a && column < rows) map.a.s[key][column] = own[thread].s[i];
        if (there && !of_a && column < V) map.b.s[key][column] = own[thread].s[i];
      });
    });
  }
};

/// The states before pieces: S, S A_0 + B_0, ... A block takes some columns of a head of a sequence.
template <class M> struct ScanKernel {
  using T = typename M::T;
  using State = typename M::State;
  static constexpr Index K = M::keys, V = M::values, rows = PieceMap<M>::rows;
  static constexpr int threads = 256;
  static constexpr Index width = 16, slices = (V + width - 1) / width;
  static constexpr std::size_t shared_bytes = to_size(2 * K * width) * sizeof(T);

  struct Arguments {
    Pieces pieces;
    PieceMap<M> const* maps;  ///< (sequences, pieces, heads)
    State const* initial;     ///< (sequences, heads)
    State* before;            ///< (sequences, pieces, heads)
  };
  static Index blocks(Arguments const& x) noexcept { return x.pieces.packing.sequences() * x.pieces.heads * slices; }

  template <class Block> AVIARY_HOST_DEVICE static void run(Block& block, Arguments const& x, Index index) noexcept {
    Index const first = index % slices * width, head = index / slices % x.pieces.heads;
    Index const sequence = index / slices / x.pieces.heads;
    T* now = reinterpret_cast<T*>(block.shared());
    T* next = now + K * width;
    // f(key, column in the block, column of the state)
    auto const for_numbers = [&](int thread, auto const& f) {
      for (Index i = thread; i < K * width; i += threads)
        if (first + i % width < V) f(i / width, i % width, first + i % width);
    };
    State const& initial = x.initial[sequence * x.pieces.heads + head];
    block.each([&](int thread) {
      for_numbers(thread, [&](Index j, Index c, Index column) {
        now[j * width + c] = static_cast<T>(widen(initial.s[j][column]));
      });
    });
    for (Index p = 0; p < x.pieces.count; ++p) {
      Index const unit = (sequence * x.pieces.count + p) * x.pieces.heads + head;
      Piece const piece(x.pieces, unit);
      if (piece.begin >= piece.end) break;
      block.sync();
      block.each([&](int thread) {
        PieceMap<M> const& map = x.maps[unit];
        bool const more = piece.end < x.pieces.packing.end(sequence);
        for_numbers(thread, [&](Index j, Index c, Index column) {
          x.before[unit].s[j][column] = narrow<typename M::StateNumber>(now[j * width + c]);
          if (!more) return;
          T sum = map.b.s[j][column];
          if constexpr (rows == 1)
            sum = simd::Pack<T>::fma(now[j * width + c], map.a.s[j][0], sum);
          else
            for (Index i = 0; i < K; ++i) sum = simd::Pack<T>::fma(now[i * width + c], map.a.s[j][i], sum);
          next[j * width + c] = sum;
        });
      });
      T* const done = now;
      now = next, next = done;
    }
  }
};

}  // namespace AVIARY_NAMESPACE::cuda
