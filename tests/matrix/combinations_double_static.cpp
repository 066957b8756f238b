#if !defined(AVIARY_TEST_ONE_SIZE)  // each type has another size elsewhere
#include "matrix/combinations.hpp"

using namespace aviary;
using namespace aviary::test;

TEST_CASE("combinations: all traits agree with the reference, double, fixed sizes") {
  check_all_combinations<double, 16, 24, Kind::double_fixed>(16, 24);
}
#endif
