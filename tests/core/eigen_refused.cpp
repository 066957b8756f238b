/// Views and sequences refuse with an assertion what only the object shows of an Eigen matrix. Here the assertion counts.
/// Numbers are double, and sizes 37: no other test makes these instantiations, so none is shared with another source.
#if __has_include(<Eigen/Core>)
namespace {
int refusals = 0;
}  // namespace
#define AVIARY_ASSERT(condition) ((condition) ? void() : void(++refusals))

#include <doctest/doctest.h>

#include <Eigen/Core>

#include "aviary/core/sequence.hpp"

using namespace aviary;

namespace {
using Vector = Eigen::Map<Eigen::VectorXd, 0, Eigen::InnerStride<>>;
template <int order>
using Matrix = Eigen::Map<Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, order>, 0,
                          Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;
using ColumnMajor = Matrix<Eigen::ColMajor>;
using RowMajor = Matrix<Eigen::RowMajor>;
using Stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;  // outer, inner

/// How many assertions fail while a View is made of these.
template <class View, class... From> int refused(From&&... from) {
  int const before = refusals;
  View const view(from...);
  static_cast<void>(view);
  return refusals - before;
}
double numbers[1000];
}  // namespace

TEST_CASE("view: an Eigen stride that a view cannot hold is refused") {
  CHECK(refused<VecView<double>>(Vector(numbers, 5, Eigen::InnerStride<>(1))) == 0);
  CHECK(refused<VecView<double>>(Vector(numbers, 5, Eigen::InnerStride<>(2))) > 0);
  CHECK(refused<VecView<double>>(Vector(numbers, 1, Eigen::InnerStride<>(2))) == 0);  // there is no second number
  CHECK(refused<MatView<double>>(RowMajor(numbers, 3, 4, Stride(10, 1))) == 0);
  CHECK(refused<MatView<double>>(RowMajor(numbers, 3, 4, Stride(10, 2))) > 0);
}

TEST_CASE("view: an Eigen vector or matrix of another size is refused") {
  CHECK(refused<VecView<double, 37>>(Vector(numbers, 37, Eigen::InnerStride<>(1))) == 0);
  CHECK(refused<VecView<double, 37>>(Vector(numbers, 36, Eigen::InnerStride<>(1))) > 0);
  CHECK(refused<MatView<double, 37, 4>>(RowMajor(numbers, 37, 4, Stride(4, 1))) == 0);
  CHECK(refused<MatView<double, 37, 4>>(RowMajor(numbers, 4, 37, Stride(37, 1))) > 0);
}

TEST_CASE("sequence: an Eigen stride that a sequence cannot hold is refused") {
  CHECK(refused<Source<37>>(ColumnMajor(numbers, 37, 3, Stride(40, 1))) == 0);
  CHECK(refused<Source<37>>(ColumnMajor(numbers, 37, 3, Stride(80, 2))) > 0);
  CHECK(refused<Sink<37>>(RowMajor(numbers, 3, 37, Stride(40, 1))) == 0);
  CHECK(refused<Sink<37>>(RowMajor(numbers, 3, 37, Stride(80, 2))) > 0);
}

TEST_CASE("sequence: a part of a head, and another number of heads, are refused") {
  CHECK(refused<Source<37>>(ColumnMajor(numbers, 74, 3, Stride(80, 1))) == 0);
  CHECK(refused<Source<37>>(ColumnMajor(numbers, 75, 3, Stride(80, 1))) > 0);
  CHECK(refused<Source<37>>(ColumnMajor(numbers, 74, 3, Stride(80, 1)), Index(2)) == 0);
  CHECK(refused<Source<37>>(ColumnMajor(numbers, 74, 3, Stride(80, 1)), Index(3)) > 0);
  CHECK(refused<Sink<>>(RowMajor(numbers, 3, 6, Stride(80, 1)), Index(3)) == 0);
  CHECK(refused<Sink<>>(RowMajor(numbers, 3, 6, Stride(80, 1)), Index(4)) > 0);
  CHECK(refused<HeadSource<37>>(ColumnMajor(numbers, 37, 3, Stride(80, 1))) == 0);
  CHECK(refused<HeadSource<37>>(ColumnMajor(numbers, 74, 3, Stride(80, 1))) > 0);
}
#endif
