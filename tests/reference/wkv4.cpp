/// The WKV-4 reference against the equations before they were made safe, and against published code.
#include "aviary/reference/wkv4.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <vector>

#include "support/compare.hpp"
#include "support/golden.hpp"
#include "support/random.hpp"

namespace {

using namespace aviary;
using test::max_error;
using Reference = reference::Wkv4<double>;
using Numbers = std::vector<double>;

constexpr double bound = 1e-12;

Numbers row(Numbers const& x, Index t, Index n) { return Numbers(x.begin() + t * n, x.begin() + (t + 1) * n); }

/// The files of WKV-4 below a folder, of which there are so many.
int check_golden(std::string const& folder) {
  int files = 0;
  for (auto const& path : test::golden_files(folder)) {
    test::GoldenFile const file(path);
    if (file.op() != "wkv4") continue;
    ++files;
    CAPTURE(file.path());
    Index const batch = file.size("out", 0), tokens = file.size("out", 1), n = file.size("out", 2);
    Numbers const k = file.numbers("k"), v = file.numbers("v"), log_w = file.numbers("w_log"), u = file.numbers("u");
    Numbers aa = file.numbers("aa0"), bb = file.numbers("bb0"), pp = file.numbers("pp0"), y(k.size());
    for (Index b = 0; b < batch; ++b) {
      Index const at = b * tokens * n;
      Reference::forward({{aa.data() + b * n, n}, {bb.data() + b * n, n}, {pp.data() + b * n, n}},
                         {.log_w = log_w, .k = {k.data() + at, tokens, n}, .v = {v.data() + at, tokens, n}, .u = u},
                         {y.data() + at, tokens, n});
    }
    CHECK(max_error(y, file.numbers("out")) <= bound);
    CHECK(max_error(aa, file.numbers("aaT")) <= bound);
    CHECK(max_error(bb, file.numbers("bbT")) <= bound);
    CHECK(max_error(pp, file.numbers("ppT")) <= bound);
  }
  return files;
}

}  // namespace

TEST_CASE("wkv4: agrees with published files") {
  CHECK(check_golden(AVIARY_TEST_GOLDEN_DIR) > 0);
  std::string const data = AVIARY_TEST_DATA_DIR;
  if (data.empty())
    MESSAGE("AVIARY_TEST_DATA_DIR is empty: the committed files alone");
  else
    CHECK(check_golden(data + "/golden") > 0);
}

TEST_CASE("wkv4: two tokens by hand") {
  // e^k = 2, then 3; w = 1/2; e^u = 5.
  Numbers aa{0}, bb{0}, pp{-1e30}, y(1);
  Numbers const log_w{std::log(0.5)}, u{std::log(5.0)}, k1{std::log(2.0)}, k2{std::log(3.0)}, v1{10}, v2{20};
  Reference::step({aa, bb, pp}, {.log_w = log_w, .k = k1, .v = v1, .u = u}, y);
  CHECK(y[0] == doctest::Approx(10));
  Reference::step({aa, bb, pp}, {.log_w = log_w, .k = k2, .v = v2, .u = u}, y);
  CHECK(y[0] == doctest::Approx((2 * 10 + 15 * 20) / 17.0));
  CHECK(aa[0] * std::exp(pp[0]) == doctest::Approx(0.5 * 2 * 10 + 3 * 20));
  CHECK(bb[0] * std::exp(pp[0]) == doctest::Approx(0.5 * 2 + 3));
}

TEST_CASE("wkv4: equals the sums themselves where these do not overflow") {
  constexpr Index tokens = 200, n = 24;
  test::Random random(7);
  Numbers const k = random.normals<double>(tokens * n, 3), v = random.normals<double>(tokens * n),
                u = random.normals<double>(n), log_w = random.log_decays<double>(n, test::Decay::wide);
  Numbers aa(n), bb(n), pp(n, -1e30), y(tokens * n), expected;
  Reference::forward({aa, bb, pp}, {.log_w = log_w, .k = {k.data(), tokens, n}, .v = {v.data(), tokens, n}, .u = u},
                     {y.data(), tokens, n});
  std::vector<long double> num(n), den(n);
  for (Index t = 0; t < tokens; ++t)
    for (std::size_t c = 0; c < n; ++c) {
      std::size_t const at = static_cast<std::size_t>(t) * n + c;
      long double const e = std::exp(static_cast<long double>(k[at])), w = std::exp(static_cast<long double>(log_w[c]));
      long double const now = std::exp(static_cast<long double>(u[c])) * e;
      expected.push_back(static_cast<double>((num[c] + now * v[at]) / (den[c] + now)));
      num[c] = w * num[c] + e * v[at];
      den[c] = w * den[c] + e;
    }
  CHECK(max_error(y, expected) <= bound);
  for (std::size_t c = 0; c < n; ++c) {
    CHECK(aa[c] / bb[c] == doctest::Approx(static_cast<double>(num[c] / den[c])).epsilon(bound));
    CHECK(pp[c] + std::log(bb[c]) == doctest::Approx(static_cast<double>(std::log(den[c]))).epsilon(bound));
  }
}

TEST_CASE("wkv4: a state in another gauge is the same state") {
  constexpr Index tokens = 30, n = 4;
  test::Random random(8);
  Numbers const k = random.normals<double>(tokens * n, 2), v = random.normals<double>(tokens * n),
                u = random.normals<double>(n), log_w = random.log_decays<double>(n, test::Decay::slow);
  Numbers aa{1, -2, 3, 4}, bb{1, 1, 2, 3}, pp{0, 1, -1, 5}, y(n), z(n);
  Numbers ab = aa, bc = bb, pd = pp;
  for (std::size_t c = 0; c < n; ++c) ab[c] *= std::exp(2.5), bc[c] *= std::exp(2.5), pd[c] -= 2.5;
  for (Index t = 0; t < tokens; ++t) {
    Reference::step({aa, bb, pp}, {.log_w = log_w, .k = row(k, t, n), .v = row(v, t, n), .u = u}, y);
    Reference::step({ab, bc, pd}, {.log_w = log_w, .k = row(k, t, n), .v = row(v, t, n), .u = u}, z);
    CHECK(max_error(y, z) <= bound);
  }
}

TEST_CASE("wkv4: keys of any size give finite outputs") {
  Numbers aa(1), bb(1), pp(1, -1e30), y(1);
  Numbers const log_w{-0.5}, u{3};
  for (double const key : {300.0, -300.0, 700.0, -700.0, 0.0}) {
    Numbers const k{key}, v{key > 0 ? 1.0 : -1.0};
    Reference::step({aa, bb, pp}, {.log_w = log_w, .k = k, .v = v, .u = u}, y);
    CHECK(std::abs(y[0]) <= 1 + 1e-15);
  }
}

TEST_CASE("wkv4: wrong sizes are named") {
  Numbers two(2), three(3);
  CHECK_THROWS_WITH_AS(Reference::step({two, two, two}, {.log_w = two, .k = two, .v = three, .u = two}, two),
                       "aviary::reference::Wkv4: v has size 3, expected 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(
      Reference::forward({two, two, two}, {.log_w = two, .k = {two.data(), 1, 2}, .v = {two.data(), 0, 2}, .u = two},
                         {two.data(), 1, 2}),
      "aviary::reference::Wkv4: v (tokens) has size 0, expected 1", std::invalid_argument);
}
