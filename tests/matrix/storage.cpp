#include <doctest/doctest.h>

#include "aviary/wkv7.hpp"
#include "support/compare.hpp"
#include "support/matrix_case.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

using Rule = AnyRule<Gate::vector, Erase::rank_one, Read::after>;

template <class S, Index K, Index V> MatrixResult run(MatrixCase const& c) {
  using M = MatrixMemory<Rule, float, K, V, S>;
  MatrixCall<M> call(c);
  REQUIRE(M::check(call.call()) == "");
  M::forward(call.call());
  return call.result();
}

}  // namespace

static_assert(sizeof(Wkv7<float, 64, 64, bf16>::State) == 64 * 64 * 2);
static_assert(sizeof(Wkv7<float, 64>::State) == 64 * 64 * 4);

TEST_CASE_TEMPLATE("storage: a state in 16 bits keeps the error that its type documents", S, bf16, f16) {
  auto const check = [](Decay decay, double bound) {
    CAPTURE(name(decay));
    MatrixCase const c(41, {64, 64, 1, {0, 1000}}, Gate::vector, Erase::rank_one, false, decay);
    MatrixResult const expected = reference_result(c, Rule::read), result = run<S, 64, 64>(c);
    CHECK(l2_error(result.y, expected.y) <= bound * roundoff<S>);
    CHECK(l2_error(result.state, expected.state) <= bound * roundoff<S>);
    CHECK(l2_error(result.y, expected.y) > 0.05 * roundoff<S>);  // it is rounded
  };
  check(Decay::wkv7, 0.75);
  check(Decay::slow, 4);
}

TEST_CASE_TEMPLATE("storage: fixed and dynamic sizes, forward and step agree", S, bf16, f16) {
  MatrixCase const c(42, {16, 40, 2, {0, 1, 30}}, Gate::vector, Erase::rank_one, false, Decay::wkv7);
  MatrixResult const fixed = run<S, 16, 40>(c), sized = run<S, dynamic, dynamic>(c);
  // A probe reads the state before or after its rounding, as tiles end.
  CHECK(l2_error(sized.y, fixed.y) <= 3 * roundoff<S>);
  CHECK(l2_error(sized.state, fixed.state) <= 3 * roundoff<S>);
  using M = MatrixMemory<Rule, float, 16, 40, S>;
  MatrixCall<M> steps(c);
  for (Index s = 0; s < 2; ++s)
    for (Index h = 0; h < 2; ++h)
      for (Index t = c.shape.offsets[to_size(s)]; t < c.shape.offsets[to_size(s + 1)]; ++t)
        M::step(steps.states[to_size(2 * s + h)], steps.token(t, h), steps.output(t, h));
  CHECK(l2_error(steps.result().y, fixed.y) <= 3 * roundoff<S>);
}

TEST_CASE("storage: segments and chunks take a state in 16 bits") {
  using M = MatrixMemory<Rule, float, 16, 24, bf16>;
  MatrixCase const c(43, {16, 24, 1, {0, 40}}, Gate::vector, Erase::rank_one, false, Decay::wkv7);
  MatrixResult const expected = reference_result(c, Rule::read);
  MatrixCall<M> chunked(c), segmented(c);
  std::vector<float> workspace(M::chunk_workspace<16>());
  M::chunk<16>(chunked.call(), workspace);
  CHECK(l2_error(chunked.result().state, expected.state) <= 3 * roundoff<bf16>);
  std::vector<M::Segment> segments{M::identity_segment()};
  M::summarize({.x = segmented.inputs(), .segments = segments});
  M::State out{};
  M::apply(segmented.states[0], segments[0], out);
  segmented.states[0] = out;
  CHECK(l2_error(segmented.result().state, expected.state) <= 3 * roundoff<bf16>);
}
