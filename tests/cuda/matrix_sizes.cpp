/// Traits that no golden file has, in all sorts of sizes. On a device, and with AVIARY_TEST_ALL_TRAITS, all traits in both arithmetics;
/// in builds with one size none.
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

#if AVIARY_DEVICE_COMPILER || defined(AVIARY_TEST_ALL_TRAITS)
TEST_CASE_TEMPLATE("matrix kernels: more sizes", M, Memory<float, Gate::vector, Erase::none, Read::before, 16, 16>,
                   Memory<float, Gate::vector, Erase::along_key, Read::after, 128, 128>,
                   Memory<float, Gate::vector, Erase::rank_one, Read::after, 128, 256>,
                   Memory<double, Gate::vector, Erase::along_key, Read::before, 64, 64, true>,
                   Memory<double, Gate::vector, Erase::rank_one, Read::after, 128, 128>) {
  check_memory<M>();
  check_pieces<M>(gradient_case<typename M::Rule>(M::keys, M::values, packed_tokens));
}

TEST_CASE_TEMPLATE("matrix kernels: all traits", T, float, double) {
  for_each_combination([]<Gate G, Erase E, Read D>() {
    Note const gate("gate", name(G)), erase("erase", name(E)), read("read", name(D));
    check_memory<Memory<T, G, E, D, 24, 40>>();
    check_widths<Memory<T, G, E, D, 24, 40>>(gradient_case<AnyRule<G, E, D>>(24, 40, packed_tokens));
    if constexpr (G != Gate::none) check_memory<Memory<T, G, E, D, 40, 24, true>>();
  });
}
#endif
#endif
