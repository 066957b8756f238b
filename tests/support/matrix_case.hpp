#pragma once
/// Random packed sequences through rules with every combination of traits, and what the reference makes of them.
#include <string>
#include <utility>
#include <vector>

#include "aviary/matrix/memory.hpp"
#include "support/gradient_case.hpp"
#include "support/random.hpp"

namespace aviary::test {

/// What a rule whose fields are the terms themselves is made of but for its fields.
template <Erase E, Read D> struct AnyTraits {
  static constexpr char const* name = "any";
  static constexpr Erase erase = E;
  static constexpr Read read = D;
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    if constexpr (E == Erase::none && D == Read::before)
      return {.r = x.r, .k = x.k, .v = x.v, .u = x.u};
    else if constexpr (E == Erase::none)
      return {.r = x.r, .k = x.k, .v = x.v};
    else if constexpr (E == Erase::along_key && D == Read::before)
      return {.r = x.r, .p = x.p, .k = x.k, .v = x.v, .u = x.u};
    else if constexpr (E == Erase::along_key)
      return {.r = x.r, .p = x.p, .k = x.k, .v = x.v};
    else if constexpr (D == Read::before)
      return {.r = x.r, .p = x.p, .q = x.q, .k = x.k, .v = x.v, .u = x.u};
    else
      return {.r = x.r, .p = x.p, .q = x.q, .k = x.k, .v = x.v};
  }
  /// A field that is no term has a gradient of 0.
  template <class Gradients> AVIARY_HOST_DEVICE static constexpr Gradients pull(auto const& x, auto const& d) {
    auto const zero = decltype(x.r)(0);
    auto const p = [&] {
      if constexpr (E != Erase::none)
        return d.p;
      else
        return zero;
    }();
    auto const q = [&] {
      if constexpr (E == Erase::rank_one)
        return d.q;
      else
        return zero;
    }();
    auto const u = [&] {
      if constexpr (D == Read::before)
        return d.u;
      else
        return zero;
    }();
    if constexpr (requires { x.log_w; })
      return {.r = d.r, .log_w = d.log_w, .p = p, .q = q, .k = d.k, .v = d.v, .u = u};
    else
      return {.r = d.r, .p = p, .q = q, .k = d.k, .v = d.v, .u = u};
  }
};

/// A rule with these traits. The decay is of every token or, with `constant`, of a head.
template <Gate G, Erase E, Read D, bool constant = false> struct AnyRule : AnyTraits<E, D> {
  static constexpr Axis decay =
      constant ? (G == Gate::vector ? Axis::head_key : Axis::head_one) : (G == Gate::vector ? Axis::key : Axis::one);
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r;
    Per<decay> log_w;
    Per<Axis::key> p, q, k;
    Per<Axis::value> v;
    Per<Axis::head_key> u;
  };
};
template <Erase E, Read D, bool constant> struct AnyRule<Gate::none, E, D, constant> : AnyTraits<E, D> {
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r, p, q, k;
    Per<Axis::value> v;
    Per<Axis::head_key> u;
  };
};

/// Inputs for AnyRule: probes of unit length that are written back nearly against themselves, so that no state explodes.
/// All numbers are there, whatever the traits use of them.
struct MatrixCase {
  Shape shape;
  Gate gate;
  Erase erase;
  bool constant;
  std::vector<float> r, log_w, p, q, k, v, u, state;  // state (sequences, heads, V, K)

  MatrixCase(std::uint64_t seed, Shape shape, Gate gate, Erase erase, bool constant, Decay decay);

  /// Under the names of the fields of rule R, which has the traits of the case.
  template <class R> RuleCase<R> of() const {
    auto const numbers = [](std::vector<float> const& x) { return std::vector<double>(x.begin(), x.end()); };
    if constexpr (gate_of<R> == Gate::none)
      return {shape,
              {.r = numbers(r), .p = numbers(p), .q = numbers(q), .k = numbers(k), .v = numbers(v), .u = numbers(u)},
              numbers(state)};
    else
      return {shape,
              {.r = numbers(r),
               .log_w = numbers(log_w),
               .p = numbers(p),
               .q = numbers(q),
               .k = numbers(k),
               .v = numbers(v),
               .u = numbers(u)},
              numbers(state)};
  }
};

/// The generic recurrence in double, head by head, of a rule that reads the state as told.
MatrixResult reference_result(MatrixCase const& c, Read read);

/// The terms of the generic recurrence in double, (tokens, heads, size) each: what fields of AnyRule say for heads, for groups
/// of them or for keys together is spelled out for each token, head and key.
struct Terms {
  Shape shape;
  Gate gate;
  Erase erase;
  Read read;
  std::vector<double> r, log_w, p, q, k, v, u;
};
MatrixResult reference_result(Terms const& x, std::vector<double> const& state);
/// The gradients with respect to the terms, and to the initial states.
std::pair<Terms, std::vector<double>> reference_gradients(Terms const& x, std::vector<double> const& state,
                                                          std::vector<double> const& dy,
                                                          std::vector<double> const& dstates);

/// The term that goes by the name of a field.
inline std::vector<double>& term(Terms& x, std::string const& name) {
  return name == "r"       ? x.r
         : name == "log_w" ? x.log_w
         : name == "p"     ? x.p
         : name == "q"     ? x.q
         : name == "k"     ? x.k
         : name == "v"     ? x.v
                           : x.u;
}

/// f(number of the term, number of the field) for each pair of them: a number of a field may be that of many terms.
template <class F> void for_numbers_of_term(Shape const& shape, Axis axis, std::size_t field_numbers, F&& f) {
  Index const size = axis == Axis::value ? shape.values : shape.keys, own = one_number(axis) ? 1 : size;
  Index const heads = static_cast<Index>(field_numbers) / (own * (per_token(axis) ? shape.tokens() : 1));
  for (Index t = 0; t < shape.tokens(); ++t)
    for (Index h = 0; h < shape.heads; ++h)
      for (Index i = 0; i < size; ++i)
        f(to_size((t * shape.heads + h) * size + i),
          to_size(((per_token(axis) ? t * heads : 0) + h * heads / shape.heads) * own + (one_number(axis) ? 0 : i)));
}

/// The terms of a case of AnyRule.
template <class R> Terms terms_of(RuleCase<R> const& c) {
  std::size_t const rows = to_size(c.shape.tokens() * c.shape.heads);
  std::vector<double> const keys(rows * to_size(c.shape.keys)), values(rows * to_size(c.shape.values));
  Terms x{c.shape, gate_of<R>, R::erase, R::read, keys, keys, keys, keys, keys, values, keys};
  FieldNumbers<R> numbers = c.x;
  for (NamedNumbers const& field : named_fields<R>(numbers)) {
    auto& to = term(x, field.name);
    for_numbers_of_term(c.shape, field.axis, field.numbers->size(),
                        [&](std::size_t of_term, std::size_t of_field) { to[of_term] = (*field.numbers)[of_field]; });
  }
  return x;
}
template <class R> MatrixResult reference_result(RuleCase<R> const& c) {
  return reference_result(terms_of(c), c.state);
}
/// The gradients of a case of AnyRule: that of a number of a field is the sum over its terms.
template <class R> GradientResult<R> reference_gradients(GradientCase<R> const& c) {
  auto [d, dstates] = reference_gradients(terms_of<R>(c), c.state, c.dy, c.dstates);
  GradientResult<R> g{c.x, std::move(dstates)};
  for (NamedNumbers const& field : named_fields<R>(g.dx)) {
    auto const& from = term(d, field.name);
    field.numbers->assign(field.numbers->size(), 0);
    for_numbers_of_term(c.shape, field.axis, field.numbers->size(), [&](std::size_t of_term, std::size_t of_field) {
      (*field.numbers)[of_field] += from[of_term];
    });
  }
  return g;
}

/// A case with these heads of r, p, q and k alone, each shared by as many value heads: those of other heads are left out.
template <class R> RuleCase<R> with_shared_keys(RuleCase<R> c, Index heads) {
  for (NamedNumbers const& field : named_fields<R>(c.x)) {
    std::string const name = field.name;
    if (name == "log_w" || name == "v" || name == "u") continue;
    std::vector<double> shared;
    Index const group = c.shape.heads / heads, size = c.shape.keys;
    for (Index row = 0; row < c.shape.tokens() * heads; ++row)
      for (Index j = 0; j < size; ++j) shared.push_back((*field.numbers)[to_size(row * group * size + j)]);
    *field.numbers = std::move(shared);
  }
  return c;
}

/// Four value heads of which two share r, p, q and k.
template <class R> GradientCase<R> gradient_case(Index keys, Index values, std::vector<Index> offsets) {
  constexpr bool constant = constant_decay<R>;
  MatrixCase const c(23, {keys, values, 4, std::move(offsets)}, gate_of<R>, R::erase, constant,
                     constant ? Decay::slow : Decay::wkv7);
  return with_gradients(31, with_shared_keys(c.of<R>(), 2));
}

/// A case in the numbers of memory M.
template <class M> struct MatrixCall : RuleRun<M> {
  explicit MatrixCall(MatrixCase const& c) : RuleRun<M>(c.of<typename M::Rule>()) {}
};

/// f.operator()<G, E, D>() for all 18 combinations of traits.
template <class F> void for_each_combination(F&& f) {
  auto const reads = [&]<Gate G, Erase E>() {
    f.template operator()<G, E, Read::before>();
    f.template operator()<G, E, Read::after>();
  };
  auto const erases = [&]<Gate G>() {
    reads.template operator()<G, Erase::none>();
    reads.template operator()<G, Erase::along_key>();
    reads.template operator()<G, Erase::rank_one>();
  };
  erases.template operator()<Gate::none>();
  erases.template operator()<Gate::scalar>();
  erases.template operator()<Gate::vector>();
}

/// The same for 9 of them, or for the other 9, among which every two values of different traits meet.
template <bool others = false, class F> void for_each_pair_of_traits(F&& f) {
  for_each_combination([&]<Gate G, Erase E, Read D>() {
    if constexpr ((static_cast<int>(G) + static_cast<int>(E) + static_cast<int>(D)) % 2 == others)
      f.template operator()<G, E, D>();
  });
}

/// All combinations; with AVIARY_TEST_ONE_SIZE those that for_each_pair_of_traits leaves out.
template <class F> void for_each_combination_in_turn(F&& f) {
#if defined(AVIARY_TEST_ONE_SIZE)
  for_each_pair_of_traits<true>(f);
#else
  for_each_combination(f);
#endif
}

inline char const* name(Gate g) { return g == Gate::none ? "none" : g == Gate::scalar ? "scalar" : "vector"; }
inline char const* name(Erase e) {
  return e == Erase::none ? "none" : e == Erase::along_key ? "along_key" : "rank_one";
}
inline char const* name(Read r) { return r == Read::before ? "before" : "after"; }

}  // namespace aviary::test
