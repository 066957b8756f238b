#if !defined(AVIARY_TEST_ONE_SIZE)  // each type has another size elsewhere
#include "matrix/gradients.hpp"

using namespace aviary;
using namespace aviary::test;

TEST_CASE("gradients: all traits agree with the reference, float, sizes known at run time") {
  check_all_gradients<float, dynamic, dynamic, Kind::float_dynamic>(19, 37);
}
#endif
