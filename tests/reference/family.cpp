/// The references, each its model's own equation, against the generic recurrence with the terms that the table of the
/// family gives them.
#include <doctest/doctest.h>

#include <cmath>
#include <deque>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "aviary/reference/recurrence.hpp"
#include "rules/models.hpp"
#include "support/compare.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

using Numbers = std::vector<double>;

Numbers numbers(VecView<double const> x) { return Numbers(x.begin(), x.end()); }
Numbers exps(VecView<double const> x) {
  Numbers out;
  for (double const e : x) out.push_back(std::exp(e));
  return out;
}
Numbers operator*(Numbers x, Numbers const& y) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] *= y[i];
  return x;
}
Numbers operator*(double a, Numbers x) {
  for (double& e : x) e *= a;
  return x;
}
Numbers all(Index n, double x) { return Numbers(to_size(n), x); }

/// A token of the generic recurrence.
struct General {
  Numbers r;
  std::optional<Numbers> w = {}, p = {}, q = {};
  Numbers k, v;
  std::optional<Numbers> u = {};

  reference::Recurrence<double>::Token token() const {
    reference::Recurrence<double>::Token x{.r = r, .k = k, .v = v};
    if (w) x.w = *w;
    if (p) x.p = *p, x.q = *q;
    if (u) x.u = *u;
    return x;
  }
};

/// Runs a model's reference, token by token, beside the recurrence with terms(token).
template <class Model, class F> void check_terms(F&& terms) {
  constexpr Index tokens = 40, keys = 8, values = 5;
  using Token = typename Model::Reference::Token;
  for (Decay const decay : {Decay::wkv7, Decay::none, Decay::extremes}) {
    CAPTURE(name(decay));
    auto const c = draw_case<Model>(51, {keys, values, 1, {0, tokens}}, decay);
    CaseFields<typename Model::Rule, double> const x(c);
    Numbers s(c.state.begin(), c.state.end()), generic = s, y(to_size(values)), generic_y = y;
    for (Index t = 0; t < tokens; ++t) {
      auto const token = x.template token<Token>(t, 0);
      Model::Reference::step({s.data(), values, keys}, token, y);
      General const general = terms(token);
      reference::Recurrence<double>::step({generic.data(), values, keys}, general.token(), generic_y);
      CHECK(max_error(y, generic_y) <= 1e-12);
    }
    CHECK(max_error(s, generic) <= 1e-12);
  }
}

VecView<double const> shortened(VecView<double const> x) { return x.segment(0, x.size() - 1); }
MatView<double const> shortened(MatView<double const> x) { return x.rows(0, x.rows() - 1); }

/// Makes a field too short for a call, which must say so by name.
template <class Field, class F> void check_named(std::string const& name, Field& field, F&& call) {
  if constexpr (!std::is_same_v<Field, Required<double>>) {
    CAPTURE(name);
    Field const whole = field;
    field = shortened(field);
    std::string const message = message_of<std::invalid_argument>(call);
    CHECK_MESSAGE(message.find(": " + name + " ") != std::string::npos, message);
    field = whole;
  }
}

template <class Model> void check_names() {
  using Reference = typename Model::Reference;
  constexpr Index tokens = 3, keys = 5, values = 4;
  auto const c = draw_case<Model>(52, {keys, values, 1, {0, tokens}}, Decay::wkv7);
  CaseFields<typename Model::Rule, double> const x(c);
  Numbers s(c.state.begin(), c.state.end()), y(to_size(tokens * values));
  std::deque<Numbers> kept;
  auto token = x.template token<typename Reference::Token>(0, 0);
  auto inputs = x.template rows<typename Reference::Inputs>(0, tokens, 0, kept);
  auto const step = [&] { Reference::step({s.data(), values, keys}, token, {y.data(), values}); };
  auto const forward = [&] { Reference::forward({s.data(), values, keys}, inputs, {y.data(), tokens, values}); };
#define AVIARY_CHECK_NAMED(field)               \
  if constexpr (requires { token.field; }) {    \
    check_named(#field, token.field, step);     \
    check_named(#field, inputs.field, forward); \
  }
  AVIARY_CHECK_NAMED(r)
  AVIARY_CHECK_NAMED(q)
  AVIARY_CHECK_NAMED(log_w)
  AVIARY_CHECK_NAMED(k)
  AVIARY_CHECK_NAMED(v)
  AVIARY_CHECK_NAMED(u)
  AVIARY_CHECK_NAMED(kappa_hat)
  AVIARY_CHECK_NAMED(a)
  AVIARY_CHECK_NAMED(b)
  AVIARY_CHECK_NAMED(c)
  AVIARY_CHECK_NAMED(p)
  AVIARY_CHECK_NAMED(alpha)
  AVIARY_CHECK_NAMED(beta)
#undef AVIARY_CHECK_NAMED
}

}  // namespace

TEST_CASE("family: WKV-5, WKV-6 and Finch-C2 are the recurrence with a bonus") {
  auto const wkv = [](auto const& x) -> General {
    return {.r = numbers(x.r), .w = exps(x.log_w), .k = numbers(x.k), .v = numbers(x.v), .u = numbers(x.u)};
  };
  check_terms<Wkv5Model>(wkv);
  check_terms<Wkv6Model>(wkv);
  check_terms<Wkv5PerHeadModel>([](auto const& x) -> General {
    Index const n = x.r.size();
    return {.r = numbers(x.r),
            .w = all(n, std::exp(x.log_w.value)),
            .k = numbers(x.k),
            .v = numbers(x.v),
            .u = all(n, x.u)};
  });
  check_terms<FinchC2Model>([](auto const& x) -> General {
    Numbers rest = exps(x.log_w);
    for (double& e : rest) e = 1 - e;
    return {
        .r = numbers(x.r), .w = exps(x.log_w), .k = rest * numbers(x.k), .v = numbers(x.v), .u = all(x.r.size(), 0)};
  });
}

TEST_CASE("family: linear attention and its kin are the recurrence without erasure") {
  check_terms<LinearAttentionModel>(
      [](auto const& x) -> General { return {.r = numbers(x.q), .k = numbers(x.k), .v = numbers(x.v)}; });
  auto const one_gate = [](auto const& x) -> General {
    return {.r = numbers(x.q), .w = all(x.q.size(), std::exp(x.log_w.value)), .k = numbers(x.k), .v = numbers(x.v)};
  };
  check_terms<RetNetModel>(one_gate);
  check_terms<SimpleGlaModel>(one_gate);
  check_terms<GlaModel>([](auto const& x) -> General {
    return {.r = numbers(x.q), .w = exps(x.log_w), .k = numbers(x.k), .v = numbers(x.v)};
  });
}

TEST_CASE("family: the delta rules are the recurrence with p = w k, q = -beta k") {
  check_terms<DeltaNetModel>([](auto const& x) -> General {
    Numbers const k = numbers(x.k);
    return {.r = numbers(x.q), .p = k, .q = -x.beta * k, .k = x.beta * k, .v = numbers(x.v)};
  });
  check_terms<GatedDeltaNetModel>([](auto const& x) -> General {
    Numbers const k = numbers(x.k), w = all(x.k.size(), std::exp(x.log_w.value));
    return {.r = numbers(x.q), .w = w, .p = w * k, .q = -x.beta * k, .k = x.beta * k, .v = numbers(x.v)};
  });
  check_terms<KdaModel>([](auto const& x) -> General {
    Numbers const k = numbers(x.k), w = exps(x.log_w);
    return {.r = numbers(x.q), .w = w, .p = w * k, .q = -x.beta * k, .k = x.beta * k, .v = numbers(x.v)};
  });
  check_terms<GatedDeltaNet2Model>([](auto const& x) -> General {
    Numbers const k = numbers(x.k), w = exps(x.log_w);
    return {
        .r = numbers(x.q), .w = w, .p = w * numbers(x.b) * k, .q = -1 * k, .k = k, .v = numbers(x.c) * numbers(x.v)};
  });
  check_terms<CombaModel>([](auto const& x) -> General {
    Numbers const k = numbers(x.k), w = all(x.k.size(), std::exp(x.log_w.value));
    return {.r = numbers(x.q), .w = w, .p = w * numbers(x.p), .q = -x.beta * k, .k = x.beta * k, .v = numbers(x.v)};
  });
}

TEST_CASE("family: DPLR and IPLR are the recurrence with p = alpha, q = beta") {
  check_terms<DplrModel>([](auto const& x) -> General {
    return {.r = numbers(x.q),
            .w = exps(x.log_w),
            .p = numbers(x.alpha),
            .q = numbers(x.beta),
            .k = numbers(x.k),
            .v = numbers(x.v)};
  });
  check_terms<IplrModel>([](auto const& x) -> General {
    return {.r = numbers(x.q), .p = numbers(x.alpha), .q = numbers(x.beta), .k = numbers(x.k), .v = numbers(x.v)};
  });
}

TEST_CASE("family: one token of Gated DeltaProduct by hand") {
  // w S = (2, 4); k_1 = (1, 0): S_1 = (2 + (10 - 2) / 2, 4); k_2 = (0, 1): S_2 = (6, 4 + 2 (1 - 4))
  std::vector<double> s{4, 8};
  std::vector<double> const q{1, 100}, k{1, 0, 0, 1}, v{10, 1}, beta{0.5, 2};
  std::vector<double> y(1);
  reference::GatedDeltaProduct<double>::step(
      {s.data(), 1, 2}, {.q = q, .k = {k.data(), 2, 2}, .v = {v.data(), 2, 1}, .log_w = std::log(0.5), .beta = beta},
      y);
  CHECK(s[0] == doctest::Approx(6).epsilon(1e-14));
  CHECK(s[1] == doctest::Approx(-2).epsilon(1e-14));
  CHECK(y[0] == doctest::Approx(-194).epsilon(1e-14));
}

TEST_CASE("family: wrong sizes and numbers of tokens are named") {
  std::vector<double> s(8), y(6);
  std::vector<double> const keys(12), values(6), rates(3);
  using Reference = reference::GatedDeltaNet<double>;
  VecView<double const> const key(keys.data(), 4), value(values.data(), 2);
  CHECK_THROWS_WITH_AS(
      Reference::step({s.data(), 2, 4}, {.q = key, .k = value, .v = value, .log_w = 0.0, .beta = 1.0}, {y.data(), 2}),
      "aviary::reference::GatedDeltaNet: k has size 2, expected 4", std::invalid_argument);
  CHECK_THROWS_WITH_AS(
      Reference::step({s.data(), 2, 4}, {.q = key, .k = key, .v = key, .log_w = 0.0, .beta = 1.0}, {y.data(), 2}),
      "aviary::reference::GatedDeltaNet: v has size 4, expected 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(
      Reference::step({s.data(), 2, 4}, {.q = key, .k = key, .v = value, .log_w = 0.0, .beta = 1.0}, {y.data(), 3}),
      "aviary::reference::GatedDeltaNet: y has size 3, expected 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(Reference::forward({s.data(), 2, 4},
                                          {.q = {keys.data(), 3, 4},
                                           .k = {keys.data(), 3, 4},
                                           .v = {values.data(), 3, 2},
                                           .log_w = rates,
                                           .beta = {rates.data(), 2}},
                                          {y.data(), 3, 2}),
                       "aviary::reference::GatedDeltaNet: beta (tokens) has size 2, expected 3", std::invalid_argument);
}

TEST_CASE_TEMPLATE("family: an input that is too short is named", M, Wkv5Model, Wkv5PerHeadModel, Wkv6Model,
                   FinchC2Model, Wkv7Model, LinearAttentionModel, RetNetModel, SimpleGlaModel, GlaModel, DeltaNetModel,
                   GatedDeltaNetModel, KdaModel, GatedDeltaNet2Model, CombaModel, DplrModel, IplrModel) {
  check_names<M>();
}

TEST_CASE("family: an input of Gated DeltaProduct of a wrong size is named") {
  Numbers s(8), y(6);
  Numbers const keys(24), values(12), rates(6);
  using Reference = reference::GatedDeltaProduct<double>;
  Reference::Inputs const valid{.q = {keys.data(), 3, 4},
                                .k = {keys.data(), 6, 4},
                                .v = {values.data(), 6, 2},
                                .log_w = {rates.data(), 3},
                                .beta = rates};
  auto const message = [&](auto&& change) {
    auto x = valid;
    change(x);
    return message_of<std::invalid_argument>([&] { Reference::forward({s.data(), 2, 4}, x, {y.data(), 3, 2}); });
  };
  CHECK_NOTHROW(Reference::forward({s.data(), 2, 4}, valid, {y.data(), 3, 2}));
  std::string const model = "aviary::reference::GatedDeltaProduct: ";
  CHECK(message([&](auto& x) { x.q = {keys.data(), 2, 4}; }) == model + "q (tokens) has size 2, expected 3");
  CHECK(message([&](auto& x) { x.q = {keys.data(), 3, 3}; }) == model + "q has size 3, expected 4");
  CHECK(message([&](auto& x) { x.k = {keys.data(), 5, 4}; }) == model + "k (tokens) has size 5, expected 3");
  CHECK(message([&](auto& x) { x.k = {keys.data(), 6, 3}; }) == model + "k has size 3, expected 4");
  CHECK(message([&](auto& x) { x.v = {values.data(), 5, 2}; }) == model + "v (tokens) has size 5, expected 6");
  CHECK(message([&](auto& x) { x.v = {values.data(), 6, 1}; }) == model + "v has size 1, expected 2");
  CHECK(message([&](auto& x) { x.log_w = {rates.data(), 2}; }) == model + "log_w (tokens) has size 2, expected 3");
  CHECK(message([&](auto& x) { x.beta = {rates.data(), 5}; }) == model + "beta (tokens) has size 5, expected 6");
}
