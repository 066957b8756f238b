#pragma once
/// Tokens of one head, prepared for the passes over its state (pass.hpp). Lanes lie along keys here: the rule's map and the
/// exponential, once for each token, whatever V.
#include <utility>

#include "aviary/matrix/rule.hpp"

namespace AVIARY_NAMESPACE {

/// What of a rule its passes over a state depend on. Rules of the same form share them.
struct Form {
  Erase erase;
  Read read;
  Gate gate;
  bool constant_decay;
};
template <class R> inline constexpr Form form_of{R::erase, R::read, gate_of<R>, constant_decay<R>};

/// N tokens, as rows of an array that the caller has. They go through a state together: it is read once for all of them, and
/// written once. Before token m of a group that meets the state S, with w(a, b) the product of the decays of tokens
/// a ... b - 1,
///
///     S_m = S diag(w(0, m)) + sum over s < m of (v_s k_s^T + z_s q_s^T) diag(w(s + 1, m))
///
/// So what a token reads is what S holds under a decayed row, and what earlier tokens of the group wrote, weighed by products
/// of rows alone: the pairs.
/// Row: the length of a row, at least padded<T>(max(K, V)), or dynamic.
template <Form form, class T, Index Row, int N> class Group {
 public:
  static constexpr bool erases = form.erase != Erase::none, rank_one = form.erase == Erase::rank_one;
  /// Rows that a state is read by: r of each token, then p. Rows that are written into it: k of each token, then q.
  static constexpr int reads = N * (1 + erases), writes = N * (1 + rank_one);

  /// The place of the product of a read row and a written row among those that are needed.
  AVIARY_HOST_DEVICE static constexpr int pair(int read, int write) noexcept {
    int n = 0;
    for (int i = 0; i < read * writes + write; ++i) n += meet(i / writes, i % writes);
    return n;
  }
  static constexpr int pairs = pair(reads, 0);

  /// length(row) numbers that begin on a 64-byte boundary.
  AVIARY_HOST_DEVICE constexpr Group(T* numbers, Extent<Row> row) noexcept : numbers_(numbers), row_(row) {}
  AVIARY_HOST_DEVICE constexpr Index row() const noexcept { return row_; }
  /// Numbers that the array must have.
  AVIARY_HOST_DEVICE static constexpr Index length(Index row) noexcept {
    return rows * row + padded<T>(pairs) + padded<T>(1);
  }

  /// Times the decays of the tokens before it in the group, and r of Read::after its own.
  AVIARY_HOST_DEVICE T* read(int n) const noexcept { return numbers_ + n * row_; }
  /// Times the decays of the tokens after it in the group.
  AVIARY_HOST_DEVICE T* write(int n) const noexcept { return read(reads + n); }
  /// What is written under written row n: v, then z. The passes put v - z there with Erase::along_key, and z.
  AVIARY_HOST_DEVICE T* value(int n) const noexcept { return write(writes + n); }
  /// Room for what token m reads.
  AVIARY_HOST_DEVICE T* y(int m) const noexcept { return value(writes + m); }
  /// The decay of all N tokens, K numbers or one; for a constant decay its distance from 1.
  AVIARY_HOST_DEVICE T* w() const noexcept requires(form.gate != Gate::none) {
    return form.gate == Gate::vector ? y(N) : pair_products() + padded<T>(pairs);
  }
  AVIARY_HOST_DEVICE T* pair_products() const noexcept { return numbers_ + rows * row_; }

 private:
  /// r meets what its own token wrote: the reading is of the state after it, or u stands for it.
  AVIARY_HOST_DEVICE static constexpr int meet(int read, int write) noexcept {
    int const m = read % N, s = write % N;
    return s < m || (s == m && read < N && (form.read == Read::after || write < N));
  }
  static constexpr Index rows = reads + 2 * writes + N + (form.gate == Gate::vector);

  T* numbers_;
  [[no_unique_address]] Extent<Row> row_;
};

namespace detail {

template <int n> struct Constant {
  AVIARY_HOST_DEVICE constexpr operator int() const noexcept { return n; }
};
/// f(Constant<0>{}), ..., f(Constant<n - 1>{}).
template <int n, class F> AVIARY_HOST_DEVICE AVIARY_INLINE void unroll(F&& f) noexcept {
  [&]<int... i>(std::integer_sequence<int, i...>) AVIARY_INLINE_LAMBDA { (f(Constant<i>{}), ...); }
  (std::make_integer_sequence<int, n>{});
}

/// The lanes of x from number `first` on, 0 past its end.
template <class P, class T, Index N>
AVIARY_HOST_DEVICE AVIARY_INLINE P load_lanes(VecView<T const, N> x, Index first) noexcept {
  if constexpr (N != dynamic && N % simd::Pack<P>::lanes == 0)
    return simd::Pack<P>::load(x.data() + first);
  else
    return simd::load_part<P>(x.data(), first, x.size());
}

/// A lane of a token's field: a number, numbers from `first` on, or nothing where they lie along the other axis.
template <class T, class P> AVIARY_HOST_DEVICE AVIARY_INLINE void load_field(Required<T> x, Index, P& lane) noexcept {
  lane = P(x.value);
}
template <class Row, class P>
AVIARY_HOST_DEVICE AVIARY_INLINE void load_field(Row const& x, Index first, P& lane) noexcept {
  lane = load_lanes<P>(x, first);
}
template <class Row> AVIARY_HOST_DEVICE AVIARY_INLINE void load_field(Row const&, Index, lane::Absent&) noexcept {}

/// What the map of rule R sees of the lanes that begin with number `first`, along keys or along values. scalar_w: the decay, if
/// that is one number.
template <class R, class P, bool along_keys, class T, class Token>
AVIARY_HOST_DEVICE AVIARY_INLINE LaneFields<R, P, along_keys> lanes_of(Token const& x, Index first,
                                                                       [[maybe_unused]] T scalar_w) noexcept {
  LaneFields<R, P, along_keys> lanes;  // filled one by one: g++ moves a copy of all of them through memory
  constexpr int fields = field_count<R>;
  with_members<fields>(x, [&](auto const&... member) AVIARY_INLINE_LAMBDA {
    with_members<fields>(static_cast<typename R::template Fields<detail::Lane<P, along_keys>::template Per>&>(lanes),
                         [&](auto&... lane) AVIARY_INLINE_LAMBDA { (load_field(member, first, lane), ...); });
  });
  if constexpr (gate_of<R> == Gate::scalar) lanes.w = P(scalar_w);
  if constexpr (gate_of<R> == Gate::vector) lanes.w = P(T(0));
  if constexpr (gate_of<R> == Gate::vector && along_keys) lanes.w = simd::Pack<P>::decay(lanes.log_w);
  return lanes;
}

/// exp(log_w) of N tokens whose decay is one number.
template <class P, class T, int N, class Token>
AVIARY_HOST_DEVICE AVIARY_INLINE void scalar_decays(Token const* x, T* w) noexcept {
  using L = simd::Pack<P>;
  constexpr Index room = N + L::lanes - 1;
  T numbers[to_size(room)] = {};
  unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA { numbers[int(m)] = x[int(m)].log_w.value; });
  for (Index i = 0; i < N; i += L::lanes) L::store(numbers + i, L::decay(L::load(numbers + i)));
  unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA { w[int(m)] = numbers[int(m)]; });
}

/// The share of a thread that prepares a group alone. The threads of a device's block have shares of their own.
struct Whole {
  static constexpr Index thread = 0, threads = 1;
};

/// Fills `to` but for its pairs, which go to `products`: where several threads share the lanes, these are to be added.
template <class R, class P, class T, Index Row, int N, class Token, Index K, Index V, class Share = Whole>
AVIARY_HOST_DEVICE void prepare(Token const* x, Group<form_of<R>, T, Row, N> to, T* products, Extent<K> keys,
                                Extent<V> values, Share share = {}) noexcept {
  using L = simd::Pack<P>;
  using G = Group<form_of<R>, T, Row, N>;
  constexpr bool gated = gate_of<R> != Gate::none;
  [[maybe_unused]] T scalar_w[to_size(N)] = {};
  if constexpr (gate_of<R> == Gate::scalar) scalar_decays<P, T, N>(x, scalar_w);

  P sums[to_size(G::pairs)];
  unroll<G::pairs>([&](auto i) AVIARY_INLINE_LAMBDA { sums[int(i)] = P(T(0)); });
  for (Index j = share.thread * L::lanes; j < keys; j += share.threads * L::lanes) {
    P written[to_size(G::writes)];  // k and q of the tokens before, decayed up to here
    [[maybe_unused]] P since;       // the product of their decays
    unroll<N>([&](auto token) AVIARY_INLINE_LAMBDA {
      constexpr int m = token;
      auto const meet = [&](auto read, auto write, P const& a, P const& b) AVIARY_INLINE_LAMBDA {
        constexpr int i = G::pair(read, write);
        sums[i] = L::fma(a, b, sums[i]);
      };
      auto const e = lanes_of<R, P, true>(x[m], j, scalar_w[m]);
      auto const t = R::template map<Terms<R, P, true>>(e);
      P const k = t.k.value;
      P r = t.r.value;
      if constexpr (R::read == Read::before) {
        meet(Constant<m>{}, Constant<m>{}, r * t.u.value, k);
      } else {
        meet(Constant<m>{}, Constant<m>{}, r, k);
        if constexpr (G::rank_one) meet(Constant<m>{}, Constant<N + m>{}, r, t.q.value);
        if constexpr (gated) r = r * e.w;
      }
      unroll<m>([&](auto earlier) AVIARY_INLINE_LAMBDA {
        constexpr int s = earlier;
        meet(Constant<m>{}, Constant<s>{}, r, written[s]);
        if constexpr (G::erases) meet(Constant<N + m>{}, Constant<s>{}, t.p.value, written[s]);
        if constexpr (gated) written[s] = written[s] * e.w;
        if constexpr (G::rank_one) {
          meet(Constant<m>{}, Constant<N + s>{}, r, written[N + s]);
          meet(Constant<N + m>{}, Constant<N + s>{}, t.p.value, written[N + s]);
          if constexpr (gated) written[N + s] = written[N + s] * e.w;
        }
      });
      written[m] = k;
      if constexpr (G::rank_one) written[N + m] = t.q.value;

      auto const decayed = [&](P const& row) AVIARY_INLINE_LAMBDA {
        if constexpr (gated && m > 0)
          return row * since;
        else
          return row;
      };
      L::store(to.read(m) + j, decayed(r));
      if constexpr (G::erases) L::store(to.read(N + m) + j, decayed(t.p.value));
      if constexpr (gated) {
        since = decayed(e.w);
        if constexpr (m == N - 1) {
          if constexpr (constant_decay<R>) since = L::expm1(e.log_w * P(T(N)));
          if constexpr (gate_of<R> == Gate::vector)
            L::store(to.w() + j, since);
          else if (j == 0)
            simd::store_part(to.w(), 0, 1, since);
        }
      }
    });
    unroll<G::writes>([&](auto n) AVIARY_INLINE_LAMBDA { L::store(to.write(n) + j, written[int(n)]); });
  }
  simd::sums<G::pairs>(sums, products);

  unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA {
    T* const v = to.value(m);
    for (Index i = share.thread * L::lanes; i < to.row(); i += share.threads * L::lanes) {
      if (i < values)
        L::store(v + i,
                 R::template map<Terms<R, P, false>>(lanes_of<R, P, false>(x[int(m)], i, scalar_w[int(m)])).v.value);
      else  // zeros up to the end of the row
        L::store(v + i, P(T(0)));
    }
  });
}

/// Makes the decay of a group that of its first n tokens, if it is constant: those after them are no tokens. x is the first.
template <class R, class P, class T, Index Row, int N, class Token, Index K, class Share = Whole>
AVIARY_HOST_DEVICE AVIARY_NO_INLINE void shorten_decay(Token const& x, Group<form_of<R>, T, Row, N> to, Extent<K> keys,
                                                       Index n, Share share = {}) noexcept {
  using L = simd::Pack<P>;
  if constexpr (gate_of<R> == Gate::scalar) {
    if (share.thread == 0) simd::store_part(to.w(), 0, 1, L::expm1(P(x.log_w.value * T(n))));
  } else {
    for (Index j = share.thread * L::lanes; j < keys; j += share.threads * L::lanes)
      L::store(to.w() + j, L::expm1(load_lanes<P>(x.log_w, j) * P(T(n))));
  }
}

}  // namespace detail

using detail::prepare;  // for kernels of your own

}  // namespace AVIARY_NAMESPACE
