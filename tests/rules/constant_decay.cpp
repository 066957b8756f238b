/// A decay that is the same at every token repeats the rounding error of its factor. Applied as an increment it does not.
#include "rules/check_model.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

Shape const shape{32, 32, 2, {0, 1024}};

template <class M, class Case> double error_of(Case const& c, MatrixResult const& expected) {
  MatrixResult const x = RuleRun<M>(c).forward().result();
  return std::max(max_error(x.y, expected.y).value, max_error(x.state, expected.state).value);
}

template <class Model> void check_increment() {
  auto const c = draw_case<Model>(31, shape, Decay::slow);
  MatrixResult const expected = reference_of<typename Model::Reference>(c);
  CHECK(error_of<typename Model::template Memory<float, 32>>(c, expected) <= matrix_bound<float>);
  CHECK(error_of<typename Model::template Memory<double, 32>>(c, expected) <= matrix_bound<double>);
  check_close(RuleRun<typename Model::template Memory<float, 32>>(c).steps().result(), expected, matrix_bound<float>);
}

}  // namespace

TEST_CASE_TEMPLATE("constant_decay: 1024 tokens of slow decay stay within the bound", Model, Wkv5Model,
                   Wkv5PerHeadModel, RetNetModel) {
  check_increment<Model>();
}

TEST_CASE("constant_decay: a factor, as WKV-6 has it, would not") {
  auto const c = draw_case<Wkv5Model>(31, shape, Decay::slow);
  RuleCase<Wkv6Model::Rule> general{shape, {.r = c.x.r, .log_w = {}, .k = c.x.k, .v = c.x.v, .u = c.x.u}, c.state};
  for (Index t = 0; t < shape.tokens(); ++t)
    general.x.log_w.insert(general.x.log_w.end(), c.x.log_w.begin(), c.x.log_w.end());
  MatrixResult const expected = reference_of<reference::Wkv5<double>>(c);
  double const increment = error_of<Wkv5<float, 32>>(c, expected),
               factor = error_of<Wkv6<float, 32>>(general, expected);
  CHECK(factor > matrix_bound<float>);
  CHECK(factor > 4 * increment);
}
