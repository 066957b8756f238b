/// One token through one WKV-7 head: y = (v k^T) r, as the state begins empty.
#include <array>
#include <aviary/wkv7.hpp>
#include <cmath>
#include <cstdio>
#include <vector>

using Memory = aviary::Wkv7<float, 64>;

int main() {
  std::vector<float> const r(64, 0.5f), log_w(64, -0.1f), k(64, 0.25f), v(64, 2.0f), kappa_hat(64, 0.125f), a(64, 0.5f);
  std::array<float, 64> y{};
  Memory::State s{};
  Memory::step(s, {.r = r, .log_w = log_w, .k = k, .v = v, .kappa_hat = kappa_hat, .a = a}, y);
  std::printf("y[0] = %g, expected 16\n", static_cast<double>(y[0]));
  return std::abs(y[0] - 16.0f) < 1e-3f ? 0 : 1;
}
