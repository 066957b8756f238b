#pragma once
/// The gradients of the matrix recurrence as kernels. A block takes one head of one sequence from its last kept state to its first, or
/// some columns of its state: it prepares the groups between two kept states, computes the states before them forwards again, and
/// walks back with the state and its gradient in the threads' registers (matrix/adjoint.hpp has the chain rule). A block with all
/// columns goes on to gradients along keys; where several share a head, a second kernel adds up what they found and does so, in
/// rounds that a workspace bounds. What heads share of an input, and what belongs to a head for all time, another kernel adds up.
/// Sums are in the order of columns, heads and sequences, never in that of the schedule.
#include "aviary/cuda/tile.hpp"
#include "aviary/matrix/memory.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// Where the gradients of fields that blocks cannot add up lie in a workspace: (tokens, heads, size) of a field that heads share,
/// (sequences, heads, size) of one that a head has once.
template <class M> struct SharedGradients {
  using R = typename M::Rule;
  static constexpr int fields = detail::field_count<R>;

  Index at[to_size(fields)];  ///< the first number of a field, or -1
  Index numbers = 0;

  /// Of a call with these inputs and so many heads.
  SharedGradients(typename M::Inputs const& x, Index sequences, Index heads) noexcept {
    int f = 0;
    detail::for_each_field<R>(x, [&]<Axis A>(detail::AxisTag<A>, auto const& field) {
      bool const shared = !per_token(A) || field.heads() < heads;
      at[f++] = shared ? numbers : Index{-1};
      if (shared) numbers += (per_token(A) ? field.tokens() : sequences) * heads * field.size();
    });
  }
};

/// A call, for all of its kernels. The intervals of a sequence, between kept states, are taken in rounds from its end on.
template <class M> struct BackwardArguments {
  typename M::Inputs x;
  Source<M::values> dy;
  Sink<M::values> readings;  ///< of the tape, or none
  typename M::Gradients dx;
  detail::Packing packing;
  Index heads;
  typename M::State const* kept;
  Index every;
  typename M::StateGradient* dstates;  ///< (sequences, heads): of the states after the round in, before it out; or null
  bool given;                          ///< whether those after the first round are; else they are zero
  typename M::T* workspace;            ///< with the shared gradients
  typename M::T* handed_over;          ///< sums of a round, if several blocks share a head
  SharedGradients<M> shared;
  Index round_intervals, round;  ///< of a round; the number of this one

  AVIARY_HOST_DEVICE Index intervals(Index sequence) const noexcept {
    return (packing.end(sequence) - packing.begin(sequence) + every - 1) / every;
  }
  AVIARY_HOST_DEVICE typename M::StateGradient* state_gradient(Index sequence, Index head) const noexcept {
    return dstates != nullptr ? dstates + sequence * heads + head : nullptr;
  }
  /// The intervals [first, last) of a sequence in this round.
  AVIARY_HOST_DEVICE Index last(Index sequence) const noexcept {
    Index const n = intervals(sequence) - round * round_intervals;
    return n < 0 ? 0 : n;
  }
  AVIARY_HOST_DEVICE Index first(Index sequence) const noexcept {
    Index const n = last(sequence) - round_intervals;
    return n < 0 ? 0 : n;
  }
};

/// The gradients of a group's tokens, found by the threads of a block in shared memory, from the sums over values on. T numbers
/// there: `numbers` of them.
template <class M, class Tokens, int threads> class TokenGradients {
  using R = typename M::Rule;
  using T = typename M::T;
  static constexpr int N = detail::BackwardRoom<M>::N;
  static constexpr int fields = detail::field_count<R>;
  static constexpr Index row = Tokens::row, stride = padded<T>(M::keys);
  static constexpr int warps = threads / warp;

 public:
  using Adjoint = detail::Adjoint<R, T, T, Tokens::row, N>;
  using Sums = detail::ValueSums<R, T, N>;
  static constexpr bool has_numbers = detail::with_members<fields>(detail::Axes<R>{}, detail::AnyNumber{});
  static constexpr int scattered_numbers = (N * fields + warp - 1) / warp * warp;
  static constexpr Index sums_size = Sums::size(stride);
  static constexpr Index numbers = sums_size + fields * N * row + fields * row + warps * scattered_numbers;

  AVIARY_HOST_DEVICE TokenGradients(T* shared, BackwardArguments<M> const& x, Tokens const& tokens,
                                    typename Tokens::Order grouping, Index sequence, Index head) noexcept
      : x_(x), tokens_(tokens), grouping_(grouping), numbers_(shared), sequence_(sequence), head_(head) {}

  AVIARY_HOST_DEVICE Sums sums() const noexcept { return {numbers_, stride}; }
  /// Row m of field f.
  AVIARY_HOST_DEVICE T* gradient(int f, int m) const noexcept { return numbers_ + sums_size + (f * N + m) * row; }

  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void clear(Block& block) const noexcept {
    block.each([&](int thread) {
      for (Index i = thread; i < numbers; i += threads) numbers_[i] = T(0);
    });
  }
  /// Where gradients go: row f N + m is that of field f and token m.
  struct Rows {
    T* first;
    AVIARY_HOST_DEVICE AVIARY_INLINE T* operator[](int n) const noexcept { return first + n * row; }
  };
  /// f(to, scalar_w, tokens) for a thread: where gradients go, and the group's tokens.
  template <class F> AVIARY_HOST_DEVICE AVIARY_INLINE void with_tokens(Index g, F&& f) const noexcept {
    tokens_.with_tokens(g, [&](typename Tokens::Token const* tokens) {
      T scalar_w[to_size(N)] = {};
      if constexpr (gate_of<R> == Gate::scalar) detail::scalar_decays<T, T, N>(tokens, scalar_w);
      f(Rows{gradient(0, 0)}, scalar_w, tokens);
    });
  }
  /// x(thread, i): a thread's share in the gradients of numbers. The sums of warps are handed in; after a sync number i has
  /// sum_of_numbers(i).
  template <class Block, class X>
  AVIARY_HOST_DEVICE AVIARY_INLINE void hand_in_numbers(Block& block, X&& x) const noexcept {
    using Parts = Scattering<scattered_numbers, warp>;
    sum_and_scatter<scattered_numbers, warp>(block, x);
    block.each([&](int thread) {
      T* const to = partial(thread / warp);
      detail::unroll<Parts::count()>([&](auto i) { to[Parts::first(thread) + i] = x(thread, i); });
    });
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE T sum_of_numbers(Index i) const noexcept {
    T sum = partial(0)[i];
    for (int w = 1; w < warps; ++w) sum += partial(w)[i];
    return sum;
  }

  /// Gradients along keys, and those of numbers, from sums(). numbers(thread): room of a thread for scattered_numbers.
  template <class Block, class Numbers>
  AVIARY_HOST_DEVICE AVIARY_INLINE void pull_keys(Block& block, Index g, Numbers&& of_one) const noexcept {
    block.each([&](int thread) {
      T* const own = of_one(thread);
      detail::unroll<scattered_numbers>([&](auto i) { own[int(i)] = T(0); });
      with_tokens(g, [&](auto const& to, T const* scalar_w, auto const* tokens) {
        for (Index j = thread; j < M::keys; j += threads) Adjoint::pull_keys_of(tokens, scalar_w, sums(), j, to, own);
      });
    });
    if constexpr (has_numbers) {
      hand_in_numbers(block, [&](int thread, int i) -> T& { return of_one(thread)[i]; });
      block.sync();
      block.each([&](int thread) {
        int f = 0;
        detail::for_each_field<R>(detail::Axes<R>{}, [&]<Axis A>(detail::AxisTag<A>, auto) {
          if constexpr (one_number(A))
            for (int m = thread; m < N; m += threads)
              *gradient(f, m) = sums().fields_of_one()[f * N + m] + sum_of_numbers(f * N + m);
          ++f;
        });
      });
    }
    block.sync();
  }

  /// Hands over the gradients of a group: of the fields along values, numbers [first, last), or of all others.
  template <bool along_values, class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void put(Block& block, Index g, Index first, Index last) const noexcept {
    block.each([&](int thread) {
      Index const token = grouping_.token(g);
      int const count = static_cast<int>(grouping_.size(g));
      int f = 0;
      detail::for_each_field<R>(x_.dx, [&]<Axis A>(detail::AxisTag<A>, auto const& sink) {
        if constexpr ((A == Axis::value) == along_values) {
          Index const size = sink.size(), begin = along_values ? first : 0, end = along_values ? last : size;
          for (Index i = begin + thread; i < end && sink; i += threads) {
            if constexpr (per_token(A)) {
              for (int m = 0; m < count; ++m)
                if (x_.shared.at[f] < 0)
                  store_number(row_of(sink, token + m, head_, x_.heads), sink.format(), i, gradient(f, m)[i]);
                else
                  x_.workspace[x_.shared.at[f] + ((token + m) * x_.heads + head_) * size + i] = gradient(f, m)[i];
            } else {
              for (int m = count; m-- > 0;) head_sum(f)[i] += gradient(f, m)[i];
            }
          }
        }
        ++f;
      });
    });
  }
  /// Goes on with the sums of the rounds before, of fields that a head has once; and hands them over.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void take_head_sums(Block& block) const noexcept {
    if (x_.round == 0) return;
    for_head_sums(block, [](T& sum, T const& before) { sum = before; });
  }
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void put_head_sums(Block& block) const noexcept {
    for_head_sums(block, [](T const& sum, T& to) { to = sum; });
  }

 private:
  /// f(number here, number in the workspace)
  template <class Block, class F>
  AVIARY_HOST_DEVICE AVIARY_INLINE void for_head_sums(Block& block, F&& f) const noexcept {
    block.each([&](int thread) {
      int field = 0;
      detail::for_each_field<R>(x_.dx, [&]<Axis A>(detail::AxisTag<A>, auto const& sink) {
        if constexpr (!per_token(A))
          for (Index i = thread; i < sink.size() && sink; i += threads)
            f(head_sum(field)[i], x_.workspace[x_.shared.at[field] + (sequence_ * x_.heads + head_) * sink.size() + i]);
        ++field;
      });
    });
  }
  AVIARY_HOST_DEVICE T* head_sum(int f) const noexcept { return gradient(fields, 0) + f * row; }
  AVIARY_HOST_DEVICE T* partial(int of_warp) const noexcept { return head_sum(fields) + of_warp * scattered_numbers; }

  BackwardArguments<M> const& x_;
  Tokens tokens_;  // a copy: a reference would keep both objects out of registers
  typename Tokens::Order grouping_;
  T* numbers_;
  Index sequence_, head_;
};

/// How blocks of `Width` columns share out heads, and what they hand over to PullKernel, if they do not go on with it themselves.
template <class M, int Width, bool HandsOver> struct BackwardSlices {
  using Arguments = BackwardArguments<M>;
  static constexpr bool hands_over = HandsOver;
  /// Blocks that share a head.
  static constexpr Index slices = (M::values + Width - 1) / Width;
  static Index blocks(Arguments const& x) noexcept { return x.packing.sequences() * x.heads * slices; }
  /// The head and the first column of a block.
  struct Place {
    Index sequence, head, first;
    AVIARY_HOST_DEVICE Place(Arguments const& x, Index block) noexcept
        : sequence(block / slices / x.heads), head(block / slices % x.heads), first(block % slices * Width) {}
  };
  /// Numbers that the blocks of a head hand over for an interval.
  AVIARY_HOST_DEVICE static constexpr Index handed_over(Index every) noexcept {
    constexpr Index N = detail::BackwardRoom<M>::N;
    return hands_over ? (every + N - 1) / N * slices * sums_size : 0;
  }
  /// The sums of slice 0 of a group, which is number `local` of those in this round; those of other slices follow.
  AVIARY_HOST_DEVICE static typename M::T* sums_of(Arguments const& x, Index sequence, Index head,
                                                   Index local) noexcept {
    Index const unit = sequence * x.heads + head;
    return x.handed_over + unit * x.round_intervals * handed_over(x.every) + local * slices * sums_size;
  }

 private:
  static constexpr Index sums_size = detail::BackwardRoom<M>::Sums::size(padded<typename M::T>(M::keys));
};

/// The walk back by blocks of `Width` columns, each thread having `Columns` of them. A tape keeps a state every 4 `Buffers` tokens
/// at least.
template <class M, int Width, int Columns, int Buffers = 4>
class BackwardKernel : public BackwardSlices<M, Width, (M::values > Width)> {
  using Slices = BackwardSlices<M, Width, (M::values > Width)>;
  using R = typename M::Rule;
  using T = typename M::T;
  using State = typename M::State;
  using StateGradient = typename M::StateGradient;
  static constexpr int N = detail::BackwardRoom<M>::N;
  static constexpr Index K = M::keys, V = M::values;
  using Tokens = Groups<M, Grouping<N>, Buffers, Buffers>;
  using Group = typename Tokens::Group;
  using Tile = cuda::Tile<T, K, V, Tokens::row, Width, Columns>;
  using Gradients = TokenGradients<M, Tokens, Tile::threads>;
  using Adjoint = typename Gradients::Adjoint;
  using Sums = typename Gradients::Sums;
  static constexpr int reads = Group::reads, writes = Group::writes;
  static constexpr bool erases = Group::erases, rank_one = Group::rank_one, gated = gate_of<R> != Gate::none;
  static constexpr bool own_values = Adjoint::needs_own_values;

 public:
  using Arguments = BackwardArguments<M>;
  static constexpr int threads = Tile::threads;
  /// Tokens between two kept states, at most.
  static constexpr Index longest_interval = Buffers * N;

 private:
  static constexpr int warps = threads / warp;
  static constexpr Index row = Tokens::row, stride = padded<T>(K);
  /// Rows of sums over values that are found at once, and how lanes with other columns share out a thread's.
  static constexpr int rows_at_once = 4, column_lanes = warp / Tile::lanes;
  using KeyParts = Scattering<Tile::keys * rows_at_once, column_lanes, 1, Tile::lanes>;
  static constexpr int scattered_pairs = (Group::pairs + warp - 1) / warp * warp;

  // Shared memory, in numbers.
  static constexpr Index to_gradients = (Tokens::shared_bytes + 15) / 16 * 16 / static_cast<Index>(sizeof(T));
  static constexpr Index to_dread = to_gradients + Gradients::numbers, to_dwritten = to_dread + reads * row;
  static constexpr Index to_own = to_dwritten + writes * row;
  static constexpr Index to_partial = to_own + (own_values ? Buffers * N * row : 0);
  static constexpr Index partial = rows_at_once * stride > scattered_pairs ? rows_at_once* stride : scattered_pairs;
  static constexpr Index to_states = to_partial + 2 * warps * partial;
  static constexpr Index numbers = to_states + (Buffers - 1) * Tile::numbers * threads;

 public:
  static constexpr std::size_t shared_bytes = to_size(numbers) * sizeof(T);

  template <class Block> AVIARY_HOST_DEVICE static void run(Block& block, Arguments const& x, Index index) noexcept {
    typename Slices::Place const at(x, index);
    BackwardKernel pass(x, block, {x.packing.begin(at.sequence), x.packing.end(at.sequence), x.every}, at.sequence,
                        at.head, at.first);
    pass.walk(block);
  }

 private:
  struct Registers : Tokens::Registers {
    typename Tile::Numbers s, d;
    T sums[to_size(Columns * (reads > writes ? reads : writes))],
        weights[to_size(Columns * (reads > writes ? reads : writes))];
    T of_keys[to_size(Tile::keys * rows_at_once)];
    T pairs[to_size(scattered_pairs)], of_one[to_size(Gradients::scattered_numbers)];
  };
  template <class Block> using Own = typename Block::template Own<Registers>;

  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE BackwardKernel(Arguments const& x, Block& block, Grouping<N> grouping,
                                                  Index sequence, Index head, Index first) noexcept
      : x_(x),
        grouping_(grouping),
        tokens_(block.shared(), x.x, grouping, head, x.heads),
        numbers_(reinterpret_cast<T*>(block.shared())),
        gradients_(numbers_ + to_gradients, x, tokens_, grouping, sequence, head),
        sequence_(sequence),
        head_(head),
        first_(first),
        last_(first + Width < V ? first + Width : V) {}

  AVIARY_HOST_DEVICE T* dread(int n) const noexcept { return numbers_ + to_dread + n * row; }
  AVIARY_HOST_DEVICE T* dwritten(int n) const noexcept { return numbers_ + to_dwritten + n * row; }
  AVIARY_HOST_DEVICE T* own(Index g) const noexcept { return numbers_ + to_own + g % Buffers * N * row; }
  AVIARY_HOST_DEVICE Sums sums() const noexcept { return gradients_.sums(); }
  /// What the warps have of sums; there are two, used by turns.
  AVIARY_HOST_DEVICE T* partial_sums(int which, int of_warp) const noexcept {
    return numbers_ + to_partial + (which * warps + of_warp) * partial;
  }
  AVIARY_HOST_DEVICE T& kept_number(Index g, int thread, int i) const noexcept {
    return numbers_[to_states + (g % Buffers * Tile::numbers + i) * threads + thread];
  }

  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void walk(Block& block) noexcept {
    Own<Block> own;
    gradients_.clear(block);
    tokens_.clear(block);
    block.each([&](int thread) {
      detail::unroll<Tile::numbers>([&](auto i) { own[thread].d[int(i)] = T(0); });
      if (StateGradient* const d = x_.state_gradient(sequence_, head_); d != nullptr && (x_.given || x_.round > 0))
        load_state<Tile>(own[thread].d, *d, first_, thread);
      for (Index i = thread + to_dread; i < to_states; i += threads) numbers_[i] = T(0);
    });
    Index const kept = x_.packing.kept_before(sequence_, x_.every), per_interval = grouping_.per_interval();
    Index const first_interval = x_.first(sequence_), groups = grouping_.count();
    for (Index interval = x_.last(sequence_); interval-- > first_interval;) {
      Index const first = interval * per_interval;
      Index const last = first + per_interval < groups ? first + per_interval : groups;
      forwards(block, own, first, last, x_.kept[(kept + interval) * x_.heads + head_]);
      for (Index g = last; g-- > first;) {
        back(block, own, g, g + 1 < last);
        gradients_.template put<true>(block, g, first_, last_);
        if constexpr (!Slices::hands_over) {
          gradients_.pull_keys(block, g, [&](int thread) { return own[thread].of_one; });
          gradients_.template put<false>(block, g, 0, 0);
        } else {
          hand_over(block, g - first_interval * per_interval);
        }
      }
    }
    block.each([&](int thread) {
      if (StateGradient* const d = x_.state_gradient(sequence_, head_))
        store_state<Tile>(own[thread].d, *d, first_, thread);
    });
    if constexpr (!Slices::hands_over) gradients_.put_head_sums(block);
  }
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void hand_over(Block& block, Index local) noexcept {
    T* const to = Slices::sums_of(x_, sequence_, head_, local) + first_ / Width * Gradients::sums_size;
    block.each([&](int thread) {
      for (Index i = thread; i < Gradients::sums_size; i += threads) to[i] = sums().numbers[i];
    });
    block.sync();
  }

  /// Prepares the groups of an interval, finds what their tokens wrote, and keeps the states before all of them but the last.
  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void forwards(Block& block, Own<Block>& own, Index first, Index last,
                                                 State const& state) noexcept {
    tokens_.fetch(block, first, last);
    for (Index g = first; g < last; ++g) tokens_.prepare(block, own, g);
    block.sync();
    for (Index g = first; g < last; ++g) tokens_.complete(block, g);
    block.each([&](int thread) {
      load_state<Tile>(own[thread].s, state, first_, thread);
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
      Tile::for_own_columns(thread, first_, [&](auto c, Index column, bool, bool chosen) {
        if (!chosen) return;
        T read[to_size(reads)] = {}, written[to_size(writes)];
        detail::unroll<N>([&](auto m) { read[N + m] = own[thread].sums[c * N + m]; });
        detail::meet<form_of<R>, N>(
            group, read, written, [&](auto m) { return group.value(m)[column]; },
            [&](auto n, T const& number) { group.value(n)[column] = number; }, [](auto, T const&) {});
      });
    });
  }
  /// The same from the tape.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void read_kept(Block& block, Index g) noexcept {
    block.each([&](int thread) {
      for (int m = 0; m < N; ++m)
        for (Index i = first_ + thread; i < last_; i += threads)
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
  AVIARY_HOST_DEVICE AVIARY_INLINE void load_columns(T* to, int thread, RowOf const& row_at) const noexcept {
    detail::unroll<rows>([&](auto n) {
      detail::unroll<Columns>([&](auto c) {
        Index const column = first_ + Tile::column(thread) + c;
        to[c * rows + n] = column < last_ ? row_at(n)[column] : T(0);
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
        for (Index i = first_ + thread; i < last_; i += threads) dread(m)[i] = number_of(x_.dy, g, m, i);
      detail::unroll<Columns * writes>([&](auto i) { x.sums[int(i)] = T(0); });
      Tile::template dots<writes>(
          x.d, [&](auto n) { return group.write(n); }, thread, x.sums);
    });
    Tile::template sum_over_keys<writes>(block, [&](int thread, int i) -> T& { return own[thread].sums[i]; });
    block.each([&](int thread) {
      Tile::for_own_columns(thread, first_, [&](auto c, Index column, bool, bool chosen) {
        detail::unroll<writes>([&](auto n) {
          if (chosen) dwritten(n)[column] = own[thread].sums[c * writes + n];
        });
      });
    });
    block.sync();
    block.each([&](int thread) {
      for (Index i = first_ + thread; i < last_; i += threads) Adjoint::reach(group, dread(0), dwritten(0), i);
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
  }

  /// Gradients along values; the shares of values in those of numbers and of pairs.
  template <class Block>
  AVIARY_HOST_DEVICE AVIARY_INLINE void pull_values(Block& block, Own<Block>& own, Index g) noexcept {
    using Parts = Scattering<scattered_pairs, warp>;
    block.each([&](int thread) {
      auto& x = own[thread];
      detail::unroll<Gradients::scattered_numbers>([&](auto i) { x.of_one[int(i)] = T(0); });
      detail::unroll<scattered_pairs>([&](auto i) { x.pairs[int(i)] = T(0); });
      gradients_.with_tokens(g, [&](auto const& to, T const* scalar_w, auto const* tokens) {
        for (Index i = first_ + thread; i < last_; i += threads) {
          Adjoint::pull_values_of(tokens, scalar_w, dwritten(0), row, i, to, x.of_one);
          Adjoint::add_pairs_of(tokens_.group(g), dread(0), this->own(g), i, x.pairs);
        }
      });
    });
    sum_and_scatter<scattered_pairs, warp>(block, [&](int thread, int i) -> T& { return own[thread].pairs[i]; });
    block.each([&](int thread) {
      T* const to = partial_sums(0, thread / warp);
      detail::unroll<Parts::count()>([&](auto i) { to[Parts::first(thread) + i] = own[thread].pairs[int(i)]; });
    });
    if constexpr (Gradients::has_numbers)
      gradients_.hand_in_numbers(block, [&](int thread, int i) -> T& { return own[thread].of_one[i]; });
    block.sync();
    block.each([&](int thread) {
      for (Index i = thread; i < Group::pairs; i += threads) {
        T sum = partial_sums(0, 0)[i];
        for (int w = 1; w < warps; ++w) sum += partial_sums(0, w)[i];
        sums().pairs()[i] = sum;
      }
      if constexpr (Gradients::has_numbers)
        for (Index i = thread; i < N * detail::field_count<R>; i += threads)
          sums().fields_of_one()[i] = gradients_.sum_of_numbers(i);
    });
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
          if (KeyParts::chosen(thread) && key < K) to[n % rows_at_once * stride + key] = own[thread].of_keys[int(i)];
        });
      });
      block.sync();
      block.each([&](int thread) {
        for (int r = 0; r < rows_at_once && first + r < Sums::rows; ++r)
          for (Index j = thread; j < K; j += threads) {
            T sum = T(0);
            for (int w = 0; w < warps; ++w) sum += partial_sums(which, w)[r * stride + j];
            sums().read(first + r)[j] = sum;
          }
      });
    });
  }

  Arguments const& x_;
  Grouping<N> grouping_;
  Tokens tokens_;
  T* numbers_;
  Gradients gradients_;
  Index sequence_, head_, first_, last_;
};

/// Whether one of the axes belongs to a head for all time.
struct AnyOfHead {
  template <class... Tags> AVIARY_HOST_DEVICE constexpr bool operator()(Tags...) const {
    return (!per_token(Tags::value) || ...);
  }
};

/// Gradients along keys where blocks of `Walk`, a kernel that walks back, hand over sums: a block takes one head of one sequence through
/// some groups of a round; through all of them where gradients belong to a head for all time, and are added up on the way.
template <class M, class Walk> class PullKernel {
  using R = typename M::Rule;
  using T = typename M::T;
  static constexpr int N = detail::BackwardRoom<M>::N;
  using Tokens = Groups<M, Grouping<N>, 0, 3>;

 public:
  using Arguments = BackwardArguments<M>;
  static constexpr int threads = static_cast<int>((M::keys + warp - 1) / warp * warp);

 private:
  using Gradients = TokenGradients<M, Tokens, threads>;
  static constexpr Index to_gradients = (Tokens::shared_bytes + 15) / 16 * 16 / static_cast<Index>(sizeof(T));
  struct Registers {
    T of_one[to_size(Gradients::scattered_numbers)];
  };
  static constexpr bool has_head_fields = detail::with_members<detail::field_count<R>>(detail::Axes<R>{}, AnyOfHead{});
  static constexpr Index part_groups = 16;
  AVIARY_HOST_DEVICE static Index parts(Arguments const& x) noexcept {
    if (has_head_fields) return 1;
    Index const groups = x.round_intervals * ((x.every + N - 1) / N);
    return (groups + part_groups - 1) / part_groups;
  }

 public:
  static constexpr std::size_t shared_bytes = to_size(to_gradients + Gradients::numbers) * sizeof(T);
  static Index blocks(Arguments const& x) noexcept { return x.packing.sequences() * x.heads * parts(x); }

  template <class Block> AVIARY_HOST_DEVICE static void run(Block& block, Arguments const& x, Index index) noexcept {
    Index const part = index % parts(x), head = index / parts(x) % x.heads, sequence = index / parts(x) / x.heads;
    Grouping<N> const grouping{x.packing.begin(sequence), x.packing.end(sequence), x.every};
    Tokens tokens(block.shared(), x.x, grouping, head, x.heads);
    Gradients const gradients(reinterpret_cast<T*>(block.shared()) + to_gradients, x, tokens, grouping, sequence, head);
    typename Block::template Own<Registers> own;
    gradients.clear(block);
    tokens.clear(block);
    gradients.take_head_sums(block);
    Index const first = x.first(sequence) * grouping.per_interval(), groups = grouping.count();
    Index const end = x.last(sequence) * grouping.per_interval(), last = end < groups ? end : groups;
    Index const begin = first + part * part_groups, stop = begin + part_groups;
    for (Index g = parts(x) == 1 || last < stop ? last : stop; g-- > begin;) {
      tokens.fetch(block, g, g + 1);
      T const* const from = Walk::sums_of(x, sequence, head, g - first);
      block.each([&](int thread) {
        for (Index i = thread; i < Gradients::sums_size; i += threads) {
          T sum = from[i];
          for (Index slice = 1; slice < Walk::slices; ++slice) sum += from[slice * Gradients::sums_size + i];
          gradients.sums().numbers[i] = sum;
        }
      });
      block.sync();
      gradients.pull_keys(block, g, [&](int thread) { return own[thread].of_one; });
      gradients.template put<false>(block, g, 0, 0);
    }
    gradients.put_head_sums(block);
  }
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
      if (x.shared.at[f++] >= 0) n += sums_of(sink);
    });
    return n;
  }
  static Index blocks(Arguments const& x) noexcept { return (count(x) + threads - 1) / threads; }

  template <class Block> AVIARY_HOST_DEVICE static void run(Block& block, Arguments const& x, Index index) noexcept {
    block.each([&](int thread) {
      Index n = index * threads + thread;
      int f = 0;
      detail::for_each_field<R>(x.dx, [&]<Axis A>(detail::AxisTag<A>, auto const& sink) {
        Index const from = x.shared.at[f++], size = sink.size(), own = sums_of(sink);
        if (from < 0 || own == 0) return;
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
  /// Numbers of a gradient; none if it is not wanted.
  template <class Gradient> AVIARY_HOST_DEVICE static Index sums_of(Gradient const& sink) noexcept {
    return sink.tokens() * sink.heads() * sink.size();
  }
};

}  // namespace AVIARY_NAMESPACE::cuda
