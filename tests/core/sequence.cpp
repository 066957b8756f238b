/// Packed sequences: where each row lies, and in which type.
#include "aviary/core/sequence.hpp"

#include <doctest/doctest.h>

#include <type_traits>
#include <vector>

using namespace aviary;

namespace {
/// The number at one place of a sequence. It is small enough to be exact in every type.
double number(Index token, Index head, Index i) { return static_cast<double>(token * 16 + head * 4 + i) / 8; }

/// (tokens, heads, size) numbers with the given strides. The places between them hold -1.
template <class T>
std::vector<T> filled(Index tokens, Index heads, Index size, Index token_stride, Index head_stride, Index total) {
  std::vector<T> data(to_size(total), narrow<T>(-1.0));
  for (Index t = 0; t < tokens; ++t)
    for (Index h = 0; h < heads; ++h)
      for (Index i = 0; i < size; ++i)
        data[to_size(t * token_stride + h * head_stride + i)] = narrow<T>(number(t, h, i));
  return data;
}

template <class S, class T> void check_rows(S const& source, T* scratch, Index head_of_source = 0) {
  for (Index t = 0; t < source.tokens(); ++t)
    for (Index h = 0; h < source.heads(); ++h) {
      VecView<T const> const row = source.row(t, h, scratch);
      REQUIRE(row.size() == source.size());
      for (Index i = 0; i < row.size(); ++i) CHECK(row[i] == static_cast<T>(number(t, h + head_of_source, i)));
    }
}
}  // namespace

// An output may be unwanted, an input may not. Constant numbers are not written.
static_assert(std::is_default_constructible_v<Sink<>> && !std::is_default_constructible_v<Source<>>);
static_assert(std::is_constructible_v<Sink<4>, float*, Index, Index>);
static_assert(!std::is_constructible_v<Sink<4>, float const*, Index, Index>);
static_assert(!std::is_constructible_v<Source<>, float const*, Index, Index>, "a run-time size has to be given");

TEST_CASE_TEMPLATE("sequence: rows of every storage type are read as float and as double", T, float, double, bf16,
                   f16) {
  auto const data = filled<T>(3, 2, 4, 8, 4, 24);
  Source<4> const fixed(data.data(), 3, 2);
  Source<> const run_time(data.data(), 3, 2, 4);
  CHECK(fixed.format() == format_of<T>);
  CHECK(fixed.tokens() == 3);
  CHECK(fixed.heads() == 2);
  CHECK(fixed.size() == 4);
  CHECK(run_time.size() == 4);
  std::vector<float> as_float(4);
  std::vector<double> as_double(4);
  check_rows(fixed, as_float.data());
  check_rows(fixed, as_double.data());
  check_rows(run_time, as_float.data());
  check_rows(run_time, as_double.data());
}

TEST_CASE_TEMPLATE("sequence: a part of a row", T, float, bf16) {
  auto const data = filled<T>(2, 3, 5, 15, 5, 30);
  Source<> const source(data.data(), 2, 3, 5);
  std::vector<float> scratch(2, -1.0f);
  VecView<float const> const part = source.part(1, 2, 3, 2, scratch.data());
  REQUIRE(part.size() == 2);
  CHECK(part[0] == static_cast<float>(number(1, 2, 3)));
  CHECK(part[1] == static_cast<float>(number(1, 2, 4)));
  CHECK((part.data() == scratch.data()) == !std::is_same_v<T, float>);
}

TEST_CASE("sequence: a row that needs no conversion is not copied") {
  auto const data = filled<float>(3, 2, 4, 8, 4, 24);
  Source<4> const source(data.data(), 3, 2);
  CHECK(source.row(2, 1, static_cast<float*>(nullptr)).data() == data.data() + 20);
  std::vector<double> scratch(4);
  CHECK(source.row(2, 1, scratch.data()).data() == scratch.data());
}

TEST_CASE_TEMPLATE("sequence: strides are free", T, float, bf16) {
  std::vector<double> scratch(3);
  // Heads outside tokens, with a gap after each row.
  auto const transposed = filled<T>(4, 2, 3, 5, 20, 40);
  check_rows(Source<>(transposed.data(), 4, 2, 3, 5, 20), scratch.data());
  // Backwards in time.
  auto const forwards = filled<T>(4, 2, 3, 6, 3, 24);
  Source<3> const backwards(forwards.data() + 18, 4, 2, 3, -6, 3);
  CHECK(backwards.row(0, 1, scratch.data())[2] == number(3, 1, 2));
  CHECK(backwards.row(3, 0, scratch.data())[0] == number(0, 0, 0));
  // The same numbers for every token.
  Source<3> const constant(forwards.data(), 4, 2, 3, 0, 3);
  CHECK(constant.row(3, 1, scratch.data())[1] == number(0, 1, 1));
}

TEST_CASE_TEMPLATE("sequence: one head of many", T, float, f16) {
  auto const data = filled<T>(3, 4, 2, 8, 2, 24);
  std::vector<double> scratch(2);
  for (Index h = 0; h < 4; ++h) {
    Source<2> const one = Source<2>(data.data(), 3, 4).head(h);
    CHECK(one.heads() == 1);
    CHECK(one.tokens() == 3);
    check_rows(one, scratch.data(), h);
  }
  HeadSource<2> const of_heads(data.data(), 4);
  CHECK(of_heads.heads() == 4);
  CHECK(of_heads.head(3).row(5, 0, scratch.data())[1] == number(0, 3, 1));  // whatever the token
}

TEST_CASE_TEMPLATE("sequence: numbers are put in their places and nowhere else", T, float, double, bf16, f16) {
  std::vector<T> data(40, narrow<T>(-1.0));
  Sink<> const sink(data.data(), 4, 2, 3, 5, 20);
  CHECK(static_cast<bool>(sink));
  for (Index t = 0; t < 4; ++t)
    for (Index h = 0; h < 2; ++h) {
      double const row[] = {number(t, h, 0), number(t, h, 1), number(t, h, 2)};
      sink.put(t, h, 0, 1, row);
      float const rest[] = {static_cast<float>(row[1]), static_cast<float>(row[2])};
      sink.put(t, h, 1, 2, rest);
    }
  CHECK(data == filled<T>(4, 2, 3, 5, 20, 40));
  sink.put(0, 0, 2, 0, static_cast<float const*>(nullptr));
  CHECK(data == filled<T>(4, 2, 3, 5, 20, 40));
}

TEST_CASE("sequence: a sink tells where numbers of its own type lie") {
  std::vector<float> data(12);
  Sink<3> const sink(data.data(), 2, 2);
  CHECK(sink.row<float>(1, 1) == data.data() + 9);
  CHECK(sink.row<double>(1, 1) == nullptr);
  CHECK_FALSE(static_cast<bool>(Sink<3>()));
}
