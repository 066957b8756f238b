/// Traits that no golden file has, in all sorts of sizes; in builds with one size none.
#include "cuda/matrix_suite.hpp"

using namespace aviary;
using namespace aviary::test;

#if !defined(AVIARY_TEST_ONE_SIZE)
namespace {
template <class T, Gate G, Erase E, Read D, Index K, Index V, bool constant = false>
using Memory = MatrixMemory<AnyRule<G, E, D, constant>, T, K, V>;
}

TEST_CASE_TEMPLATE("matrix kernels: sizes", M, Memory<double, Gate::none, Erase::rank_one, Read::before, 24, 80>,
                   Memory<float, Gate::scalar, Erase::along_key, Read::before, 64, 256>,
                   Memory<float, Gate::scalar, Erase::rank_one, Read::after, 256, 24, true>) {
  check_memory<M>();
}
#endif
