/// What the verbs take of the stack, as their memories state it.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "aviary/wkv4.hpp"
#include "aviary/wkv6.hpp"
#include "aviary/wkv7.hpp"
#include "support/same_numbers.hpp"
#include "support/sanitizers.hpp"
#include "support/stack_use.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

constexpr Index tokens = 70;  // more than a tile

template <class M> typename M::Segment empty_segment(Index size) {
  if constexpr (M::keys == dynamic)
    return M::identity_segment(size, size);
  else
    return M::identity_segment();
}

void check_use(char const* verb, std::size_t used, std::size_t kib) {
  CAPTURE(std::string(verb));
  CHECK(used <= kib * 1024);
}

/// Every verb of a matrix memory, in a head of size x size.
template <class M> void check_verbs(Index size, std::size_t kib) {
  std::vector<float> const x(to_size(tokens * size));
  std::vector<float> y(x.size()), m(x.size()), workspace(M::template chunk_workspace<16>(size, size));
  typename M::State state(size, size), other(size, size);
  typename M::Segment a = empty_segment<M>(size), b = a, c = a;
  typename M::Inputs const in = same_inputs<M>(x.data(), tokens, 1, size);
  typename M::Token const one = same_token<M>(x.data(), size);
  Source<M::keys> const row(x.data(), tokens, 1, size);
  Sink<M::values> const out(y.data(), tokens, 1, size), weights(m.data(), tokens, 1, size);
  typename M::ForwardCall const call{.x = in, .y = out, .states = {&state, 1}};
  VecView<float, M::values> const first(y.data(), size);

  check_use("step", stack_use([&] { M::step(state, one, first); }), kib);
  check_use("forward", stack_use([&] { M::forward(call); }), kib);
  check_use("chunk", stack_use([&] { M::template chunk<16>(call, workspace); }), kib);
  check_use("summarize", stack_use([&] {
              M::summarize({.x = in, .segments = {&a, 1}, .y = out, .state_weights = weights});
            }),
            kib);
  check_use("compose", stack_use([&] { M::compose(a, b, c); }), kib);
  check_use("apply", stack_use([&] { M::apply(state, a, other); }), kib);
  std::span<typename M::State const> const states(&state, 1);
  check_use("add_initial_state",
            stack_use([&] { M::add_initial_state({.state_weights = row, .y0 = row, .y = out, .states = states}); }),
            kib);
  typename M::StateGradient d(size, size), before(size, size);
  check_use("pull_outputs", stack_use([&] {
              M::pull_outputs({.state_weights = row, .dy = row, .dstates = {&d, 1}});
            }),
            kib);
  check_use("pull_state", stack_use([&] { M::pull_state(d, a, before); }), kib);
}

#if defined(AVIARY_TEST_ADDRESS_SANITIZER)
constexpr bool skipped = true;  // whose frames are larger
#else
constexpr bool skipped = false;
#endif

}  // namespace

TEST_CASE("stack: what a function takes is seen" * doctest::skip(skipped)) {
  std::size_t const used = stack_use([] {
    char volatile room[1 << 16];
    for (char volatile& byte : room) byte = 1;
  });
  CHECK(used > (1 << 15));  // beyond what every thread takes
  CHECK(used < (1 << 17));
}

TEST_CASE("stack: 24 KiB for a head of 64" * doctest::skip(skipped)) {
  check_verbs<Wkv7<float, 64>>(64, 24);
  check_verbs<Wkv6<float, 64>>(64, 24);
}

TEST_CASE("stack: 64 KiB for sizes known at run time, whatever they are" * doctest::skip(skipped)) {
  check_verbs<Wkv7<float, dynamic>>(64, 64);
  check_verbs<Wkv7<float, dynamic>>(1024, 64);
}

TEST_CASE("stack: 64 KiB for any number of channels" * doctest::skip(skipped)) {
  using M = Wkv4<float>;
  constexpr Index channels = 768;
  std::vector<float> const x(to_size(tokens * channels));
  std::vector<float> y(x.size()), m(x.size());
  M::State state(channels);
  M::Segment segment(channels);
  Source<> const row(x.data(), tokens, 1, channels);
  HeadSource<> const all(x.data(), 1, channels);
  M::Inputs const in{.log_w = all, .k = row, .v = row, .u = all};
  Sink<> const out(y.data(), tokens, 1, channels), weights(m.data(), tokens, 1, channels);
  VecView<float const> const one(x.data(), channels);
  check_use("step", stack_use([&] {
              M::step(state, {.log_w = one, .k = one, .v = one, .u = one}, {y.data(), channels});
            }),
            24);
  check_use("forward", stack_use([&] { M::forward({.x = in, .y = out, .states = {&state, 1}}); }), 64);
  std::vector<M::State> kept(M::tape_size(in), state);
  std::vector<float> workspace(M::backward_workspace(in));
  check_use("backward", stack_use([&] {
              M::backward({.x = in,
                           .dy = row,
                           .tape = {.states = kept},
                           .dx = {.k = out, .v = weights},
                           .dstates = {&state, 1},
                           .workspace = workspace});
            }),
            64);
  check_use("summarize", stack_use([&] {
              M::summarize({.x = in, .segments = {&segment, 1}, .y = out, .state_weights = weights});
            }),
            64);
  std::span<M::State const> const states(&state, 1);
  check_use("add_initial_state",
            stack_use([&] { M::add_initial_state({.state_weights = row, .y0 = row, .y = out, .states = states}); }),
            64);
}
