#if !defined(AVIARY_TEST_ONE_SIZE)  // each type has another size elsewhere
#include "matrix/gradients.hpp"

using namespace aviary;
using namespace aviary::test;

TEST_CASE("gradients: all traits agree with the reference, double, fixed sizes") {
  check_all_gradients<double, 16, 24, Kind::double_fixed>(16, 24);
}
#endif
