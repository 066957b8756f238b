#include "matrix/combinations.hpp"

using namespace aviary;
using namespace aviary::test;

TEST_CASE("combinations: all traits agree with the reference, double, sizes known at run time") {
  check_all_combinations<double, dynamic, dynamic, Kind::double_dynamic>(19, 37);
}
