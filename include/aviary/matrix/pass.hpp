#pragma once
/// The passes of a group of tokens over a state. Lanes lie along values here. No sum runs across lanes of the state, and values
/// never meet: they may be split between packs, threads and devices without changing a bit.
#include "aviary/matrix/ahead.hpp"
#include "aviary/matrix/group.hpp"

namespace AVIARY_NAMESPACE::detail {

/// How a group goes through a state: `tokens` of them, `packs` side by side. What a pass keeps is in registers; more tokens cost
/// more pairs than they save. bench/bench_passes.cpp compares shapes.
struct PassShape {
  int tokens, packs;
};
template <class P> AVIARY_HOST_DEVICE constexpr PassShape pass_shape(Form form) noexcept {
  bool const many = simd::Pack<P>::registers >= 32;
  if (form.erase == Erase::none) return {4, many ? 4 : 2};
  if (!many) return {3, 2};
  return {form.erase == Erase::along_key ? 4 : 2, 4};
}

/// The tokens of a group meet one another, in the lanes of Q. `sums` comes with what they read of the state before the group;
/// `written` becomes what they write. v(m) is what token m brings along values; keep(n, x) takes what is written under written row
/// n because of what was read, and put(m, y) the output of token m.
template <Form form, int N, class T, Index Row, class Q, class Values, class Keep, class Put>
AVIARY_HOST_DEVICE AVIARY_INLINE void meet(Group<form, T, Row, N> g, Q* sums, Q* written, Values const& v,
                                           [[maybe_unused]] Keep const& keep, Put const& put) noexcept {
  using Group = aviary::Group<form, T, Row, N>;
  T const* const products = g.pair_products();
  unroll<N>([&](auto token) AVIARY_INLINE_LAMBDA {
    constexpr int m = token;
    auto const met = [&](auto read, auto write, Q const& x, Q const& sum) AVIARY_INLINE_LAMBDA {
      return simd::Pack<Q>::fma(x, Q(products[Group::pair(read, write)]), sum);
    };
    Q const own = v(token);
    Q out = sums[m];
    unroll<m>([&](auto earlier) AVIARY_INLINE_LAMBDA {
      constexpr int s = earlier;
      out = met(Constant<m>{}, Constant<s>{}, written[s], out);
      if constexpr (Group::rank_one) out = met(Constant<m>{}, Constant<N + s>{}, written[N + s], out);
      if constexpr (Group::erases) sums[N + m] = met(Constant<N + m>{}, Constant<s>{}, written[s], sums[N + m]);
      if constexpr (Group::rank_one)
        sums[N + m] = met(Constant<N + m>{}, Constant<N + s>{}, written[N + s], sums[N + m]);
    });
    written[m] = own;
    if constexpr (form.erase == Erase::along_key) {
      written[m] = own - sums[N + m];
      keep(token, written[m]);
    }
    if constexpr (Group::rank_one) {
      written[N + m] = sums[N + m];
      keep(Constant<N + m>{}, written[N + m]);
    }
    if constexpr (form.read == Read::before) {
      out = met(Constant<m>{}, Constant<m>{}, own, out);
    } else {
      out = met(Constant<m>{}, Constant<m>{}, written[m], out);
      if constexpr (Group::rank_one) out = met(Constant<m>{}, Constant<N + m>{}, written[N + m], out);
    }
    put(token, out);
  });
}

/// A number of the state after a group: s w, w for constant decays being its distance from 1, and what its tokens have written, by
/// row(n), the number of written row n.
template <Form form, int writes, class Q, class Row>
AVIARY_HOST_DEVICE AVIARY_INLINE Q after_group(Q s, [[maybe_unused]] Q const& w, Q const* written,
                                               Row const& row) noexcept {
  using W = simd::Pack<Q>;
  if constexpr (form.gate != Gate::none) s = form.constant_decay ? W::fma(s, w, s) : s * w;
  unroll<writes>([&](auto n) AVIARY_INLINE_LAMBDA { s = W::fma(written[int(n)], row(n), s); });
  return s;
}

/// Packs P of numbers T over states of numbers S with `stride` numbers in a row, which may be `dynamic`, for groups of N tokens of
/// any rule of this form.
template <Form form, class P, class T, class S, Index Row, Index stride, int N, int packs> class Passes {
  using Group = aviary::Group<form, T, Row, N>;
  /// A single token that probes nothing reads and writes a number of the state in one go.
  static constexpr bool at_once = N == 1 && !Group::erases;
  /// Loops over the keys that read: what is probed has one of its own where the sums of both do not fit into registers.
  static constexpr int read_loops = Group::reads * packs <= simd::Pack<P>::registers * 3 / 4 ? 1 : 1 + Group::erases;

 public:
  /// Columns of a state that go together: [first, last) is a multiple of them.
  static constexpr Index block = [] {
    constexpr Index columns = simd::side_by_side<P, stride, packs>() * simd::Pack<P>::lanes;
    return stride != dynamic && stride % columns == 0 ? columns : Index{1};
  }();
  /// Loops over the keys that `run` makes for columns of a state.
  static constexpr Index count(Index columns) noexcept {
    constexpr Index together = packs * simd::Pack<P>::lanes;
    return (columns + together - 1) / together * (at_once ? 1 : read_loops + 1);
  }

  /// Takes columns [first, last) of a state through the tokens of a group. What token m reads goes to y[m].
  AVIARY_HOST_DEVICE static void run(S* s, Extent<stride> step, Index keys, Group g, T* const* y, Index first,
                                     Index last, Ahead ahead) noexcept {
    simd::for_packs<P, stride, packs>(first, last, [&]<class Q>(Index i) AVIARY_INLINE_LAMBDA {
      if constexpr (at_once) {
        read_and_write<Q>(s + i, step, keys, g, y, i, ahead);
      } else {
        read<Q>(s + i, step, keys, g, y, i, ahead);
        write<Q>(s + i, step, keys, g, i, ahead);
      }
    });
  }

 private:
  /// body(j) for all keys. Packs side by side fetch an entry every four keys, while there are any.
  template <class Q, class Body>
  AVIARY_HOST_DEVICE static AVIARY_INLINE void over_keys(Index keys, [[maybe_unused]] Ahead& ahead,
                                                         Body&& body) noexcept {
    Index j = 0;
    if constexpr (N > 1 && simd::Pack<Q>::lanes > simd::Pack<P>::lanes)
      for (auto const& entry : ahead.share(keys / Ahead::lines)) {
        AVIARY_UNROLL(4)
        for (Index line = 0; line < Ahead::lines; ++line) {
          body(j + line);
          Ahead::fetch(entry, line);
        }
        j += Ahead::lines;
      }
    AVIARY_UNROLL(4)
    for (; j < keys; ++j) body(j);
  }

  /// What every token reads in the lanes of Q, and so what it writes there: column i of the group.
  template <class Q>
  AVIARY_HOST_DEVICE static AVIARY_INLINE void read(S const* column, Extent<stride> step, Index keys, Group g,
                                                    T* const* y, Index i, Ahead& ahead) noexcept {
    using W = simd::Pack<Q>;
    Q sums[to_size(Group::reads)];
    unroll<Group::reads>([&](auto n) AVIARY_INLINE_LAMBDA { sums[int(n)] = Q(T(0)); });
    auto const add_rows = [&](T const* rows, Q* to) AVIARY_INLINE_LAMBDA {
      over_keys<Q>(keys, ahead, [&](Index j) AVIARY_INLINE_LAMBDA {
        Q const s = simd::load<Q>(column + j * step);
        unroll<Group::reads / read_loops>(
            [&](auto n) AVIARY_INLINE_LAMBDA { to[int(n)] = W::fma(s, Q(rows[n * g.row() + j]), to[int(n)]); });
      });
    };
    if constexpr (read_loops > 1) add_rows(g.read(N), sums + N);
    add_rows(g.read(0), sums);

    Q written[to_size(Group::writes)];
    meet<form, N>(
        g, sums, written, [&](auto m) AVIARY_INLINE_LAMBDA { return W::load(g.value(m) + i); },
        [&](auto n, Q const& x) AVIARY_INLINE_LAMBDA { W::store(g.value(n) + i, x); },
        [&](auto m, Q const& x) AVIARY_INLINE_LAMBDA { W::store(y[m] + i, x); });
  }

  /// The number of column s under key j after the group.
  template <class Q>
  AVIARY_HOST_DEVICE static AVIARY_INLINE Q updated(Q s, [[maybe_unused]] Q const& scalar_w, Group g, Index j,
                                                    Q const (&written)[to_size(Group::writes)]) noexcept {
    Q w = scalar_w;
    if constexpr (form.gate == Gate::vector) w = Q(g.w()[j]);
    T const* const rows = g.write(0);
    return after_group<form, Group::writes>(s, w, written,
                                            [&](auto n) AVIARY_INLINE_LAMBDA { return Q(rows[n * g.row() + j]); });
  }
  template <class Q> AVIARY_HOST_DEVICE static AVIARY_INLINE Q scalar_decay([[maybe_unused]] Group g) noexcept {
    if constexpr (form.gate == Gate::scalar)
      return Q(*g.w());
    else
      return Q(T(0));
  }

  /// Writes what `read` found into the lanes of Q.
  template <class Q>
  AVIARY_HOST_DEVICE static AVIARY_INLINE void write(S* column, Extent<stride> step, Index keys, Group g, Index i,
                                                     Ahead& ahead) noexcept {
    Q written[to_size(Group::writes)];
    unroll<Group::writes>([&](auto n) AVIARY_INLINE_LAMBDA { written[int(n)] = simd::Pack<Q>::load(g.value(n) + i); });
    Q const w = scalar_decay<Q>(g);
    over_keys<Q>(keys, ahead, [&](Index j) AVIARY_INLINE_LAMBDA {
      S* const at = column + j * step;
      simd::store(at, updated<Q>(simd::load<Q>(at), w, g, j, written));
    });
  }

  /// Both, for a token that reads nothing which it writes.
  template <class Q>
  AVIARY_HOST_DEVICE static AVIARY_INLINE void read_and_write(S* column, Extent<stride> step, Index keys, Group g,
                                                              T* const* y, Index i, Ahead& ahead) noexcept {
    using W = simd::Pack<Q>;
    Q const written[1] = {W::load(g.value(0) + i)}, w = scalar_decay<Q>(g);
    Q sum(T(0));
    T const* const r = g.read(0);
    over_keys<Q>(keys, ahead, [&](Index j) AVIARY_INLINE_LAMBDA {
      S* const at = column + j * step;
      Q const s = simd::load<Q>(at);
      sum = W::fma(s, Q(r[j]), sum);
      simd::store(at, updated<Q>(s, w, g, j, written));
    });
    W::store(y[0] + i, W::fma(written[0], Q(*g.pair_products()), sum));
  }
};

}  // namespace AVIARY_NAMESPACE::detail

namespace AVIARY_NAMESPACE {
using detail::pass_shape, detail::PassShape, detail::Passes;  // for kernels of your own
}
