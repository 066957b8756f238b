#include "matrix/gradients.hpp"

using namespace aviary;
using namespace aviary::test;

TEST_CASE("gradients: all traits agree with the reference, double, sizes known at run time") {
  check_all_gradients<double, dynamic, dynamic, Kind::double_dynamic>(19, 37);
}
