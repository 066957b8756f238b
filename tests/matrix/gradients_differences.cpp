/// Gradients in double against central differences of the reference, without its gradients.
#include "matrix/gradients.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

template <bool constant> void check_all_differences() {
  for_each_combination([&]<Gate G, Erase E, Read D>() {
    if constexpr (!constant || G != Gate::none) {
      using R = AnyRule<G, E, D, constant>;
      Note const gate("gate", name(G)), erase("erase", name(E)), read("read", name(D));
      MatrixCase const numbers(37, {5, 7, 4, {0, 0, 1, 18}}, G, E, constant, constant ? Decay::slow : Decay::wide);
      auto const c = with_gradients(41, with_shared_keys(numbers.of<R>(), 2));
      auto const forward = [](RuleCase<R> const& x) { return reference_result(x); };
      check_differences(c, gradients_of<MatrixMemory<R, double, dynamic, dynamic>>(c), forward);
    }
  });
}

}  // namespace

TEST_CASE("gradients: all traits agree with central differences") {
  check_all_differences<false>();
  check_all_differences<true>();
}
