/// Eigen's vectors as views, where Eigen is installed.
#if __has_include(<Eigen/Core>)
#include <doctest/doctest.h>

#include <Eigen/Core>

#include "aviary/core/view.hpp"

using namespace aviary;

TEST_CASE("view: Eigen's vectors and segments are seen where they lie") {
  Eigen::VectorXf x(6);
  x << 0, 1, 2, 3, 4, 0;
  auto const sees = [](VecView<float const> view, float const* data, Index size) {
    CHECK(view.data() == data);
    CHECK(view.size() == size);
  };
  sees(x, x.data(), 6);
  sees(x.segment(1, 4), x.data() + 1, 4);
  VecView<float> const to = x;
  to[2] = 7;
  CHECK(x[2] == 7.0f);
}
#endif
