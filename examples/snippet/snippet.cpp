#include <aviary/wkv7.hpp>
#include <cstdio>
#include <vector>

using Memory = aviary::Wkv7<float, 64>;  // a model, a number type, a head size: a type

int main() {
  std::vector<float> const r(64, 0.5f), log_w(64, -0.1f), k(64, 0.25f), v(64, 2.0f);
  std::vector<float> const kappa_hat(64, 0.125f), a(64, 0.5f);  // what a layer computes for a token
  std::vector<float> y(64);

  Memory::State state{};  // one head's memory: 64 x 64 numbers, a value like any other
  for (int token = 0; token < 3; ++token)
    Memory::step(state, {.r = r, .log_w = log_w, .k = k, .v = v, .kappa_hat = kappa_hat, .a = a}, y);
  std::printf("y[0] = %.4f\n", static_cast<double>(y[0]));
}
