/// Gradients of a rule with fields of every axis, each with its own number of heads: what sums they are.
#include <doctest/doctest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "support/eager.hpp"
#include "support/matrix_case.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

/// S' = S (w I - w k (b k)^T) + b c v (b k)^T,  w = exp(log_w): the rate b scales what keys are written, and values.
struct EveryAxis {
  static constexpr char const* name = "every_axis";
  static constexpr Erase erase = Erase::along_key;
  static constexpr Read read = Read::before;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r, k;
    Per<Axis::value> v;
    Per<Axis::one> log_w, b;
    Per<Axis::head_key> u;
    Per<Axis::head_one> c;
  };
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    return {.r = x.r, .p = x.w * x.k, .k = x.b * x.k, .v = x.b * x.c * x.v, .u = x.u};
  }
  template <class Gradients> AVIARY_HOST_DEVICE static constexpr Gradients pull(auto const& x, auto const& d) {
    return {.r = d.r,
            .k = x.w * d.p + x.b * d.k,
            .v = x.b * x.c * d.v,
            .log_w = d.log_w + x.w * x.k * d.p,
            .b = x.k * d.k + x.c * x.v * d.v,
            .u = d.u,
            .c = x.b * x.v * d.v};
  }
};

using Fields = FieldNumbers<EveryAxis>;

/// Of four heads of y, r has 4, k 2, v 2, log_w 4, b 1, u 2 and c 4.
GradientCase<EveryAxis> make_case(Index keys, Index values, std::vector<Index> offsets) {
  Shape const shape{keys, values, 4, std::move(offsets)};
  Index const tokens = shape.tokens();
  Random random(51);
  Fields x{.r = random.normals<double>(tokens * 4 * keys),
           .k = random.units<double>(tokens * 2, keys),
           .v = random.normals<double>(tokens * 2 * values),
           .log_w = random.log_decays<double>(tokens * 4, Decay::wkv7),
           .b = random.rates<double>(tokens),
           .u = random.normals<double>(2 * keys),
           .c = random.normals<double>(4)};
  auto state = random.normals<double>(shape.sequences() * 4 * values * keys);
  return with_gradients(52, RuleCase<EveryAxis>{shape, std::move(x), std::move(state)});
}

/// The terms of its map, written out, through the generic recurrence.
MatrixResult reference(RuleCase<EveryAxis> const& c) {
  std::map<std::string, std::vector<double>> of;  // each token's, head's and key's or value's
  Index const keys = c.shape.keys, values = c.shape.values, rows = c.shape.tokens() * c.shape.heads;
  Fields fields = c.x;
  for (NamedNumbers const& field : named_fields<EveryAxis>(fields)) {
    auto& to = of[field.name];
    to.resize(to_size(rows * (field.axis == Axis::value ? values : keys)));
    for_numbers_of_term(c.shape, field.axis, field.numbers->size(),
                        [&](std::size_t all, std::size_t own) { to[all] = (*field.numbers)[own]; });
  }
  Terms x{c.shape, Gate::scalar, EveryAxis::erase, EveryAxis::read, of["r"], of["log_w"],
          of["k"], of["k"],      of["k"],          of["v"],         of["u"]};
  for (std::size_t i = 0; i < x.k.size(); ++i) {
    x.p[i] *= std::exp(x.log_w[i]);
    x.k[i] *= of["b"][i];
  }
  for (std::size_t i = 0; i < x.v.size(); ++i) {
    std::size_t const row = i / to_size(values) * to_size(keys);
    x.v[i] *= of["b"][row] * of["c"][row];
  }
  return reference_result(x, c.state);
}

}  // namespace

TEST_CASE("gradients: fields of every axis and any number of heads agree with central differences") {
  auto const check = [&]<class M>(Index keys, Index values) {
    auto const c = make_case(keys, values, {0, 0, 1, 12});
    check_differences(c, gradients_of<M>(c, {.every = 5}), reference);
  };
  check.operator()<MatrixMemory<EveryAxis, double, dynamic, dynamic>>(5, 7);
  check.operator()<MatrixMemory<EveryAxis, double, 8, 70>>(8, 70);  // values in two stretches
}

TEST_CASE("gradients: fields of every axis in float are those in double, with the same bits whatever the executor") {
  using M = MatrixMemory<EveryAxis, float, dynamic, dynamic>;
  for (Index const values : {24, 150}) {
    Note const note_values("values", values);
    auto const c = make_case(16, values, {0, 0, 1, 41});
    GradientRun<M> forwarded(c);
    forwarded.forward();
    auto const by = [&](auto&& executor) {
      GradientRun<M> run = forwarded;
      return run.backward(executor).result();
    };
    auto const serial = by(Serial());
    check_gradients(serial, gradients_of<MatrixMemory<EveryAxis, double, dynamic, dynamic>>(c), matrix_bound<float>);
    for (Index const concurrency : {2, 5, 64}) {
      Note const note("concurrency", concurrency);
      check_same_gradients(by(Backwards{concurrency}), serial);
    }
  }
}

TEST_CASE_TEMPLATE("gradients: what heads share is added up before it is rounded to 16 bits", S, bf16, f16) {
  using M = MatrixMemory<EveryAxis, float, dynamic, dynamic>;
  auto const c = make_case(16, 24, {0, 0, 1, 41});
  GradientRun<M> wide(c);
  GradientRun<M, float, S> narrowed(c);
  wide.forward().backward();
  narrowed.forward().backward();
  check_same_gradients(narrowed.result(), rounded<S>(wide.result()));
}
