#pragma once
/// All combinations of traits, on a device. On the host they take minutes to compile: with AVIARY_TEST_ALL_TRAITS alone.
#include "cuda/matrix_suite.hpp"

namespace aviary::test {

/// In float and, of constant decays where there is a gate, in double.
template <Gate G> void check_traits() {
  for_each_combination([&]<Gate Other, Erase E, Read D>() {
    if constexpr (G == Other) {
      Note const gate("gate", name(G)), erase("erase", name(E)), read("read", name(D));
      using M = MatrixMemory<AnyRule<G, E, D>, float, 24, 40>;
      check_memory<M>();
      if (has_tensor_cores()) {
        auto const c = gradient_case<typename M::Rule>(M::keys, M::values, packed_tokens);
        check_chunks<M>(c);
        check_chunk_gradients<M>(c);
      }
      if constexpr (G != Gate::none && D == Read::after)
        check_memory<MatrixMemory<AnyRule<G, E, D, true>, double, 40, 24>>();
    }
  });
}

}  // namespace aviary::test
