#include "cuda/matrix_suite.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

template <class T, Gate G, Erase E, Read D, Index K, Index V, bool constant = false>
using Memory = MatrixMemory<AnyRule<G, E, D, constant>, T, K, V>;

}  // namespace

TEST_CASE_TEMPLATE("matrix kernels: no gate", M, Memory<float, Gate::none, Erase::along_key, Read::after, 64, 256>,
                   Memory<double, Gate::none, Erase::rank_one, Read::before, 24, 80>) {
  check_memory<M>();
}
