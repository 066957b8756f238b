/// Packs against plain loops: a number, a batch of the build's instruction set, and batches side by side.
#include "aviary/simd/pack.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "aviary/core/math.hpp"
#include "support/random.hpp"
#include "support/ulp.hpp"
#include "support/worst.hpp"

using namespace aviary;
using simd::Native;
using simd::Pack;
using simd::Wide;

namespace {

template <class P> using Value = typename Pack<P>::value_type;

template <class P> std::vector<Value<P>> lanes_of(P const& x) {
  std::vector<Value<P>> lanes(to_size(Pack<P>::lanes));
  Pack<P>::store(lanes.data(), x);
  return lanes;
}

/// Numbers for one pack.
template <class P> std::vector<Value<P>> numbers(std::uint64_t seed) {
  return test::Random(seed).normals<Value<P>>(Pack<P>::lanes);
}

/// f of every lane in turn.
template <class T, class F, class... From> std::vector<T> map(F&& f, std::vector<T> const& first, From const&... from) {
  std::vector<T> to(first.size());
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = f(first[i], from[i]...);
  return to;
}

}  // namespace

#define AVIARY_PACKS                                                                                            \
  float, double, Native<float>, Native<double>, Wide<float, 3>, Wide<Native<float>, 1>, Wide<Native<float>, 4>, \
      Wide<Native<double>, 2>

TEST_CASE_TEMPLATE("pack: loads, stores and fills every lane, from any address", P, AVIARY_PACKS) {
  using T = Value<P>;
  auto const lanes = Pack<P>::lanes;
  auto const data = test::Random(1).normals<T>(lanes + 5);
  for (Index shift = 0; shift < 5; ++shift) {
    P const x = Pack<P>::load(data.data() + shift);
    std::vector<T> to(to_size(lanes) + 6, T(99));
    Pack<P>::store(to.data() + shift, x);
    for (Index i = 0; i < lanes + 6; ++i) {
      bool const inside = i >= shift && i < shift + lanes;
      CHECK(to[to_size(i)] == (inside ? data[to_size(i)] : T(99)));
    }
  }
  CHECK(lanes_of(P(T(2.5))) == std::vector<T>(to_size(lanes), T(2.5)));
}

TEST_CASE_TEMPLATE("pack: operators work lane by lane", P, AVIARY_PACKS) {
  using T = Value<P>;
  auto const a = numbers<P>(2), b = numbers<P>(3);
  P const x = Pack<P>::load(a.data()), y = Pack<P>::load(b.data());
  CHECK(lanes_of<P>(x + y) == map([](T s, T t) { return s + t; }, a, b));
  CHECK(lanes_of<P>(x - y) == map([](T s, T t) { return s - t; }, a, b));
  CHECK(lanes_of<P>(x * y) == map([](T s, T t) { return s * t; }, a, b));
}

TEST_CASE_TEMPLATE("pack: fma is a b + c, rounded once where the machine can", P, AVIARY_PACKS) {
  using T = Value<P>;
  for (std::uint64_t seed = 10; seed < 60; ++seed) {
    auto const a = numbers<P>(seed), b = numbers<P>(seed + 100);
    auto c = numbers<P>(seed + 200);
    c[0] = -a[0] * b[0];  // all that is left is the rounding of the product
    auto const got = lanes_of(Pack<P>::fma(Pack<P>::load(a.data()), Pack<P>::load(b.data()), Pack<P>::load(c.data())));
    auto const once = map([](T x, T y, T z) { return std::fma(x, y, z); }, a, b, c);
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    CHECK(got == once);
#else
    for (std::size_t i = 0; i < got.size(); ++i)
      CHECK(std::abs(got[i] - once[i]) <=
            std::numeric_limits<T>::epsilon() * (std::abs(a[i] * b[i]) + std::abs(once[i])));
#endif
  }
}

TEST_CASE_TEMPLATE("pack: the sum is the sum of the lanes", P, float, double, Native<float>, Native<double>) {
  using T = Value<P>;
  auto a = numbers<P>(4);
  double exact = 0, absolute = 0;
  for (T const x : a) exact += static_cast<double>(x), absolute += std::abs(static_cast<double>(x));
  auto const error = std::abs(static_cast<double>(Pack<P>::sum(Pack<P>::load(a.data()))) - exact);
  CHECK(error <=
        static_cast<double>(std::numeric_limits<T>::epsilon()) * static_cast<double>(Pack<P>::lanes) * absolute);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<T>(i + 1);
  auto const lanes = static_cast<T>(Pack<P>::lanes);
  CHECK(Pack<P>::sum(Pack<P>::load(a.data())) == lanes * (lanes + 1) / 2);
}

TEST_CASE_TEMPLATE("pack: a part of a pack is read and written, and nothing past the end", P, AVIARY_PACKS) {
  using T = Value<P>;
  constexpr Index lanes = Pack<P>::lanes;
  T const nan = std::numeric_limits<T>::quiet_NaN();
  for (Index n = 0; n <= 2 * lanes + 1; ++n)
    for (Index first = 0; first <= n; ++first) {
      CAPTURE(n);
      CAPTURE(first);
      std::vector<T> from(to_size(n + lanes), nan);  // past the end lies what would show
      for (Index i = 0; i < n; ++i) from[to_size(i)] = static_cast<T>(i + 1);
      P const x = simd::load_part<P>(from.data(), first, n);
      auto const read = lanes_of(x);
      Index wrong = 0;
      for (Index i = 0; i < lanes; ++i)
        wrong += !(read[to_size(i)] == (first + i < n ? static_cast<T>(first + i + 1) : T(0)));
      CHECK(wrong == 0);

      std::vector<T> to(to_size(n + lanes), T(-1));
      simd::store_part<P>(to.data(), first, n, x);
      for (Index i = 0; i < n + lanes; ++i) {
        bool const inside = i >= first && i < first + lanes && i < n;
        wrong += !(to[to_size(i)] == (inside ? static_cast<T>(i + 1) : T(-1)));
      }
      CHECK(wrong == 0);
    }
}

TEST_CASE_TEMPLATE("pack: transform goes over every number, in place as well", T, float, double) {
  for (Index n = 0; n <= 3 * Pack<Native<T>>::lanes + 1; ++n) {
    CAPTURE(n);
    auto const a = test::Random(5).normals<T>(n + 1), b = test::Random(6).normals<T>(n + 1);
    auto to = a;
    to.back() = T(99);
    simd::transform<T>(
        n, to.data(), [](auto const& x, auto const& y) { return x + y; }, to.data(), b.data());
    for (std::size_t i = 0; i < to_size(n); ++i) CHECK(to[i] == a[i] + b[i]);
    CHECK(to.back() == T(99));
  }
}

namespace {
/// f of one float, computed in the last lane of a pack.
template <class P, class F> auto in_last_lane(F f) {
  return [f](float x) {
    std::vector<float> lanes(to_size(Pack<P>::lanes), 1.0f);
    lanes.back() = x;
    return lanes_of<P>(f(Pack<P>::load(lanes.data()))).back();
  };
}
}  // namespace

TEST_CASE_TEMPLATE("pack: exp and expm1 to two units in the last place", P, float, Native<float>) {
  auto const exp = in_last_lane<P>([](P const& x) { return Pack<P>::exp(x); });
  auto const expm1 = in_last_lane<P>([](P const& x) { return Pack<P>::expm1(x); });
  CHECK(test::worst_ulps(-87, 88, exp, [](double x) { return std::exp(x); }) <= 2);
  CHECK(test::worst_ulps(-87, 88, expm1, [](double x) { return std::expm1(x); }) <= 2);
}

TEST_CASE("pack: logarithms and tanh of batches to the errors that are stated") {
  using P = Native<float>;
  using E = aviary::detail::Elementary<P>;
  auto const log = in_last_lane<P>([](P const& x) { return E::log(x); });
  auto const log1p = in_last_lane<P>([](P const& x) { return E::log1p(x); });
  auto const tanh = in_last_lane<P>([](P const& x) { return E::tanh(x); });
  CHECK(test::worst_ulps(1e-6f, 1e6f, log, [](double x) { return std::log(x); }) <= 2);
  CHECK(test::worst_ulps(0.5f, 2.0f, log, [](double x) { return std::log(x); }) <= 2);
  CHECK(test::worst_ulps(0, 2, log1p, [](double x) { return std::log1p(x); }) <= 2);
  CHECK(test::worst_ulps(0, 1e6f, log1p, [](double x) { return std::log1p(x); }) <= 2);
  CHECK(test::worst_ulps(-20, 20, tanh, [](double x) { return std::tanh(x); }) <= 4);
  float const infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  float const four_ulps = 4 * std::numeric_limits<float>::epsilon();  // the division of some batches is not exact
  CHECK(std::abs(tanh(infinity) - 1) <= four_ulps);
  CHECK(std::abs(tanh(-infinity) + 1) <= four_ulps);
  CHECK(std::isnan(tanh(nan)));
  CHECK(std::isnan(log1p(nan)));
}

// What a decay may be: log_w is in [-inf, 0].
TEST_CASE_TEMPLATE("pack: exp and expm1 at the ends", P, float, double, Native<float>, Native<double>) {
  using T = Value<P>;
  T const infinity = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  auto const exp = [](T x) { return lanes_of(Pack<P>::exp(P(x))).front(); };
  auto const expm1 = [](T x) { return lanes_of(Pack<P>::expm1(P(x))).front(); };
  CHECK(exp(T(0)) == T(1));
  CHECK(exp(-infinity) == T(0));
  CHECK(exp(T(-1e30)) == T(0));
  CHECK(exp(infinity) == infinity);
  CHECK(std::isnan(exp(nan)));
  CHECK(expm1(T(0)) == T(0));
  CHECK(expm1(-infinity) == T(-1));
  CHECK(expm1(T(-1e30)) == T(-1));
  CHECK(std::isnan(expm1(nan)));
}

TEST_CASE_TEMPLATE("pack: exp and expm1 of doubles to two units in the last place", P, double, Native<double>) {
  test::Worst worst_exp, worst_expm1;
  auto const ulps = [](double x, long double exact) {
    long double const unit = std::ldexp(1.0L, std::ilogb(exact) - 52);
    return static_cast<double>(std::abs(static_cast<long double>(x) - exact) / unit);
  };
  for (int i = 0; i < 100'000; ++i) {
    double const x = -700 + 0.014 * i + 1e-7;
    worst_exp.add(ulps(lanes_of(Pack<P>::exp(P(x))).front(), std::exp(static_cast<long double>(x))));
    worst_expm1.add(ulps(lanes_of(Pack<P>::expm1(P(x))).front(), std::expm1(static_cast<long double>(x))));
  }
  if (std::numeric_limits<long double>::digits > 60) {
    CHECK(worst_exp <= 2);
    CHECK(worst_expm1 <= 2);
  }
}

TEST_CASE_TEMPLATE("pack: errors of the elementwise functions are as stated", P, float, Native<float>) {
  auto const exact_sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  CHECK(test::worst_ulps(-87, 100, in_last_lane<P>([](P const& x) { return sigmoid(x); }), exact_sigmoid) <= 4);
  CHECK(test::worst_ulps(-80, 100, in_last_lane<P>([](P const& x) { return silu(x); }),
                         [&](double x) { return x * exact_sigmoid(x); }) <= 5);
  CHECK(test::worst_ulps(-80, 80, in_last_lane<P>([](P const& x) { return log_w_of_exponential(x); }),
                         [](double x) { return -std::exp(x); }) <= 2);
  CHECK(test::worst_ulps(-80, 80, in_last_lane<P>([](P const& x) { return log_w_of_sigmoid(x); }),
                         [&](double x) { return -std::exp(-0.5) * exact_sigmoid(x); }) <= 5);
  for (float const x : {-1e30f, -200.0f, -90.0f}) {
    CHECK(lanes_of(sigmoid(P(x))).front() == 0.0f);
    CHECK(lanes_of(sigmoid(P(-x))).front() == 1.0f);
  }
}

TEST_CASE_TEMPLATE("pack: min, max and select take lanes, and NaN from the right", P, float, double, Native<float>,
                   Native<double>) {
  using T = Value<P>;
  using L = Pack<P>;
  T const nan = std::numeric_limits<T>::quiet_NaN();
  for (auto const& [a, b] : {std::pair<T, T>{T(1), T(2)}, {T(2), T(1)}, {T(-3), T(-3)}}) {
    CHECK(lanes_of(L::min(P(a), P(b))).back() == std::min(a, b));
    CHECK(lanes_of(L::max(P(a), P(b))).back() == std::max(a, b));
    CHECK(lanes_of(L::select(P(a) < P(b), P(T(10)), P(T(20)))).back() == (a < b ? T(10) : T(20)));
    CHECK(L::any(P(a) < P(b)) == (a < b));
  }
  CHECK(std::isnan(lanes_of(L::min(P(T(1)), P(nan))).back()));
  CHECK(std::isnan(lanes_of(L::max(P(T(1)), P(nan))).back()));
  CHECK_FALSE(L::any(P(nan) < P(T(1))));
}

TEST_CASE_TEMPLATE("pack: scale and exponent take numbers apart and put them together", P, float, double, Native<float>,
                   Native<double>) {
  using T = Value<P>;
  using L = Pack<P>;
  int const most = std::numeric_limits<T>::max_exponent - 1;
  for (int n = 1 - most; n <= most; ++n) {
    T const power = std::ldexp(T(1), n);
    CHECK(lanes_of(L::scale(P(T(1)), P(T(n)))).back() == power);
    CHECK(lanes_of(L::exponent(P(power))).back() == T(n));
    CHECK(lanes_of(L::exponent(P(std::nextafter(T(2) * power, T(0))))).back() == T(n));
    CHECK(lanes_of(L::scale(P(T(-1.75)), P(T(n)))).back() == T(-1.75) * power);
  }
  CHECK(std::isnan(lanes_of(L::scale(P(std::numeric_limits<T>::quiet_NaN()), P(T(3)))).back()));
}
