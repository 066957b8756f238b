#pragma once
/// Chunks of 16 tokens through a state as products of matrices on tensor cores (equations, 2.4 and 2.5; matrix/chunk.hpp has them on
/// the host). Four groups that the rule has prepared (matrix/group.hpp) become one chunk: their rows are decayed to its ends by
/// products of the groups' decays, so that nothing is divided by a decay, and pairs of tokens of different groups meet on tensor
/// cores. What tokens read of one another's corrections is solved in float.
///
/// A state is summed up in float. What tensor cores multiply is rounded to 11 bits: rows, values, and the state where it is read. Where
/// a token is not finite nothing of its chunk is.
#include "aviary/cuda/forward.hpp"
#include "aviary/cuda/matrix_products.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// The groups of four that chunks of 16 tokens consist of; those past the end of a chunk have no token.
struct GroupsOfChunks {
  static constexpr int tokens = group_tokens, of_chunk = 4;
  Grouping<of_chunk * tokens> chunks;

  AVIARY_HOST_DEVICE Index count() const noexcept { return of_chunk * chunks.count(); }
  AVIARY_HOST_DEVICE Index token(Index g) const noexcept { return chunks.token(g / of_chunk) + g % of_chunk * tokens; }
  AVIARY_HOST_DEVICE Index size(Index g) const noexcept {
    Index const n = chunks.size(g / of_chunk) - g % of_chunk * tokens;
    return n < 0 ? 0 : n < tokens ? n : tokens;
  }
};

/// The tokens of one chunk as matrices in shared memory, from four prepared groups. S is what rows are stored as, but for log_w, or
/// void. Rows of shared memory are as long as lanes meet no other in its banks: `by_four` those whose neighbouring keys a product reads
/// four by four (multiply_by_rows), `by_two` those that it reads two by two (add_rows). Going back, what was read is written. Tokens of
/// `stages` chunks are on their way or here.
template <class M, class S, bool back = false, int stages = 1> class ChunkTokens {
  using R = typename M::Rule;
  using T = typename M::T;

 public:
  static constexpr int groups = GroupsOfChunks::of_chunk, N = group_tokens, tokens = groups * N;
  using Groups = cuda::Groups<M, GroupsOfChunks, groups, stages * groups, groups, S>;
  using Group = typename Groups::Group;
  static constexpr bool erases = Group::erases, rank_one = Group::rank_one;
  static constexpr Gate gate = gate_of<R>;
  /// r alone or r and p, k alone or k and q.
  static constexpr int reads = 1 + erases, writes = 1 + rank_one;
  /// Outputs read a token's own value, where it is v - z that is written.
  static constexpr bool own_values = R::erase == Erase::along_key && R::read == Read::before;
  /// Pair matrices, of row t and column s: what r reads of k and of q, what p does, and the inverse of what corrections read of one
  /// another, (1 - P_q)^-1 or (1 + P_k)^-1. With Erase::along_key p counts as negative.
  static constexpr int of_probes = writes, inverse = reads * writes, matrices = inverse + erases;

 private:
  static constexpr int K = static_cast<int>(M::keys), padded_keys = (K + 15) / 16 * 16;
  static_assert(Groups::row >= padded_keys, "aviary: chunks go through states of float, bf16 or f16");
  static constexpr int by_four = padded_keys % 32 == 16 ? padded_keys : padded_keys + 16, by_two = padded_keys + 4;
  static constexpr int at_writes = reads * tokens * (back ? by_two : by_four);
  static constexpr int at_pairs = at_writes + writes * tokens * (back ? by_four : by_two);
  static constexpr int at_decay = at_pairs + matrices * tokens * 24, at_own = at_decay + padded_keys;
  static constexpr int numbers = at_own + tokens;
  static constexpr Index to_chunk = (Groups::shared_bytes + 15) / 16 * 16;

 public:
  /// Strides.
  static constexpr int read_stride = back ? by_two : by_four, write_stride = back ? by_four : by_two, pair_stride = 24;
  static constexpr Index shared_bytes = to_chunk + numbers * static_cast<Index>(sizeof(T));
  struct Registers : Groups::Registers {
    T pair[4];     // of a pair matrix
    Four<T> x[3];  // rows
  };

  AVIARY_HOST_DEVICE ChunkTokens(std::byte* shared, typename M::Inputs const& x, Grouping<tokens> grouping, Index head,
                                 Index heads) noexcept
      : groups_(shared, x, {grouping}, head, heads), chunk_(reinterpret_cast<T*>(shared + to_chunk)) {}

  /// Row of r (0) or p (1), decayed from the chunk's begin, and of k (0) or q (1), decayed to its end.
  AVIARY_HOST_DEVICE AVIARY_INLINE T* read(int kind, int token) const noexcept {
    return chunk_ + (kind * tokens + token) * read_stride;
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE T* write(int kind, int token) const noexcept {
    return chunk_ + at_writes + (kind * tokens + token) * write_stride;
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE T* pairs(int matrix, int token) const noexcept {
    return chunk_ + at_pairs + (matrix * tokens + token) * pair_stride;
  }
  /// The decay of the chunk, for each key; for a constant decay its distance from 1.
  AVIARY_HOST_DEVICE AVIARY_INLINE T* decays() const noexcept { return chunk_ + at_decay; }
  /// What an output reads of its token's own value, with own_values.
  AVIARY_HOST_DEVICE AVIARY_INLINE T* own() const noexcept { return chunk_ + at_own; }
  AVIARY_HOST_DEVICE Groups const& all() const noexcept { return groups_; }
  /// Group g of the chunk that was prepared last.
  AVIARY_HOST_DEVICE AVIARY_INLINE Group group(int g) const noexcept { return groups_.group(g); }
  /// Its decay at key j.
  AVIARY_HOST_DEVICE AVIARY_INLINE T decay(int g, int j) const noexcept {
    if constexpr (gate == Gate::none)
      return T(1);
    else
      return constant_decay<R> ? stored_decay(g, j) + T(1) : stored_decay(g, j);
  }

  /// f(row, g, column, pair) for each row that reads and each that is written of group g, shared out among the threads of a block: which
  /// pair of the group they are, or -1 where they do not meet.
  template <int threads, class F>
  AVIARY_HOST_DEVICE static AVIARY_INLINE void for_pairs_in_groups(int thread, F&& f) noexcept {
    detail::unroll<Group::reads>([&](auto row) {
      if (row % (threads / warp) != thread / warp) return;
      constexpr int k = Group::pair(row, 0), q = Group::pair(row, N), end = Group::pair(row, Group::writes);
      int const g = Lane{thread}.in_quad(), column = Lane{thread}.quad();
      if (column >= Group::writes) return;
      int const pair = column < N ? k + column : q + column - N;
      f(row, g, column, pair < (column < N && rank_one ? q : end) ? pair : -1);
    });
  }

  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void clear(Block& block) noexcept {
    block.each([&](int thread) {
      for (int i = thread; i < numbers; i += Block::threads) chunk_[i] = T(0);
    });
    groups_.clear(block);
  }
  /// The tokens of chunk c begin to come, as one batch of copies.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void begin_copies(Block& block, Index c) noexcept {
    groups_.begin_copies(block, groups * c);
  }
  /// Prepares the groups of chunk c, whose tokens are here.
  template <class Block, class Own>
  AVIARY_HOST_DEVICE AVIARY_INLINE void prepare(Block& block, Own& own, Index c) noexcept {
    groups_.prepare(block, own, groups * c);
  }
  /// Makes matrices of them. A sync comes before it, and another before they are used.
  template <class Block, class Own> AVIARY_HOST_DEVICE AVIARY_INLINE void make(Block& block, Own& own) noexcept {
    make_rows(block);
    make_pairs(block, own);
    block.sync();
    if constexpr (erases) invert(block);
  }

 private:
  AVIARY_HOST_DEVICE AVIARY_INLINE T stored_decay(int g, int j) const noexcept {
    return groups_.group(g).w()[gate == Gate::vector ? j : 0];
  }
  static constexpr T sign_of_probes = rank_one ? T(1) : T(-1);

  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void make_rows(Block& block) noexcept {
    block.each([&](int thread) {
      for (int i = thread; i < 2 * K; i += Block::threads) {
        int const j = i < K ? i : i - K;
        T factor(1);
        if (i < K) {
          detail::unroll<groups>([&](auto g) {
            detail::unroll<N>([&](auto m) {
              read(0, g * N + m)[j] = round_to_tf32(group(g).read(m)[j] * factor);
              if constexpr (erases)
                read(1, g * N + m)[j] = round_to_tf32(group(g).read(N + m)[j] * (sign_of_probes * factor));
            });
            factor *= decay(g, j);
          });
          if constexpr (gate != Gate::none) {
            T w = stored_decay(0, j);
            detail::unroll<groups - 1>([&](auto g) {
              T const x = stored_decay(g + 1, j);
              w = constant_decay<R> ? simd::Pack<T>::fma(w, x, w + x) : w * x;
            });
            decays()[j] = w;
          }
        } else {
          detail::unroll<groups>([&](auto after) {
            constexpr int g = groups - 1 - after;
            detail::unroll<N>([&](auto m) {
              detail::unroll<writes>([&](auto kind) {
                write(kind, g * N + m)[j] = round_to_tf32(group(g).write(kind * N + m)[j] * factor);
              });
            });
            factor *= decay(g, j);
          });
        }
      }
    });
  }

  /// Tokens of one group have met when it was prepared. Where a later group reads an earlier one, they meet here: neighbours as they
  /// are, those of the second half and those of the first decayed from and to the chunk's middle.
  template <class Block, class Own> AVIARY_HOST_DEVICE AVIARY_INLINE void make_pairs(Block& block, Own& own) noexcept {
    constexpr int team = Block::threads / groups, warps = Block::threads / warp;
    block.each([&](int thread) {
      for_pairs_in_groups<Block::threads>(thread, [&](auto row, int g, int column, int pair) {
        T product = pair >= 0 ? groups_.template pair_product<team>(g, pair) : T(0);
        if constexpr (own_values && row < N)
          if (column == row) {
            this->own()[g * N + row] = product;
            product = T(0);
          }
        put_pair(row / N, column / N, g * N + row % N, g * N + column % N, product);
      });
    });
    // A warp takes halves or neighbours, under k or under q. Row n of the first or second eight of a is r or p of this token; column n
    // of b is k or q of that one.
    constexpr int jobs = 2 * writes;
    static_assert(jobs <= warps);
    auto const halves = [](int thread) { return thread / warp % 2 == 0; };
    auto const kind = [](int thread) { return thread / warp / 2 % writes; };
    auto const reader = [](bool half, int n) { return half ? 8 + n : 4 + n + n / 4 * 4; };
    auto const writer = [](bool half, int n) { return half ? n : n + n / 4 * 4; };
    block.each([&](int thread) { detail::unroll<4>([&](auto i) { own[thread].pair[int(i)] = T(0); }); });
    AVIARY_KEEP_LOOP
    for (int first = 0; first < padded_keys; first += 16) {
      block.each([&](int thread) {
        Lane const lane{thread};
        int const key = first + 4 * lane.in_quad();
        auto const row = [&](T const* from, bool decayed, int g) {
          Four<T> x = *reinterpret_cast<Four<T> const*>(from + key);
          detail::unroll<4>([&](auto e) {
            if (decayed) x.x[int(e)] *= decay(g, key + e < K ? key + e : 0);
            x.x[int(e)] = round_to_tf32(x.x[int(e)]);
          });
          return x;
        };
        int const t = reader(halves(thread), lane.quad()), s = writer(halves(thread), lane.quad());
        bool const far_reader = halves(thread) && t / N == 3, far_writer = halves(thread) && s / N == 0;
        auto& x = own[thread].x;
        x[1] = {};
        detail::unroll<reads>([&](auto n) { x[int(n)] = row(group(t / N).read(n * N + t % N), far_reader, 2); });
        x[2] = row(group(s / N).write(kind(thread) * N + s % N), far_writer, 1);
      });
      detail::unroll<2>([&](auto e) {
        block.template multiply<jobs * warp>([&](int thread, auto i) { return own[thread].x[i % 2].x[e + i / 2 * 2]; },
                                             [&](int thread, auto i) { return own[thread].x[2].x[e + i * 2]; },
                                             [&](int thread, auto i) -> T& { return own[thread].pair[int(i)]; });
      });
    }
    block.each([&](int thread) {
      if (thread / warp >= jobs) return;
      Lane const lane{thread};
      detail::unroll<2 * reads>([&](auto i) {
        int const t = reader(halves(thread), lane.quad()), s = writer(halves(thread), 2 * lane.in_quad() + i % 2);
        if (halves(thread) || t / N == s / N + 1) put_pair(i / 2, kind(thread), t, s, own[thread].pair[int(i)]);
      });
    });
  }
  /// What r (0) or p (1) of token t reads of k (0) or q (1) of token s. What is to be inverted is not rounded.
  AVIARY_HOST_DEVICE AVIARY_INLINE void put_pair(int read, int write, int t, int s, T product) const noexcept {
    int const matrix = read * writes + write;
    if (read == 1) product *= sign_of_probes;
    pairs(matrix, t)[s] = erases && matrix == inverse - 1 ? product : round_to_tf32(product);
  }

  /// Column by column, in float.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void invert(Block& block) noexcept {
    block.each([&](int column) {
      if (column >= tokens) return;
      T x[to_size(tokens)]{};
      detail::unroll<tokens>([&](auto t) {
        T sum = t == column ? T(1) : T(0);
        detail::unroll<(t + 3) / 4>([&](auto four) {
          Four<T> const p = *reinterpret_cast<Four<T> const*>(pairs(inverse - 1, t) + 4 * four);
          detail::unroll<4>([&](auto e) {
            constexpr int s = 4 * four + e;
            if constexpr (s < t) sum = simd::Pack<T>::fma(p.x[int(e)], x[s], sum);
          });
        });
        x[int(t)] = sum;
      });
      detail::unroll<tokens>([&](auto t) { pairs(inverse, t)[column] = round_to_tf32(x[int(t)]); });
    });
  }

  Groups groups_;
  T* chunk_;
};

/// Tokens on their way in chunks through `Width` columns of a state with V of them: see GroupPassage.
template <class M, Index V, int Width, class S> class ChunkPassage {
  using R = typename M::Rule;
  using T = typename M::T;
  using Tokens = ChunkTokens<M, S>;
  static constexpr bool erases = Tokens::erases, rank_one = Tokens::rank_one;
  static constexpr int value_stride = Width + 4;
  static constexpr Index to_values = (Tokens::shared_bytes + 15) / 16 * 16;

 public:
  static constexpr int tokens = Tokens::tokens;
  using Tile = MatrixTile<T, M::keys, V, Width>;
  static constexpr std::size_t shared_bytes = to_size(to_values) + to_size(tokens * value_stride) * sizeof(T);
  struct Registers : Tokens::Registers, MatrixRegisters<T> {
    typename Tile::Numbers s;
    T y[8], z[8];  // sums
    T v[8], w[8];  // operands: values and corrections
  };

  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE ChunkPassage(Block& block, typename M::Inputs const& x, Grouping<tokens> grouping,
                                                Index first, Index head, Index heads) noexcept
      : grouping_(grouping),
        tokens_(block.shared(), x, grouping, head, heads),
        values_(reinterpret_cast<T*>(block.shared() + to_values)),
        first_(first) {}

  template <class Block, class Own, class Before, class Value, class Keep, class Put>
  AVIARY_HOST_DEVICE AVIARY_INLINE void run(Block& block, Own& own, Before const& before, Value const& value,
                                            Keep const& keep, Put const& put) noexcept {
    tokens_.clear(block);
    // Chunk c + 2 comes while c + 1 is made and c goes through the state.
    for (Index c = -2, chunks = grouping_.count(); c < chunks; ++c) {
      block.template wait_for_copies<0>();
      block.sync();
      if (c >= -1) tokens_.prepare(block, own, c + 1);
      if (c >= 0) {
        before(c);
        take(block, own, c, keep, put);
      }
      block.sync();
      tokens_.begin_copies(block, c + 2);
      if (c == -2 || c + 1 == chunks) continue;
      block.each([&](int thread) {
        for (int i = thread; i < tokens * Width; i += Block::threads) {
          int const t = i / Width;
          Index const column = first_ + i % Width;
          T const* const v = tokens_.group(t / Tokens::N).value(t % Tokens::N);
          values_[t * value_stride + i % Width] = column < V ? round_to_tf32(value(v, column)) : T(0);
        }
      });
      tokens_.make(block, own);
    }
  }

 private:
  template <class Block, class Own, class Keep, class Put>
  AVIARY_HOST_DEVICE AVIARY_INLINE void take(Block& block, Own& own, Index c, [[maybe_unused]] Keep const& keep,
                                             Put const& put) noexcept {
    MatrixProducts<Tile, Block, Own> products(block, own);
    auto const s = [](auto& x) { return x.s; };
    auto const y = [](auto& x) { return x.y; };
    auto const z = [](auto& x) { return x.z; };
    auto const v = [](auto& x) { return x.v; };
    auto const w = [](auto& x) { return x.w; };
    auto const of_pairs = [&](auto const& x, int matrix, auto const& to) {
      products.template multiply_by_pairs<true>(x, tokens_.pairs(matrix, 0), Tokens::pair_stride, to);
    };
    products.each([&](int thread, auto& x, Lane) {
      for_operand(thread, [&](auto i, int t, int column) { x.v[int(i)] = values_[t * value_stride + column]; });
      for_sums(thread, [&](auto i, int t, int column) {
        x.y[int(i)] = x.z[int(i)] = T(0);
        if constexpr (erases && !rank_one) x.z[int(i)] = values_[t * value_stride + column];
        if constexpr (Tokens::own_values) x.y[int(i)] = tokens_.own()[t] * x.z[int(i)];
      });
    });
    products.template multiply_by_rows<Tokens::reads>([](int, auto& x, int i) { return x.s[i]; },
                                                      [&](int kind, int t) { return tokens_.read(kind, t); },
                                                      [&](auto& x, auto kind) { return kind == 0 ? x.y : x.z; });
    if constexpr (erases) {
      // Z = (1 - P_q)^-1 (P S + P_k V)          u = v - z:  U = (1 + P_k)^-1 (V - P S)
      if constexpr (rank_one) of_pairs(v, Tokens::of_probes, z);
      products.each([&](int, auto& x, Lane) {
        make_operand(x.z, x.w);
        detail::unroll<8>([&](auto i) { x.z[int(i)] = T(0); });
      });
      of_pairs(w, Tokens::inverse, z);
      products.each([&](int thread, auto& x, Lane) {
        put_numbers(thread, c, x.z, keep);
        make_operand(x.z, x.w);
      });
    }
    // What is written: with Erase::along_key corrected values, else values under k and corrections under q.
    auto const written = [](auto& x, int kind) { return erases && (!rank_one || kind == 1) ? x.w : x.v; };
    detail::unroll<Tokens::writes>([&](auto kind) { of_pairs([&](auto& x) { return written(x, kind); }, kind, y); });
    products.each([&](int thread, auto& x, Lane) { put_numbers(thread, c, x.y, put); });
    products.template add_rows<R, Tokens::writes>(s, tokens_.decays(), written,
                                                  [&](int kind, int t) { return tokens_.write(kind, t); });
  }

  /// A thread's sums that belong to tokens of chunk c and columns of the state go where `put` says.
  template <class Put>
  AVIARY_HOST_DEVICE AVIARY_INLINE void put_numbers(int thread, Index c, T const* sums, Put const& put) const noexcept {
    Index const token = grouping_.token(c), count = grouping_.size(c);
    std::byte* rows[4];
    detail::unroll<4>(
        [&](auto n) { rows[int(n)] = put.row(token, n / 2 * 8 + 2 * Lane{thread}.in_quad() + n % 2, count); });
    put.all([&](auto const& store) {
      for_sums(thread, [&](auto i, int, int in_block) {
        std::byte* const row = rows[i / 4 * 2 + i % 2];
        Index const column = first_ + in_block;
        if (row != nullptr && column < V) store(row, column, sums[int(i)]);
      });
    });
  }

  Grouping<tokens> grouping_;
  Tokens tokens_;
  T* values_;
  Index first_;
};

/// In chunks, by blocks of `Width` columns: see InGroups. Rows but log_w are stored as S.
template <int Width, class S> struct InChunks {
  static constexpr int width = Width;
  template <class M, Index V> using Passage = ChunkPassage<M, V, Width, S>;
};

}  // namespace AVIARY_NAMESPACE::cuda
