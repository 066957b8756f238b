/// The WKV-7 reference against the generic recurrence.
#include "aviary/reference/wkv7.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <vector>

#include "aviary/reference/recurrence.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

namespace {

using namespace aviary;
using test::max_error;
using Reference = reference::Wkv7<double>;
using Numbers = std::vector<double>;

constexpr double bound = 1e-12;

}  // namespace

TEST_CASE("wkv7: one token by hand") {
  // S kappa_hat = 1*0.6 + 2*0.8 = 2.2; S' = S/2 - 2.2 (a*kappa_hat) + 10 k
  std::array<double, 2> s{1, 2};
  std::array<double, 2> const r{1, 100}, log_w{std::log(0.5), std::log(0.5)}, k{2, 4}, kappa_hat{0.6, 0.8}, a{1, 0.25};
  std::array<double, 1> const v{10};
  std::array<double, 1> y{};
  Reference::step({s.data(), 1, 2}, {.r = r, .log_w = log_w, .k = k, .v = v, .kappa_hat = kappa_hat, .a = a}, y);
  CHECK(s[0] == doctest::Approx(0.5 - 2.2 * 0.6 + 20).epsilon(1e-14));
  CHECK(s[1] == doctest::Approx(1 - 2.2 * 0.25 * 0.8 + 40).epsilon(1e-14));
  CHECK(y[0] == doctest::Approx(s[0] + 100 * s[1]).epsilon(1e-14));
}

TEST_CASE("wkv7: equals the generic recurrence with p = -kappa_hat, q = a * kappa_hat") {
  constexpr Index tokens = 40, keys = 16, values = 24;
  for (auto const decay :
       {test::Decay::none, test::Decay::slow, test::Decay::wkv7, test::Decay::wide, test::Decay::extremes}) {
    CAPTURE(test::name(decay));
    test::Wkv7Inputs<double> x(3, tokens, 1, keys, values, decay);
    Numbers w, p, q;
    for (double const log_w : x.log_w) w.push_back(std::exp(log_w));
    for (double const e : x.kappa_hat) p.push_back(-e);
    for (std::size_t i = 0; i < x.a.size(); ++i) q.push_back(x.a[i] * x.kappa_hat[i]);

    Numbers generic = x.state, y(tokens * values), y_generic(tokens * values);
    auto const along_keys = [](Numbers const& m) { return MatView<double const>{m.data(), tokens, keys}; };
    MatView<double const> const v{x.v.data(), tokens, values};
    Reference::forward({x.state.data(), values, keys},
                       {.r = along_keys(x.r),
                        .log_w = along_keys(x.log_w),
                        .k = along_keys(x.k),
                        .v = v,
                        .kappa_hat = along_keys(x.kappa_hat),
                        .a = along_keys(x.a)},
                       {y.data(), tokens, values});
    reference::Recurrence<double>::forward({generic.data(), values, keys},
                                           {.r = along_keys(x.r),
                                            .w = along_keys(w),
                                            .p = along_keys(p),
                                            .q = along_keys(q),
                                            .k = along_keys(x.k),
                                            .v = v},
                                           {y_generic.data(), tokens, values});
    CHECK(max_error(y, y_generic) <= bound);
    CHECK(max_error(x.state, generic) <= bound);
  }
}

TEST_CASE("wkv7: wrong sizes are named") {
  Numbers s(8), y(2);
  Numbers const key(4), value(2);
  CHECK_THROWS_WITH_AS(Reference::step({s.data(), 2, 4},
                                       {.r = key, .log_w = key, .k = key, .v = value, .kappa_hat = value, .a = key}, y),
                       "aviary::reference::Wkv7: kappa_hat has size 2, expected 4", std::invalid_argument);
}
