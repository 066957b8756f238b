/// What the verbs owe their callers whatever the numbers: words for wrong shapes, what may be left out, empty contexts.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include "aviary/core/tape.hpp"
#include "support/wkv7_run.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

void says(std::string const& text, std::initializer_list<char const*> parts) {
  for (char const* const part : parts) CHECK_MESSAGE(text.find(part) != std::string::npos, text, " lacks ", part);
}

constexpr Index tokens = 6, heads = 2, size = 16;

template <class M> RuleRun<M> make_run() { return wkv7_run<M>(Wkv7Inputs<double>(7, tokens, heads, size, size)); }

using Fixed = Wkv7<float, size>;
using Dynamic = Wkv7<float, dynamic>;

}  // namespace

TEST_CASE("check: step says which input has another size") {
  auto c = make_run<Dynamic>();
  auto& x = c.x.numbers();
  std::vector<float> y(to_size(size));
  CHECK(Dynamic::check(c.states[0], c.token(0, 0), {y.data(), size}) == "");
  auto token = c.token(0, 0);
  token.kappa_hat = {x.r.data(), size - 1};
  says(Dynamic::check(c.states[0], token, {y.data(), size}), {"wkv7: step: kappa_hat has 15 keys, expected 16"});
  says(Dynamic::check(c.states[0], c.token(0, 0), {y.data(), size + 1}), {"step: y has 17 values, expected 16"});
  Dynamic::State none;
  says(Dynamic::check(none, c.token(0, 0), {y.data(), size}), {"1 to 1024 keys and values, found 0 and 0"});
}

TEST_CASE("check: summarize says what is wrong with a call") {
  auto c = make_run<Dynamic>();
  auto& x = c.x.numbers();
  std::vector<Dynamic::Segment> segments(to_size(heads), Dynamic::identity_segment(size, size));
  std::vector<float> m(x.r.size());
  Dynamic::SummarizeCall const good{
      .x = c.inputs(), .segments = segments, .y = c.sink(c.y.data()), .state_weights = {m.data(), tokens, heads, size}};
  CHECK(Dynamic::check(good) == "");
  CHECK(Dynamic::check(Dynamic::SummarizeCall{.x = c.inputs(), .segments = segments}) == "");
  auto bad = good;
  bad.segments = good.segments.first(1);
  says(Dynamic::check(bad), {"summarize: segments has 1 elements, expected 2"});
  bad = good;
  bad.state_weights = {m.data(), tokens, heads, size - 1};
  says(Dynamic::check(bad), {"summarize: state_weights has 15 keys, expected 16"});
  bad = good;
  bad.state_weights = {m.data(), tokens, 1, size};
  says(Dynamic::check(bad), {"summarize: state_weights has 1 heads, expected 2, the heads of y"});
  bad = good;
  bad.x.k = {x.k.data(), tokens - 1, heads, size};
  says(Dynamic::check(bad), {"summarize: k has 5 tokens, y has 6"});
  std::vector<Dynamic::Segment> const wrong(to_size(heads), Dynamic::identity_segment(size, size - 1));
  auto small = wrong;
  bad = good;
  bad.segments = small;
  says(Dynamic::check(bad), {"summarize: segments has a size of 16 x 15", "expected 16 x 16"});
}

TEST_CASE("check: add_initial_state says what is wrong with a call") {
  auto c = make_run<Dynamic>();
  auto& x = c.x.numbers();
  std::vector<Dynamic::State> const states = c.states;
  Dynamic::AddInitialStateCall const good{.state_weights = Source<>(x.r.data(), tokens, heads, size),
                                          .y0 = Source<>(c.y.data(), tokens, heads, size),
                                          .y = c.sink(c.y.data()),
                                          .states = states};
  CHECK(Dynamic::check(good) == "");  // y over y0 is what it is for
  auto bad = good;
  bad.states = good.states.first(1);
  says(Dynamic::check(bad), {"add_initial_state: states has 1 elements, expected 2"});
  bad = good;
  bad.state_weights = Source<>(c.y.data(), tokens, heads, size);
  says(Dynamic::check(bad), {"add_initial_state: y lies where state_weights does"});
  bad = good;
  bad.y0 = {c.y.data(), tokens, heads, size - 1};
  says(Dynamic::check(bad), {"add_initial_state: y0 has 15 values, expected 16"});
}

TEST_CASE("check: outputs over inputs are refused in forward") {
  auto c = make_run<Fixed>();
  auto& x = c.x.numbers();
  says(Fixed::check(Fixed::ForwardCall{.x = c.inputs(), .y = c.sink(x.v.data()), .states = c.states}),
       {"forward: y lies where v does"});
}

TEST_CASE("check: no head is nothing wrong, and nothing to do") {
  auto c = make_run<Fixed>();
  auto& x = c.x.numbers();
  auto const none = [](std::vector<float>& field) { return Source<size>(field.data(), tokens, 0); };
  Fixed::ForwardCall const call{.x = {.r = none(x.r),
                                      .log_w = none(x.log_w),
                                      .k = none(x.k),
                                      .v = none(x.v),
                                      .kappa_hat = none(x.kappa_hat),
                                      .a = none(x.a)},
                                .y = {c.y.data(), tokens, 0},
                                .states = std::span<Fixed::State>()};
  CHECK(Fixed::check(call) == "");
  Fixed::forward(call);
  CHECK(std::all_of(c.y.begin(), c.y.end(), [](float y) { return y == -77.0f; }));
}

TEST_CASE_TEMPLATE("forward, chunk: without y the states go on the same", M, Fixed, Dynamic) {
  auto with = make_run<M>(), without = with, chunked = with, chunked_without = with;
  M::forward({.x = with.inputs(), .y = with.sink(with.y.data()), .states = with.states});
  typename M::ForwardCall const call{.x = without.inputs(), .states = without.states};
  CHECK(M::check(call) == "");
  M::forward(call);
  check_that(without.states == with.states, "states of forward");
  check_that(with.states != make_run<M>().states, "states that moved");

  std::vector<float> workspace(M::template chunk_workspace<4>(size, size));
  M::template chunk<4>({.x = chunked.inputs(), .y = chunked.sink(chunked.y.data()), .states = chunked.states},
                       workspace);
  M::template chunk<4>({.x = chunked_without.inputs(), .states = chunked_without.states}, workspace);
  check_that(chunked_without.states == chunked.states, "states of chunk");
}

TEST_CASE("rewind: without y goes back as with it") {
  auto c = make_run<Fixed>();
  std::vector<Fixed::State> kept(to_size(tokens * heads)), half = c.states;
  std::vector<Index> const first_half{0, tokens / 2};
  Fixed::forward({.x = c.inputs(), .states = half, .offsets = first_half});
  Fixed::ForwardCall const call{.x = c.inputs(), .states = c.states, .tape = {.every = 1, .states = kept}};
  REQUIRE(Fixed::check(call) == "");
  Fixed::forward(call);
  CHECK(rewind(call, 0, tokens / 2) == tokens / 2);
  for (std::size_t h = 0; h < to_size(heads); ++h)
    CHECK(max_error(std::span(&c.states[h].s[0][0], size * size), std::span(&half[h].s[0][0], size * size)) <= 1e-6);
}

TEST_CASE("step: in place of an input gives the same bits") {
  using Numbers = FieldNumbers<Wkv7Rule, float>;
  auto const c = make_run<Fixed>();
  std::vector<float> apart(to_size(size));
  Fixed::State s = c.states[0];
  Fixed::step(s, c.token(0, 0), apart.data());
  for (auto const field : {&Numbers::r, &Numbers::v, &Numbers::a}) {
    auto one = make_run<Fixed>();
    std::vector<float>& y = one.x.numbers().*field;
    Fixed::step(one.states[0], one.token(0, 0), y.data());
    y.resize(to_size(size));
    check_equal(y, apart);
    check_that(one.states[0] == s, "the state");
  }
}

TEST_CASE("state: one way to make an empty context, whatever the sizes") {
  static_assert(std::is_trivially_copyable_v<Fixed::State>);
  Dynamic::State const dynamic_size(size, size);
  check_that(std::ranges::all_of(std::span(dynamic_size.view().s, size * size), [](float e) { return e == 0; }),
             "a dynamic state is empty");
  alignas(Fixed::State) unsigned char memory[sizeof(Fixed::State)];
  Fixed::State const* made[2];
  for (int way = 0; way < 2; ++way) {
    std::memset(memory, 0x7f, sizeof(memory));  // what was there before
    made[way] = way == 0 ? new (memory) Fixed::State : new (memory) Fixed::State(size, size);
    check_that(std::ranges::all_of(std::span(made[way]->view().s, size * size), [](float e) { return e == 0; }),
               "a fixed state is empty");
  }
}

TEST_CASE_TEMPLATE("state: clear makes it empty", M, Fixed, Dynamic) {
  auto c = make_run<M>();
  M::forward({.x = c.inputs(), .states = c.states});
  for (auto& state : c.states) {
    CHECK(state != typename M::State(size, size));
    state.clear();
    CHECK(state == typename M::State(size, size));
  }
}
