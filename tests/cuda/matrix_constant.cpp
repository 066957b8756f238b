#include "cuda/matrix_suite.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

template <class T, Gate G, Erase E, Read D, Index K, Index V, bool constant = false>
using Memory = MatrixMemory<AnyRule<G, E, D, constant>, T, K, V>;

}  // namespace

TEST_CASE_TEMPLATE("matrix kernels: decays of a head", M,
                   Memory<float, Gate::scalar, Erase::none, Read::after, 80, 24, true>,
                   Memory<float, Gate::vector, Erase::rank_one, Read::before, 256, 128, true>) {
  check_memory<M>();
}
