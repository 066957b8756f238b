#include "cuda/matrix_suite.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

template <class T, Gate G, Erase E, Read D, Index K, Index V, bool constant = false>
using Memory = MatrixMemory<AnyRule<G, E, D, constant>, T, K, V>;

}  // namespace

TEST_CASE_TEMPLATE("matrix kernels: a number as gate", M,
                   Memory<double, Gate::scalar, Erase::along_key, Read::before, 80, 16>,
                   Memory<float, Gate::scalar, Erase::rank_one, Read::after, 128, 64>) {
  check_memory<M>();
}
