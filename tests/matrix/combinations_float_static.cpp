#include "matrix/combinations.hpp"

using namespace aviary;
using namespace aviary::test;

TEST_CASE("combinations: all traits agree with the reference, float, fixed sizes") {
  check_all_combinations<float, 16, 24, Kind::float_fixed>(16, 24);
}
