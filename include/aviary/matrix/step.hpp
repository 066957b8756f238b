#pragma once
/// One token through one head, in two parts. `prepare` has lanes along keys: the rule's map and the exponential, once per
/// token, whatever V. `advance` has lanes along values: the recurrence. Neither sums across lanes of the state, and values
/// never meet: they may be split between packs, threads and devices without changing a bit.
#include "aviary/matrix/rule.hpp"
#include "aviary/matrix/state.hpp"

namespace AVIARY_NAMESPACE {

/// The terms of one token, each a row of an array that the caller has. Only the rows that rule R's traits leave exist.
/// Row: the length of a row, at least padded<T>(max(K, V)), or dynamic.
template <class R, class T, Index Row> class Prepared {
  static constexpr bool erases = R::erase != Erase::none;

 public:
  /// length(row) numbers that begin on a 64-byte boundary.
  AVIARY_HOST_DEVICE constexpr Prepared(T* numbers, Extent<Row> row) noexcept : numbers_(numbers), row_(row) {}
  AVIARY_HOST_DEVICE constexpr Index row() const noexcept { return row_; }
  /// Numbers that the array must have.
  AVIARY_HOST_DEVICE static constexpr Index length(Index row) noexcept { return rows * row + padded<T>(2); }

  AVIARY_HOST_DEVICE T* r() const noexcept { return numbers_; }
  AVIARY_HOST_DEVICE T* k() const noexcept { return numbers_ + row_; }
  AVIARY_HOST_DEVICE T* v() const noexcept { return numbers_ + 2 * row_; }
  AVIARY_HOST_DEVICE T* p() const noexcept requires(erases) { return numbers_ + 3 * row_; }
  AVIARY_HOST_DEVICE T* q() const noexcept requires(R::erase == Erase::rank_one) { return numbers_ + 4 * row_; }
  /// The decay, K numbers or one; for a constant decay its distance from 1, exp(log_w) - 1.
  AVIARY_HOST_DEVICE T* w() const noexcept requires(gate_of<R> != Gate::none) {
    return numbers_ + (gate_of<R> == Gate::vector ? (rows - 1) * row_ : rows * row_ + 1);
  }
  /// r . (u*k), the weight of v in its own output.
  AVIARY_HOST_DEVICE T& bonus() const noexcept { return numbers_[rows * row_]; }

 private:
  static constexpr Index rows = 3 + erases + (R::erase == Erase::rank_one) + (gate_of<R> == Gate::vector);
  T* numbers_;
  [[no_unique_address]] Extent<Row> row_;
};

namespace detail {

/// The kernel of rule R: numbers T, batches P (T itself, or a SIMD batch of T), rows of Row prepared numbers. S is the
/// number type of a state.
template <class R, class P, class T, Index Row> struct Kernel {
  using L = simd::Pack<P>;
  using Prepared = aviary::Prepared<R, T, Row>;

  /// What the rule's map sees of the lanes that begin with number first of n, along keys or along values.
  template <bool along_keys, class Token>
  AVIARY_HOST_DEVICE static AVIARY_INLINE LaneFields<R, P, along_keys> element(Token const& x, Index first,
                                                                               Index n) noexcept {
    using Lane = detail::Lane<P, along_keys>;
    auto const fields = transform_fields<R, typename R::template Fields<Lane::template Per>>(
        x, [&]<Axis A>(AxisTag<A>, auto const& member) {
          if constexpr (!Lane::template has<A>)
            return lane::Absent{};
          else if constexpr (one_number(A))
            return P(member.value);
          else
            return simd::load_part<P>(member.data(), first, n);
        });
    if constexpr (gate_of<R> == Gate::none)
      return {fields, {}};
    else if constexpr (lane::Present<std::remove_cvref_t<decltype(fields.log_w)>>)
      return {fields, {L::exp(fields.log_w)}};
    else
      return {fields, {P(T(0))}};
  }

  /// Fills `to`: lanes along keys, then values, the latter with zeros up to the end of the row. Returns
  /// r . (u*k), to be put into to.bonus(). `thread` of `threads` takes a share of the lanes, for a block of device threads;
  /// what these return is to be added.
  template <class Token>
  AVIARY_HOST_DEVICE static T prepare(Token const& x, Prepared to, Index keys, Index values, Index thread = 0,
                                      Index threads = 1) noexcept {
    P bonus(T(0));
    for (Index j = thread * L::lanes; j < keys; j += threads * L::lanes) {
      auto const e = element<true>(x, j, keys);
      auto const m = R::template map<Terms<R, P, true>>(e);
      L::store(to.r() + j, m.r.value);
      L::store(to.k() + j, m.k.value);
      if constexpr (gate_of<R> == Gate::vector) L::store(to.w() + j, factor(e));
      if constexpr (R::erase != Erase::none) L::store(to.p() + j, m.p.value);
      if constexpr (R::erase == Erase::rank_one) L::store(to.q() + j, m.q.value);
      if constexpr (R::read == Read::before) bonus = L::fma(m.r.value * m.u.value, m.k.value, bonus);
    }
    for (Index i = thread * L::lanes; i < to.row(); i += threads * L::lanes) {
      auto const e = element<false>(x, i, values);
      L::store(to.v() + i, R::template map<Terms<R, P, false>>(e).v.value);
      if constexpr (gate_of<R> == Gate::scalar)
        if (i == 0) simd::store_part(to.w(), 0, 1, factor(e));
    }
    return L::sum(bonus);
  }

  /// S p for the lanes of Q that begin at `column`.
  template <class Q, class S>
  AVIARY_HOST_DEVICE static AVIARY_INLINE Q probe(S const* column, Index stride, T const* p, Index keys) noexcept {
    using W = simd::Pack<Q>;
    Q even(T(0)), odd(T(0));  // two sums: one alone would wait for its own additions
    Index j = 0;
    for (; j + 1 < keys; j += 2) {
      even = W::fma(simd::load<Q>(column + j * stride), Q(p[j]), even);
      odd = W::fma(simd::load<Q>(column + (j + 1) * stride), Q(p[j + 1]), odd);
    }
    if (j < keys) even = W::fma(simd::load<Q>(column + j * stride), Q(p[j]), even);
    return even + odd;
  }

  /// Advances the lanes of Q that begin at `column` by token x, whose reading S p is z; returns y. With `ahead`, z becomes
  /// the reading of the token after it, next, whose probe shares this pass over the state.
  template <class Q, bool ahead, class S>
  AVIARY_HOST_DEVICE static AVIARY_INLINE Q advance(S* column, Index stride, Prepared x, Q v, Q& z, Index keys,
                                                    [[maybe_unused]] Prepared next) noexcept {
    using W = simd::Pack<Q>;
    Q y(T(0)), following(T(0)), write = v;
    if constexpr (R::erase == Erase::along_key) write = v - z;
    [[maybe_unused]] Q scalar_w(T(0));
    if constexpr (gate_of<R> == Gate::scalar) scalar_w = Q(*x.w());
    for (Index j = 0; j < keys; ++j) {
      Q s = simd::load<Q>(column + j * stride);
      if constexpr (R::read == Read::before) y = W::fma(s, Q(x.r()[j]), y);
      if constexpr (gate_of<R> == Gate::none) {
        s = W::fma(write, Q(x.k()[j]), s);
      } else {
        Q w = scalar_w;
        if constexpr (gate_of<R> == Gate::vector) w = Q(x.w()[j]);
        s = constant_decay<R> ? W::fma(write, Q(x.k()[j]), W::fma(s, w, s)) : W::fma(s, w, write * Q(x.k()[j]));
      }
      if constexpr (R::erase == Erase::rank_one) s = W::fma(z, Q(x.q()[j]), s);
      simd::store(column + j * stride, s);
      if constexpr (R::read == Read::after) y = W::fma(s, Q(x.r()[j]), y);
      if constexpr (ahead) following = W::fma(s, Q(next.p()[j]), following);
    }
    if constexpr (R::read == Read::before) y = W::fma(Q(x.bonus()), v, y);
    if constexpr (ahead) z = following;
    return y;
  }

 private:
  template <class E> AVIARY_HOST_DEVICE static AVIARY_INLINE P factor(E const& e) noexcept {
    return constant_decay<R> ? L::expm1(e.log_w) : e.w;
  }
};

}  // namespace detail
}  // namespace AVIARY_NAMESPACE
