#pragma once
/// A stretch of tokens as one affine map of the state, S' = S A + B. Segments compose associatively, so that the states
/// between stretches follow from a scan: one long sequence on many threads, or on many machines.
#include <algorithm>
#include <cmath>

#include "aviary/core/executor.hpp"
#include "aviary/core/packing.hpp"
#include "aviary/dense/product.hpp"
#include "aviary/matrix/tokens.hpp"

namespace AVIARY_NAMESPACE {

/// With an erasure A is a K x K matrix. Both lie as their transposes, like states: a.s[j][m] = A[m][j].
template <class T, Index K, Index V> struct DenseSegment {
  State<T, K, K> a;
  State<T, K, V> b;
  friend bool operator==(DenseSegment const&, DenseSegment const&) = default;
};

/// Without one A is diagonal, exp(log_a): the sum of the decays' logarithms.
template <class T, Index K, Index V> struct DiagonalSegment {
  State<T, 1, K> log_a;
  State<T, K, V> b;
  friend bool operator==(DiagonalSegment const&, DiagonalSegment const&) = default;
};

namespace detail {

template <class R, class T, Index K, Index V>
using SegmentOf = std::conditional_t<erases<R>(), DenseSegment<T, K, V>, DiagonalSegment<T, K, V>>;

template <class T, Index K, Index V> void clear(StateView<T, K, V> s) noexcept {
  std::fill(s.s, s.s + s.keys() * s.stride(), T(0));
}

template <class T, Index K, Index V> void set_identity(DenseSegment<T, K, V>& segment) noexcept {
  auto const a = segment.a.view();
  for (Index j = 0; j < a.keys(); ++j)
    for (Index m = 0; m < a.values(); ++m) a(j, m) = T(j == m);
  clear(segment.b.view());
}
template <class T, Index K, Index V> void set_identity(DiagonalSegment<T, K, V>& segment) noexcept {
  clear(segment.log_a.view());
  clear(segment.b.view());
}

/// to += from A for the rows of `from` as key-major states (K x N).
template <class P, class T, Index K, Index V, class From, class To>
void times_a(DenseSegment<T, K, V> const& segment, MatView<From> from, MatView<To> to) noexcept {
  add_product<P>(to, Coefficients<T>(as_matrix(segment.a.view())), from);
}
template <class P, class T, Index K, Index V, class From, class To>
void times_a(DiagonalSegment<T, K, V> const& segment, MatView<From> from, MatView<To> to) noexcept {
  for (Index j = 0; j < from.rows(); ++j) {
    T const a = std::exp(segment.log_a.view()(0, j));
    simd::for_packs<P>(0, from.columns(), [&]<class Q>(Index i) {
      using L = simd::Pack<Q>;
      Q const x = simd::load_part<Q>(&from(j, 0), i, from.columns());
      simd::store_part(&to(j, 0), i, to.columns(), L::fma(x, Q(a), simd::load_part<Q>(&to(j, 0), i, to.columns())));
    });
  }
}

/// to += from A^T, likewise.
template <class P, class T, Index K, Index V, class From, class To>
void times_a_transposed(DenseSegment<T, K, V> const& segment, MatView<From> from, MatView<To> to) noexcept {
  add_product<P>(to, Coefficients<T>(as_matrix(segment.a.view())).transposed(), from);
}
template <class P, class T, Index K, Index V, class From, class To>
void times_a_transposed(DiagonalSegment<T, K, V> const& segment, MatView<From> from, MatView<To> to) noexcept {
  times_a<P>(segment, from, to);
}

template <class From, class To> void copy_matrix(MatView<From> from, MatView<To> to) noexcept {
  for (Index j = 0; j < from.rows(); ++j)
    for (Index i = 0; i < from.columns(); ++i) to(j, i) = narrow<std::remove_cv_t<To>>(widen(from(j, i)));
}

/// f(sequence, head, begin, end) for stretches of tokens of all sequences, as tasks that take some heads each. In a stretch all
/// heads of a task take their turns, as in `forward`: their rows lie side by side. A sequence has one stretch at least.
template <class E, class F>
void for_head_stretches(Packing const& packing, Index heads, Index multiplies, E& executor, F&& f) {
  if (heads == 0) return;
  Cut const cut = Cut::of(packing.sequences(), heads, 1, 1, tasks_worth(executor, multiplies));
  run_tasks(executor, packing.sequences() * cut.head_tasks, [&](Index task) noexcept {
    Index const sequence = task / cut.head_tasks, end = packing.end(sequence);
    Index const first = task % cut.head_tasks * cut.heads_per_task, last = std::min(heads, first + cut.heads_per_task);
    Index t = packing.begin(sequence);
    do {
      constexpr Index most = 96;  // whole groups of any size
      Index const next = std::min(t + most, end);
      for (Index h = first; h < last; ++h) f(sequence, h, t, next);
      t = next;
    } while (t < end);
  });
}

/// What a stretch of tokens does, head by head: see MatrixMemory::summarize.
template <class M, class P> class SegmentPass {
  using R = typename M::Rule;
  using T = typename M::T;
  using Call = typename M::SummarizeCall;
  static constexpr bool dense = R::erase != Erase::none;

 public:
  template <class E> static void run(Call const& call, E& executor) {
    Packing const packing{call.offsets, input_tokens<R>(call.x)};
    if (call.segments.empty()) return;
    Index const heads = static_cast<Index>(call.segments.size()) / packing.sequences();
    auto const b = call.segments.front().b.view();
    Index const multiplies = 3 * packing.tokens * heads * b.keys() * (b.values() + (dense ? b.keys() : 0));
    for_head_stretches(packing, heads, multiplies, executor, [&](Index sequence, Index h, Index begin, Index end) {
      auto& segment = call.segments[to_size(sequence * heads + h)];
      if (begin == packing.begin(sequence)) set_identity(segment);
      SegmentPass{call, h, heads}.stretch(segment, begin, end);
    });
  }

 private:
  SegmentPass(Call const& call, Index head, Index heads) noexcept : call_(call), head_(head), heads_(heads) {}

  void stretch(typename M::Segment& segment, Index begin, Index end) const noexcept {
    auto const b = segment.b.view();
    InputRows<M> inputs(call_.x, heads_);
    inputs.move_to(begin);
    HeadTokens<M, P> tokens(inputs, head_, b.keys(), b.values());
    tokens.in_groups(end - begin, [&](auto n, Index first, Index last) {
      for (Index t = begin + first; t < begin + last; t += n) take<n>(segment, tokens, t);
    });
  }

  template <int N>
  AVIARY_NO_INLINE void take(typename M::Segment& segment, HeadTokens<M, P>& tokens, Index t) const noexcept {
    auto const group = tokens.template next<N>();
    through<N>(segment.b.view(), group, call_.y, t);
    if constexpr (dense) {  // A is the state of the same tokens from the identity, with nothing to write; it reads m
      for (int n = 0; n < N; ++n) std::fill(group.value(n), group.value(n) + group.row(), T(0));
      through<N>(segment.a.view(), group, call_.state_weights, t);
    } else {
      decay_map<N>(segment.log_a.view(), group, t);
    }
  }

  template <int N, Index V, Index W>
  void through(StateView<T, M::keys, V> s, typename M::template Group<N> const& group, Sink<W> const& sink,
               Index t) const noexcept {
    T* y[to_size(N)];
    for (int m = 0; m < N; ++m) y[m] = group.y(m);
    using Passes = typename GroupsOf<M>::template Passes<P, N, T, V == dynamic ? dynamic : padded<T>(V)>;
    Passes::run(s.s, s.stride(), s.keys(), group, y, 0, s.stride(), {});
    if (sink)
      for (int m = 0; m < N; ++m) sink.put(t + m, head_, 0, s.values(), y[m]);
  }

  /// A is the product of the decays, and m is r times those up to it.
  template <int N>
  void decay_map(StateView<T, 1, M::keys> log_a, typename M::template Group<N> const& group, Index t) const noexcept {
    using L = simd::Pack<P>;
    Index const keys = log_a.values();
    if (call_.state_weights) {
      for (Index j = 0; j < keys; j += L::lanes) {
        P const before = L::decay(L::load(log_a[0] + j));
        for (int m = 0; m < N; ++m) L::store(group.read(m) + j, L::load(group.read(m) + j) * before);
      }
      for (int m = 0; m < N; ++m) call_.state_weights.put(t + m, head_, 0, keys, group.read(m));
    }
    for (int m = 0; m < N; ++m)
      for_log_decays<M, P>(call_.x, t + m, head_, heads_, keys,
                           [&](Index j, P const& log_w) { L::store(log_a[0] + j, L::load(log_a[0] + j) + log_w); });
  }

  Call const& call_;
  Index head_, heads_;
};

/// Outputs made from an empty state, and the initial state added: see MatrixMemory::add_initial_state.
template <class M, class P> struct CorrectPass {
  using T = typename M::T;
  using Call = typename M::AddInitialStateCall;

  template <class E> static void run(Call const& call, E& executor) {
    Packing const packing{call.offsets, call.y.tokens()};
    Index const heads = call.y.heads(), multiplies = packing.tokens * heads * call.y.size() * call.state_weights.size();
    for_head_stretches(packing, heads, multiplies, executor, [&](Index sequence, Index h, Index t, Index end) {
      auto const s = call.states[to_size(sequence * heads + h)].view();
      for (; t + 4 <= end; t += 4) add<4>(call, s, t, h);
      for (; t < end; ++t) add<1>(call, s, t, h);
    });
  }

 private:
  /// N tokens, for which the state is read once.
  template <int N, class View> static void add(Call const& call, View s, Index t, Index h) noexcept {
    constexpr Index keys = M::keys == dynamic ? largest_head : M::keys,
                    values = M::values == dynamic ? largest_head : M::values;
    T m_scratch[to_size(N)][to_size(keys)], y_scratch[to_size(N)][to_size(values)];
    T const *m[to_size(N)], *y0[to_size(N)];
    for (int n = 0; n < N; ++n) {
      m[n] = call.state_weights.template row<T>(t + n, h, m_scratch[n]).data();
      y0[n] = call.y0.template row<T>(t + n, h, y_scratch[n]).data();
    }
    simd::for_packs<P, GroupsOf<M>::stride_of(M::values)>(0, s.stride(), [&]<class Q>(Index i) {
      Q y[to_size(N)];
      unroll<N>([&](auto n) { y[int(n)] = simd::load_part<Q>(y0[n], i, s.values()); });
      for (Index j = 0; j < s.keys(); ++j) {
        Q const x = simd::load<Q>(s[j] + i);
        unroll<N>([&](auto n) AVIARY_INLINE_LAMBDA { y[int(n)] = simd::Pack<Q>::fma(x, Q(m[n][j]), y[int(n)]); });
      }
      unroll<N>([&](auto n) { put_lanes<T>(call.y, t + n, h, i, y[int(n)]); });
    });
  }
};

/// The gradients of states from those of outputs that read them: see MatrixMemory::pull_outputs.
template <class M, class P> struct OutputPull {
  using T = typename M::T;
  using Call = typename M::PullOutputsCall;

  template <class E> static void run(Call const& call, E& executor) {
    Packing const packing{call.offsets, call.dy.tokens()};
    Index const heads = call.dy.heads(),
                multiplies = packing.tokens * heads * call.dy.size() * call.state_weights.size();
    for_head_stretches(packing, heads, multiplies, executor, [&](Index sequence, Index h, Index t, Index end) {
      auto const d = call.dstates[to_size(sequence * heads + h)].view();
      if (t == packing.begin(sequence)) clear(d);
      Index const row = Groups::row(d.keys(), d.values()), most = std::min(most_tokens, room / row);
      for (Index n = 0; t < end; t += n) {
        n = std::min(end - t, most);
        add(call, as_matrix(d), h, t, n, row);
      }
    });
  }

 private:
  using Groups = GroupsOf<M>;
  /// Tokens for which a gradient is read once, and numbers for as many rows of them.
  static constexpr Index most_tokens = 32, room = std::max<Index>(2048, 4 * Groups::longest_row);

  /// d += sum over n tokens of m dy^T, d lying as a state. Tokens are added in order, however many there are at once.
  static void add(Call const& call, MatView<T> d, Index h, Index t, Index n, Index row) noexcept {
    alignas(alignment) T m[to_size(room)];
    alignas(alignment) T dy[to_size(room)];
    auto const copy = [&](auto const& from, T* to) {
      for (Index at = t; at < t + n; ++at, to += row)
        if (auto const x = from.template row<T>(at, h, to); x.data() != to) std::copy_n(x.data(), x.size(), to);
    };
    copy(call.state_weights, m);
    copy(call.dy, dy);
    add_product<P>(d, Coefficients<T>(m, d.rows(), n, 1, row), MatView<T const>(dy, n, d.columns(), row));
  }
};

}  // namespace detail
}  // namespace AVIARY_NAMESPACE
