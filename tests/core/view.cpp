/// Views, extents, aligned memory and the counting of members.
#include "aviary/core/view.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "aviary/core/aligned.hpp"
#include "aviary/core/fields.hpp"

using namespace aviary;

// A size known at compile time takes no room.
static_assert(sizeof(VecView<float, 8>) == sizeof(float*));
static_assert(sizeof(VecView<float>) == 2 * sizeof(float*));
static_assert(sizeof(MatView<float, 4, 8>) == sizeof(float*) + sizeof(Index));
static_assert(std::is_trivially_copyable_v<VecView<float, 8>> && std::is_trivially_copyable_v<MatView<float>>);

// Numbers to write can be read, but not the reverse. Sizes that are both known must agree.
static_assert(std::is_convertible_v<VecView<float, 8>, VecView<float const, 8>>);
static_assert(std::is_convertible_v<VecView<float, 8>, VecView<float>>);
static_assert(!std::is_convertible_v<VecView<float const>, VecView<float>>);
static_assert(!std::is_convertible_v<VecView<float, 8>, VecView<float, 4>>);
static_assert(!std::is_convertible_v<VecView<float>, VecView<double const>>);
static_assert(!std::is_convertible_v<std::vector<double>&, VecView<float>>);
static_assert(!std::is_convertible_v<std::vector<float> const&, VecView<float>>);
static_assert(!std::is_convertible_v<MatView<float, 4, 8>, MatView<float, 8, 4>>);

// A container of a fixed size must have the size of the view. A C array does not decay to a pointer, which has no size.
static_assert(!std::is_constructible_v<VecView<float, 4>, std::array<float, 3>&>);
static_assert(!std::is_constructible_v<VecView<float, 4>, std::array<float, 5>&>);
static_assert(!std::is_constructible_v<VecView<float, 4>, std::span<float, 3>>);
static_assert(!std::is_constructible_v<VecView<float, 4>, std::span<float, 5>>);
static_assert(!std::is_constructible_v<VecView<float, 4>, float (&)[3]>);
static_assert(!std::is_constructible_v<VecView<float, 4>, float (&)[5]>);
static_assert(std::is_convertible_v<std::array<float, 4>&, VecView<float, 4>>);
static_assert(std::is_convertible_v<std::span<float, 4>, VecView<float, 4>>);
static_assert(std::is_convertible_v<std::span<float>, VecView<float, 4>>);
static_assert(std::is_convertible_v<float (&)[4], VecView<float, 4>>);
static_assert(std::is_convertible_v<float (&)[4], VecView<float>> && std::is_convertible_v<float*, VecView<float, 4>>);

// Constant numbers stay constant.
static_assert(std::is_convertible_v<float const (&)[4], VecView<float const, 4>>);
static_assert(!std::is_constructible_v<VecView<float, 4>, float const (&)[4]>);
static_assert(!std::is_constructible_v<VecView<float, 4>, float const*>);
static_assert(!std::is_constructible_v<VecView<float, 4>, double (&)[4]>);

// A view is made without an exception, and only where the size is known from a pointer alone.
static_assert(std::is_nothrow_constructible_v<VecView<float const, 8>, std::vector<float> const&>);
static_assert(std::is_nothrow_constructible_v<VecView<float, 8>, float (&)[8]>);
static_assert(std::is_constructible_v<VecView<float, 8>, float*> && !std::is_constructible_v<VecView<float>, float*>);

// What has to be given cannot be left out.
static_assert(!std::is_default_constructible_v<Required<float>> && std::is_convertible_v<double, Required<float>>);

static_assert(padded<float>(0) == 0 && padded<float>(1) == 16 && padded<float>(16) == 16 && padded<float>(17) == 32);
static_assert(padded<double>(1) == 8 && padded<double>(65) == 72);

TEST_CASE("view: a vector of numbers is seen wherever it lies") {
  std::vector<float> vector{1, 2, 3, 4};
  std::array<float, 4> array{1, 2, 3, 4};
  float c_array[4] = {1, 2, 3, 4};
  std::span<float> const span(vector);
  std::span<float, 4> const fixed_span(vector);

  auto const sees = [](VecView<float const> x, float const* data) {
    CHECK(x.data() == data);
    REQUIRE(x.size() == 4);
    for (Index i = 0; i < 4; ++i) CHECK(x[i] == static_cast<float>(i + 1));
    CHECK(x.end() - x.begin() == 4);
  };
  sees(vector, vector.data());
  sees(array, array.data());
  sees(c_array, c_array);
  sees(span, vector.data());
  sees(fixed_span, vector.data());
  sees(VecView<float, 4>(vector.data()), vector.data());
  sees(VecView<float, 4>(c_array), c_array);
  sees({vector.data(), 4}, vector.data());

  VecView<float, 4> const to = array;
  to[2] = 7;
  CHECK(array[2] == 7.0f);
}

TEST_CASE("view: a segment begins and ends where it says") {
  std::vector<double> x{0, 1, 2, 3, 4};
  auto const part = VecView<double>(x).segment(1, 3);
  CHECK(part.data() == x.data() + 1);
  CHECK(part.size() == 3);
  CHECK(VecView<double>(x).segment(5, 0).size() == 0);
}

TEST_CASE("view: a matrix has its rows a stride apart") {
  std::vector<float> x(4 * 5);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  MatView<float> const matrix(x.data(), 4, 3, 5);
  CHECK(matrix.rows() == 4);
  CHECK(matrix.columns() == 3);
  CHECK(matrix.stride() == 5);
  CHECK(matrix(2, 1) == 11.0f);
  CHECK(matrix[3].data() == x.data() + 15);
  CHECK(matrix[3].size() == 3);

  auto const middle = matrix.rows(1, 2);
  CHECK(middle.rows() == 2);
  CHECK(middle(1, 2) == 12.0f);

  MatView<float const, 4, 3> const fixed = matrix;
  CHECK(fixed(2, 1) == 11.0f);
  CHECK(fixed.stride() == 5);
  CHECK(MatView<float>(x.data(), 4, 5).stride() == 5);
}

TEST_CASE("aligned: vectors begin on a boundary of 64 bytes") {
  std::vector<AlignedVector<float>> many;
  for (std::size_t n = 1; n < 100; ++n) {
    many.emplace_back(n, 1.0f);
    CHECK(reinterpret_cast<std::uintptr_t>(many.back().data()) % 64 == 0);
  }
}

namespace {
struct One {
  int a;
};
struct Ten {
  int a;
  float b;
  char c;
  int d;
  double e;
  int f, g, h, i, j;
};
}  // namespace

TEST_CASE("fields: members are counted and handed over in order") {
  static_assert(detail::count_members<One>() == 1 && detail::count_members<Ten>() == 10);
  Ten ten{1, 2.0f, 'c', 4, 5.0, 6, 7, 8, 9, 10};
  CHECK(detail::with_members<10>(ten, [](auto&... member) { return (static_cast<double>(member) + ...); }) ==
        52.0 + static_cast<double>('c'));
  One one{3};
  detail::with_members<1>(one, [](auto& member) { member = 4; });
  CHECK(one.a == 4);
}
