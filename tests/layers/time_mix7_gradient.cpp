/// Gradients of RWKV-7's time mix against central differences of its own forward pass.
#include <doctest/doctest.h>

#include "support/float_gradients.hpp"
#include "support/mix7_case.hpp"

using namespace aviary;
using test::LayerGradientCase;
using test::Mix7;

namespace {

template <Index N>
LayerGradientCase<Mix7<N>> case_of(std::vector<Index> offsets, bool first_layer, std::uint64_t seed = 3) {
  return {{}, test::mix7_tensors(N == dynamic ? 5 : N, first_layer), std::move(offsets), seed};
}

}  // namespace

TEST_CASE("time mix 7 gradients: central differences, of every weight, static and dynamic") {
  test::check_layer_differences(case_of<8>({0, 5, 5, 23}, false));
  test::check_layer_differences(case_of<dynamic>({0, 1, 19, 19}, true));
}

TEST_CASE("time mix 7 gradients: calls with the state's gradient handed back add up to one") {
  test::check_layer_in_two(case_of<8>({0, 30}, false), 17);
  test::check_layer_in_two(case_of<dynamic>({0, 30}, true), 1);
}

TEST_CASE("time mix 7 gradients: any executor, and whatever is wanted, the same bits, without allocation") {
  test::check_layer_executors(case_of<8>({0, 7, 7, 40}, false));
  test::check_layer_executors(case_of<dynamic>({0, 20}, true));
  test::check_layer_unwanted(case_of<8>({0, 5}, false));
}

TEST_CASE("time mix 7 gradients: floats are within the bound of doubles") {
  test::check_float_gradients<Mix7<8, float>>(case_of<8>({0, 5, 5, 60}, false));
}

TEST_CASE("time mix 7 gradients: more sequences than a call of the memory takes") {
  test::check_layer_differences(case_of<8>(test::offsets_of_many_sequences(), false));
}

TEST_CASE("time mix 7 gradients: of a trained first state, from that of the state before the first token") {
  test::check_first_state(case_of<8>({0, 4, 9}, false));
}

TEST_CASE("time mix 7 gradients: what is done between gets the outputs and gives dy") {
  test::check_layer_between(case_of<8>({0, 5, 5, 23}, false));
}
