#include "aviary/matrix/segment.hpp"

#include <doctest/doctest.h>

#include "support/compare.hpp"
#include "support/matrix_case.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

/// The numbers of A exp'd where it is diagonal, and of B: what two segments are compared by.
template <class Segment> std::vector<double> numbers(Segment const& segment) {
  std::vector<double> out;
  auto const add = [&](auto const& state, bool exponential) {
    for (Index j = 0; j < state.keys(); ++j)
      for (Index i = 0; i < state.values(); ++i) {
        double const x = static_cast<double>(state.view()(j, i));
        out.push_back(exponential ? std::exp(x) : x);
      }
  };
  if constexpr (requires { segment.log_a; })
    add(segment.log_a, true);
  else
    add(segment.a, false);
  add(segment.b, false);
  return out;
}

/// All segments of pieces [0, 1), [1, 1), [1, 6), [6, 23), [23, 40) of one sequence.
template <class M> struct Pieces {
  std::vector<Index> offsets{0, 1, 1, 6, 23, 40};
  std::vector<typename M::Segment> segments;
  std::vector<typename M::T> y, m;

  explicit Pieces(MatrixCall<M> const& call) {
    auto const& shape = call.shape;
    segments.assign(5 * to_size(shape.heads), M::identity_segment(shape.keys, shape.values));
    y.resize(call.y.size());
    m.resize(to_size(40 * shape.heads * shape.keys));
    M::summarize({.x = call.inputs(),
                  .segments = segments,
                  .y = {y.data(), 40, shape.heads, shape.values},
                  .state_weights = {m.data(), 40, shape.heads, shape.keys},
                  .offsets = offsets});
  }
};

/// Every bracketing of the five segments of a head, of which the second has no token, is the segment of the whole; so is every
/// two-part split. Compiled once for all rules whose segments have one form.
template <class Segment>
void check_brackets(std::vector<Segment> const& segment, Segment const& whole, Segment const& neutral,
                    void (*compose_into)(Segment const&, Segment const&, Segment&) noexcept, double bound) {
  auto const compose = [&](Segment const& a, Segment const& b) {
    Segment out = neutral;
    compose_into(a, b, out);
    return out;
  };
  auto const left = compose(compose(compose(compose(segment[0], segment[1]), segment[2]), segment[3]), segment[4]);
  auto const right = compose(segment[0], compose(segment[1], compose(segment[2], compose(segment[3], segment[4]))));
  auto const tree = compose(compose(segment[0], segment[1]), compose(segment[2], compose(segment[3], segment[4])));
  for (auto const* const other : {&left, &right, &tree}) check_close(numbers(*other), numbers(whole), bound);

  // The identity, from either side, changes nothing.
  check_that(compose(neutral, left) == left, "the identity before it changes nothing");
  check_that(compose(left, neutral) == left, "the identity after it changes nothing");
  check_that(segment[1] == neutral, "no token is the identity");
}

template <class M, class R> void check_segments(MatrixCase const& c, MatrixResult const& expected) {
  using T = typename M::T;
  Index const heads = c.shape.heads;
  MatrixCall<M> call(c);
  Pieces<M> const pieces(call);

  // The states between the pieces, one apply after another; then all outputs from them.
  std::vector<typename M::State> before(call.states);
  std::vector<typename M::State> state(call.states), next(call.states);
  for (Index s = 0; s < 5; ++s) {
    for (Index h = 0; h < heads; ++h)
      M::apply(state[to_size(h)].view(), pieces.segments[to_size(s * heads + h)], next[to_size(h)]);
    std::swap(state, next);
    if (s < 4) before.insert(before.end(), state.begin(), state.end());
  }
  call.states = state;
  check_close(call.result().state, expected.state, matrix_bound<T>);
  M::add_initial_state({.state_weights = {pieces.m.data(), 40, heads, c.shape.keys},
                        .y0 = {pieces.y.data(), 40, heads, c.shape.values},
                        .y = {call.y.data(), 40, heads, c.shape.values},
                        .states = before,
                        .offsets = pieces.offsets});
  check_close(call.result().y, expected.y, matrix_bound<T>);

  std::vector<typename M::Segment> whole(to_size(heads), M::identity_segment(c.shape.keys, c.shape.values));
  M::summarize({.x = call.inputs(), .segments = whole});
  std::vector<typename M::Segment> of_head;
  for (std::size_t s = 0; s < 5; ++s) of_head.push_back(pieces.segments[s * to_size(heads)]);
  check_brackets<typename M::Segment>(of_head, whole[0], M::identity_segment(c.shape.keys, c.shape.values), M::compose,
                                      2 * matrix_bound<T>);
}

template <class T, Index K, Index V> struct CheckTraits {
  Index keys, values;

  template <Gate G, Erase E, Read D> void operator()() const {
    using R = AnyRule<G, E, D>;
    Note const gate("gate", name(G)), erase("erase", name(E)), read("read", name(D));
    MatrixCase const c(21, {keys, values, 2, {0, 40}}, G, E, false, Decay::wkv7);
    check_segments<MatrixMemory<R, T, K, V>, R>(c, reference_result(c, R::read));
  }
};

}  // namespace

TEST_CASE("segment: scans, brackets and corrects to the sequential result, float") {
  for_each_combination_in_turn(CheckTraits<float, 16, 24>{16, 24});
}
TEST_CASE("segment: scans, brackets and corrects to the sequential result, double, sizes known at run time") {
  for_each_pair_of_traits(CheckTraits<double, dynamic, dynamic>{13, 21});
}

TEST_CASE("segment: a constant decay, and decays of 0 and 1") {
  using Constant = AnyRule<Gate::vector, Erase::none, Read::before, true>;
  MatrixCase const constant(22, {16, 24, 2, {0, 40}}, Gate::vector, Erase::none, true, Decay::slow);
  check_segments<MatrixMemory<Constant, float, 16, 24>, Constant>(constant, reference_result(constant, Constant::read));
  using Scalar = AnyRule<Gate::scalar, Erase::along_key, Read::after, true>;
  MatrixCase const scalar(23, {16, 24, 2, {0, 40}}, Gate::scalar, Erase::along_key, true, Decay::slow);
  check_segments<MatrixMemory<Scalar, double, 16, 24>, Scalar>(scalar, reference_result(scalar, Scalar::read));
  using Gated = AnyRule<Gate::vector, Erase::none, Read::after>;
  for (Decay const decay : {Decay::none, Decay::extremes}) {
    MatrixCase const c(24, {16, 24, 2, {0, 40}}, Gate::vector, Erase::none, false, decay);
    check_segments<MatrixMemory<Gated, float, 16, 24>, Gated>(c, reference_result(c, Gated::read));
  }
  using Free = AnyRule<Gate::vector, Erase::rank_one, Read::after>;  // with more keys than values
  MatrixCase const c(25, {32, 16, 2, {0, 40}}, Gate::vector, Erase::rank_one, false, Decay::extremes);
  check_segments<MatrixMemory<Free, double, 32, 16>, Free>(c, reference_result(c, Free::read));
}

TEST_CASE("segment: outputs may be corrected in place, and are right from an empty state as they are") {
  using R = AnyRule<Gate::vector, Erase::rank_one, Read::after>;
  using M = MatrixMemory<R, float, 16, 24>;
  MatrixCase c(26, {16, 24, 2, {0, 40}}, Gate::vector, Erase::rank_one, false, Decay::wkv7);
  MatrixCall<M> call(c);
  Pieces<M> pieces(call);
  std::vector<float> in_place = pieces.y, apart(pieces.y.size());
  std::vector<M::State> before(5 * 2, call.states[0]);
  for (auto const* const y : {&in_place, &apart})
    M::add_initial_state({.state_weights = {pieces.m.data(), 40, 2},
                          .y0 = {y == &in_place ? in_place.data() : pieces.y.data(), 40, 2},
                          .y = {y == &in_place ? in_place.data() : apart.data(), 40, 2},
                          .states = before,
                          .offsets = pieces.offsets});
  CHECK(in_place == apart);
  for (auto& state : call.states) state = {};
  auto forward = call.call();
  std::vector<M::State> empty(5 * 2);
  forward.states = empty;
  forward.offsets = pieces.offsets;
  M::forward(forward);
  CHECK(call.y == pieces.y);
}
