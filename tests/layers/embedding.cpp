#include "aviary/layers/embedding.hpp"

#include <doctest/doctest.h>

#include <array>
#include <list>
#include <span>
#include <type_traits>
#include <vector>

#include "support/allocation_counter.hpp"
#include "support/layer_case.hpp"

using namespace aviary;
using test::Matrix;
using test::Random;

TEST_CASE_TEMPLATE("embedding: rows of the table, in the order of the ids", T, float, double) {
  Random random(1);
  Matrix<T> const table(9, 21, random);
  Embedding<T> const embedding(table.view());
  CHECK(embedding.vocab_size() == 9);
  CHECK(embedding.channels() == 21);
  std::array<std::int32_t, 4> const ids{8, 0, 3, 8};
  Matrix<T> x(4, 21);
  test::AllocationCounter const allocations;
  embedding(ids, x.view());
  CHECK(allocations.count() == 0);
  for (Index t = 0; t < 4; ++t)
    for (Index i = 0; i < 21; ++i) CHECK(x(t, i) == table(ids[to_size(t)], i));
}

TEST_CASE("embedding: 16-bit tables hold rounded numbers, exact ones all of them") {
  Random random(2);
  Matrix<float> const table(5, 40, random);
  std::array<std::int32_t, 5> const ids{0, 1, 2, 3, 4};
  auto const row_of = [&](WeightFormat format, Index i, Index j) {
    Matrix<float> x(5, 40);
    Embedding<float>(table.view(), format)(ids, x.view());
    return x(i, j);
  };
  for (Index i = 0; i < 5; ++i)
    for (Index j = 0; j < 40; ++j) {
      CHECK(row_of(WeightFormat::exact, i, j) == table(i, j));
      CHECK(row_of(WeightFormat::full, i, j) == table(i, j));
      CHECK(row_of(NumberFormat::bf16, i, j) == widen(narrow<bf16>(table(i, j))));
      CHECK(row_of(NumberFormat::q8, i, j) == widen(narrow<bf16>(table(i, j))));
      CHECK(row_of(NumberFormat::f16, i, j) == widen(narrow<f16>(table(i, j))));
    }
}

TEST_CASE("embedding: any range of integers") {
  Random random(3);
  Matrix<float> const table(9, 21, random);
  Embedding<float> const embedding(table.view());
  Matrix<float> expected(4, 21);
  embedding(std::array<std::int32_t, 4>{8, 0, 3, 8}, expected.view());
  auto const same = [&](auto const& ids) {
    Matrix<float> x(4, 21);
    embedding(ids, x.view());
    return x == expected;
  };
  std::vector<std::int64_t> const wide{8, 0, 3, 8};
  std::uint8_t const bytes[] = {8, 0, 3, 8};
  CHECK(same(std::vector<int>{8, 0, 3, 8}));
  CHECK(same(wide));
  CHECK(same(std::span<std::int64_t const>(wide)));
  CHECK(same(std::span<std::int64_t const, 4>(wide)));
  CHECK(same(bytes));
  CHECK(same(std::list<std::size_t>{8, 0, 3, 8}));
  CHECK(same(std::initializer_list<short>{8, 0, 3, 8}));
  CHECK_FALSE(std::is_invocable_v<Embedding<float> const&, std::vector<float>, MatView<float>>);
}

TEST_CASE("embedding: an empty table is refused") {
  CHECK_THROWS_WITH_AS(Embedding<float>(WeightMatrix{}),
                       "aviary: Embedding: the table is 0 x 0, expected at least one token and channel",
                       std::invalid_argument);
}
