#include "cuda/traits.hpp"

#if defined(AVIARY_TEST_ALL_TRAITS)
TEST_CASE("matrix kernels: all traits with a number as gate") { aviary::test::check_traits<aviary::Gate::scalar>(); }
#endif
