/// The generic recurrence against its definition written out another way, as matrices.
#include "aviary/reference/recurrence.hpp"

#include <doctest/doctest.h>

#include <array>
#include <vector>

#include "support/compare.hpp"
#include "support/random.hpp"

namespace {

using namespace aviary;
using test::max_error;
using Reference = reference::Recurrence<double>;
using Numbers = std::vector<double>;

constexpr Index tokens = 9, keys = 6, values = 4;
constexpr double bound = 1e-12;

MatView<double> state_of(Numbers& s) { return {s.data(), values, keys}; }
MatView<double const> rows(Numbers const& x, Index size) { return {x.data(), tokens, size}; }

struct Sequence {
  test::Random random{11};
  Numbers r = random.normals<double>(tokens * keys), w = random.rates<double>(tokens * keys);
  Numbers p = random.units<double>(tokens, keys), q = random.units<double>(tokens, keys);
  Numbers k = random.normals<double>(tokens * keys), v = random.normals<double>(tokens * values);
  Numbers u = random.normals<double>(keys), s = random.normals<double>(values * keys);
  Numbers y = Numbers(tokens * values);
};

/// S' = S (diag(w) + p q^T) + v k^T with the K x K transition spelled out.
Numbers updated(Numbers const& s, Sequence const& x, Index t) {
  Numbers to(s.size());
  for (Index i = 0; i < values; ++i)
    for (Index j = 0; j < keys; ++j) {
      double sum = x.v[std::size_t(t * values + i)] * x.k[std::size_t(t * keys + j)];
      for (Index m = 0; m < keys; ++m) {
        double const diagonal = m == j ? x.w[std::size_t(t * keys + j)] : 0;
        double const rank_one = x.p[std::size_t(t * keys + m)] * x.q[std::size_t(t * keys + j)];
        sum += s[std::size_t(i * keys + m)] * (diagonal + rank_one);
      }
      to[std::size_t(i * keys + j)] = sum;
    }
  return to;
}

/// S x
Numbers times(Numbers const& s, double const* x) {
  Numbers y(values);
  for (Index i = 0; i < values; ++i)
    for (Index j = 0; j < keys; ++j) y[std::size_t(i)] += s[std::size_t(i * keys + j)] * x[j];
  return y;
}

}  // namespace

TEST_CASE("recurrence: one token by hand") {
  // S = (1 2), w = (1/2 1/4), p = (3 5), q = (1 -1), k = (2 4), v = 10: z = 1*3 + 2*5 = 13
  std::array<double, 2> s{1, 2};
  std::array<double, 2> const r{1, 100}, w{0.5, 0.25}, p{3, 5}, q{1, -1}, k{2, 4}, u{7, 0.5};
  std::array<double, 1> const v{10};
  std::array<double, 1> y{};

  SUBCASE("read after") {
    Reference::step({s.data(), 1, 2}, {.r = r, .w = w, .p = p, .q = q, .k = k, .v = v}, y);
    CHECK(s[0] == 0.5 + 13 + 20);
    CHECK(s[1] == 0.5 - 13 + 40);
    CHECK(y[0] == 33.5 + 100 * 27.5);
  }
  SUBCASE("read before, with a bonus") {
    Reference::step({s.data(), 1, 2}, {.r = r, .w = w, .p = p, .q = q, .k = k, .v = v, .u = u}, y);
    CHECK(s[0] == 33.5);
    CHECK(s[1] == 27.5);
    CHECK(y[0] == (1 + 200) + (1 * 7 * 2 + 100 * 0.5 * 4) * 10);
  }
  SUBCASE("what is left out is not in the equation") {
    Reference::step({s.data(), 1, 2}, {.r = r, .k = k, .v = v}, y);
    CHECK(s[0] == 1 + 20);
    CHECK(s[1] == 2 + 40);
    CHECK(y[0] == 21 + 100 * 42);
  }
}

TEST_CASE("recurrence: forward equals the transition matrices multiplied out, read after") {
  Sequence x;
  Numbers s = x.s, expected;
  for (Index t = 0; t < tokens; ++t) {
    s = updated(s, x, t);
    for (double const y : times(s, x.r.data() + t * keys)) expected.push_back(y);
  }
  Reference::forward(state_of(x.s),
                     {.r = rows(x.r, keys),
                      .w = rows(x.w, keys),
                      .p = rows(x.p, keys),
                      .q = rows(x.q, keys),
                      .k = rows(x.k, keys),
                      .v = rows(x.v, values)},
                     {x.y.data(), tokens, values});
  CHECK(max_error(x.y, expected) <= bound);
  CHECK(max_error(x.s, s) <= bound);
}

TEST_CASE("recurrence: forward equals the transition matrices multiplied out, read before") {
  Sequence x;
  Numbers s = x.s, expected;
  for (Index t = 0; t < tokens; ++t) {
    Numbers with_bonus = s;  // S + v (u*k)^T
    for (Index i = 0; i < values; ++i)
      for (Index j = 0; j < keys; ++j)
        with_bonus[std::size_t(i * keys + j)] +=
            x.v[std::size_t(t * values + i)] * x.u[std::size_t(j)] * x.k[std::size_t(t * keys + j)];
    for (double const y : times(with_bonus, x.r.data() + t * keys)) expected.push_back(y);
    s = updated(s, x, t);
  }
  Reference::forward(state_of(x.s),
                     {.r = rows(x.r, keys),
                      .w = rows(x.w, keys),
                      .p = rows(x.p, keys),
                      .q = rows(x.q, keys),
                      .k = rows(x.k, keys),
                      .v = rows(x.v, values),
                      .u = x.u},
                     {x.y.data(), tokens, values});
  CHECK(max_error(x.y, expected) <= bound);
  CHECK(max_error(x.s, s) <= bound);
}

TEST_CASE("recurrence: a token with w = 1, k = 0, q = 0 changes nothing") {
  Sequence x;
  Numbers const before = x.s, one(keys, 1.0), zero(keys, 0.0);
  Numbers y(values);
  VecView<double const> const r(x.r.data(), keys), p(x.p.data(), keys), v(x.v.data(), values);
  Reference::step(state_of(x.s), {.r = r, .w = one, .p = p, .q = zero, .k = zero, .v = v}, y);
  CHECK(x.s == before);
}

TEST_CASE("recurrence: wrong sizes are named") {
  Sequence x;
  Numbers y(values);
  Numbers const key(keys), value(values), wrong(keys + 1);
  CHECK_THROWS_WITH_AS(Reference::step(state_of(x.s), {.r = wrong, .k = key, .v = value}, y),
                       "aviary::reference::Recurrence: r has size 7, expected 6", std::invalid_argument);
  CHECK_THROWS_WITH_AS(Reference::step(state_of(x.s), {.r = key, .k = key, .v = key}, y),
                       "aviary::reference::Recurrence: v has size 6, expected 4", std::invalid_argument);
  CHECK_THROWS_WITH_AS(Reference::step(state_of(x.s), {.r = key, .p = key, .k = key, .v = value}, y),
                       "aviary::reference::Recurrence: p and q come together, one of them is missing",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(
      Reference::forward(state_of(x.s), {.r = rows(x.r, keys), .k = rows(x.k, keys), .v = {x.v.data(), 2, values}},
                         {x.y.data(), tokens, values}),
      "aviary::reference::Recurrence: v (tokens) has size 2, expected 9", std::invalid_argument);
}
