/// bf16 and f16 against arithmetic of their own: a format is a number of fraction bits, the place of the last bit of the
/// smallest numbers, and the largest number.
#include "aviary/core/convert.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

using namespace aviary;

namespace {

template <class T> struct Format;
template <> struct Format<bf16> {
  static constexpr int fraction_bits = 7, lowest_bit = -133;
  static constexpr double largest = 0x1.fep127;
};
template <> struct Format<f16> {
  static constexpr int fraction_bits = 10, lowest_bit = -24;
  static constexpr double largest = 65504;
};

template <class T> bool is_nan(T x) {
  unsigned const infinity = std::is_same_v<T, bf16> ? 0x7f80u : 0x7c00u;
  return (x.bits & 0x7fffu) > infinity;
}

/// The number that the bits stand for.
template <class T> double value_of(T x) {
  using F = Format<T>;
  int const exponent = (x.bits & 0x7fff) >> F::fraction_bits;
  int const fraction = x.bits & ((1 << F::fraction_bits) - 1);
  int const highest = 0x7fff >> F::fraction_bits;
  double const sign = x.bits & 0x8000u ? -1 : 1;
  if (exponent == highest)
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  int const significand = exponent == 0 ? fraction : fraction + (1 << F::fraction_bits);
  return sign * std::ldexp(significand, F::lowest_bit + (exponent == 0 ? 0 : exponent - 1));
}

/// The nearest number of type T, ties to even, as a double.
template <class T> double nearest(double x) {
  using F = Format<T>;
  if (!std::isfinite(x) || !(x < 0 || x > 0)) return x;
  int exponent = 0;
  std::frexp(x, &exponent);  // 2^(exponent - 1) <= |x| < 2^exponent
  int const last_bit = std::max(exponent - 1 - F::fraction_bits, F::lowest_bit);
  double const rounded = std::ldexp(std::nearbyint(std::ldexp(x, -last_bit)), last_bit);
  return std::abs(rounded) > F::largest ? std::copysign(std::numeric_limits<double>::infinity(), x) : rounded;
}

/// Rounds numbers to T and keeps the first one that comes out wrong; the sign of zero counts.
template <class T> struct Check {
  long numbers = 0, wrong = 0;
  double first_wrong = 0, got = 0, expected = 0;

  template <class From> void operator()(From x) {
    ++numbers;
    double const ref = nearest<T>(static_cast<double>(x)), y = value_of(narrow<T>(x));
    if (std::isnan(ref) ? std::isnan(y) : y >= ref && y <= ref && std::signbit(y) == std::signbit(ref)) return;
    if (wrong++ == 0) first_wrong = static_cast<double>(x), got = y, expected = ref;
  }
  void report() const {
    INFO(wrong << " of " << numbers << " wrong, first " << first_wrong << ": " << got << ", expected " << expected);
    CHECK(numbers > 0);
    CHECK(wrong == 0);
  }
};

float previous(float x) { return std::nextafter(x, -std::numeric_limits<float>::infinity()); }
float next(float x) { return std::nextafter(x, std::numeric_limits<float>::infinity()); }
double previous(double x) { return std::nextafter(x, -std::numeric_limits<double>::infinity()); }
double next(double x) { return std::nextafter(x, std::numeric_limits<double>::infinity()); }

/// f(x) for every positive finite number of type T, then the place that the next one would have after the largest.
template <class T, class F> void for_each_neighbours(F&& f) {
  double low = 0;
  for (unsigned bits = 1; std::isfinite(low); ++bits) {
    double const high = value_of(T{static_cast<std::uint16_t>(bits)});
    f(low, std::isfinite(high) ? high : low + std::ldexp(1.0, std::ilogb(low) - Format<T>::fraction_bits));
    low = high;
  }
}

}  // namespace

TEST_CASE_TEMPLATE("convert: every 16-bit number widens exactly and comes back", T, bf16, f16) {
  long wrong = 0, changed = 0;
  for (unsigned bits = 0; bits < 0x10000u; ++bits) {
    T const x{static_cast<std::uint16_t>(bits)};
    double const expected = value_of(x);
    float const wide = widen(x);
    if (is_nan(x)) {
      wrong += !std::isnan(wide);
      changed += !is_nan(narrow<T>(wide)) || !is_nan(narrow<T>(static_cast<double>(wide)));
    } else {
      wrong += std::bit_cast<std::uint64_t>(static_cast<double>(wide)) != std::bit_cast<std::uint64_t>(expected);
      changed += narrow<T>(wide) != x || narrow<T>(static_cast<double>(wide)) != x;
    }
  }
  CHECK(wrong == 0);
  CHECK(changed == 0);
}

TEST_CASE_TEMPLATE("convert: floats round to nearest, ties to even", T, bf16, f16) {
  Check<T> check;
  for_each_neighbours<T>([&](double low, double high) {
    auto const middle = static_cast<float>((low + high) / 2);  // exact
    for (float const x : {static_cast<float>(low), previous(middle), middle, next(middle)}) check(x), check(-x);
  });
  check.report();
}

TEST_CASE_TEMPLATE("convert: floats from all over round to nearest", T, bf16, f16) {
  Check<T> check;
  for (std::uint64_t bits = 0; bits < 0x100000000u; bits += 1021)
    check(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  check(std::numeric_limits<float>::infinity());
  check(-std::numeric_limits<float>::infinity());
  check(std::numeric_limits<float>::quiet_NaN());
  check(std::numeric_limits<float>::max());
  check(std::bit_cast<float>(0x7f800001u));  // a NaN whose fraction lies in the lower half alone
  check.report();
}

TEST_CASE_TEMPLATE("convert: doubles round once", T, bf16, f16) {
  Check<T> check;
  for_each_neighbours<T>([&](double low, double high) {
    double const middle = (low + high) / 2;
    // As floats, the neighbours of a tie are the tie.
    for (double const x : {low, middle, previous(middle), next(middle), middle * (1 - 0x1p-30), middle * (1 + 0x1p-30)})
      check(x), check(-x);
  });
  for (double const x : {0.0, 1e-320, 1e-46, 0x1p-149, 0x1.8p-149, 0x1.fffffffp127, 0x1p128, 1e300,
                         std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()})
    check(x), check(-x);
  check.report();
}

TEST_CASE("convert: the numbers that one knows") {
  CHECK(narrow<f16>(1.0f).bits == 0x3c00);
  CHECK(narrow<f16>(-2.0f).bits == 0xc000);
  CHECK(narrow<f16>(65504.0f).bits == 0x7bff);
  CHECK(narrow<f16>(65519.996f).bits == 0x7bff);
  CHECK(narrow<f16>(65520.0f).bits == 0x7c00);
  CHECK(narrow<f16>(0x1p-24f).bits == 0x0001);
  CHECK(narrow<f16>(0x1p-25f).bits == 0x0000);
  CHECK(narrow<f16>(0x1.8p-24f).bits == 0x0002);
  CHECK(narrow<bf16>(1.0f).bits == 0x3f80);
  CHECK(narrow<bf16>(0x1.01p0f).bits == 0x3f80);
  CHECK(narrow<bf16>(0x1.03p0f).bits == 0x3f82);
  CHECK(narrow<bf16>(std::numeric_limits<float>::max()).bits == 0x7f80);
  CHECK(narrow<float>(0x1.000001p0) == 1.0f);
}

TEST_CASE_TEMPLATE("convert: rows of any length convert to every type, and to nothing beside", From, float, double,
                   bf16, f16) {
  auto const to = [&]<class To>(To const guard, Index n) {
    CAPTURE(n);
    std::vector<From> from(to_size(n));
    for (Index i = 0; i < n; ++i) from[to_size(i)] = narrow<From>(0.37 * static_cast<double>(i) - 5.1);
    std::vector<To> row(to_size(n) + 2, guard);
    convert(from.data(), row.data() + 1, n);
    CHECK(row.front() == guard);
    CHECK(row.back() == guard);
    for (std::size_t i = 0; i < from.size(); ++i) CHECK(row[i + 1] == narrow<To>(static_cast<double>(widen(from[i]))));
  };
  for (Index const n : {0, 1, 2, 15, 16, 17, 31, 32, 33, 37, 100}) {
    to(-77.0f, n);
    to(-77.0, n);
    to(bf16{0xabcd}, n);
    to(f16{0xabcd}, n);
  }
}

TEST_CASE_TEMPLATE("convert: a row that keeps its type keeps its bits, those of NaN too", T, bf16, f16) {
  std::vector<T> every, copy;
  for (unsigned bits = 0; bits < 0x10000u; ++bits) every.push_back({static_cast<std::uint16_t>(bits)});
  copy.resize(every.size());
  convert(every.data(), copy.data(), static_cast<Index>(every.size()));
  CHECK(copy == every);
}

TEST_CASE("convert: a row of 16-bit numbers converts as each of them does") {
  std::vector<f16> every;
  for (unsigned bits = 0; bits < 0x10000u; ++bits) every.push_back({static_cast<std::uint16_t>(bits)});
  std::vector<float> wide(every.size());
  std::vector<bf16> other(every.size());
  convert(every.data(), wide.data(), static_cast<Index>(every.size()));
  convert(every.data(), other.data(), static_cast<Index>(every.size()));
  long wrong = 0;
  for (std::size_t i = 0; i < every.size(); ++i) {
    wrong += std::bit_cast<std::uint32_t>(wide[i]) != std::bit_cast<std::uint32_t>(widen(every[i]));
    wrong += other[i] != narrow<bf16>(widen(every[i]));
  }
  CHECK(wrong == 0);
}
