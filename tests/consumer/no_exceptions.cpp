/// Every front door in a program without exceptions and RTTI: a token through WKV-7, into a cache, and attention to it.
#include <array>
#include <aviary/aviary.hpp>
#include <cmath>
#include <cstdio>
#include <vector>

using namespace aviary;
using Memory = Wkv7<float, 64>;

int main() {
  std::vector<float> const r(64, 0.5f), log_w(64, -0.1f), k(64, 0.25f), v(64, 2.0f), kappa_hat(64, 0.125f), a(64, 0.5f);
  std::vector<Memory::State> states(1);
  std::array<float, 64> y{}, read{};
  Memory::forward({.x = {.r = {r.data(), 1, 1},
                         .log_w = {log_w.data(), 1, 1},
                         .k = {k.data(), 1, 1},
                         .v = {v.data(), 1, 1},
                         .kappa_hat = {kappa_hat.data(), 1, 1},
                         .a = {a.data(), 1, 1}},
                   .y = {y.data(), 1, 1},
                   .states = states});

  TokenCache<bf16> tokens(64, 1000);
  tokens.append(7, VecView<float>(y));
  KeyValueCache<float> cache(64, 2);
  MatView<float const> const row(y.data(), 1, 64);
  cache.append(row, row);
  Scratch<float> scratch(cache.scratch_size());
  cache.attend(row, 0, MatView<float>(read.data(), 1, 64), scratch);
  std::printf("y[0] = %g, expected 16; %td token, read %g\n", static_cast<double>(y[0]), tokens.size(),
              static_cast<double>(read[0]));
  return std::abs(y[0] - 16.0f) < 1e-3f && tokens.size() == 1 && read == y ? 0 : 1;
}
