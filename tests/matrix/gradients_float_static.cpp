#include "matrix/gradients.hpp"

using namespace aviary;
using namespace aviary::test;

TEST_CASE("gradients: all traits agree with the reference, float, fixed sizes") {
  check_all_gradients<float, 16, 24, Kind::float_fixed>(16, 24);
}
