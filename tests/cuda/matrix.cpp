#include <limits>

#include "cuda/matrix_suite.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

/// The hardest traits, and so many values that two blocks share a head.
using Rule = AnyRule<Gate::vector, Erase::rank_one, Read::before>;
using M = MatrixMemory<Rule, float, 24, 296>;
constexpr Index every = cuda::Backward<M>::longest_interval;
static_assert(cuda::Backward<M>::slices > 1 && cuda::WideForward<M>::slices > 1);

GradientCase<Rule> make_case(std::vector<Index> offsets = packed_tokens) {
  return gradient_case<Rule>(M::keys, M::values, std::move(offsets));
}
RuleRun<Device<M>> make_run(std::vector<Index> offsets = packed_tokens) {
  return RuleRun<Device<M>>(make_case(std::move(offsets)));
}

}  // namespace

TEST_CASE("matrix kernels: a memory with sizes that are no powers of two") {
  check_memory<M>();
  check_widths<M>(make_case());
}

TEST_CASE_TEMPLATE("matrix kernels, forward: long sequences in pieces", N, M,
                   MatrixMemory<AnyRule<Gate::scalar, Erase::none, Read::after, true>, float, 80, 16>) {
  check_pieces<N>(gradient_case<typename N::Rule>(N::keys, N::values, packed_tokens));
}

TEST_CASE("matrix kernels, forward: what every memory owes") {
  check_packed(make_run());
  check_whole_groups(make_run({0, 40}));
  check_states_apart(make_run());
  check_tape(make_run({0, 0, 1, 9, 41}));
  check_bands(make_run({0, 7}));
  check_outside(make_run({0, 30}), 7, 19, [](auto& run, Index t) {
    for (auto* const field : {&run.x.numbers().r, &run.x.numbers().v}) {
      Index const each = static_cast<Index>(field->size()) / 30;
      for (Index i = 0; i < each; ++i) (*field)[to_size(t * each + i)] = std::numeric_limits<float>::quiet_NaN();
    }
  });
}

TEST_CASE("matrix kernels, backward: what is not wanted changes no bit of what is") {
  GradientRun<Device<M>> given(make_case({0, 3, 30}), {.every = every});
  given.forward();
  auto const expected = by_rounds<M>(given, 30).result();
  constexpr int fields = aviary::detail::field_count<Rule>;
  for (int wanted = -1; wanted < fields; ++wanted) {
    Note const note("field", wanted);
    auto run = given;
    run.make_room();
    auto call = run.call();
    int field = 0;
    call.dx = aviary::detail::transform_fields<Rule, M::Gradients>(
        call.dx, [&]<class S>(auto, S const& sink) { return field++ == wanted ? sink : S(); });
    Device<M>::backward(call);
    auto alone = expected;
    auto const numbers = named_fields<Rule>(alone.dx);
    for (int f = 0; f < fields; ++f)
      if (f != wanted) numbers[to_size(f)].numbers->assign(numbers[to_size(f)].numbers->size(), -77);
    check_same_gradients(run.result(), alone);
  }
  GradientRun<Device<M>> zero = given, none = given;  // no gradients of final states
  for (auto& state : zero.dstates) state.clear();
  zero = by_rounds<M>(zero, 30);
  for (Index const round : {every, Index{30}}) {
    none.workspace.assign(to_size(cuda::backward_plan<M>(none.inputs(), 4, 2, every, round)), -77);
    auto call = none.call();
    call.dstates = {};
    Device<M>::backward(call);
    none.dstates = zero.dstates;
    check_same_gradients(none.result(), zero.result());
  }
}

TEST_CASE("matrix kernels, backward: a sequence without a token, and no sequence") {
  GradientRun<Device<M>> empty(make_case({0, 4}), {.every = every});
  empty.offsets = {0, 0};
  GradientRun<Device<M>> none = empty;
  none.offsets = {0}, none.states.clear(), none.dstates.clear();
  for (auto const& given : {empty, none}) {
    auto run = given;
    run.forward();
    auto const g = by_rounds<M>(run, 1).result(), before = given.result();
    check_equal(g.dx.u, std::vector<double>(g.dx.u.size()));
    check_equal(g.dx.v, before.dx.v);
    check_that(g.dstates == before.dstates, "gradients of states go through");
  }
}

TEST_CASE_TEMPLATE("matrix kernels: inputs and gradients in 16 bits", S, bf16, f16) {
  auto c = make_case({0, 1, 1, 40});
  for (NamedNumbers const& field : named_fields<Rule>(c.x))
    for (double& e : *field.numbers) e = double{widen(narrow<S>(e))};
  for (double& e : c.dy) e = double{widen(narrow<S>(e))};
  Keep const keep{.every = every, .readings = true};
  GradientRun<Device<M>, S, float> wide(c, keep);
  GradientRun<Device<M>, float, S> narrowed(c, keep);
  wide.forward(), narrowed.forward();
  check_equal(wide.y, narrowed.y);
  wide.backward(), narrowed.backward();
  check_close(RuleRun<Device<M>>(c).forward().result(), reference_result(c), matrix_bound<float>);
  check_gradients(wide.result(), reference_gradients(c), matrix_bound<float>);
  check_same_gradients(narrowed.result(), rounded<S>(wide.result()));
}
