#pragma once
/// The gradients of the matrix recurrence in chunks of 16 tokens on tensor cores (equations, 2.6). A block takes one head of one
/// sequence from its last kept state to its first, or some columns of its state; the gradient of the state stays in the accumulators
/// of its warps. What the sums over values of a chunk are, each of its groups is handed, and PullKernel goes on with it: the chain rule
/// of groups is that of every other kernel (matrix/adjoint.hpp).
///
/// With the names of chunk.hpp, D the gradient of the state after the chunk and W what is written (v and z, or u):
///
///     dZ = (1 - P_q)^-T (R_q^T dY + Q D^T)          dV = R_k^T dY + K D^T + P_k^T dZ
///     dU = (1 + P_k)^-T (R_k^T dY + K D^T),         dV = dU,  dZ = -dU           with an erasure along the key
///     D  = D diag(decays) + dY^T R + dZ^T P
#include "aviary/cuda/backward.hpp"
#include "aviary/cuda/chunk.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// The walk back by blocks of `Width` columns. S is what rows but log_w are stored as, or void. The tokens of a chunk come while the one
/// after it is worked on, if there are two stages.
template <class M, int Width, class S, int stages = 2>
class ChunkBackwardKernel : public BackwardSlices<M, Width, true> {
  using Slices = BackwardSlices<M, Width, true>;
  using R = typename M::Rule;
  using T = typename M::T;
  using State = typename M::State;
  using StateGradient = typename M::StateGradient;
  using Tokens = ChunkTokens<M, S, true, stages>;
  using Tile = MatrixTile<T, M::keys, M::values, Width>;
  static constexpr int N = Tokens::N, tokens = Tokens::tokens, reads = Tokens::reads, writes = Tokens::writes;
  static constexpr int K = static_cast<int>(M::keys), V = static_cast<int>(M::values), padded_keys = 16 * Tile::pairs;
  static constexpr bool erases = Tokens::erases, rank_one = Tokens::rank_one, gated = Tokens::gate != Gate::none;
  static_assert(detail::BackwardRoom<M>::N == N);

 public:
  using Arguments = BackwardArguments<M>;
  static constexpr int threads = Tile::threads;
  static constexpr Index longest_interval = tokens;

 private:
  using Gradients = TokenGradients<M, typename Tokens::Groups, threads>;
  using Adjoint = typename Gradients::Adjoint;
  using Sums = typename Gradients::Sums;
  using Group = typename Tokens::Group;
  static constexpr Index stride = padded<T>(M::keys);

  // Shared memory: rows of values of the block's columns, [token][column]: what is written, what reaches readings, and v. Then the
  // gradient of the state, [key][column].
  static constexpr int value_stride = Width + 4;
  static constexpr int rows_of_values = writes + reads + 1, to_state = rows_of_values * tokens * value_stride;
  static constexpr int numbers = to_state + padded_keys * value_stride;
  static constexpr Index to_gradients = (Tokens::shared_bytes + 15) / 16 * 16 / static_cast<Index>(sizeof(T));
  static constexpr Index to_numbers = to_gradients + (Gradients::numbers + 3) / 4 * 4;

 public:
  static constexpr std::size_t shared_bytes = to_size(to_numbers + numbers) * sizeof(T);

  template <class Block> AVIARY_HOST_DEVICE static void run(Block& block, Arguments const& x, Index index) noexcept {
    typename Slices::Place const at(x, index);
    ChunkBackwardKernel pass(x, block, {x.packing.begin(at.sequence), x.packing.end(at.sequence), x.every}, at.sequence,
                             at.head, static_cast<int>(at.first));
    pass.walk(block);
  }

 private:
  struct Registers : Tokens::Registers, MatrixRegisters<T> {
    typename Tile::Numbers d;
    T y[8], z[8];                // sums
    T v[8], w[8], dy[8], dz[8];  // operands
    T sum[4];                    // of a matrix of tokens
    T of_one[to_size(Gradients::scattered_numbers)];
  };
  template <class Block> using Own = typename Block::template Own<Registers>;

  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE ChunkBackwardKernel(Arguments const& x, Block& block, Grouping<tokens> grouping,
                                                       Index sequence, Index head, int first) noexcept
      : x_(x),
        grouping_(grouping),
        tokens_(block.shared(), x.x, grouping, head, x.heads),
        numbers_(reinterpret_cast<T*>(block.shared()) + to_numbers),
        gradients_(reinterpret_cast<T*>(block.shared()) + to_gradients, x, tokens_.all(), {grouping}, sequence, head),
        sequence_(sequence),
        head_(head),
        first_(first) {}

  /// Rows of a token: v or u (0) and z (1); dy (0) and dz (1); dv.
  AVIARY_HOST_DEVICE AVIARY_INLINE T* written(int kind, int t) const noexcept {
    return numbers_ + (kind * tokens + t) * value_stride;
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE T* dread(int kind, int t) const noexcept { return written(writes + kind, t); }
  AVIARY_HOST_DEVICE AVIARY_INLINE T* dv(int t) const noexcept { return written(writes + reads, t); }
  /// The gradient of the state after the chunk under key j, rounded.
  AVIARY_HOST_DEVICE AVIARY_INLINE T* dstate(Index j) const noexcept { return numbers_ + to_state + j * value_stride; }
  /// A number of a kept state, in a column of the block.
  AVIARY_HOST_DEVICE AVIARY_INLINE T number_of(State const& state, int key, int column) const noexcept {
    bool const there = key < K && column < Width && first_ + column < V;
    return there ? static_cast<T>(widen(state.s[key][first_ + column])) : T(0);
  }

  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void walk(Block& block) noexcept {
    Own<Block> own;
    gradients_.clear(block);
    tokens_.clear(block);
    block.each([&](int thread) {
      detail::unroll<Tile::numbers>([&](auto i) { own[thread].d[int(i)] = T(0); });
      if (StateGradient* const d = x_.state_gradient(sequence_, head_); d != nullptr && (x_.given || x_.round > 0))
        load_state<Tile>(own[thread].d, *d, first_, thread);
      for (int i = thread; i < numbers; i += threads) numbers_[i] = T(0);
    });
    Index const kept = x_.packing.kept_before(sequence_, x_.every);
    Index const first = x_.first(sequence_), last = x_.last(sequence_);
    if (first < last) tokens_.begin_copies(block, last - 1);
    for (Index c = last; c-- > first;) {
      State const& before = x_.kept[(kept + c) * x_.heads + head_];
      block.template wait_for_copies<0>();
      block.sync();
      tokens_.prepare(block, own, c);
      if (stages > 1 && c > first) tokens_.begin_copies(block, c - 1);
      block.sync();
      load_values(block, c);
      tokens_.make(block, own);
      block.sync();
      take(block, own, before);
      block.sync();
      sum_over_values(block, own, before);
      block.sync();
      hand_over(block, c - first, before);
      pull_values(block, own, c, c - first);
      if (stages == 1 && c > first) tokens_.begin_copies(block, c - 1);
    }
    block.each([&](int thread) {
      if (StateGradient* const d = x_.state_gradient(sequence_, head_))
        store_state<Tile>(own[thread].d, *d, first_, thread);
    });
  }

  /// The values of a chunk, and what reaches its outputs.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void load_values(Block& block, Index c) noexcept {
    block.each([&](int thread) {
      Index const token = grouping_.token(c), count = grouping_.size(c);
      for (int i = thread; i < tokens * Width; i += threads) {
        int const t = i / Width, column = first_ + i % Width;
        bool const there = column < V;
        T dy(0);
        if (there && t < count)
          dy = detail::StoredRow<T>{row_of(x_.dy, token + t, head_, x_.heads), x_.dy.format()}[column];
        dread(0, t)[i % Width] = round_to_tf32(dy);
        written(0, t)[i % Width] = there ? round_to_tf32(tokens_.group(t / N).value(t % N)[column]) : T(0);
      }
    });
  }

  /// What was read and written in the block's columns, what reaches it, and the gradient of the state back over the chunk.
  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void take(Block& block, Own<Block>& own, State const& before) noexcept {
    MatrixProducts<Tile, Block, Own<Block>> products(block, own);
    auto const d = [](auto& x) { return x.d; };
    auto const y = [](auto& x) { return x.y; };
    auto const z = [](auto& x) { return x.z; };
    auto const v = [](auto& x) { return x.v; };
    auto const w = [](auto& x) { return x.w; };
    auto const dy = [](auto& x) { return x.dy; };
    auto const dz = [](auto& x) { return x.dz; };
    auto const of_pairs = [&](auto transposed, auto const& x, int matrix, auto const& to) {
      products.template multiply_by_pairs<transposed == 1>(x, tokens_.pairs(matrix, 0), Tokens::pair_stride, to);
    };
    constexpr detail::Constant<1> forwards;
    constexpr detail::Constant<0> back;
    auto const clear = [](T* sums) { detail::unroll<8>([&](auto i) { sums[int(i)] = T(0); }); };

    products.each([&](int thread, auto& x, Lane) {
      for_operand(thread, [&](auto i, int t, int column) {
        x.v[int(i)] = written(0, t)[column];
        x.dy[int(i)] = dread(0, t)[column];
      });
      clear(x.y), clear(x.z);
      if constexpr (erases && !rank_one)
        for_sums(thread, [&](auto i, int t, int column) { x.z[int(i)] = written(0, t)[column]; });
    });
    if constexpr (erases) {
      products.template multiply_by_rows<1>(
          [&](int thread, auto&, int i) { return number_of(before, Tile::key(thread, i), Tile::column(thread, i)); },
          [&](int, int t) { return tokens_.read(1, t); }, [](auto& x, int) { return x.z; });
      if constexpr (rank_one) of_pairs(forwards, v, Tokens::of_probes, z);
      products.each([&](int, auto& x, Lane) { make_operand(x.z, x.w), clear(x.z); });
      of_pairs(forwards, w, Tokens::inverse, z);
      products.each([&](int thread, auto& x, Lane) {
        for_sums(thread, [&](auto i, int t, int column) { written(rank_one, t)[column] = round_to_tf32(x.z[int(i)]); });
        clear(x.z);
      });
    }
    of_pairs(back, dy, 0, y);
    if constexpr (rank_one) of_pairs(back, dy, 1, z);
    products.template multiply_by_rows<writes>([](int, auto& x, int i) { return x.d[i]; },
                                               [&](int kind, int t) { return tokens_.write(kind, t); },
                                               [](auto& x, int kind) { return kind == 0 ? x.y : x.z; });
    if constexpr (rank_one) {
      products.each([&](int, auto& x, Lane) { make_operand(x.z, x.w), clear(x.z); });
      of_pairs(back, w, Tokens::inverse, z);
      products.each([&](int, auto& x, Lane) { make_operand(x.z, x.dz); });
      of_pairs(back, dz, Tokens::of_probes, y);
    } else if constexpr (erases) {
      products.each([&](int, auto& x, Lane) { make_operand(x.y, x.w), clear(x.y); });
      of_pairs(back, w, Tokens::inverse, y);
      products.each([&](int, auto& x, Lane) {
        make_operand(x.y, x.dz);
        detail::unroll<8>([&](auto i) { x.z[int(i)] = -x.y[int(i)]; });
      });
    }
    products.each([&](int thread, auto& x, Lane) {
      for_sums(thread, [&](auto i, int t, int column) {
        T of_v = x.y[int(i)];
        if constexpr (Tokens::own_values) of_v = simd::Pack<T>::fma(tokens_.own()[t], dread(0, t)[column], of_v);
        dv(t)[column] = of_v;
        if constexpr (erases) dread(1, t)[column] = round_to_tf32(x.z[int(i)]);
      });
      Tile::for_numbers(0, thread, [&](int i, Index key, Index column, bool) {
        if (column < Width) dstate(key)[column] = round_to_tf32(x.d[i]);
      });
    });
    // With an erasure along the key rows of p are negative, and dz has what reaches v.
    products.template add_rows<R, reads>(
        d, tokens_.decays(), [](auto& x, int kind) { return kind == 0 ? x.dy : x.dz; },
        [&](int kind, int t) { return tokens_.read(kind, t); });
  }

  /// Sums over the block's columns: of the state before the chunk times what reaches readings, in place of rows that read; of the
  /// gradient of the one after it times what is written, in place of rows that write; of what reaches readings times what is written,
  /// in place of pairs.
  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void sum_over_values(Block& block, Own<Block>& own, State const& before) noexcept {
    constexpr int warps = threads / warp, key_tiles = padded_keys / 8;
    constexpr int of_keys = key_tiles * (reads + writes), jobs = of_keys + 2 * reads * writes;
    // A job of a warp: 8 keys or tokens as columns of b; 16 tokens as rows of a.
    auto const job = [](int round, int thread) { return round * warps + thread / warp; };
    auto const add = [&](int round, int step) {
      block.template multiply<threads>(
          [&](int thread, auto i) {
            Lane const lane{thread};
            int const n = job(round, thread);
            int const row = lane.quad() + i % 2 * 8, column = 8 * step + lane.in_quad() + i / 2 * 4;
            if (n >= jobs) return T(0);
            if (n >= of_keys) return dread((n - of_keys) / 2 / writes, row)[column];
            int const kind = n / key_tiles;
            return (kind < reads ? dread(kind, row) : written(kind - reads, row))[column];
          },
          [&](int thread, auto i) {
            Lane const lane{thread};
            int const n = job(round, thread), column = 8 * step + lane.in_quad() + i * 4;
            if (n >= jobs) return T(0);
            if (n >= of_keys) return written((n - of_keys) / 2 % writes, (n - of_keys) % 2 * 8 + lane.quad())[column];
            int const key = n % key_tiles * 8 + lane.quad();
            if (n / key_tiles >= reads) return dstate(key)[column];
            return key < K && first_ + column < V ? round_to_tf32(static_cast<T>(widen(before.s[key][first_ + column])))
                                                  : T(0);
          },
          [&](int thread, auto i) -> T& { return own[thread].sum[int(i)]; });
    };
    AVIARY_KEEP_LOOP
    for (int round = 0; round < (jobs + warps - 1) / warps; ++round) {
      block.each([&](int thread) { detail::unroll<4>([&](auto i) { own[thread].sum[int(i)] = T(0); }); });
      detail::unroll<Width / 8>([&](auto step) { add(round, step); });
      block.each([&](int thread) {
        Lane const lane{thread};
        int const n = job(round, thread);
        if (n >= jobs) return;
        detail::unroll<4>([&](auto i) {
          int const t = lane.quad() + i / 2 * 8, column = 2 * lane.in_quad() + i % 2;
          if (n >= of_keys) {
            int const s = (n - of_keys) % 2 * 8 + column;
            if (s / N <= t / N) tokens_.pairs((n - of_keys) / 2, t)[s] = own[thread].sum[int(i)];
          } else {
            int const kind = n / key_tiles, key = n % key_tiles * 8 + column;
            (kind < reads ? tokens_.read(kind, t) : tokens_.write(kind - reads, t))[key] = own[thread].sum[int(i)];
          }
        });
      });
    }
  }

  AVIARY_HOST_DEVICE AVIARY_INLINE Sums sums_of_group(Index interval, int g) const noexcept {
    Index const local = interval * ((x_.every + N - 1) / N) + g;
    return {Slices::sums_of(x_, sequence_, head_, local) + first_ / Width * Gradients::sums_size, stride};
  }

  /// The sums of groups from those of the chunk: a state between groups is a sum of the one before the chunk and of what was written
  /// since, and its gradient one of that after the chunk and of what is still read.
  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void hand_over(Block& block, Index interval, State const& before) noexcept {
    int const there = static_cast<int>((x_.every + N - 1) / N);  // groups of an interval
    block.each([&](int thread) {
      AVIARY_KEEP_LOOP
      for (int j = thread; j < K; j += threads) {
        // The decay from group `begin` on up to group `end`.
        auto const decay = [&](int begin, int end) {
          T product(1);
          AVIARY_KEEP_LOOP
          for (int g = begin; g < end; ++g) product *= tokens_.decay(g, j);
          return product;
        };
        T of_both(0);
        if constexpr (gated)
          for (int i = 0; i < Width && first_ + i < V; ++i)
            of_both = simd::Pack<T>::fma(static_cast<T>(widen(before.s[j][first_ + i])), dstate(j)[i], of_both);
        AVIARY_KEEP_LOOP
        for (int g = 0; g < there; ++g) {
          Sums const to = sums_of_group(interval, g);
          T const since = decay(0, g), until = decay(g + 1, Tokens::groups);
          // What the state before the group and the gradient of the one after it have in common, from what was written before.
          T columns = since * of_both;
          AVIARY_KEEP_LOOP
          for (int b = 0; b < g; ++b) {
            T const factor = decay(b + 1, g);
            detail::unroll<Group::writes>([&](auto n) {
              columns = simd::Pack<T>::fma(factor * tokens_.group(b).write(n)[j],
                                           tokens_.write(n / N, b * N + n % N)[j], columns);
            });
          }
          columns *= until;
          T reached[to_size(Group::writes)];  // by the group's writes
          detail::unroll<Group::writes>(
              [&](auto n) { reached[int(n)] = until * tokens_.write(n / N, g * N + n % N)[j]; });
          AVIARY_KEEP_LOOP
          for (int a = g; a < Tokens::groups; ++a) {
            T read[to_size(Group::reads)];  // by group a, of the state before group g
            detail::unroll<Group::reads>([&](auto n) { read[int(n)] = since * tokens_.read(n / N, a * N + n % N)[j]; });
            AVIARY_KEEP_LOOP
            for (int b = 0; b < g; ++b) {
              T rows[to_size(Group::writes)];
              T const factor = decay(b + 1, g);
              detail::unroll<Group::writes>([&](auto n) { rows[int(n)] = factor * tokens_.group(b).write(n)[j]; });
              for_pairs(a, b, [&](auto n, auto m, T pair) {
                read[int(n)] = simd::Pack<T>::fma(rows[int(m)], pair, read[int(n)]);
              });
            }
            if (a == g) {
              detail::unroll<Group::reads>([&](auto n) { to.read(n)[j] = read[int(n)]; });
              continue;
            }
            T rows[to_size(Group::reads)];
            T const factor = decay(g + 1, a);
            detail::unroll<Group::reads>([&](auto n) {
              rows[int(n)] = factor * tokens_.group(a).read(n)[j];
              columns = simd::Pack<T>::fma(rows[int(n)], read[int(n)], columns);
            });
            for_pairs(a, g, [&](auto n, auto m, T pair) {
              reached[int(m)] = simd::Pack<T>::fma(rows[int(n)], pair, reached[int(m)]);
            });
          }
          detail::unroll<Group::writes>([&](auto n) { to.written(n)[j] = reached[int(n)]; });
          if constexpr (gated) to.columns()[j] = columns;
        }
      }
      Tokens::template for_pairs_in_groups<threads>(thread, [&](auto row, int g, int column, int pair) {
        if (pair < 0 || g >= there) return;
        T sum = tokens_.pairs(row / N * writes + column / N, g * N + row % N)[g * N + column % N];
        if constexpr (Tokens::own_values && row < N)
          if (column == row) {
            sum = T(0);
            T const* const own_value = tokens_.group(g).value(row);
            for (int i = 0; i < Width && first_ + i < V; ++i)
              sum = simd::Pack<T>::fma(dread(0, g * N + row)[i], own_value[first_ + i], sum);
          }
        sums_of_group(interval, g).pairs()[pair] = sum;
      });
    });
  }
  /// f(n, m, pair) for what reaches read row n of group a times written row m of group b.
  template <class F> AVIARY_HOST_DEVICE AVIARY_INLINE void for_pairs(int a, int b, F&& f) const noexcept {
    detail::unroll<Group::reads>([&](auto n) {
      detail::unroll<writes>([&](auto kind) {
        Four<T> const pairs =
            *reinterpret_cast<Four<T> const*>(tokens_.pairs(n / N * writes + kind, a * N + n % N) + b * N);
        detail::unroll<N>([&](auto m) { f(n, detail::Constant<kind * N + m>(), pairs.x[int(m)]); });
      });
    });
  }

  /// Gradients along values, and the share of values in those of numbers.
  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void pull_values(Block& block, Own<Block>& own, Index c, Index interval) noexcept {
    int const last = first_ + Width < V ? first_ + Width : V, there = static_cast<int>((x_.every + N - 1) / N);
    AVIARY_KEEP_LOOP
    for (int n = 0; n < there; ++n) {
      Index const g = Tokens::groups * c + n;
      block.each([&](int thread) {
        auto& x = own[thread];
        detail::unroll<Gradients::scattered_numbers>([&](auto i) { x.of_one[int(i)] = T(0); });
        gradients_.with_tokens(g, [&](auto const& to, T const* scalar_w, auto const* token) {
          for (int i = first_ + thread; i < last; i += threads)
            Adjoint::pull_values_of(token, scalar_w, dv(n * N) - first_, value_stride, i, to, x.of_one);
        });
      });
      if constexpr (Gradients::has_numbers)
        gradients_.hand_in_numbers(block, [&](int thread, int i) -> T& { return own[thread].of_one[i]; });
      block.sync();
      if constexpr (Gradients::has_numbers)
        block.each([&](int thread) {
          for (int i = thread; i < N * detail::field_count<R>; i += threads)
            sums_of_group(interval, n).fields_of_one()[i] = gradients_.sum_of_numbers(i);
        });
      gradients_.template put<true>(block, g, first_, last);
      block.sync();
    }
  }

  Arguments const& x_;
  Grouping<tokens> grouping_;
  Tokens tokens_;
  T* numbers_;
  Gradients gradients_;
  Index sequence_, head_;
  int first_;
};

}  // namespace AVIARY_NAMESPACE::cuda
