/// The same code for every instruction set of the program.
#include "kernels.hpp"

#include <aviary/simd/dispatch.hpp>
#include <aviary/wkv7.hpp>
#include <vector>

namespace {

using Memory = aviary::Wkv7<float, 64>;

void read(std::span<float const> tokens, std::span<float> y) {
  std::vector<float> const log_w(64, -0.1f), zero(64, 0.0f);
  Memory::State state{};
  for (; tokens.size() >= 64; tokens = tokens.subspan(64)) {
    auto const x = tokens.first(64);
    Memory::step(state, {.r = x, .log_w = log_w, .k = x, .v = x, .kappa_hat = zero, .a = zero}, y);
  }
}

}  // namespace

AVIARY_ENTRIES(Kernels){.read = read};
AVIARY_ENTRIES(Lanes){.count = aviary::simd::Pack<aviary::simd::Native<float>>::lanes};
