#pragma once
/// Chunks of 16 tokens through a state as products of matrices on tensor cores (equations, 2.4 and 2.5; matrix/chunk.hpp has them on
/// the host). Four groups that the rule has prepared (matrix/group.hpp) become one chunk: their rows are decayed to its ends by
/// products of the groups' decays, so that nothing is divided by a decay, and pairs of tokens of different groups meet on tensor
/// cores. What tokens read of one another's corrections is solved in float.
///
/// States are floats. What meets on tensor cores is rounded to 11 bits: rows, values, and the state where it is read. Where a token is
/// not finite nothing of its chunk is.
#include "aviary/cuda/forward.hpp"

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

/// How the K x V numbers of a state, or those of `Width` columns, are dealt out to warps whose tensor cores add to them. A warp has 16
/// columns of the state as rows of its matrices, and all keys as their columns, in tiles of 8: columns 2 i and 2 i + 1 of the state's
/// matrices are keys 4 i and 4 i + 2 of 16 in even tiles, the odd keys in odd ones. So four neighbouring keys belong to one lane.
template <class T, Index K, Index V, int Width> struct MatrixTile {
  static_assert(std::is_same_v<T, float>, "aviary: tensor cores add up floats");
  static_assert(Width % 16 == 0 && K != dynamic && V != dynamic);
  /// Pairs of tiles, with 16 keys each.
  static constexpr int pairs = static_cast<int>((K + 15) / 16);
  static constexpr int numbers = 8 * pairs;
  /// Threads that have numbers; there are at least four warps, one for each group of a chunk.
  static constexpr int owners = Width / 16 * warp, threads = owners < 4 * warp ? 4 * warp : owners;

  /// Number i of tile n is s[4 n + i].
  using Numbers = T[to_size(numbers)];

  /// f(i, key, column, there) for each number i of a thread, in a state whose column `first` is the block's first one.
  template <class F> AVIARY_HOST_DEVICE static AVIARY_INLINE void for_numbers(Index first, int thread, F&& f) noexcept {
    Lane const lane{thread};
    detail::unroll<numbers>([&](auto i) {
      Index const in_block = thread / warp * 16 + lane.quad() + i % 4 / 2 * 8;
      Index const key = i / 8 * 16 + 4 * lane.in_quad() + 2 * (i % 2) + i / 4 % 2, column = first + in_block;
      f(i, key, column, key < K && in_block < Width && column < V);
    });
  }
};

/// Tokens on their way in chunks through `Width` columns of a state with V of them: see GroupPassage. S is what rows are stored as, but
/// for log_w.
template <class M, Index V, int Width, class S> class ChunkPassage {
  using R = typename M::Rule;
  using T = typename M::T;
  static constexpr int groups = GroupsOfChunks::of_chunk, N = group_tokens;
  using Tokens = Groups<M, GroupsOfChunks, groups, groups, groups, S>;
  using Group = typename Tokens::Group;
  static constexpr bool erases = Group::erases, rank_one = Group::rank_one;
  static constexpr Gate gate = gate_of<R>;

 public:
  static constexpr int tokens = groups * N;
  using Tile = MatrixTile<T, M::keys, V, Width>;

 private:
  static constexpr int K = static_cast<int>(M::keys), padded_keys = 16 * Tile::pairs;
  static_assert(Tokens::row >= padded_keys, "aviary: chunks go through states of float, bf16 or f16");
  /// Rows of shared memory are as long as lanes meet no other in its banks.
  static constexpr int read_stride = padded_keys % 32 == 16 ? padded_keys : padded_keys + 16;
  static constexpr int write_stride = padded_keys + 4, value_stride = Width + 4, pair_stride = 24;

  static constexpr int read_rows = tokens * (1 + erases), write_rows = tokens * (1 + rank_one);
  /// Pair matrices: what r reads of k and of q, then what p does; with Erase::along_key the inverse after them.
  static constexpr int kinds = 1 + rank_one, matrices = (1 + erases) * kinds + (erases && !rank_one);
  static constexpr int probes = kinds, corrections = rank_one ? probes : matrices - 1;
  static constexpr int at_writes = read_rows * read_stride, at_values = at_writes + write_rows * write_stride;
  static constexpr int at_pairs = at_values + tokens * value_stride;
  static constexpr int at_decay = at_pairs + matrices * tokens * pair_stride;
  static constexpr int chunk_numbers = at_decay + padded_keys;
  static constexpr Index to_chunk = (Tokens::shared_bytes + 15) / 16 * 16;

 public:
  static constexpr std::size_t shared_bytes = to_size(to_chunk) + to_size(chunk_numbers) * sizeof(T);
  struct Registers : Tokens::Registers {
    typename Tile::Numbers s;
    T y[8], z[8];  // tile n has tokens 8 n to 8 n + 7 as columns
    T v[8], w[8];  // values and corrections as matrices a: number i of tile n is [4 n + i]
    T a[8], d[4];  // two tiles of the state; a pair matrix
    Four<T> x[4];  // rows
    Two<T> low, high;
  };

  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE ChunkPassage(Block& block, typename M::Inputs const& x, Grouping<tokens> grouping,
                                                Index first, Index head, Index heads) noexcept
      : grouping_(grouping),
        tokens_(block.shared(), x, {grouping}, head, heads),
        chunk_(reinterpret_cast<T*>(block.shared() + to_chunk)),
        first_(first) {}

  template <class Block, class Own, class Before, class Value, class Keep, class Put>
  AVIARY_HOST_DEVICE AVIARY_INLINE void run(Block& block, Own& own, Before const& before, Value const& value,
                                            Keep const& keep, Put const& put) noexcept {
    block.each([&](int thread) {
      for (int i = thread; i < chunk_numbers; i += Block::threads) chunk_[i] = T(0);
    });
    tokens_.clear(block);
    // Chunk c + 2 comes while c + 1 is made and c goes through the state.
    for (Index c = -2, chunks = grouping_.count(); c < chunks; ++c) {
      block.template wait_for_copies<0>();
      block.sync();
      if (c >= -1) tokens_.prepare(block, own, groups * (c + 1));
      if (c >= 0) {
        before(c);
        take(block, own, c, keep, put);
      }
      block.sync();
      tokens_.begin_copies(block, groups * (c + 2));
      if (c == -2 || c + 1 == chunks) continue;
      make_rows(block, value);
      make_pairs(block, own);
      block.sync();
      if constexpr (erases) solve(block);
    }
  }

 private:
  AVIARY_HOST_DEVICE AVIARY_INLINE T* read_row(int kind, int token) const noexcept {
    return chunk_ + (kind * tokens + token) * read_stride;
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE T* write_row(int kind, int token) const noexcept {
    return chunk_ + at_writes + (kind * tokens + token) * write_stride;
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE T* values(int token) const noexcept {
    return chunk_ + at_values + token * value_stride;
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE T* pairs(int matrix, int token) const noexcept {
    return chunk_ + at_pairs + (matrix * tokens + token) * pair_stride;
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE T* decays() const noexcept { return chunk_ + at_decay; }

  /// The decay of a group at key j, and that of several.
  AVIARY_HOST_DEVICE AVIARY_INLINE T stored_decay(int g, int j) const noexcept {
    return tokens_.group(g).w()[gate == Gate::vector ? j : 0];
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE T decay(int g, int j) const noexcept {
    if constexpr (gate == Gate::none)
      return T(1);
    else
      return constant_decay<R> ? stored_decay(g, j) + T(1) : stored_decay(g, j);
  }
  AVIARY_HOST_DEVICE static AVIARY_INLINE T of_both(T w, T x) noexcept {
    return constant_decay<R> ? simd::Pack<T>::fma(w, x, w + x) : w * x;
  }

  /// The rows of a chunk, whose groups are prepared: what reads decayed from its begin, what writes to its end.
  template <class Block, class Value>
  AVIARY_HOST_DEVICE AVIARY_INLINE void make_rows(Block& block, Value const& value) noexcept {
    block.each([&](int thread) {
      for (int i = thread; i < 2 * K; i += Block::threads) {
        int const j = i < K ? i : i - K;
        T factor(1);
        if (i < K) {
          detail::unroll<groups>([&](auto g) {
            Group const group = tokens_.group(g);
            detail::unroll<N>([&](auto m) {
              read_row(0, g * N + m)[j] = round_to_tf32(group.read(m)[j] * factor);
              if constexpr (erases) read_row(1, g * N + m)[j] = group.read(N + m)[j] * factor;
            });
            factor *= decay(g, j);
          });
          if constexpr (gate != Gate::none) {
            T w = stored_decay(0, j);
            detail::unroll<groups - 1>([&](auto g) { w = of_both(w, stored_decay(1 + g, j)); });
            decays()[j] = w;
          }
        } else {
          detail::unroll<groups>([&](auto after) {
            constexpr int g = groups - 1 - after;
            Group const group = tokens_.group(g);
            detail::unroll<N>([&](auto m) {
              write_row(0, g * N + m)[j] = round_to_tf32(group.write(m)[j] * factor);
              if constexpr (rank_one) write_row(1, g * N + m)[j] = round_to_tf32(group.write(N + m)[j] * factor);
            });
            factor *= decay(g, j);
          });
        }
      }
      for (int i = thread; i < tokens * Width; i += Block::threads) {
        int const m = i / Width;
        Index const column = first_ + i % Width;
        values(m)[i % Width] = column < V ? round_to_tf32(value(tokens_.group(m / N).value(m % N), column)) : T(0);
      }
    });
  }

  /// Its pair matrices. Tokens of one group have met when it was prepared; where a later group reads an earlier one, they meet here:
  /// neighbours as they are, those of the second half and those of the first decayed from and to the chunk's middle.
  template <class Block, class Own> AVIARY_HOST_DEVICE AVIARY_INLINE void make_pairs(Block& block, Own& own) noexcept {
    constexpr int team = Block::threads / groups, warps = Block::threads / warp;
    block.each([&](int thread) {
      detail::unroll<Group::reads>([&](auto read) {
        if (read % warps != thread / warp) return;
        constexpr int k = Group::pair(read, 0), q = Group::pair(read, N), end = Group::pair(read, Group::writes);
        Lane const lane{thread};
        int const g = lane.in_quad(), write = lane.quad();  // one of the groups, one of its rows
        if (write >= Group::writes) return;
        int const kind = write / N, pair = kind == 0 ? k + write : q + write - N;
        bool const there = pair < (kind == 0 && rank_one ? q : end);
        T const product = there ? tokens_.template pair_product<team>(g, pair) : T(0);
        put_pair(read / N, kind, g * N + read % N, g * N + write % N, product);
      });
    });
    // A warp takes halves or neighbours, under k or under q. Row n of the first or second eight of a is r or p of this token; column n
    // of b is k or q of that one.
    constexpr int jobs = 2 * kinds;
    static_assert(jobs <= warps);
    auto const halves = [](int thread) { return thread / warp % 2 == 0; };
    auto const kind = [](int thread) { return thread / warp / 2 % kinds; };
    auto const reader = [](bool half, int n) { return half ? 8 + n : 4 + n + n / 4 * 4; };
    auto const writer = [](bool half, int n) { return half ? n : n + n / 4 * 4; };
    block.each([&](int thread) { detail::unroll<4>([&](auto i) { own[thread].d[int(i)] = T(0); }); });
    AVIARY_KEEP_LOOP
    for (int pair = 0; pair < Tile::pairs; ++pair) {
      block.each([&](int thread) {
        Lane const lane{thread};
        int const key = 16 * pair + 4 * lane.in_quad();
        auto const row = [&](T const* numbers, bool decayed, int g) {
          Four<T> x = *reinterpret_cast<Four<T> const*>(numbers + key);
          detail::unroll<4>([&](auto e) {
            if (decayed) x.x[int(e)] *= decay(g, key + e < K ? key + e : 0);
            x.x[int(e)] = round_to_tf32(x.x[int(e)]);
          });
          return x;
        };
        int const t = reader(halves(thread), lane.quad()), s = writer(halves(thread), lane.quad());
        bool const far_reader = halves(thread) && t / N == 3, far_writer = halves(thread) && s / N == 0;
        auto& x = own[thread].x;
        x[0] = row(tokens_.group(t / N).read(t % N), far_reader, 2);
        if constexpr (erases)
          x[1] = row(tokens_.group(t / N).read(N + t % N), far_reader, 2);
        else
          x[1] = {};
        x[2] = row(tokens_.group(s / N).write(kind(thread) * N + s % N), far_writer, 1);
      });
      detail::unroll<2>([&](auto e) {
        block.template multiply<jobs * warp>([&](int thread, auto i) { return own[thread].x[i % 2].x[e + i / 2 * 2]; },
                                             [&](int thread, auto i) { return own[thread].x[2].x[e + i * 2]; },
                                             [&](int thread, auto i) -> T& { return own[thread].d[int(i)]; });
      });
    }
    block.each([&](int thread) {
      if (thread / warp >= jobs) return;
      Lane const lane{thread};
      detail::unroll<4>([&](auto i) {
        int const t = reader(halves(thread), lane.quad()), s = writer(halves(thread), 2 * lane.in_quad() + i % 2);
        if ((halves(thread) || t / N == s / N + 1) && (erases || i < 2))
          put_pair(i / 2, kind(thread), t, s, own[thread].d[int(i)]);
      });
    });
  }
  /// What r (0) or p (1) of token t reads of k (0) or q (1) of token s.
  AVIARY_HOST_DEVICE AVIARY_INLINE void put_pair(int read, int write, int t, int s, T product) const noexcept {
    pairs(read * kinds + write, t)[s] = read == 0 ? round_to_tf32(product) : product;
  }

  /// The corrections of a chunk are what p reads of the state before it and of its values, as if there were no others:
  ///
  ///     Z = (1 - P_q)^-1 (P S + P_k V)                 u = v - z:  U = (1 + P_k)^-1 (V - P S)
  ///
  /// P and P_k become these matrices, column by column; with Erase::along_key P and 1 do.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void solve(Block& block) noexcept {
    block.each([&](int thread) {
      for (int i = thread; i < padded_keys + tokens; i += Block::threads) {
        bool const of_keys = i < padded_keys;
        T* const column = of_keys ? read_row(1, 0) + i : pairs(corrections, 0) + (i - padded_keys);
        int const stride = of_keys ? read_stride : pair_stride;
        T x[to_size(tokens)]{};
        detail::unroll<tokens>([&](auto t) {
          T sum = column[t * stride];
          if constexpr (!rank_one) sum = of_keys ? -sum : i - padded_keys == t ? T(1) : T(0);
          T const* const row = pairs(rank_one ? probes + 1 : probes, t);
          detail::unroll<(t + 3) / 4>([&](auto four) {
            Four<T> const p = *reinterpret_cast<Four<T> const*>(row + 4 * four);
            detail::unroll<4>([&](auto e) {
              constexpr int s = 4 * four + e;
              if constexpr (s < t) sum = simd::Pack<T>::fma(rank_one ? p.x[int(e)] : -p.x[int(e)], x[s], sum);
            });
          });
          x[int(t)] = sum;
        });
        detail::unroll<tokens>([&](auto t) { column[t * stride] = round_to_tf32(x[int(t)]); });
      }
    });
  }

  /// What a thread reads of a chunk, for its columns, and writes.
  template <class Block, class Own, class Keep, class Put>
  AVIARY_HOST_DEVICE AVIARY_INLINE void take(Block& block, Own& own, Index c, [[maybe_unused]] Keep const& keep,
                                             Put const& put) noexcept {
    constexpr int owners = Tile::owners;
    auto const each = [&](auto const& f) {
      block.each([&](int thread) {
        if (owners == Block::threads || thread < owners) f(thread, own[thread], Lane{thread});
      });
    };
    // sums += a b for both tiles of tokens: b is what row(thread, token) reads of tokens.
    auto const add_pairs = [&](auto const& a, int matrix, auto const& sums) {
      detail::unroll<2>([&](auto n) {
        detail::unroll<2>([&](auto step) {
          each([&](int, Registers& x, Lane lane) {
            x.low =
                *reinterpret_cast<Two<T> const*>(pairs(matrix, 8 * n + lane.quad()) + 8 * step + 2 * lane.in_quad());
          });
          block.template multiply<owners>([&](int thread, auto i) { return a(own[thread])[4 * step + i]; },
                                          [&](int thread, auto i) { return own[thread].low.x[int(i)]; },
                                          [&](int thread, auto i) -> T& { return sums(own[thread])[4 * n + i]; });
        });
      });
    };
    auto const y = [](Registers & x) -> auto& { return x.y; };
    auto const z = [](Registers & x) -> auto& { return x.z; };
    auto const v = [](Registers & x) -> auto& { return x.v; };
    auto const w = [](Registers & x) -> auto& { return x.w; };

    each([&](int thread, Registers& x, Lane lane) {
      detail::unroll<8>([&](auto i) {
        x.y[int(i)] = x.z[int(i)] = T(0);
        int const token = i / 4 * 8 + 2 * lane.in_quad() + i % 4 / 2;
        x.v[int(i)] = values(token)[thread / warp * 16 + lane.quad() + i % 2 * 8];
      });
    });
    detail::unroll<Tile::pairs>([&](auto pair) {
      each([&](int, Registers& x, Lane) {
        // Number i of a is number (0, 2, 1, 3)[i] of d.
        detail::unroll<8>(
            [&](auto i) { x.a[int(i)] = round_to_tf32(x.s[8 * pair + i / 4 * 4 + i % 2 * 2 + i / 2 % 2]); });
      });
      detail::unroll<2>([&](auto n) {
        each([&](int, Registers& x, Lane lane) {
          detail::unroll<1 + erases>([&](auto kind) {
            x.x[int(kind)] =
                *reinterpret_cast<Four<T> const*>(read_row(kind, 8 * n + lane.quad()) + 16 * pair + 4 * lane.in_quad());
          });
        });
        detail::unroll<1 + erases>([&](auto kind) {
          detail::unroll<2>([&](auto e) {
            block.template multiply<owners>(
                [&](int thread, auto i) { return own[thread].a[4 * e + i]; },
                [&](int thread, auto i) { return own[thread].x[int(kind)].x[e + 2 * i]; },
                [&](int thread, auto i) -> T& { return (kind == 0 ? own[thread].y : own[thread].z)[4 * n + i]; });
          });
        });
      });
    });
    if constexpr (erases) {
      add_pairs(v, corrections, z);
      each([&](int thread, Registers& x, Lane) {
        put_numbers(thread, c, x.z, keep);
        detail::unroll<8>([&](auto i) { x.w[int(i)] = round_to_tf32(x.z[i / 4 * 4 + i % 2 * 2 + i / 2 % 2]); });
      });
    }
    if constexpr (!erases || rank_one) add_pairs(v, 0, y);
    if constexpr (erases) add_pairs(w, rank_one ? 1 : 0, y);
    each([&](int thread, Registers& x, Lane) { put_numbers(thread, c, x.y, put); });

    // What is written: with Erase::along_key the corrected values alone, else values under k and corrections under q.
    auto const written = [](Registers & x, auto kind) -> auto& {
      if constexpr (erases && (!rank_one || kind == 1))
        return x.w;
      else
        return x.v;
    };
    detail::unroll<Tile::pairs>([&](auto pair) {
      if constexpr (gate != Gate::none)
        each([&](int, Registers& x, Lane lane) {
          x.x[0] = *reinterpret_cast<Four<T> const*>(decays() + 16 * pair + 4 * lane.in_quad());
          detail::unroll<8>([&](auto i) {
            T& s = x.s[8 * pair + i];
            T const decay = x.x[0].x[i % 2 * 2 + i / 4];
            s = constant_decay<R> ? simd::Pack<T>::fma(s, decay, s) : s * decay;
          });
        });
      detail::unroll<kinds>([&](auto kind) {
        detail::unroll<2>([&](auto step) {
          each([&](int, Registers& x, Lane lane) {
            int const token = 8 * step + 2 * lane.in_quad();
            int const key = 16 * pair + 2 * lane.quad();
            x.low = *reinterpret_cast<Two<T> const*>(write_row(kind, token) + key);
            x.high = *reinterpret_cast<Two<T> const*>(write_row(kind, token + 1) + key);
          });
          detail::unroll<2>([&](auto e) {
            block.template multiply<owners>(
                [&](int thread, auto i) { return written(own[thread], kind)[4 * step + i]; },
                [&](int thread, auto i) { return (i == 0 ? own[thread].low : own[thread].high).x[int(e)]; },
                [&](int thread, auto i) -> T& { return own[thread].s[8 * pair + 4 * e + i]; });
          });
        });
      });
    });
  }

  /// A thread's numbers of y or z that belong to tokens of chunk c and columns of the state go where `put` says.
  template <class Put>
  AVIARY_HOST_DEVICE AVIARY_INLINE void put_numbers(int thread, Index c, T const* numbers,
                                                    Put const& put) const noexcept {
    Lane const lane{thread};
    Index const token = grouping_.token(c), count = grouping_.size(c);
    std::byte* rows[4];
    detail::unroll<4>([&](auto n) { rows[int(n)] = put.row(token, n / 2 * 8 + 2 * lane.in_quad() + n % 2, count); });
    put.all([&](auto const& store) {
      detail::unroll<8>([&](auto i) {
        Index const column = first_ + thread / warp * 16 + lane.quad() + i % 4 / 2 * 8;
        std::byte* const row = rows[i / 4 * 2 + i % 2];
        if (row != nullptr && column < V) store(row, column, numbers[int(i)]);
      });
    });
  }

  Grouping<tokens> grouping_;
  Tokens tokens_;
  T* chunk_;
  Index first_;
};

/// In chunks, by blocks of `Width` columns: see InGroups. Rows but log_w are stored as S.
template <int Width, class S> struct InChunks {
  static constexpr int width = Width;
  template <class M, Index V> using Passage = ChunkPassage<M, V, Width, S>;
};

}  // namespace AVIARY_NAMESPACE::cuda
