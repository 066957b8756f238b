/// Chooses an instruction set, says which, and computes with it: y = (0.5 0.5)^T 0.5 over 64 keys is 8 after one token.
#include <aviary/simd/dispatch.hpp>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <vector>

#include "kernels.hpp"

int main() {
  try {
    auto const kernels = aviary::simd::choose<Kernels>();
    auto const lanes = aviary::simd::choose<Lanes>();
    std::vector<float> const tokens(64, 0.5f);
    std::vector<float> y(64);
    kernels->read(tokens, y);
    std::printf("%s, %d lanes: y[0] = %g, expected 8\n", kernels.name(), lanes->count, static_cast<double>(y[0]));
    return std::abs(y[0] - 8.0f) < 1e-3f ? 0 : 1;
  } catch (std::invalid_argument const& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
