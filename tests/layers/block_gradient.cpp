/// Gradients of blocks against central differences of their own forward pass: here around RWKV-7's time mix, in the tests of
/// the other time mixes' gradients around those.
#include <doctest/doctest.h>

#include "support/block_gradients.hpp"
#include "support/mix7_case.hpp"

using namespace aviary;

namespace {

auto case_of(std::vector<Index> offsets, bool first_layer) {
  return test::block_case<test::Mix7<8>>(test::mix7_tensors(8, first_layer), std::move(offsets), false);
}

}  // namespace

TEST_CASE("block gradients: central differences, of every weight, in the first layer and in others") {
  test::check_layer_differences(case_of({0, 2, 2, 7}, true), 1e-6);
  test::check_layer_differences(case_of({0, 6, 7}, false), 1e-6);
}

TEST_CASE("block gradients: of a trained first state, from that of the state before the first token") {
  test::check_first_state(case_of({0, 2, 4}, false), 1e-6);
}

TEST_CASE("block gradients: calls with the states' gradients handed back add up to one") {
  test::check_layer_in_two(case_of({0, 30}, false), 17);
}

TEST_CASE("block gradients: any executor, and whatever is wanted, the same bits, without allocation") {
  test::check_layer_executors(case_of({0, 7, 7, 20}, false));
  test::check_layer_unwanted(case_of({0, 3}, false));
}
