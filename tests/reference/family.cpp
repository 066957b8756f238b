/// The references, each its model's own equation, against the generic recurrence with the terms that the table of the
/// family gives them.
#include <doctest/doctest.h>

#include <cmath>
#include <optional>
#include <vector>

#include "rules/models.hpp"
#include "support/compare.hpp"

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
