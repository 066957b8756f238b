#include "matrix/combinations.hpp"

using namespace aviary;
using namespace aviary::test;

TEST_CASE("combinations: a constant decay is applied as an increment") {
  check_all_combinations<float, 16, 24, Kind::float_fixed, true>(16, 24);
}
