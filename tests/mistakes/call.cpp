/// A call with a wrong shape, in a program with assertions: what it prints before it ends is for tests/CMakeLists.txt.
#undef NDEBUG
#include <csignal>
#include <cstdlib>
#include <vector>

#include "aviary/wkv7.hpp"

int main() {
  std::signal(SIGABRT, [](int) { std::_Exit(0); });  // an ordinary end, so that what was printed decides
  using Memory = aviary::Wkv7<float, 16>;
  std::vector<float> const x(4 * 16);
  std::vector<float> y(4 * 16);
  std::vector<Memory::State> states(1);
  float const* const p = x.data();
  Memory::forward(
      {.x =
           {.r = {p, 4, 1}, .log_w = {p, 3, 1}, .k = {p, 4, 1}, .v = {p, 4, 1}, .kappa_hat = {p, 4, 1}, .a = {p, 4, 1}},
       .y = {y.data(), 4, 1},
       .states = states});
}
