/// A decay that is the same at every token repeats the rounding error of its factor. Applied as an increment it does not.
#include "rules/check_model.hpp"
#include "support/worst.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

constexpr Sizes sizes = Sizes::k16_v24;
Shape const shape{16, 24, 2, {0, 1024}};

template <class R> double error_of(RuleCase<R> const& c, Arithmetic number, MatrixResult const& expected) {
  MatrixResult const x = Memories<R>::forward(c, number, sizes);
  Worst worst;
  worst.add(max_error(x.y, expected.y).value);
  worst.add(max_error(x.state, expected.state).value);
  return worst;
}

}  // namespace

TEST_CASE_TEMPLATE("constant_decay: 1024 tokens of slow decay stay within the bound", Model, Wkv5Model,
                   Wkv5PerHeadModel, RetNetModel) {
  using R = typename Model::Rule;
  auto const c = draw_case<Model>(31, shape, Decay::slow);
  MatrixResult const expected = reference_of<typename Model::Reference>(c);
  for (Arithmetic const number : {Arithmetic::float32, Arithmetic::float64})
    check_that(error_of<R>(c, number, expected) <= matrix_bound_of(number), name(number));
  check_close(Memories<R>::steps(c, Arithmetic::float32, sizes), expected, matrix_bound<float>);
}

TEST_CASE("constant_decay: a factor, as WKV-6 has it, would not") {
  auto const c = draw_case<Wkv5Model>(31, shape, Decay::slow);
  RuleCase<Wkv6Model::Rule> general{shape, {.r = c.x.r, .log_w = {}, .k = c.x.k, .v = c.x.v, .u = c.x.u}, c.state};
  for (Index t = 0; t < shape.tokens(); ++t)
    general.x.log_w.insert(general.x.log_w.end(), c.x.log_w.begin(), c.x.log_w.end());
  MatrixResult const expected = reference_of<reference::Wkv5<double>>(c);
  double const increment = error_of(c, Arithmetic::float32, expected),
               factor = error_of(general, Arithmetic::float32, expected);
  CHECK(factor > matrix_bound<float>);
  CHECK(factor > 4 * increment);
}
