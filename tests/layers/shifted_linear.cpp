#include "aviary/layers/shifted_linear.hpp"

#include <doctest/doctest.h>

#include "support/compare.hpp"
#include "support/layer_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Matrix;
using test::Random;

TEST_CASE_TEMPLATE("shifted linear: the map of the shifted rows, for shares of either token", T, float, double) {
  Random random(1);
  auto const shares = random.rates<T>(12), first_row = random.normals<T>(12);
  Matrix<T> const weight(20, 12, random), x(13, 12, random);
  for (ShareOf const of : {ShareOf::previous, ShareOf::current}) {
    ShiftedLinear<T> const layer(shares, of, weight.view(), WeightFormat::exact);
    CHECK(layer.in() == 12);
    CHECK(layer.out() == 20);
    Scratch<T> scratch(13 * layer.scratch_size());
    Matrix<T> y(13, 20), shifted(13, 12), expected(13, 20);
    Matrix<T> const past = test::before<T>(x.view(), first_row);
    layer(x.view(), past.view(), y.view(), scratch);
    CHECK(scratch.left() == 13 * layer.scratch_size());
    TokenShift<T>(shares, of)(x.view(), past.view(), shifted.view());
    Linear<T>(weight.view())(shifted.view(), expected.view());
    CHECK(y == expected);
  }
}

TEST_CASE("shifted linear: shares of another size are refused") {
  std::vector<float> const shares(11);
  Matrix<float> const weight(20, 12);
  CHECK(test::message_of<std::invalid_argument>([&] {
          ShiftedLinear<float>(shares, ShareOf::previous, weight.view(), WeightFormat::exact);
        }) == "aviary: ShiftedLinear: shares is 11, expected 12");
}
