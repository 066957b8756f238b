/// Gradients of the generic recurrence against central differences of its forward pass. In each single number of the
/// inputs outputs and states are linear, but for a constant: differences over any step are exact up to rounding.
#include <doctest/doctest.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "aviary/reference/recurrence.hpp"
#include "support/check.hpp"
#include "support/random.hpp"

namespace {

using namespace aviary;
using Reference = reference::Recurrence<double>;
using Numbers = std::vector<double>;

constexpr Index keys = 5, values = 3;
constexpr double bound = 1e-12;

/// Which of the optional terms there are.
struct With {
  bool w, erasure, u;
};

/// Numbers for every field; those of fields that are left out are not used.
struct Fields {
  Numbers r, w, p, q, k, v, u, s;
};

struct Case {
  Index tokens;
  With with;
  Fields x;
  Numbers dy, ds;

  Case(Index n, With w, std::uint64_t seed = 3) : tokens(n), with(w) {
    test::Random random(seed);
    x.r = random.normals<double>(n * keys);
    x.w = random.rates<double>(n * keys);
    x.p = random.units<double>(n, keys);
    x.q = random.units<double>(n, keys);
    x.k = random.normals<double>(n * keys);
    x.v = random.normals<double>(n * values);
    x.u = random.normals<double>(keys);
    x.s = random.normals<double>(values * keys);
    dy = random.normals<double>(n * values);
    ds = random.normals<double>(values * keys);
  }

  MatView<double const> rows(Numbers const& from, Index size) const { return {from.data(), tokens, size}; }
  Reference::Inputs inputs() const {
    Reference::Inputs to{.r = rows(x.r, keys), .k = rows(x.k, keys), .v = rows(x.v, values)};
    if (with.w) to.w = rows(x.w, keys);
    if (with.erasure) to.p = rows(x.p, keys), to.q = rows(x.q, keys);
    if (with.u) to.u = x.u;
    return to;
  }
  /// What reaches the outputs and the last state, times these.
  double product() const {
    Numbers s = x.s, y(dy.size());
    Reference::forward({s.data(), values, keys}, inputs(), {y.data(), tokens, values});
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += y[i] * dy[i];
    for (std::size_t i = 0; i < s.size(); ++i) sum += s[i] * ds[i];
    return sum;
  }
  Numbers differences(Numbers Fields::*field) {
    Numbers to;
    for (double& number : x.*field) {
      double const at = number;
      number = at + 1;
      double const above = product();
      number = at - 1;
      to.push_back((above - product()) / 2);
      number = at;
    }
    return to;
  }
  /// The gradients; those of fields that are left out stay as they are made.
  Fields gradients() const {
    auto const nothing = [](Numbers const& like) { return Numbers(like.size(), 99.); };
    Fields to{nothing(x.r), nothing(x.w), nothing(x.p), nothing(x.q), nothing(x.k), nothing(x.v), nothing(x.u), ds};
    auto const write = [&](Numbers& into, Index size) { return MatView<double>(into.data(), tokens, size); };
    Reference::Gradients dx{.r = write(to.r, keys), .k = write(to.k, keys), .v = write(to.v, values)};
    if (with.w) dx.w = write(to.w, keys);
    if (with.erasure) dx.p = write(to.p, keys), dx.q = write(to.q, keys);
    if (with.u) dx.u = to.u;
    Reference::backward({x.s.data(), values, keys}, inputs(), rows(dy, values), {to.s.data(), values, keys}, dx);
    return to;
  }
};

std::vector<With> all_terms() {
  std::vector<With> all;
  for (bool const w : {false, true})
    for (bool const erasure : {false, true})
      for (bool const u : {false, true}) all.push_back({w, erasure, u});
  return all;
}

/// All gradients against differences.
void check_gradients(Case& c) {
  Fields const got = c.gradients();
  auto const check = [&](char const* name, Numbers Fields::*field, bool given = true) {
    test::Note const note("field", name);
    if (given)
      test::check_close(got.*field, c.differences(field), bound);
    else
      test::check_equal(got.*field, Numbers((got.*field).size(), 99.));
  };
  check("r", &Fields::r);
  check("w", &Fields::w, c.with.w);
  check("p", &Fields::p, c.with.erasure);
  check("q", &Fields::q, c.with.erasure);
  check("k", &Fields::k);
  check("v", &Fields::v);
  check("u", &Fields::u, c.with.u);
  check("s", &Fields::s);
}

}  // namespace

TEST_CASE("recurrence_gradient: central differences, with and without each term") {
  for (With const with : all_terms())
    for (Index const tokens : {1, 2, 7}) {
      test::Note const w("w", with.w), erasure("erasure", with.erasure), u("u", with.u), n("tokens", tokens);
      Case c(tokens, with);
      check_gradients(c);
    }
}

TEST_CASE("recurrence_gradient: central differences where w is 0, 1 or negative, and after an empty state") {
  Case c(6, {true, true, false});
  for (std::size_t i = 0; i < c.x.w.size(); i += 3) c.x.w[i] = static_cast<double>(i % 4) - 1;  // -1, 2, 1, 0
  c.x.s.assign(c.x.s.size(), 0.);
  check_gradients(c);
}

TEST_CASE("recurrence_gradient: by hand") {
  // S = 2, w = 1/2, p = 3, q = -1, k = 4, v = 5, r = 7:  z = 6, S' = 1 - 6 + 20 = 15, y = 105, with dy = 2 and dS' = 10
  double const s = 2, r = 7, w = 0.5, p = 3, q = -1, k = 4, v = 5, dy = 2;
  double ds = 10, dr, dw, dp, dq, dk, dv;
  auto const number = [](auto& x) { return MatView(&x, 1, 1); };
  Reference::backward(
      number(s), {.r = number(r), .w = number(w), .p = number(p), .q = number(q), .k = number(k), .v = number(v)},
      number(dy), number(ds),
      {.r = number(dr), .w = number(dw), .p = number(dp), .q = number(dq), .k = number(dk), .v = number(dv)});
  CHECK(dr == 15 * 2);
  CHECK(dv == 24 * 4);  // 24 = 10 + 2 * 7 reaches S'
  CHECK(dk == 24 * 5);
  CHECK(dw == 24 * 2);
  CHECK(dq == 24 * 6);
  CHECK(dp == 24 * -1 * 2);
  CHECK(ds == 24 * 0.5 + 24 * -1 * 3);
}

TEST_CASE("recurrence_gradient: a sequence in two stretches, the gradient of the state between them handed back") {
  constexpr Index first = 3, tokens = 7;
  for (With const with : all_terms()) {
    test::Note const w("w", with.w), erasure("erasure", with.erasure), u("u", with.u);
    Case const whole(tokens, with);
    auto const part = [&](Index begin, Index n) {
      Case c(n, with);
      c.x.u = whole.x.u;
      auto const cut = [&](Numbers const& from, Index size) {
        return Numbers(from.begin() + begin * size, from.begin() + (begin + n) * size);
      };
      c.x.r = cut(whole.x.r, keys), c.x.w = cut(whole.x.w, keys), c.x.p = cut(whole.x.p, keys);
      c.x.q = cut(whole.x.q, keys), c.x.k = cut(whole.x.k, keys), c.x.v = cut(whole.x.v, values);
      c.dy = cut(whole.dy, values);
      return c;
    };
    Case early = part(0, first), late = part(first, tokens - first);
    early.x.s = whole.x.s, late.ds = whole.ds;
    Numbers s = whole.x.s, y(first * values);
    Reference::forward({s.data(), values, keys}, early.inputs(), {y.data(), first, values});
    late.x.s = s;
    Fields const of_late = late.gradients();
    early.ds = of_late.s;
    Fields const of_early = early.gradients(), expected = whole.gradients();
    auto const joined = [&](Numbers Fields::*field) {
      Numbers to = of_early.*field;
      to.insert(to.end(), (of_late.*field).begin(), (of_late.*field).end());
      return to;
    };
    test::check_equal(joined(&Fields::r), expected.r);
    test::check_equal(joined(&Fields::k), expected.k);
    test::check_equal(joined(&Fields::v), expected.v);
    test::check_equal(of_early.s, expected.s);
    if (with.w) test::check_equal(joined(&Fields::w), expected.w);
    if (with.erasure) test::check_equal(joined(&Fields::p), expected.p);
    if (with.erasure) test::check_equal(joined(&Fields::q), expected.q);
    Numbers du = of_early.u;
    for (std::size_t i = 0; i < du.size(); ++i) du[i] += of_late.u[i];
    if (with.u) test::check_close(du, expected.u, bound);
  }
}

TEST_CASE("recurrence_gradient: without tokens the state's gradient stays, and those of all tokens are zero") {
  Case const c(0, {true, true, true});
  Fields const got = c.gradients();
  test::check_equal(got.s, c.ds);
  test::check_equal(got.u, Numbers(keys, 0.));
}

TEST_CASE("recurrence_gradient: what is not wanted is not written, and changes nothing else") {
  Case const c(4, {true, true, true});
  Fields const all = c.gradients();
  Numbers ds = c.ds, dk(c.x.k.size());
  Reference::backward({c.x.s.data(), values, keys}, c.inputs(), c.rows(c.dy, values), {ds.data(), values, keys},
                      {.k = MatView<double>(dk.data(), 4, keys)});
  test::check_equal(dk, all.k);
  test::check_equal(ds, all.s);
}

TEST_CASE("recurrence_gradient: wrong sizes and gradients of nothing are named") {
  Case c(4, {true, false, false});
  Numbers ds = c.ds, to(100);
  auto const message = [&](Reference::Inputs const& x, MatView<double const> dy, MatView<double> dstate,
                           Reference::Gradients const& dx) {
    try {
      Reference::backward({c.x.s.data(), values, keys}, x, dy, dstate, dx);
    } catch (std::invalid_argument const& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  MatView<double const> const dy = c.rows(c.dy, values);
  MatView<double> const state(ds.data(), values, keys);
  auto const rows = [&](Index n, Index size) { return MatView<double>(to.data(), n, size); };
  std::string const name = "aviary::reference::Recurrence: ";

  CHECK(message(c.inputs(), c.rows(c.dy, 2), state, {}) == name + "dy has size 2, expected 3");
  CHECK(message(c.inputs(), {c.dy.data(), 2, values}, state, {}) == name + "r (tokens) has size 4, expected 2");
  CHECK(message(c.inputs(), dy, {ds.data(), 2, keys}, {}) == name + "ds (values) has size 2, expected 3");
  CHECK(message(c.inputs(), dy, {ds.data(), values, 4}, {}) == name + "ds (keys) has size 4, expected 5");
  CHECK(message(c.inputs(), dy, state, {.r = rows(3, keys)}) == name + "dr (tokens) has size 3, expected 4");
  CHECK(message(c.inputs(), dy, state, {.k = rows(4, 6)}) == name + "dk has size 6, expected 5");
  CHECK(message(c.inputs(), dy, state, {.v = rows(4, keys)}) == name + "dv has size 5, expected 3");
  CHECK(message(c.inputs(), dy, state, {.p = rows(4, keys)}) == name + "dp is wanted, but the inputs leave out p");
  CHECK(message(c.inputs(), dy, state, {.u = VecView<double>(to.data(), keys)}) ==
        name + "du is wanted, but the inputs leave out u");
  Reference::Inputs wrong = c.inputs();
  wrong.k = c.rows(c.x.k, 4);
  CHECK(message(wrong, dy, state, {}) == name + "k has size 4, expected 5");
  wrong = c.inputs();
  wrong.p = c.rows(c.x.p, keys);
  CHECK(message(wrong, dy, state, {}) == name + "p and q come together, one of them is missing");
  CHECK(message(c.inputs(), dy, state, {.w = rows(4, keys)}) == "no error");
}
