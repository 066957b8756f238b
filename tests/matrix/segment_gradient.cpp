/// Gradients of a long sequence, found stretch by stretch, against one `backward` over the whole of it.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "aviary/matrix/segment.hpp"
#include "support/allocation_counter.hpp"
#include "support/compare.hpp"
#include "support/eager.hpp"
#include "support/gradient_case.hpp"
#include "support/matrix_case.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

/// Pieces [0, 1), [1, 1), [1, 6), [6, 23), [23, 150) of one sequence: the last one goes in several stretches.
constexpr Index tokens = 150, heads = 2, pieces = 5;
Shape shape_of(Index keys, Index values) { return {keys, values, heads, {0, tokens}}; }
std::vector<Index> const offsets{0, 1, 1, 6, 23, tokens};

template <class R> GradientCase<R> case_of(Index keys, Index values, Decay decay) {
  MatrixCase const c(61, shape_of(keys, values), gate_of<R>, R::erase, constant_decay<R>, decay);
  return with_gradients(62, c.of<R>());
}

/// A sequence that is cut into pieces: what `summarize` says of them, and all states and their gradients from that.
template <class M> struct Pieces {
  using T = typename M::T;
  std::vector<typename M::Segment> segments;
  std::vector<T> m, dy;
  std::vector<typename M::State> states;                       // before each piece, and after the last one
  std::vector<typename M::StateGradient> of_outputs, dstates;  // what reaches states from outputs alone, and in all

  explicit Pieces(GradientRun<M> const& run)
      : segments(to_size(pieces * heads), M::identity_segment(run.shape.keys, run.shape.values)),
        m(to_size(tokens * heads * run.shape.keys)),
        dy(run.dy) {
    auto const& [keys, values, n, whole] = run.shape;
    M::summarize({.x = run.inputs(),
                  .segments = segments,
                  .state_weights = {m.data(), tokens, heads, keys},
                  .offsets = offsets});
    states.assign(to_size((pieces + 1) * heads), typename M::State(keys, values));
    std::ranges::copy(run.states, states.begin());
    for (std::size_t at = 0; at < to_size(pieces * heads); ++at)
      M::apply(states[at], segments[at], states[at + to_size(heads)]);

    typename M::StateGradient garbage(keys, values);
    for (Index j = 0; j < keys; ++j) std::fill_n(garbage.view()[j], garbage.view().stride(), T(-77));
    of_outputs.assign(to_size(pieces * heads), garbage);
    M::pull_outputs(call(keys, values));
    dstates = of_outputs;
    dstates.insert(dstates.end(), run.dstates.begin(), run.dstates.end());
    for (std::size_t at = to_size(pieces * heads); at-- > 0;)
      M::pull_state(dstates[at + to_size(heads)], segments[at], dstates[at]);
  }
  typename M::PullOutputsCall call(Index keys, Index values) {
    return {.state_weights = Source<M::keys>(m.data(), tokens, heads, keys),
            .dy = Source<M::values>(dy.data(), tokens, heads, values),
            .dstates = of_outputs,
            .offsets = offsets};
  }
};

/// Those of the pieces [first, last) of head 0 as one: A, and G.
template <class M> struct Stretch {
  typename M::Segment segment;
  typename M::StateGradient of_outputs;

  static Stretch of(Pieces<M> const& all, Index first, Index last) {
    if (last - first == 1) return {all.segments[to_size(first * heads)], all.of_outputs[to_size(first * heads)]};
    Stretch const earlier = of(all, first, (first + last) / 2), later = of(all, (first + last) / 2, last);
    Stretch both = earlier;
    M::compose(earlier.segment, later.segment, both.segment);
    M::pull_state(later.of_outputs, earlier.segment, both.of_outputs);
    return both;
  }
};

template <class M> void check_gradients_by_segments(GradientCase<typename M::Rule> const& c) {
  using StateGradient = typename M::StateGradient;
  constexpr double bound = matrix_bound<typename M::T>;
  Index const keys = c.shape.keys, values = c.shape.values;
  auto const numbers = [&](std::vector<StateGradient> const& states) { return numbers_of(states, keys, values); };
  GradientRun<M> whole(c), cut(c);
  Pieces<M> const all(whole);
  auto const expected = whole.forward().backward().result();

  std::vector<StateGradient> const first(all.dstates.begin(), all.dstates.begin() + heads);
  check_close(numbers(first), expected.dstates, bound);

  // Each piece from the state before it and the gradient of the one after it.
  cut.offsets = offsets;
  cut.states.assign(all.states.begin(), all.states.end() - heads);
  cut.dstates.assign(all.dstates.begin() + heads, all.dstates.end());
  auto by_pieces = cut.forward().backward().result();
  check_close(by_pieces.dstates, numbers({all.dstates.begin(), all.dstates.end() - heads}), bound);
  by_pieces.dstates.resize(expected.dstates.size());
  check_gradients(by_pieces, expected, bound);

  // A tree of pairs, and the gradient of the last state through all of it.
  Stretch<M> tree = Stretch<M>::of(all, 0, pieces);
  M::pull_state(all.dstates[to_size(pieces * heads)], tree.segment, tree.of_outputs);
  check_close(numbers({tree.of_outputs}), numbers({all.dstates[0]}), bound);

  StateGradient const empty(keys, values);
  check_that(all.of_outputs[to_size(heads)] == empty, "what reaches a state from no outputs is overwritten with 0");
  check_each(pieces * heads, "padding stays 0", [&](Index at) {
    auto const row = all.dstates[to_size(at)].view();
    return std::all_of(row[keys - 1] + values, row[keys - 1] + row.stride(), [](auto e) { return std::abs(e) <= 0; });
  });
}

template <class T, Index K, Index V> struct CheckTraits {
  Index keys, values;

  template <Gate G, Erase E, Read D> void operator()() const {
    Note const gate("gate", name(G)), erase("erase", name(E)), read("read", name(D));
    using R = AnyRule<G, E, D>;
    check_gradients_by_segments<MatrixMemory<R, T, K, V>>(case_of<R>(keys, values, Decay::wkv7));
  }
};

/// Of which rule does not matter to these two verbs.
template <class T, Index K, Index V = K>
using Memory = MatrixMemory<AnyRule<Gate::none, Erase::along_key, Read::after>, T, K, V>;

}  // namespace

TEST_CASE("segment gradient: pieces give what one backward gives, double, sizes known at run time") {
  for_each_pair_of_traits(CheckTraits<double, dynamic, dynamic>{13, 21});
}

TEST_CASE("segment gradient: a constant decay, and decays of 0 and 1") {
  using Constant = AnyRule<Gate::vector, Erase::none, Read::before, true>;
  check_gradients_by_segments<MatrixMemory<Constant, double, 16, 24>>(case_of<Constant>(16, 24, Decay::slow));
  using Dense = AnyRule<Gate::vector, Erase::rank_one, Read::before>;
  using Diagonal = AnyRule<Gate::vector, Erase::none, Read::before>;
  for (Decay const decay : {Decay::none, Decay::extremes}) {
    Note const note("decay", name(decay));
    check_gradients_by_segments<MatrixMemory<Dense, double, dynamic, dynamic>>(case_of<Dense>(32, 16, decay));
    check_gradients_by_segments<MatrixMemory<Diagonal, double, dynamic, dynamic>>(case_of<Diagonal>(16, 24, decay));
  }
}

TEST_CASE_TEMPLATE("pull_outputs: the same bits whatever the executor, and from any storage", M, Memory<float, 64, 40>,
                   Memory<float, dynamic>) {
  using State = typename M::StateGradient;
  Index const keys = M::keys == dynamic ? 300 : M::keys, values = M::values == dynamic ? 21 : M::values;
  Random random(63);
  std::vector<bf16> m16, dy16;
  std::vector<float> m, dy;
  for (float const e : random.normals<float>(tokens * heads * keys))
    m.push_back(widen(m16.emplace_back(narrow<bf16>(e))));
  for (float const e : random.normals<float>(tokens * heads * values))
    dy.push_back(widen(dy16.emplace_back(narrow<bf16>(e))));
  auto const pulled = [&](auto const& weights, auto const& gradients, auto&& executor) {
    std::vector<State> d(to_size(pieces * heads), State(keys, values));
    typename M::PullOutputsCall const call{.state_weights = {weights.data(), tokens, heads, keys},
                                           .dy = {gradients.data(), tokens, heads, values},
                                           .dstates = d,
                                           .offsets = offsets};
    require_empty(M::check(call));
    M::pull_outputs(call, executor);
    return d;
  };
  auto const serial = pulled(m, dy, Serial());
  std::vector<double> expected(to_size(pieces * heads * values * keys));  // (pieces, heads, V, K)
  for (Index piece = 0; piece < pieces; ++piece)
    for (Index row = offsets[to_size(piece)] * heads; row < offsets[to_size(piece + 1)] * heads; ++row)
      for (Index i = 0; i < values; ++i)
        for (Index j = 0; j < keys; ++j)
          expected[to_size(((piece * heads + row % heads) * values + i) * keys + j)] +=
              double{dy[to_size(row * values + i)]} * double{m[to_size(row * keys + j)]};
  check_close(numbers_of(serial, keys, values), expected, matrix_bound<float>);
  for (Index const concurrency : {2, 3, 64}) {
    Note const note("concurrency", concurrency);
    check_that(pulled(m, dy, Backwards{concurrency}) == serial, "the bits of one thread");
  }
  check_that(pulled(m16, dy, Serial()) == serial && pulled(m, dy16, Serial()) == serial, "from bf16 as from floats");
}

TEST_CASE("pull_outputs, pull_state: allocate nothing, take subnormal numbers as 0, and need no head") {
  using M = Memory<float, 16>;
  std::vector<float> const m(to_size(16), 1e-30f), dy(to_size(16), 1e-10f);
  std::vector<M::StateGradient> d(2);
  d[1].view()(0, 0) = std::numeric_limits<float>::denorm_min();
  M::PullOutputsCall const call{
      .state_weights = {m.data(), 1, 1}, .dy = {dy.data(), 1, 1}, .dstates = std::span(d).first(1)};
  M::Segment const identity = M::identity_segment();
  AllocationCounter const allocations;
  M::pull_outputs(call);
  M::pull_state(d[1], identity, d[0]);
  std::size_t const count = allocations.count();
  CHECK(count == 0);
  CHECK(d[0] == M::StateGradient());

  M::PullOutputsCall const none{
      .state_weights = {m.data(), 1, 0}, .dy = {dy.data(), 1, 0}, .dstates = std::span(d).first(0)};
  CHECK(M::check(none) == "");
  M::pull_outputs(none);
}

TEST_CASE("check: pull_outputs says what is wrong with a call") {
  using M = Memory<float, dynamic>;
  std::vector<float> const m(to_size(tokens * heads * 16)), dy(to_size(tokens * heads * 24));
  std::vector<M::StateGradient> dstates(to_size(pieces * heads), M::StateGradient(16, 24)),
      small(to_size(pieces * heads), M::StateGradient(16, 23));
  M::PullOutputsCall const good{.state_weights = {m.data(), tokens, heads, 16},
                                .dy = {dy.data(), tokens, heads, 24},
                                .dstates = dstates,
                                .offsets = offsets};
  CHECK(M::check(good) == "");
  auto bad = good;
  auto const says = [&](char const* words) {
    std::string const text = M::check(bad);
    CHECK_MESSAGE(text.find(words) != std::string::npos, text);
    bad = good;
  };
  bad.state_weights = {m.data(), tokens, heads - 1, 16};
  says("pull_outputs: state_weights has 1 heads, expected 2, the heads of dy");
  bad.state_weights = {m.data(), tokens - 1, heads, 16};
  says("pull_outputs: state_weights has 149 tokens, dy has 150");
  bad.dstates = good.dstates.first(3);
  says("pull_outputs: dstates has 3 elements, expected 10");
  bad.dstates = small;
  says("pull_outputs: dstates has a size of 16 x 23 (keys x values), expected 16 x 24");
  bad.offsets = std::span(offsets).first(2);
  bad.dstates = good.dstates;
  says("pull_outputs: dstates has 10 elements, expected 2");
  std::vector<Index> const beyond{0, 1, 1, 6, 23, tokens + 1};
  bad.offsets = beyond;
  says("pull_outputs: sequence 4 is [23, 151), not a range of the 150 tokens");
  bad.dy = {dy.data(), tokens, heads, 0};
  says("pull_outputs: a head has 1 to 1024 keys and values, found 16 and 0");
}
