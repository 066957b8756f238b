#pragma once
/// What a model of the matrix family is: three traits, its own inputs, and a pointwise map from these to the terms of
///     S' = S diag(w) + (S p) q^T + v k^T            y = S' r   or   S r + (r . (u*k)) v
/// A rule says nothing else; step, forward and the segment algebra are written once, over it.
#include "aviary/core/fields.hpp"
#include "aviary/core/sequence.hpp"
#include "aviary/simd/pack.hpp"

namespace aviary {

/// The decay w: none (w = 1), one number per token, or one per key.
enum class Gate { none, scalar, vector };

/// The correction (S p) q^T: none; with q = -k, so that it joins the write, S' = S diag(w) + (v - S p) k^T; or a matrix of rank one of its own.
enum class Erase { none, along_key, rank_one };

/// The state that y reads: the one before the token, with the bonus u for the token itself, or the one after it.
enum class Read { before, after };

/// What a field of a rule has one number for: each key index, each value index, or the head as a whole; of every token,
/// or (head_) once for all tokens.
enum class Axis { key, value, one, head_key, head_one };

AVIARY_HOST_DEVICE constexpr bool per_token(Axis a) { return a == Axis::key || a == Axis::value || a == Axis::one; }
AVIARY_HOST_DEVICE constexpr bool along_key(Axis a) { return a == Axis::key || a == Axis::head_key; }
AVIARY_HOST_DEVICE constexpr bool one_number(Axis a) { return a == Axis::one || a == Axis::head_one; }

namespace lane {  // a namespace of its own: these operators meet lanes only

/// A lane of the other axis. It swallows arithmetic, so that one expression serves lanes of keys and lanes of values; the
/// product of a key and a value is Absent in both, and a term that its lane has does not take that.
struct Absent {
  constexpr Absent() = default;
  /// A term that lanes of this axis do not have takes anything.
  template <class U> AVIARY_HOST_DEVICE constexpr Absent(U const&) {}
  AVIARY_HOST_DEVICE friend constexpr Absent operator-(Absent) { return {}; }
  AVIARY_HOST_DEVICE friend constexpr Absent operator*(Absent, Absent) { return {}; }
  AVIARY_HOST_DEVICE friend constexpr Absent operator+(Absent, Absent) { return {}; }
  AVIARY_HOST_DEVICE friend constexpr Absent operator-(Absent, Absent) { return {}; }
};

template <class P>
concept Present = !std::is_same_v<P, Absent>;

template <Present P> AVIARY_HOST_DEVICE constexpr Absent operator*(P const&, Absent) { return {}; }
template <Present P> AVIARY_HOST_DEVICE constexpr Absent operator*(Absent, P const&) { return {}; }
template <Present P> AVIARY_HOST_DEVICE constexpr P operator+(P const& x, Absent) { return x; }
template <Present P> AVIARY_HOST_DEVICE constexpr P operator+(Absent, P const& x) { return x; }
template <Present P> AVIARY_HOST_DEVICE constexpr P operator-(P const& x, Absent) { return x; }
template <Present P> AVIARY_HOST_DEVICE constexpr P operator-(Absent, P const& x) { return -x; }

}  // namespace lane

/// The terms that a rule with these traits maps its fields to, each along keys or along values.
template <Erase E, Read R, template <Axis> class Per> struct Terms;
template <template <Axis> class Per> struct Terms<Erase::none, Read::before, Per> {
  Per<Axis::key> r, k;
  Per<Axis::value> v;
  Per<Axis::key> u;
};
template <template <Axis> class Per> struct Terms<Erase::none, Read::after, Per> {
  Per<Axis::key> r, k;
  Per<Axis::value> v;
};
template <template <Axis> class Per> struct Terms<Erase::along_key, Read::before, Per> {
  Per<Axis::key> r, p, k;
  Per<Axis::value> v;
  Per<Axis::key> u;
};
template <template <Axis> class Per> struct Terms<Erase::along_key, Read::after, Per> {
  Per<Axis::key> r, p, k;
  Per<Axis::value> v;
};
template <template <Axis> class Per> struct Terms<Erase::rank_one, Read::before, Per> {
  Per<Axis::key> r, p, q, k;
  Per<Axis::value> v;
  Per<Axis::key> u;
};
template <template <Axis> class Per> struct Terms<Erase::rank_one, Read::after, Per> {
  Per<Axis::key> r, p, q, k;
  Per<Axis::value> v;
};

namespace detail {

// What stands behind a field's name, one struct for each meaning that the field list takes.

template <Axis A, Index K, Index V> inline constexpr Index axis_size = A == Axis::value ? V : along_key(A) ? K : 1;

template <class T, Index K, Index V> struct TokenFields {
  template <Axis A> using Per = std::conditional_t<one_number(A), Required<T>, VecView<T const, axis_size<A, K, V>>>;
};

template <Index K, Index V> struct InputFields {
  template <Axis A>
  using Per = std::conditional_t<per_token(A), Source<axis_size<A, K, V>>, HeadSource<axis_size<A, K, V>>>;
};

template <Axis A> using AxisTag = std::integral_constant<Axis, A>;

template <class P> struct KeyLane {
  template <Axis A> using Per = std::conditional_t<A == Axis::value, lane::Absent, P>;
  template <Axis A> using Wanted = std::conditional_t<A == Axis::value, lane::Absent, Required<P>>;
};

template <class P> struct ValueLane {
  template <Axis A> using Per = std::conditional_t<along_key(A), lane::Absent, P>;
  template <Axis A> using Wanted = std::conditional_t<along_key(A), lane::Absent, Required<P>>;
};

template <class R> using Axes = typename R::template Fields<AxisTag>;
template <class R> inline constexpr int field_count = count_members<Axes<R>>();

/// Out{f(axis, member)...} over the fields of rule R.
template <class R, class Out, class In, class F>
AVIARY_HOST_DEVICE constexpr Out transform_fields(In const& in, F&& f) {
  Axes<R> axes{};
  return with_members<field_count<R>>(axes, [&](auto... axis) {
    return with_members<field_count<R>>(in, [&](auto const&... member) { return Out{f(axis, member)...}; });
  });
}

/// f(axis, member) for each field of rule R in turn.
template <class R, class In, class F> AVIARY_HOST_DEVICE constexpr void for_each_field(In const& in, F&& f) {
  Axes<R> axes{};
  with_members<field_count<R>>(axes, [&](auto... axis) {
    with_members<field_count<R>>(in, [&](auto const&... member) { (f(axis, member), ...); });
  });
}

struct NoDecay {};
template <class P> struct Decay { P w; };

/// What `map` sees of one lane: the model's inputs, and with a gate w = exp(log_w).
template <class R, class Lane, class P>
struct LaneFields : R::template Fields<Lane::template Per>,
                    std::conditional_t<R::gate == Gate::none, NoDecay, Decay<P>> {};

template <class R, class Lane> using TermsOf = Terms<R::erase, R::read, Lane::template Wanted>;

template <class R> AVIARY_HOST_DEVICE constexpr Axis decay_axis() {
  if constexpr (R::gate == Gate::none)
    return Axis::one;
  else
    return decltype(Axes<R>{}.log_w)::value;
}

}  // namespace detail

template <class R>
concept HasTraits = std::is_same_v<decltype(R::gate), Gate const> && std::is_same_v<decltype(R::erase), Erase const> &&
    std::is_same_v<decltype(R::read), Read const>;
template <class R>
concept HasFields = requires {
  typename R::template Fields<detail::AxisTag>;
}
&&std::is_aggregate_v<detail::Axes<R>>;
template <class R>
concept HasDecay = R::gate == Gate::none || requires(detail::Axes<R> fields) {
  fields.log_w;
};

/// One decay for a whole head and all time (WKV-5, RetNet). It is applied as an increment, s + s expm1(log_w): a factor
/// rounded once would repeat the same error at every token.
template <class R> inline constexpr bool constant_decay = R::gate != Gate::none && !per_token(detail::decay_axis<R>());

}  // namespace aviary
