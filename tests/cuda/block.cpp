/// What kernels are made of.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "aviary/cuda/matrix_products.hpp"
#include "support/check.hpp"
#include "support/random.hpp"

using namespace aviary;
using namespace aviary::test;

TEST_CASE("kernels: a divisor divides") {
  Index const most = std::numeric_limits<std::int32_t>::max();
  for (Index const by :
       {Index{1}, Index{2}, Index{3}, Index{7}, Index{16}, Index{641}, Index{1} << 30, most - 1, most}) {
    cuda::Divisor const divisor(by);
    CHECK(divisor.by() == by);
    for (Index const n : {Index{0}, Index{1}, by - 1, by, 2 * by - 1, 3 * by, most / by * by - 1, most / by * by, most})
      if (0 <= n && n <= most) CHECK(divisor.quotient(n) == n / by);
  }
}

TEST_CASE("kernels: the nearest number of 11 bits") {
  CHECK(cuda::round_to_tf32(1 + 0x1p-11f) == 1 + 0x1p-10f);  // away from 0
  CHECK(cuda::round_to_tf32(-1 - 0x1p-11f) == -1 - 0x1p-10f);
  CHECK(cuda::round_to_tf32(1 + 0x1.ffp-12f) == 1);
  CHECK(cuda::round_to_tf32(0.f) == 0);
  float const infinity = std::numeric_limits<float>::infinity();
  CHECK(cuda::round_to_tf32(-infinity) == -infinity);
  CHECK(std::isnan(cuda::round_to_tf32(std::numeric_limits<float>::quiet_NaN())));
  Random random(101);
  for (int i = 0; i < 1000; ++i) {
    float const x = static_cast<float>(random.normal());
    float const rounded = cuda::round_to_tf32(x);
    CHECK(std::abs(rounded - x) <= 0x1p-11f * std::abs(x));
    CHECK(cuda::round_to_tf32(rounded) == rounded);
  }
}

#if !AVIARY_DEVICE_COMPILER
TEST_CASE("kernels: the matrices of warps") {
  constexpr int threads = 2 * cuda::warp;
  cuda::HostBlock<threads> block(0, false);
  Random random(102);
  // Small whole numbers: every sum is exact.
  auto const draw = [&] { return static_cast<float>(std::round(4 * random.normal())); };
  std::vector<float> a(2 * 16 * 8), b(2 * 8 * 8), d(2 * 16 * 8);
  for (auto* const matrix : {&a, &b, &d})
    for (float& x : *matrix) x = draw();
  auto expected = d;
  for (std::size_t w = 0; w < 2; ++w)
    for (std::size_t i = 0; i < 16; ++i)
      for (std::size_t j = 0; j < 8; ++j)
        for (std::size_t k = 0; k < 8; ++k)
          expected[(w * 16 + i) * 8 + j] += a[(w * 16 + i) * 8 + k] * b[(w * 8 + k) * 8 + j];
  auto const place = [](int thread, int rows, int row, int column) {
    return to_size((thread / cuda::warp * rows + row) * 8 + column);
  };
  block.multiply<threads>(
      [&](int thread, int i) {
        cuda::Lane const lane{thread};
        return a[place(thread, 16, lane.quad() + i % 2 * 8, lane.in_quad() + i / 2 * 4)];
      },
      [&](int thread, int i) {
        cuda::Lane const lane{thread};
        return b[place(thread, 8, lane.in_quad() + i * 4, lane.quad())];
      },
      [&](int thread, int i) -> float& {
        cuda::Lane const lane{thread};
        return d[place(thread, 16, lane.quad() + i / 2 * 8, 2 * lane.in_quad() + i % 2)];
      });
  CHECK(d == expected);
}
#endif
