#include "cuda/traits.hpp"

#if defined(AVIARY_TEST_ALL_TRAITS)
TEST_CASE("matrix kernels: all traits without a gate") { aviary::test::check_traits<aviary::Gate::none>(); }
#endif
