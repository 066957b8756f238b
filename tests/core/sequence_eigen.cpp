/// Eigen's matrices as packed sequences, where Eigen is installed.
#if __has_include(<Eigen/Core>)
#include <doctest/doctest.h>

#include <Eigen/Core>
#include <type_traits>

#include "aviary/core/sequence.hpp"

using namespace aviary;

namespace {
using Matrix = Eigen::MatrixXf;  // column-major: a token is a column
using RowMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;  // a token is a row
template <class M> using Spread = Eigen::Map<M, 0, Eigen::Stride<Eigen::Dynamic, 2>>;     // every other number

template <class From, class To> constexpr bool converts = std::is_convertible_v<From, To>;
template <class From, class To> constexpr bool never_converts = !std::is_constructible_v<To, From>;

/// Channel c of token t.
float number(Index t, Index c) { return static_cast<float>(100 * t + c); }
Matrix in_columns(Index channels, Index tokens) {
  return Matrix::NullaryExpr(channels, tokens, [](Index c, Index t) { return number(t, c); });
}
RowMatrix in_rows(Index channels, Index tokens) { return in_columns(channels, tokens).transpose(); }

/// A sequence of `tokens` tokens from token `first` on, of `heads` heads.
template <Index N> void check(Source<N> const& x, Index tokens, Index heads, Index size, Index first = 0) {
  CHECK(x.tokens() == tokens);
  CHECK(x.heads() == heads);
  CHECK(x.size() == size);
  float scratch[16];
  for (Index t = 0; t < x.tokens(); ++t)
    for (Index h = 0; h < x.heads(); ++h) {
      VecView<float const> const row = x.row(t, h, scratch);
      for (Index i = 0; i < row.size(); ++i) CHECK(row[i] == number(first + t, h * size + i));
    }
}
}  // namespace

// A stride that a sequence cannot hold does not compile where it is known; nor does a part of a head.
static_assert(converts<Matrix&, Source<4>> && converts<RowMatrix&, Source<4>>);
static_assert(never_converts<Spread<Matrix>&, Source<4>> && never_converts<Spread<RowMatrix>&, Sink<4>>);
static_assert(converts<Eigen::Matrix<float, 8, Eigen::Dynamic>&, Source<4>>);
static_assert(never_converts<Eigen::Matrix<float, 6, Eigen::Dynamic>&, Source<4>>);
static_assert(never_converts<Eigen::Matrix<float, Eigen::Dynamic, 6, Eigen::RowMajor>&, Sink<4>>);
static_assert(converts<Eigen::Matrix<float, Eigen::Dynamic, 8, Eigen::RowMajor>&, Sink<4>>);

// Constant numbers are read, never written; what is no number of ours is neither.
static_assert(converts<Matrix const&, Source<>> && never_converts<Matrix const&, Sink<>>);
static_assert(never_converts<Eigen::Map<Matrix const>&, Sink<4>>);
static_assert(never_converts<Eigen::MatrixXi&, Source<>> && converts<Eigen::MatrixXd&, Sink<>>);
static_assert(never_converts<decltype(Matrix() * Matrix()), Source<>>, "an expression lies nowhere in memory");

static_assert(std::is_nothrow_constructible_v<Source<4>, Matrix const&, Index>);
static_assert(std::is_nothrow_constructible_v<Sink<4>, Matrix&>);

TEST_CASE("sequence: the columns of a column-major Eigen matrix are tokens") {
  Matrix const m = in_columns(12, 5);
  check<4>(m, 5, 3, 4);
  check<4>({m, 3}, 5, 3, 4);
  check<12>(m, 5, 1, 12);
  check<1>(m, 5, 12, 1);
  check<dynamic>(m, 5, 1, 12);
  check<dynamic>({m, 6}, 5, 6, 2);
  check<4>(m.middleCols(2, 3), 3, 3, 4, 2);
  check<4>(m.topRows(8), 5, 2, 4);
  check<4>(Eigen::Map<Matrix const>(m.data(), 12, 4), 4, 3, 4);
  check<4>(Eigen::Map<Matrix const, 0, Eigen::OuterStride<>>(m.data(), 4, 5, Eigen::OuterStride<>(12)), 5, 1, 4);
  check<4>(Eigen::Ref<Matrix const>(m), 5, 3, 4);
  check<4>(Matrix(12, 0), 0, 3, 4);
}

TEST_CASE("sequence: the rows of a row-major Eigen matrix are tokens") {
  RowMatrix const m = in_rows(12, 5);
  check<4>(m, 5, 3, 4);
  check<4>({m, 3}, 5, 3, 4);
  check<dynamic>({m, 2}, 5, 2, 6);
  check<4>(m.middleRows(2, 3), 3, 3, 4, 2);
  check<4>(m.leftCols(8), 5, 2, 4);
  Matrix const columns = in_columns(12, 5);
  check<4>(columns.transpose(), 5, 3, 4);
}

TEST_CASE("sequence: an Eigen vector, row or column is one token") {
  Eigen::VectorXf const x = in_columns(12, 1);
  check<4>(x, 1, 3, 4);
  check<4>(x.head(8), 1, 2, 4);
  check<4>(Eigen::RowVectorXf(x.transpose()), 1, 3, 4);
  check<4>(in_columns(12, 5).col(3), 1, 3, 4, 3);
  check<4>(in_rows(12, 5).row(3), 1, 3, 4, 3);
}

TEST_CASE("sequence: numbers are put into the tokens of an Eigen matrix") {
  float const row[] = {1, 2, 3, 4};
  Matrix columns = Matrix::Zero(8, 3);
  Sink<4>(columns).put(2, 1, 0, 4, row);
  CHECK(columns.col(2).tail(4) == Eigen::Vector4f(row));
  CHECK(columns.sum() == 10.0f);

  RowMatrix rows = RowMatrix::Zero(3, 8);
  Sink<>(rows, 2).put(2, 1, 0, 4, row);
  CHECK(rows.row(2).tail(4) == Eigen::RowVector4f(row));
  CHECK(rows.sum() == 10.0f);

  Sink<4>(columns.leftCols(2)).put(1, 0, 0, 4, row);
  CHECK(columns.col(1).head(4) == Eigen::Vector4f(row));
  CHECK(Sink<4>(columns).row<float>(1, 1) == columns.data() + 12);
}

TEST_CASE("sequence: an Eigen matrix or vector of heads is the same for every token") {
  float scratch[4];
  Matrix const m = in_columns(4, 3);
  HeadSource<4> const of_columns(m), of_rows(m.transpose()), of_dynamic_vector(m.reshaped());
  for (auto const& u : {of_columns, of_rows, of_dynamic_vector}) {
    CHECK(u.heads() == 3);
    CHECK(u.row(5, 2, scratch)[3] == number(2, 3));
    CHECK(u.head(1).row(5, 0, scratch)[0] == number(1, 0));
  }
  HeadSource<> const of_run_time_size(m);
  CHECK(of_run_time_size.heads() == 3);
  CHECK(of_run_time_size.size() == 4);
}
#endif
