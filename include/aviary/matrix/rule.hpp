#pragma once
/// What a model of the matrix family is: a name, two traits, its own inputs, and a pointwise map from these to the terms of
///     S' = S diag(w) + (S p) q^T + v k^T            y = S' r   or   S r + (r . (u*k)) v
/// A rule says nothing else; step, forward and the segment algebra are written once, over it.
#include <string_view>

#include "aviary/core/fields.hpp"
#include "aviary/core/sequence.hpp"
#include "aviary/simd/pack.hpp"

namespace AVIARY_NAMESPACE {

/// The correction (S p) q^T: none; with q = -k, so that it joins the write, S' = S diag(w) + (v - S p) k^T; or a matrix of
/// rank one with a q of its own.
enum class Erase { none, along_key, rank_one };

/// The state that y reads: the one before the token, with the bonus u for the token itself, or the one after it.
enum class Read { before, after };

/// What a field of a rule has one number for: each key index, each value index, or the head as a whole; of every token,
/// or (head_) once for all tokens.
enum class Axis { key, value, one, head_key, head_one };

AVIARY_HOST_DEVICE constexpr bool per_token(Axis a) { return a == Axis::key || a == Axis::value || a == Axis::one; }
AVIARY_HOST_DEVICE constexpr bool along_key(Axis a) { return a == Axis::key || a == Axis::head_key; }
AVIARY_HOST_DEVICE constexpr bool one_number(Axis a) { return a == Axis::one || a == Axis::head_one; }

/// The decay w: none (w = 1), one number, or one per key. It follows from the axis of the field log_w: see gate_of.
enum class Gate { none, scalar, vector };

namespace lane {  // a namespace of its own: these operators meet lanes only

template <class> inline constexpr bool never = false;

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

/// What a rule has not. It becomes any number, and Why says so when it does.
template <class Why> struct Lacking {
  template <class U> AVIARY_HOST_DEVICE constexpr operator U() const {
    Why::template refuse<U>();
    return U();
  }
  template <Present U> AVIARY_HOST_DEVICE friend constexpr U operator*(Lacking x, U const&) { return x; }
  template <Present U> AVIARY_HOST_DEVICE friend constexpr U operator*(U const&, Lacking x) { return x; }
  template <Present U> AVIARY_HOST_DEVICE friend constexpr U operator+(Lacking x, U const&) { return x; }
  template <Present U> AVIARY_HOST_DEVICE friend constexpr U operator+(U const&, Lacking x) { return x; }
  template <Present U> AVIARY_HOST_DEVICE friend constexpr U operator-(Lacking x, U const&) { return x; }
  template <Present U> AVIARY_HOST_DEVICE friend constexpr U operator-(U const&, Lacking x) { return x; }
};
struct WithoutDecay {
  template <class U> static constexpr void refuse() {
    static_assert(never<U>, "aviary: the map of a rule uses x.w, which is exp(log_w): give the rule a field log_w");
  }
};
struct WithoutTerm {
  template <class U> static constexpr void refuse() {
    static_assert(never<U>,
                  "aviary: the pull of a rule uses the gradient of a term that its traits leave out. d.p goes with an "
                  "erasure, d.q with Erase::rank_one, d.u with Read::before, and d.log_w with a field log_w");
  }
};
/// x.w of a rule that has no field log_w, and the gradient of a term that its map does not give.
using NoDecay = Lacking<WithoutDecay>;
using NoGradient = Lacking<WithoutTerm>;

/// A term that its lane has: map must give it, along the right axis.
template <class P> struct Term {
  P value;

  template <class Missing = void> AVIARY_HOST_DEVICE constexpr Term() : value() {
    static_assert(never<Missing>,
                  "aviary: the map of a rule leaves out a term. It gives r, k and v, p where the rule erases, q with "
                  "Erase::rank_one, and u with Read::before");
  }
  template <class U> AVIARY_HOST_DEVICE constexpr Term(U const& x) : value(converted(x)) {}
  AVIARY_HOST_DEVICE constexpr operator P const&() const { return value; }

 private:
  template <class U> AVIARY_HOST_DEVICE static constexpr P converted(U const& x) {
    if constexpr (std::is_convertible_v<U, P>) {
      return x;
    } else {
      static_assert(
          never<U>,
          "aviary: the map of a rule gives a term along the wrong axis. r, p, q, k and u are along keys, v is "
          "along values, and a key times a value is along neither");
      return P();
    }
  }
};

/// A term that the traits leave out.
struct NoTerm {
  constexpr NoTerm() = default;
  template <class U> AVIARY_HOST_DEVICE constexpr NoTerm(U const&) {
    static_assert(never<U>,
                  "aviary: the map of a rule gives a term that its traits leave out. p goes with an erasure, q with "
                  "Erase::rank_one, and u with Read::before");
  }
};

/// What reaches a field in lanes that have it: pull must give it. A field that is one number gets a sum over lanes of both
/// kinds, to which those that say nothing about it add 0.
template <class P, bool one> struct Gradient {
  P value;

  template <class Missing = void> AVIARY_HOST_DEVICE constexpr Gradient() : value() {
    static_assert(never<Missing>,
                  "aviary: the pull of a rule leaves out a field. It gives the gradients of all of them");
  }
  template <class U> AVIARY_HOST_DEVICE constexpr Gradient(U const& x) : value(converted(x)) {}

 private:
  template <class U> AVIARY_HOST_DEVICE static constexpr P converted(U const& x) {
    if constexpr (std::is_convertible_v<U, P>) {
      return x;
    } else if constexpr (one && std::is_same_v<U, Absent>) {
      return P(0);
    } else {
      static_assert(never<U>, "aviary: the pull of a rule gives a gradient along another axis than its field's");
      return P();
    }
  }
};

}  // namespace lane

namespace detail {

template <Axis A> using AxisTag = std::integral_constant<Axis, A>;

/// The fields of rule R, each as its axis.
template <class R> using Axes = typename R::template Fields<AxisTag>;
template <class R> inline constexpr int field_count = count_members<Axes<R>>();

// What stands behind a field's name: one struct for each meaning that the field list takes.

template <Axis A, Index K, Index V> inline constexpr Index axis_size = A == Axis::value ? V : along_key(A) ? K : 1;

template <class T, Index K, Index V> struct TokenFields {
  template <Axis A> using Per = std::conditional_t<one_number(A), Required<T>, VecView<T const, axis_size<A, K, V>>>;
};

template <Index K, Index V> struct InputFields {
  template <Axis A>
  using Per = std::conditional_t<per_token(A), Source<axis_size<A, K, V>>, HeadSource<axis_size<A, K, V>>>;
};

template <Index K, Index V> struct GradientFields {
  template <Axis A>
  using Per = std::conditional_t<per_token(A), Sink<axis_size<A, K, V>>, HeadSink<axis_size<A, K, V>>>;
};

/// A lane of P along keys or along values: the fields, the terms and the gradients of fields that it has.
template <class P, bool keys> struct Lane {
  template <Axis A> static constexpr bool has = one_number(A) || along_key(A) == keys;
  template <Axis A> using Per = std::conditional_t<has<A>, P, lane::Absent>;
  template <Axis A> using Term = std::conditional_t<has<A>, lane::Term<P>, lane::Absent>;
  template <Axis A> using Gradient = std::conditional_t<has<A>, lane::Gradient<P, one_number(A)>, lane::Absent>;
};

AVIARY_CALLS_ANYTHING_BEGIN
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

AVIARY_CALLS_ANYTHING_END

/// Whether one of the axes is along values.
struct AnyValue {
  template <class... Tags> AVIARY_HOST_DEVICE constexpr bool operator()(Tags...) const {
    return ((Tags::value == Axis::value) || ...);
  }
};

template <Axis> using Place = int;
/// The number of the field log_w; -1 where there is no such field.
template <class R> consteval int decay_field() {
  typename R::template Fields<Place> places{};
  int place = -1;
  if constexpr (requires { places.log_w; })
    with_members<field_count<R>>(places, [&](auto const&... x) {
      int next = 0;
      ((place = &x == &places.log_w ? next : place, ++next), ...);
    });
  return place;
}

/// The axis of log_w; Axis::value where there is no such field.
template <class R> consteval Axis decay_axis() {
  if constexpr (requires(Axes<R> fields) { fields.log_w; })
    return decltype(Axes<R>{}.log_w)::value;
  else
    return Axis::value;
}

}  // namespace detail

/// The decay of rule R: a vector where its field log_w is along keys, a scalar where that is one number, else none.
template <class R>
inline constexpr Gate gate_of = along_key(detail::decay_axis<R>())    ? Gate::vector
                                : one_number(detail::decay_axis<R>()) ? Gate::scalar
                                                                      : Gate::none;

/// One decay for a whole head and all time (WKV-5, RetNet). It is applied as an increment, s + s expm1(log_w): a factor
/// rounded once would repeat the same error at every token.
template <class R>
inline constexpr bool constant_decay = gate_of<R> != Gate::none && !per_token(detail::decay_axis<R>());

namespace detail {

template <class W> struct Decay { W w; };

/// What `map` sees of one lane: the model's inputs, and w = exp(log_w).
template <class R, class P, bool keys>
struct LaneFields : R::template Fields<Lane<P, keys>::template Per>,
                    Decay<std::conditional_t<gate_of<R> == Gate::none, lane::NoDecay, P>> {};

/// The terms that `map` makes of them, of which the traits leave some out.
template <class R, class P, bool keys> struct Terms {
  using Key = typename Lane<P, keys>::template Term<Axis::key>;
  template <bool there> using KeyIf = std::conditional_t<there || !keys, Key, lane::NoTerm>;
  Key r;
  [[no_unique_address]] KeyIf<R::erase != Erase::none> p = {};
  [[no_unique_address]] KeyIf<R::erase == Erase::rank_one> q = {};
  Key k;
  typename Lane<P, keys>::template Term<Axis::value> v;
  [[no_unique_address]] KeyIf<R::read == Read::before> u = {};
};

/// What `pull` sees of one lane beside the model's inputs: the gradients of the terms, and what reaches log_w through the state.
/// With Erase::along_key k stands for the correction as well.
template <class R, class P, bool keys> struct TermGradients {
  using Key = std::conditional_t<keys, P, lane::Absent>;
  template <bool there> using KeyIf = std::conditional_t<there, Key, lane::NoGradient>;
  Key r;
  [[no_unique_address]] KeyIf<R::erase != Erase::none> p;
  [[no_unique_address]] KeyIf<R::erase == Erase::rank_one> q;
  Key k;
  std::conditional_t<keys, lane::Absent, P> v;
  [[no_unique_address]] KeyIf<R::read == Read::before> u;
  [[no_unique_address]] KeyIf<gate_of<R> != Gate::none> log_w;
};

/// What it makes of them: the gradients of the model's inputs.
template <class R, class P, bool keys>
using FieldGradients = typename R::template Fields<Lane<P, keys>::template Gradient>;

}  // namespace detail

/// @name What a rule must have
///@{
template <class R>
concept HasName = requires {
  std::string_view(R::name);
};
template <class R>
concept HasTraits = requires {
  requires std::is_same_v<decltype(R::erase), Erase const>;
  requires std::is_same_v<decltype(R::read), Read const>;
};
template <class R>
concept HasFields = requires {
  typename R::template Fields<detail::AxisTag>;
}
&&std::is_aggregate_v<detail::Axes<R>>;
template <class R>
concept HasValue = detail::with_members<detail::field_count<R>>(detail::Axes<R>{}, detail::AnyValue{});
/// log_w is along keys or one number, and no field is called w, which is what `map` calls its exponential.
template <class R>
concept HasProperDecay = !requires(detail::Axes<R> fields) {
  fields.w;
}
&&(!requires(detail::Axes<R> fields) { fields.log_w; } || gate_of<R> != Gate::none);
/// `backward` alone needs it.
template <class R>
concept HasPull = requires(detail::LaneFields<R, float, true> const& x,
                           detail::TermGradients<R, float, true> const& d) {
  R::template pull<detail::FieldGradients<R, float, true>>(x, d);
};
///@}

namespace detail {
/// Says what a rule lacks. The assertions stand in a function, whose deduced type is asked for, because a class in which one
/// fails has no members for clang, which would complain about every use of them.
template <class R> constexpr auto check_rule() {
  static_assert(HasName<R>, "aviary: a rule needs static constexpr char const* name: what messages and files call it");
  static_assert(HasTraits<R>, "aviary: a rule needs static constexpr Erase erase and static constexpr Read read");
  static_assert(HasFields<R>, "aviary: a rule needs template <template <Axis> class Per> struct Fields, an aggregate");
  static_assert(HasValue<R>, "aviary: a rule needs a field along values, Per<Axis::value>: what it writes");
  static_assert(
      HasProperDecay<R>,
      "aviary: the field log_w of a rule is along keys or one number, and no field is called w: x.w is exp(log_w)");
}

// What a memory derives from its rule, in a form that says nothing more where the rule lacks it.
template <class R> consteval bool erases() {
  if constexpr (HasTraits<R>)
    return R::erase != Erase::none;
  else
    return false;
}
template <class R> consteval char const* name_of_rule() {
  if constexpr (HasName<R>)
    return R::name;
  else
    return "";
}
}  // namespace detail

}  // namespace AVIARY_NAMESPACE
