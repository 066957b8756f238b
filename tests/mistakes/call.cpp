/// Calls with a wrong shape, in a program with assertions: what it prints before it ends is for tests/CMakeLists.txt.
///   wrong_call forward | backward | step | summarize | compose
#undef NDEBUG
#include <csignal>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "aviary/wkv7.hpp"

int main(int, char** arguments) {
  std::signal(SIGABRT, [](int) { std::_Exit(0); });  // an ordinary end, so that what was printed decides
  using Memory = aviary::Wkv7<float, aviary::dynamic>;
  std::string_view const verb = arguments[1];
  std::vector<float> const x(4 * 16);
  std::vector<float> y(4 * 16);
  Memory::State state(16, 16);
  Memory::Segment segment = Memory::identity_segment(16, 16), smaller = Memory::identity_segment(8, 8);
  float const* const p = x.data();
  aviary::Source<> const right(p, 4, 1, 16), wrong(p, 3, 1, 16);
  aviary::VecView<float const> const row(p, 16);
  Memory::Inputs const inputs{.r = right, .log_w = wrong, .k = right, .v = right, .kappa_hat = right, .a = right};
  if (verb == "forward")
    Memory::forward({.x = inputs, .y = {y.data(), 4, 1, 16}, .states = {&state, 1}});
  else if (verb == "backward")
    Memory::backward({.x = inputs, .dy = {p, 4, 1, 16}, .tape = {.states = {&state, 1}}});
  else if (verb == "step")
    Memory::step(state, {.r = row, .log_w = row, .k = row, .v = {p, 15}, .kappa_hat = row, .a = row}, {y.data(), 16});
  else if (verb == "summarize")
    Memory::summarize({.x = inputs, .segments = {&segment, 1}});
  else if (verb == "compose")
    Memory::compose(Memory::identity_segment(16, 16), smaller, segment);
}
