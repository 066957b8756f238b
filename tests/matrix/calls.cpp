/// What the verbs owe their callers whatever the numbers: words for wrong shapes, what may be left out, empty contexts.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include "aviary/core/tape.hpp"
#include "aviary/wkv7.hpp"
#include "support/check.hpp"
#include "support/random.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

void says(std::string const& text, std::initializer_list<char const*> parts) {
  for (char const* const part : parts) CHECK_MESSAGE(text.find(part) != std::string::npos, text, " lacks ", part);
}

constexpr Index tokens = 6, heads = 2, size = 16;

/// Tokens for Wkv7 of head size 16, for fixed or dynamic sizes.
template <class M> struct Call {
  std::vector<float> r, log_w, k, v, kappa_hat, a, y;
  std::vector<typename M::State> states;

  Call() {
    Random random(7);
    for (auto* const field : {&r, &log_w, &k, &v, &kappa_hat, &a})
      for (Index i = 0; i < tokens * heads * size; ++i)
        field->push_back(static_cast<float>(0.1 * random.normal() - (field == &log_w ? 0.5 : 0.0)));
    y.assign(r.size(), -77.0f);
    states.assign(to_size(heads), typename M::State(size, size));
  }
  Source<M::keys> source(std::vector<float> const& x) const { return {x.data(), tokens, heads, size}; }
  Sink<M::keys> sink(std::vector<float>& x) const { return {x.data(), tokens, heads, size}; }
  typename M::Inputs x() const {
    return {.r = source(r),
            .log_w = source(log_w),
            .k = source(k),
            .v = source(v),
            .kappa_hat = source(kappa_hat),
            .a = source(a)};
  }
  typename M::Token token() const {
    auto const view = [](std::vector<float> const& field) { return VecView<float const, M::keys>(field.data(), size); };
    return {.r = view(r), .log_w = view(log_w), .k = view(k), .v = view(v), .kappa_hat = view(kappa_hat), .a = view(a)};
  }
};

using Fixed = Wkv7<float, size>;
using Dynamic = Wkv7<float, dynamic>;

}  // namespace

TEST_CASE("check: step says which input has another size") {
  Call<Dynamic> c;
  std::vector<float> y(to_size(size));
  CHECK(Dynamic::check(c.states[0], c.token(), {y.data(), size}) == "");
  auto token = c.token();
  token.kappa_hat = {c.r.data(), size - 1};
  says(Dynamic::check(c.states[0], token, {y.data(), size}), {"wkv7: step: kappa_hat has 15 keys, expected 16"});
  says(Dynamic::check(c.states[0], c.token(), {y.data(), size + 1}), {"step: y has 17 values, expected 16"});
  Dynamic::State none;
  says(Dynamic::check(none, c.token(), {y.data(), size}), {"1 to 1024 keys and values, found 0 and 0"});
}

TEST_CASE("check: summarize says what is wrong with a call") {
  Call<Dynamic> c;
  std::vector<Dynamic::Segment> segments(to_size(heads), Dynamic::identity_segment(size, size));
  std::vector<float> m(c.r.size());
  Dynamic::SummarizeCall const good{
      .x = c.x(), .segments = segments, .y = c.sink(c.y), .state_weights = {m.data(), tokens, heads, size}};
  CHECK(Dynamic::check(good) == "");
  CHECK(Dynamic::check(Dynamic::SummarizeCall{.x = c.x(), .segments = segments}) == "");
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
  bad.x.k = {c.k.data(), tokens - 1, heads, size};
  says(Dynamic::check(bad), {"summarize: k has 5 tokens, y has 6"});
  std::vector<Dynamic::Segment> const wrong(to_size(heads), Dynamic::identity_segment(size, size - 1));
  auto small = wrong;
  bad = good;
  bad.segments = small;
  says(Dynamic::check(bad), {"summarize: segments has a size of 16 x 15", "expected 16 x 16"});
}

TEST_CASE("check: add_initial_state says what is wrong with a call") {
  Call<Dynamic> c;
  std::vector<Dynamic::State> const states = c.states;
  Dynamic::AddInitialStateCall const good{
      .state_weights = c.source(c.r), .y0 = c.source(c.y), .y = c.sink(c.y), .states = states};
  CHECK(Dynamic::check(good) == "");  // y over y0 is what it is for
  auto bad = good;
  bad.states = good.states.first(1);
  says(Dynamic::check(bad), {"add_initial_state: states has 1 elements, expected 2"});
  bad = good;
  bad.state_weights = c.source(c.y);
  says(Dynamic::check(bad), {"add_initial_state: y lies where state_weights does"});
  bad = good;
  bad.y0 = {c.y.data(), tokens, heads, size - 1};
  says(Dynamic::check(bad), {"add_initial_state: y0 has 15 values, expected 16"});
}

TEST_CASE("check: outputs over inputs are refused in forward") {
  Call<Fixed> c;
  says(Fixed::check(Fixed::ForwardCall{.x = c.x(), .y = c.sink(c.v), .states = c.states}),
       {"forward: y lies where v does"});
}

TEST_CASE("check: no head is nothing wrong, and nothing to do") {
  Call<Fixed> c;
  auto const none = [](std::vector<float>& x) { return Source<size>(x.data(), tokens, 0); };
  Fixed::ForwardCall const call{.x = {.r = none(c.r),
                                      .log_w = none(c.log_w),
                                      .k = none(c.k),
                                      .v = none(c.v),
                                      .kappa_hat = none(c.kappa_hat),
                                      .a = none(c.a)},
                                .y = {c.y.data(), tokens, 0},
                                .states = std::span<Fixed::State>()};
  CHECK(Fixed::check(call) == "");
  Fixed::forward(call);
  CHECK(std::all_of(c.y.begin(), c.y.end(), [](float y) { return y == -77.0f; }));
}

TEST_CASE_TEMPLATE("forward, chunk: without y the states go on the same", M, Fixed, Dynamic) {
  Call<M> with, without, chunked, chunked_without;
  M::forward({.x = with.x(), .y = with.sink(with.y), .states = with.states});
  typename M::ForwardCall const call{.x = without.x(), .states = without.states};
  CHECK(M::check(call) == "");
  M::forward(call);
  check_that(without.states == with.states, "states of forward");
  check_that(with.states != Call<M>().states, "states that moved");

  std::vector<float> workspace(M::template chunk_workspace<4>(size, size));
  M::template chunk<4>({.x = chunked.x(), .y = chunked.sink(chunked.y), .states = chunked.states}, workspace);
  M::template chunk<4>({.x = chunked_without.x(), .states = chunked_without.states}, workspace);
  check_that(chunked_without.states == chunked.states, "states of chunk");
}

TEST_CASE("rewind: without y goes back as with it") {
  Call<Fixed> c;
  std::vector<Fixed::State> kept(to_size(tokens * heads)), half = c.states;
  std::vector<Index> const first_half{0, tokens / 2};
  Fixed::forward({.x = c.x(), .states = half, .offsets = first_half});
  Fixed::ForwardCall const call{.x = c.x(), .states = c.states, .tape = {.every = 1, .states = kept}};
  REQUIRE(Fixed::check(call) == "");
  Fixed::forward(call);
  CHECK(rewind(call, 0, tokens / 2) == tokens / 2);
  for (std::size_t h = 0; h < to_size(heads); ++h)
    CHECK(max_error(std::span(&c.states[h].s[0][0], size * size), std::span(&half[h].s[0][0], size * size)) <= 1e-6);
}

TEST_CASE("step: in place of an input gives the same bits") {
  Call<Fixed> c;
  std::vector<float> apart(to_size(size));
  Fixed::State s = c.states[0];
  Fixed::step(s, c.token(), apart.data());
  for (auto* const field : {&c.r, &c.v, &c.a}) {
    Call<Fixed> one;
    std::vector<float>& y = field == &c.r ? one.r : field == &c.v ? one.v : one.a;
    Fixed::step(one.states[0], one.token(), y.data());
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
  Call<M> c;
  M::forward({.x = c.x(), .states = c.states});
  for (auto& state : c.states) {
    CHECK(state != typename M::State(size, size));
    state.clear();
    CHECK(state == typename M::State(size, size));
  }
}
