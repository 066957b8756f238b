/// Eigen's vectors and matrices as views, where Eigen is installed.
#if __has_include(<Eigen/Core>)
#include <doctest/doctest.h>

#include <Eigen/Core>
#include <type_traits>

#include "aviary/core/view.hpp"

using namespace aviary;

namespace {
using Matrix = Eigen::MatrixXf;  // column-major
using RowMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <int Rows, int Columns> using Fixed = Eigen::Matrix<float, Rows, Columns>;
template <int Rows, int Columns> using FixedRows = Eigen::Matrix<float, Rows, Columns, Eigen::RowMajor>;
template <int stride> using Strided = Eigen::Map<Eigen::VectorXf, 0, Eigen::InnerStride<stride>>;

/// rows x columns numbers, 10 i + j at (i, j).
template <class M> M numbered(Index rows, Index columns) {
  return M::NullaryExpr(rows, columns, [](Index i, Index j) { return static_cast<float>(10 * i + j); });
}

template <class From, class To> constexpr bool converts = std::is_convertible_v<From, To>;
template <class From, class To> constexpr bool never_converts = !std::is_constructible_v<To, From>;
template <class M> using RowOf = decltype(std::declval<M&>().row(0));
template <class M> using ColumnOf = decltype(std::declval<M&>().col(0));
}  // namespace

static_assert(Eigen::Dynamic == dynamic);

// A fixed-size vector of another size does not compile.
static_assert(converts<Eigen::Vector4f&, VecView<float, 4>> && converts<Eigen::VectorXf&, VecView<float, 4>>);
static_assert(never_converts<Fixed<3, 1>&, VecView<float, 4>> && never_converts<Fixed<1, 5>&, VecView<float, 4>>);

// A stride that a view cannot hold does not compile where it is known.
static_assert(converts<Strided<1>&, VecView<float>> && never_converts<Strided<2>&, VecView<float>>);
static_assert(converts<ColumnOf<Fixed<4, 8>>, VecView<float, 4>>);
static_assert(never_converts<RowOf<Fixed<4, 8>>, VecView<float, 8>>);
static_assert(converts<RowOf<FixedRows<4, 8>>, VecView<float, 8>>);
static_assert(never_converts<ColumnOf<FixedRows<4, 8>>, VecView<float, 4>>);

// A matrix is no vector, even where its sizes are known at run time only; an expression lies nowhere in memory.
static_assert(never_converts<Matrix&, VecView<float>> && never_converts<Fixed<2, 2>&, VecView<float, 4>>);
static_assert(never_converts<decltype(Eigen::VectorXf() + Eigen::VectorXf()), VecView<float const>>);

// Constant numbers stay constant.
static_assert(converts<Eigen::VectorXf const&, VecView<float const>>);
static_assert(never_converts<Eigen::VectorXf const&, VecView<float>>);
static_assert(never_converts<Eigen::Map<Eigen::VectorXf const>&, VecView<float>>);
static_assert(never_converts<ColumnOf<Matrix const>, VecView<float>>);
static_assert(never_converts<RowMatrix const&, MatView<float>>);
static_assert(converts<RowMatrix const&, MatView<float const>>);
static_assert(never_converts<Eigen::VectorXd&, VecView<float>> && never_converts<RowMatrix&, MatView<double>>);

// The rows of a MatView are rows: a column-major matrix, which would be read as its transpose, does not compile.
static_assert(converts<RowMatrix&, MatView<float>> && never_converts<Matrix&, MatView<float>>);
static_assert(never_converts<Matrix const&, MatView<float const>> &&
              never_converts<Fixed<4, 4>&, MatView<float, 4, 4>>);
static_assert(converts<FixedRows<4, 8>&, MatView<float, 4, 8>> && converts<RowMatrix&, MatView<float, 4, 8>>);
static_assert(never_converts<FixedRows<4, 8>&, MatView<float, 8, 4>>);
static_assert(never_converts<FixedRows<4, 8>&, MatView<float, dynamic, 4>>);
static_assert(never_converts<Eigen::Map<RowMatrix, 0, Eigen::Stride<Eigen::Dynamic, 2>>&, MatView<float>>);

static_assert(std::is_nothrow_constructible_v<VecView<float>, Eigen::VectorXf&>);
static_assert(std::is_nothrow_constructible_v<MatView<float>, RowMatrix&>);

TEST_CASE("view: Eigen's vectors, segments, rows and columns are seen where they lie") {
  auto const sees = [](VecView<float const> view, float const* data, Index size) {
    CHECK(view.data() == data);
    CHECK(view.size() == size);
  };
  Eigen::VectorXf x = Eigen::VectorXf::LinSpaced(6, 0, 5);
  sees(x, x.data(), 6);
  sees(x.segment(1, 4), x.data() + 1, 4);
  sees(x.head<2>(), x.data(), 2);
  sees(x.transpose(), x.data(), 6);
  sees(x.array(), x.data(), 6);
  sees(Eigen::Ref<Eigen::VectorXf const>(x), x.data(), 6);
  sees(Eigen::Map<Eigen::VectorXf>(x.data(), 5), x.data(), 5);
  Eigen::RowVector4f const fixed(1, 2, 3, 4);
  sees(VecView<float const, 4>(fixed), fixed.data(), 4);

  Matrix m = numbered<Matrix>(4, 3);
  sees(m.col(2), m.data() + 8, 4);
  sees(m.col(2).segment(1, 2), m.data() + 9, 2);
  RowMatrix r = numbered<RowMatrix>(4, 3);
  sees(r.row(2), r.data() + 6, 3);

  VecView<float> const to = m.col(1);
  to[3] = 7;
  CHECK(m(3, 1) == 7.0f);
}

TEST_CASE("view: the rows of a row-major Eigen matrix, map or block are the rows of a view") {
  RowMatrix m = numbered<RowMatrix>(5, 4);
  auto const check = [](MatView<float const> view, Index rows, Index columns, Index stride, float first) {
    CHECK(view.stride() == stride);
    REQUIRE(view.rows() == rows);
    REQUIRE(view.columns() == columns);
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < columns; ++j) CHECK(view(i, j) == first + static_cast<float>(10 * i + j));
  };
  check(m, 5, 4, 4, 0);
  check(m.block(1, 2, 3, 2), 3, 2, 4, 12);
  check(m.middleRows(2, 3), 3, 4, 4, 20);
  check(m.leftCols<3>(), 5, 3, 4, 0);
  check(m.row(3), 1, 4, 4, 30);
  check(Eigen::Map<RowMatrix const, 0, Eigen::OuterStride<>>(m.data(), 3, 2, Eigen::OuterStride<>(4)), 3, 2, 4, 0);
  check(Eigen::Ref<RowMatrix const>(m.topRows(2)), 2, 4, 4, 0);
  check(RowMatrix(0, 4), 0, 4, 4, 0);

  MatView<float, dynamic, 4> const to = m;
  to(4, 3) = -1;
  CHECK(m(4, 3) == -1.0f);
}

TEST_CASE("view: a column-major Eigen matrix is seen as its transpose where one says so") {
  Matrix m = numbered<Matrix>(3, 5);
  MatView<float> const view(m.transpose());
  CHECK(view.rows() == 5);
  CHECK(view.columns() == 3);
  CHECK(view(4, 2) == m(2, 4));
}

TEST_CASE("view: a single line of an Eigen matrix needs no stride") {
  Matrix one_row = numbered<Matrix>(1, 4);
  CHECK(VecView<float const>(one_row.row(0))[3] == 3.0f);
  CHECK(MatView<float const>(one_row.row(0))(0, 3) == 3.0f);
  Matrix one_column = numbered<Matrix>(4, 1);
  CHECK(VecView<float const, 1>(one_column.row(2))[0] == 20.0f);
}
#endif
