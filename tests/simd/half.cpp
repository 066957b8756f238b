#include "aviary/simd/half.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "aviary/simd/instruction_sets.hpp"

using namespace aviary;

namespace {

/// Packs of 16-bit numbers have the bits that widen and narrow give for each lane. A NaN only has to be a NaN.
template <class H, class P> void check_half() {
  using L = simd::Pack<P>;
  using T = typename L::value_type;
  H in[to_size(L::lanes)], out[to_size(L::lanes)];
  T lanes[to_size(L::lanes)];
  int wrong = 0;
  for (std::uint32_t u = 0; u < 65536;) {
    for (H& h : in) h.bits = static_cast<std::uint16_t>(u++);
    P const x = simd::load<P>(in);
    L::store(lanes, x);
    for (Index i = 0; i < L::lanes; ++i) {
      T const expected = narrow<T>(widen(in[i]));
      wrong += std::isnan(expected) ? !std::isnan(lanes[i]) : std::memcmp(&expected, &lanes[i], sizeof(T)) != 0;
    }
  }
  CHECK(wrong == 0);
  for (std::uint64_t u = 0; u < (std::uint64_t{1} << 32); u += 40503)  // all exponents, odd steps over fractions
    for (std::uint32_t const low : {0u, 0x8000u, 0x1000u}) {           // and ties of both types
      std::uint32_t const bits = (static_cast<std::uint32_t>(u) & (low != 0 ? 0xffff0000u : ~0u)) | low;
      for (Index i = 0; i < L::lanes; ++i) lanes[i] = static_cast<T>(detail::float_of(bits));
      simd::store(out, L::load(lanes));
      H const expected = narrow<H>(lanes[0]);
      bool const nan = std::isnan(lanes[0]);
      wrong += nan ? !std::isnan(widen(out[L::lanes - 1])) : !(out[L::lanes - 1] == expected);
    }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE_TEMPLATE("half: packs are loaded and stored as numbers are widened and narrowed", H, bf16, f16) {
  simd::for_each_instruction_set<float>([]<class P>(simd::InstructionSet<P> set) {
    CAPTURE(set.name);
    check_half<H, P>();
  });
  check_half<H, simd::Wide<simd::Native<float>, 2>>();
  check_half<H, simd::Native<double>>();
}
