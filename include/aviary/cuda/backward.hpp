#pragma once
/// The gradients of the matrix recurrence as a kernel. A block takes one head of one sequence from its last kept state to its first:
/// it prepares the groups between two of them, computes the states before them forwards again, and walks back with the state and its
/// gradient in the threads' registers (matrix/adjoint.hpp has the chain rule). What heads share of an input, and what belongs to a
/// head for all time, goes to a workspace and is added up by a second kernel, in the order of heads and sequences.
#include "aviary/cuda/tile.hpp"
#include "aviary/matrix/memory.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// Where the gradients of fields that blocks cannot add up lie in a workspace: (tokens, heads, size) of a field that heads share,
/// (sequences, heads, size) of one that a head has once.
template <class M> struct SharedGradients {
  using R = typename M::Rule;
  using T = typename M::T;
  static constexpr int fields = detail::field_count<R>;

  Index at[to_size(fields)];  ///< the first number of a field, or -1
  Index numbers = 0;

  SharedGradients(typename M::Gradients const& dx, typename M::Inputs const& x, Index tokens, Index sequences,
                  Index heads) noexcept {
    int f = 0;
    bool wanted[to_size(fields)];
    detail::for_each_field<R>(dx, [&](auto, auto const& sink) { wanted[f++] = static_cast<bool>(sink); });
    f = 0;
    detail::for_each_field<R>(x, [&]<Axis A>(detail::AxisTag<A>, auto const& field) {
      bool const shared = wanted[f] && (!per_token(A) || field.heads() < heads);
      at[f++] = shared ? numbers : Index{-1};
      if (shared) numbers += (per_token(A) ? tokens : sequences) * heads * field.size();
    });
  }
};

/// Blocks of all V columns, each thread having `Columns` of them. A tape keeps a state every 4 `Buffers` tokens at least.
template <class M, int Columns, int Buffers = 4> class BackwardKernel {
  using R = typename M::Rule;
  using T = typename M::T;
  using State = typename M::State;
  using StateGradient = typename M::StateGradient;
  static constexpr int N = detail::BackwardRoom<M>::N;
  static constexpr Index K = M::keys, V = M::values;
  using Tokens = Groups<M, N, Buffers, Staging::direct>;
  using Group = typename Tokens::Group;
  using Adjoint = detail::Adjoint<R, T, T, Tokens::row, N>;
  using Sums = detail::ValueSums<R, T, N>;
  using Tile = cuda::Tile<T, K, V, Tokens::row, static_cast<int>(V), Columns>;
  static constexpr int fields = detail::field_count<R>, reads = Group::reads, writes = Group::writes;
  static constexpr bool erases = Group::erases, rank_one = Group::rank_one, gated = gate_of<R> != Gate::none;
  static constexpr bool own_values = Adjoint::needs_own_values;
  static constexpr bool has_numbers = detail::with_members<fields>(detail::Axes<R>{}, detail::AnyNumber{});

 public:
  static constexpr int threads = Tile::threads;
  /// Tokens between two kept states, at most.
  static constexpr Index longest_interval = Buffers * N;

  struct Arguments {
    typename M::Inputs x;
    Source<V> dy;
    Sink<V> readings;  ///< of the tape, or none
    typename M::Gradients dx;
    detail::Packing packing;
    Index heads;
    State const* kept;
    Index every;
    StateGradient* dstates;  ///< (sequences, heads), or null
    T* workspace;
    SharedGradients<M> shared;
  };
  static Index blocks(Arguments const& x) noexcept { return x.packing.sequences() * x.heads; }

 private:
  static constexpr int warps = threads / warp;
  static constexpr Index row = Tokens::row, stride = padded<T>(K);
  /// Rows of sums over values that are found at once, and how lanes with other columns share out a thread's.
  static constexpr int rows_at_once = 4, column_lanes = warp / Tile::lanes;
  using KeyParts = Scattering<Tile::keys * rows_at_once, column_lanes, 1, Tile::lanes>;
  static constexpr int scattered_pairs = (Group::pairs + warp - 1) / warp * warp;
  static constexpr int scattered_numbers = (N * fields + warp - 1) / warp * warp;

  // Shared memory, in numbers.
  static constexpr Index to_dread = (Tokens::shared_bytes + 15) / 16 * 16 / static_cast<Index>(sizeof(T));
  static constexpr Index to_dwritten = to_dread + reads * row, to_own = to_dwritten + writes * row;
  static constexpr Index to_sums = to_own + (own_values ? Buffers * N * row : 0);
  static constexpr Index to_gradients = to_sums + Sums::size(stride), to_head_sums = to_gradients + fields * N * row;
  static constexpr Index to_partial = to_head_sums + fields * row;
  static constexpr Index partial_row = stride;
  static constexpr Index partial = rows_at_once * partial_row > scattered_pairs + scattered_numbers
                                       ? rows_at_once* partial_row
                                       : scattered_pairs + scattered_numbers;
  static constexpr Index to_states = to_partial + 2 * warps * partial;
  static constexpr Index numbers = to_states + (Buffers - 1) * Tile::numbers * threads;

 public:
  static constexpr std::size_t shared_bytes = to_size(numbers) * sizeof(T);

  template <class Block> AVIARY_HOST_DEVICE static void run(Block& block, Arguments const& x, Index index) noexcept {
    Index const head = index % x.heads, sequence = index / x.heads;
    Index const begin = x.packing.begin(sequence), end = x.packing.end(sequence);
    BackwardKernel pass(x, block, {begin, end, x.every}, sequence, head);
    if (begin < end) pass.walk(block);
    pass.put_head_sums(block);
  }

 private:
  struct Registers : Tokens::Registers {
    typename Tile::Numbers s, d;
    T sums[to_size(Columns * (reads > writes ? reads : writes))],
        weights[to_size(Columns * (reads > writes ? reads : writes))];
    T of_keys[to_size(Tile::keys * rows_at_once)];
    T pairs[to_size(scattered_pairs)], of_one[to_size(scattered_numbers)];
  };
  template <class Block> using Own = typename Block::template Own<Registers>;

  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE BackwardKernel(Arguments const& x, Block& block, Grouping<N> grouping,
                                                  Index sequence, Index head) noexcept
      : x_(x),
        grouping_(grouping),
        tokens_(block.shared(), x.x, grouping, head, x.heads),
        numbers_(reinterpret_cast<T*>(block.shared())),
        sequence_(sequence),
        head_(head) {}

  AVIARY_HOST_DEVICE T* dread(int n) const noexcept { return numbers_ + to_dread + n * row; }
  AVIARY_HOST_DEVICE T* dwritten(int n) const noexcept { return numbers_ + to_dwritten + n * row; }
  AVIARY_HOST_DEVICE T* own(Index g) const noexcept { return numbers_ + to_own + g % Buffers * N * row; }
  AVIARY_HOST_DEVICE Sums sums() const noexcept { return {numbers_ + to_sums, stride}; }
  AVIARY_HOST_DEVICE T* gradient(int f, int m) const noexcept { return numbers_ + to_gradients + (f * N + m) * row; }
  AVIARY_HOST_DEVICE T* head_sum(int f) const noexcept { return numbers_ + to_head_sums + f * row; }
  /// What the warps have of sums; there are two, used by turns.
  AVIARY_HOST_DEVICE T* partial_sums(int which, int of_warp) const noexcept {
    return numbers_ + to_partial + (which * warps + of_warp) * partial;
  }
  AVIARY_HOST_DEVICE T& kept_number(Index g, int thread, int i) const noexcept {
    return numbers_[to_states + (g % Buffers * Tile::numbers + i) * threads + thread];
  }
  AVIARY_HOST_DEVICE StateGradient* state_gradient() const noexcept {
    return x_.dstates != nullptr ? x_.dstates + sequence_ * x_.heads + head_ : nullptr;
  }

  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void walk(Block& block) noexcept {
    Own<Block> own;
    block.each([&](int thread) {
      detail::unroll<Tile::numbers>([&](auto i) { own[thread].d[int(i)] = T(0); });
      if (StateGradient* const d = state_gradient()) Tile::load(own[thread].d, *d, 0, thread);
      for (Index i = thread + to_dread; i < to_states; i += threads) numbers_[i] = T(0);
    });
    tokens_.open(block);
    Index const kept = x_.packing.kept_before(sequence_, x_.every), per_interval = grouping_.per_interval();
    for (Index last = grouping_.count(); last > 0;) {
      Index const interval = (last - 1) / per_interval, first = interval * per_interval;
      forwards(block, own, first, last, x_.kept[(kept + interval) * x_.heads + head_]);
      for (Index g = last; g-- > first;) back(block, own, g, g + 1 < last);
      last = first;
    }
    block.each([&](int thread) {
      if (StateGradient* const d = state_gradient()) Tile::store(own[thread].d, *d, 0, thread);
    });
  }

  /// Prepares the groups of an interval, finds what their tokens wrote, and keeps the states before all of them but the last.
  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void forwards(Block& block, Own<Block>& own, Index first, Index last,
                                                 State const& state) noexcept {
    for (Index g = first; g < last; ++g) tokens_.prepare(block, own, g);
    block.sync();
    for (Index g = first; g < last; ++g) tokens_.complete(block, g);
    block.each([&](int thread) {
      Tile::load(own[thread].s, state, 0, thread);
      if constexpr (own_values)
        for (Index g = first; g < last; ++g)
          for (Index i = thread; i < N * row; i += threads) this->own(g)[i] = tokens_.group(g).value(0)[i];
    });
    block.sync();
    for (Index g = first; g < last; ++g) {
      Group const group = tokens_.group(g);
      if constexpr (erases) {
        if (x_.readings)
          read_kept(block, g);
        else
          read(block, own, group);
        block.sync();
      }
      if (g + 1 == last) break;
      block.each([&](int thread) {
        auto& x = own[thread];
        detail::unroll<Tile::numbers>([&](auto i) { kept_number(g, thread, i) = x.s[int(i)]; });
        load_columns<writes>(x.weights, thread, [&](auto n) { return group.value(n); });
        Tile::template update<form_of<R>, writes>(
            x.s, decay(group), x.weights, [&](auto n) { return group.write(n); }, thread);
      });
    }
  }
  /// The readings of a group, and so what it writes.
  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void read(Block& block, Own<Block>& own, Group group) noexcept {
    block.each([&](int thread) {
      auto& x = own[thread];
      detail::unroll<Columns * N>([&](auto i) { x.sums[int(i)] = T(0); });
      Tile::template dots<N>(
          x.s, [&](auto n) { return group.read(N + n); }, thread, x.sums);
    });
    Tile::template sum_over_keys<N>(block, [&](int thread, int i) -> T& { return own[thread].sums[i]; });
    block.each([&](int thread) {
      Tile::for_own_columns(thread, 0, [&](auto c, Index column, bool, bool chosen) {
        T read[to_size(reads)] = {}, written[to_size(writes)];
        detail::unroll<N>([&](auto m) { read[N + m] = own[thread].sums[c * N + m]; });
        T values[to_size(N)];
        detail::unroll<N>([&](auto m) { values[int(m)] = group.value(m)[column]; });
        detail::meet<form_of<R>, N>(
            group, read, written, [&](auto m) { return values[int(m)]; },
            [&](auto n, T const& number) {
              if (chosen) group.value(n)[column] = number;
            },
            [](auto, T const&) {});
      });
    });
  }
  /// The same from the tape.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void read_kept(Block& block, Index g) noexcept {
    block.each([&](int thread) {
      for (int m = 0; m < N; ++m)
        for (Index i = thread; i < V; i += threads)
          tokens_.group(g).value((rank_one ? N : 0) + m)[i] = number_of(x_.readings, g, m, i);
    });
  }
  /// Number i of token m of a group; zero if there is no such token.
  template <class Sequence>
  AVIARY_HOST_DEVICE AVIARY_INLINE T number_of(Sequence const& x, Index g, int m, Index i) const noexcept {
    if (m >= grouping_.size(g)) return T(0);
    return detail::StoredRow<T>{row_of(x, grouping_.token(g) + m, head_, x_.heads), x.format()}[i];
  }
  AVIARY_HOST_DEVICE static AVIARY_INLINE T const* decay([[maybe_unused]] Group group) noexcept {
    if constexpr (gated)
      return group.w();
    else
      return nullptr;
  }
  /// to[c rows + n] = number c of the thread's columns of row(n).
  template <int rows, class RowOf>
  AVIARY_HOST_DEVICE static AVIARY_INLINE void load_columns(T* to, int thread, RowOf const& row_at) noexcept {
    detail::unroll<rows>([&](auto n) {
      detail::unroll<Columns>([&](auto c) {
        Index const column = Tile::column(thread) + c;
        to[c * rows + n] = column < row ? row_at(n)[column] : T(0);
      });
    });
  }

  /// The gradient of the state back over a group, and the gradients of its tokens.
  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void back(Block& block, Own<Block>& own, Index g, bool is_kept) noexcept {
    Group const group = tokens_.group(g);
    block.each([&](int thread) {
      auto& x = own[thread];
      if (is_kept) detail::unroll<Tile::numbers>([&](auto i) { x.s[int(i)] = kept_number(g, thread, i); });
      for (int m = 0; m < N; ++m)
        for (Index i = thread; i < V; i += threads) dread(m)[i] = number_of(x_.dy, g, m, i);
      detail::unroll<Columns * writes>([&](auto i) { x.sums[int(i)] = T(0); });
      Tile::template dots<writes>(
          x.d, [&](auto n) { return group.write(n); }, thread, x.sums);
    });
    Tile::template sum_over_keys<writes>(block, [&](int thread, int i) -> T& { return own[thread].sums[i]; });
    block.each([&](int thread) {
      Tile::for_own_columns(thread, 0, [&](auto c, Index column, bool, bool chosen) {
        detail::unroll<writes>([&](auto n) {
          if (chosen) dwritten(n)[column] = own[thread].sums[c * writes + n];
        });
      });
    });
    block.sync();
    block.each([&](int thread) {
      for (Index i = thread; i < V; i += threads) Adjoint::reach(group, dread(0), dwritten(0), i);
    });
    block.sync();
    pull_values(block, own, g);
    sum_over_values(block, own, group);
    block.each([&](int thread) {
      auto& x = own[thread];
      load_columns<reads>(x.weights, thread, [&](auto n) { return dread(n); });
      Tile::template update<form_of<R>, reads>(
          x.d, decay(group), x.weights, [&](auto n) { return group.read(n); }, thread);
    });
    block.sync();
    pull_keys(block, own, g);
    block.sync();
    block.each([&](int thread) { put(g, thread); });
  }

  /// f(to, scalar_w, tokens) for a thread: where gradients go, and the group's tokens.
  template <class F> AVIARY_HOST_DEVICE AVIARY_INLINE void with_gradients(Index g, F&& f) const noexcept {
    T* to[to_size(fields * N)];
    detail::unroll<fields * N>([&](auto i) { to[int(i)] = gradient(i / N, i % N); });
    tokens_.with_tokens(g, [&](typename Tokens::Token const* tokens) {
      T scalar_w[to_size(N)] = {};
      if constexpr (gate_of<R> == Gate::scalar) detail::scalar_decays<T, T, N>(tokens, scalar_w);
      f(to, scalar_w, tokens);
    });
  }

  /// Gradients along values; the shares of values in those of numbers and of pairs.
  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void pull_values(Block& block, Own<Block>& own, Index g) noexcept {
    block.each([&](int thread) {
      auto& x = own[thread];
      detail::unroll<scattered_numbers>([&](auto i) { x.of_one[int(i)] = T(0); });
      detail::unroll<scattered_pairs>([&](auto i) { x.pairs[int(i)] = T(0); });
      with_gradients(g, [&](T* const* to, T const* scalar_w, auto const* tokens) {
        for (Index i = thread; i < V; i += threads) {
          Adjoint::pull_values_of(tokens, scalar_w, dwritten(0), row, i, to, x.of_one);
          Adjoint::add_pairs_of(tokens_.group(g), dread(0), this->own(g), i, x.pairs);
        }
      });
    });
    hand_in<scattered_pairs>(
        block, [&](int thread, int i) -> T& { return own[thread].pairs[i]; }, 0);
    if constexpr (has_numbers)
      hand_in<scattered_numbers>(
          block, [&](int thread, int i) -> T& { return own[thread].of_one[i]; }, scattered_pairs);
    block.sync();
    block.each([&](int thread) {
      add_warps(thread, Group::pairs, 0, sums().pairs());
      if constexpr (has_numbers) add_warps(thread, N * fields, scattered_pairs, sums().fields_of_one());
    });
  }
  /// The sums of a warp go to its place in the first of the partial sums.
  template <int n, class Block, class X>
  AVIARY_HOST_DEVICE AVIARY_INLINE void hand_in(Block& block, X&& x, Index place) noexcept {
    using Parts = Scattering<n, warp>;
    sum_and_scatter<n, warp>(block, x);
    block.each([&](int thread) {
      T* const to = partial_sums(0, thread / warp) + place;
      detail::unroll<Parts::count()>([&](auto i) { to[Parts::first(thread) + i] = x(thread, i); });
    });
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE void add_warps(int thread, int n, Index place, T* to) const noexcept {
    for (Index i = thread; i < n; i += threads) {
      T sum = partial_sums(0, 0)[place + i];
      for (int w = 1; w < warps; ++w) sum += partial_sums(0, w)[place + i];
      to[i] = sum;
    }
  }

  /// Sums over values of the state times what reads, of its gradient times what is written, and of both.
  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void sum_over_values(Block& block, Own<Block>& own, Group group) noexcept {
    block.each([&](int thread) {
      load_columns<reads>(own[thread].weights, thread, [&](auto n) { return dread(n); });
      load_columns<writes>(own[thread].sums, thread, [&](auto n) { return group.value(n); });
    });
    constexpr int turns = (Sums::rows + rows_at_once - 1) / rows_at_once;
    detail::unroll<turns>([&](auto turn) {
      constexpr int first = turn * rows_at_once;
      constexpr int which = (turn + 1) % 2;  // pairs are still read from the first
      block.each([&](int thread) {
        auto& x = own[thread];
        detail::unroll<Tile::keys>([&](auto k) {
          detail::unroll<rows_at_once>([&](auto r) {
            constexpr int n = first + r;
            T sum = T(0);
            detail::unroll<Columns>([&](auto c) {
              T const s = x.s[k * Columns + c], d = x.d[k * Columns + c];
              if constexpr (n < reads)
                sum = simd::Pack<T>::fma(s, x.weights[c * reads + n], sum);
              else if constexpr (n < reads + writes)
                sum = simd::Pack<T>::fma(d, x.sums[c * writes + (n - reads)], sum);
              else if constexpr (n < Sums::rows)
                sum = simd::Pack<T>::fma(s, d, sum);
            });
            x.of_keys[k * rows_at_once + r] = sum;
          });
        });
      });
      sum_and_scatter<Tile::keys * rows_at_once, column_lanes, 1, Tile::lanes>(
          block, [&](int thread, int i) -> T& { return own[thread].of_keys[i]; });
      block.each([&](int thread) {
        T* const to = partial_sums(which, thread / warp);
        detail::unroll<KeyParts::count()>([&](auto i) {
          int const n = KeyParts::first(thread) + i;
          Index const key = Tile::key(thread, n / rows_at_once);
          if (KeyParts::chosen(thread) && key < K)
            to[n % rows_at_once * partial_row + key] = own[thread].of_keys[int(i)];
        });
      });
      block.sync();
      block.each([&](int thread) {
        for (int r = 0; r < rows_at_once && first + r < Sums::rows; ++r)
          for (Index j = thread; j < K; j += threads) {
            T sum = T(0);
            for (int w = 0; w < warps; ++w) sum += partial_sums(which, w)[r * partial_row + j];
            sums().read(first + r)[j] = sum;
          }
      });
    });
  }

  /// Gradients along keys, and those of numbers.
  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void pull_keys(Block& block, Own<Block>& own, Index g) noexcept {
    block.each([&](int thread) {
      auto& x = own[thread];
      detail::unroll<scattered_numbers>([&](auto i) { x.of_one[int(i)] = T(0); });
      with_gradients(g, [&](T* const* to, T const* scalar_w, auto const* tokens) {
        for (Index j = thread; j < K; j += threads) Adjoint::pull_keys_of(tokens, scalar_w, sums(), j, to, x.of_one);
      });
    });
    if constexpr (has_numbers) {
      hand_in<scattered_numbers>(
          block, [&](int thread, int i) -> T& { return own[thread].of_one[i]; }, scattered_pairs);
      block.sync();
      block.each([&](int thread) {
        for (Index i = thread; i < N * fields; i += threads) {
          T sum = sums().fields_of_one()[i];
          for (int w = 0; w < warps; ++w) sum += partial_sums(0, w)[scattered_pairs + i];
          gradient(0, static_cast<int>(i))[0] =
              is_number(static_cast<int>(i) / N) ? sum : gradient(0, static_cast<int>(i))[0];
        }
      });
    }
  }
  AVIARY_HOST_DEVICE static AVIARY_INLINE bool is_number(int field) noexcept {
    bool found = false;
    int f = 0;
    detail::for_each_field<R>(detail::Axes<R>{}, [&]<Axis A>(detail::AxisTag<A>, auto) {
      if (f++ == field) found = one_number(A);
    });
    return found;
  }

  /// Hands over a thread's share of the gradients of a group.
  AVIARY_HOST_DEVICE AVIARY_INLINE void put(Index g, int thread) const noexcept {
    Index const token = grouping_.token(g);
    int const count = static_cast<int>(grouping_.size(g));
    int f = 0;
    detail::for_each_field<R>(x_.dx, [&]<Axis A>(detail::AxisTag<A>, auto const& sink) {
      if (sink) {
        Index const size = sink.size();
        if constexpr (per_token(A)) {
          for (int m = 0; m < count; ++m)
            for (Index i = thread; i < size; i += threads) {
              T const number = gradient(f, m)[i];
              if (x_.shared.at[f] < 0)
                store_number(row_of(sink, token + m, head_, x_.heads), sink.format(), i, number);
              else
                x_.workspace[x_.shared.at[f] + ((token + m) * x_.heads + head_) * size + i] = number;
            }
        } else {
          for (Index i = thread; i < size; i += threads)
            for (int m = count; m-- > 0;) head_sum(f)[i] += gradient(f, m)[i];
        }
      }
      ++f;
    });
  }
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void put_head_sums(Block& block) noexcept {
    block.sync();
    block.each([&](int thread) {
      int f = 0;
      detail::for_each_field<R>(x_.dx, [&]<Axis A>(detail::AxisTag<A>, auto const& sink) {
        if constexpr (!per_token(A))
          if (sink)
            for (Index i = thread; i < sink.size(); i += threads)
              x_.workspace[x_.shared.at[f] + (sequence_ * x_.heads + head_) * sink.size() + i] =
                  grouping_.begin < grouping_.end ? head_sum(f)[i] : T(0);
        ++f;
      });
    });
  }

  Arguments const& x_;
  Grouping<N> grouping_;
  Tokens tokens_;
  T* numbers_;
  Index sequence_, head_;
};

/// Adds up what blocks left in the workspace: the gradient of a field that heads share is the sum over them, and of one that a head has
/// once over sequences first. A thread takes a number.
template <class M> struct SumKernel {
  using R = typename M::Rule;
  using T = typename M::T;
  static constexpr int threads = 128;
  static constexpr std::size_t shared_bytes = 0;

  struct Arguments {
    typename M::Gradients dx;
    detail::Packing packing;
    Index heads;
    T const* workspace;
    SharedGradients<M> shared;
  };
  /// Numbers of all sums.
  AVIARY_HOST_DEVICE static Index count(Arguments const& x) noexcept {
    Index n = 0;
    int f = 0;
    detail::for_each_field<R>(x.dx, [&](auto, auto const& sink) {
      if (x.shared.at[f++] >= 0) n += rows(x, sink) * sink.heads() * sink.size();
    });
    return n;
  }
  static Index blocks(Arguments const& x) noexcept { return (count(x) + threads - 1) / threads; }

  template <class Block> AVIARY_HOST_DEVICE static void run(Block& block, Arguments const& x, Index index) noexcept {
    block.each([&](int thread) {
      Index n = index * threads + thread;
      int f = 0;
      detail::for_each_field<R>(x.dx, [&]<Axis A>(detail::AxisTag<A>, auto const& sink) {
        Index const from = x.shared.at[f++], size = sink.size();
        if (from < 0) return;
        Index const own = rows(x, sink) * sink.heads() * size;
        if (0 <= n && n < own) {
          Index const i = n % size, head = n / size % sink.heads(), token = n / size / sink.heads();
          Index const share = x.heads / sink.heads(), turns = per_token(A) ? 1 : x.packing.sequences();
          T sum = T(0);
          for (Index turn = 0; turn < turns; ++turn)
            for (Index h = head * share; h < (head + 1) * share; ++h)
              sum += x.workspace[from + ((per_token(A) ? token : turn) * x.heads + h) * size + i];
          store_number(row_of(sink, token, head, sink.heads()), sink.format(), i, sum);
        }
        n -= own;
      });
    });
  }

 private:
  /// Tokens of a gradient; one, for those of heads.
  template <class Gradient> AVIARY_HOST_DEVICE static Index rows(Arguments const&, Gradient const& sink) noexcept {
    return sink.tokens();
  }
};

}  // namespace AVIARY_NAMESPACE::cuda
