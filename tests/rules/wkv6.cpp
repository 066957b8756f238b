#include "aviary/wkv6.hpp"

#include "rules/check_model.hpp"

using namespace aviary;
using namespace aviary::test;

TEST_CASE_TEMPLATE("wkv6: forward, step and backward agree with the reference", Model, Wkv6Model, FinchC2Model) {
  check_model<Model>();
}

/// With slow decays it writes little into large states, and should not be narrow: see MatrixMemory.
TEST_CASE_TEMPLATE("wkv6: FinchC2 with a state in 16 bits keeps the error that its type documents", S, bf16, f16) {
  auto const c = draw_case<FinchC2Model>(41, {64, 64, 1, {0, 1000}}, Decay::wkv7);
  MatrixResult const expected = reference_of<FinchC2Model::Reference>(c);
  MatrixResult const result = RuleRun<FinchC2<float, 64, 64, S>>(c).forward().result();
  CHECK(l2_error(result.y, expected.y) <= 0.75 * roundoff<S>);
  CHECK(l2_error(result.state, expected.state) <= 0.75 * roundoff<S>);
  CHECK(l2_error(result.y, expected.y) > 0.05 * roundoff<S>);  // it is rounded
}
