#include "matrix/gradients.hpp"

using namespace aviary;
using namespace aviary::test;

TEST_CASE("gradients: a constant decay is applied as an increment") {
  check_all_gradients<float, 16, 24, Kind::float_fixed, true>(16, 24);
}
