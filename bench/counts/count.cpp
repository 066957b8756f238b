/// The kernels whose instructions compare.cmake counts: step and forward of every memory, in float, with one head of 64
/// keys and values. Under callgrind each is counted by itself; compare.cmake says how.
///
///     count_instructions --versions     what the counts depend on besides the library
#include <valgrind/callgrind.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "aviary/wkv4.hpp"
#include "support/memories.hpp"

namespace {

using namespace aviary;

constexpr Index head_size = 64;

/// Counts f(), which goes through some tokens, in a dump called "NAME/VERB TOKENS". Short ones are counted several times, so
/// that what is around them does not show. Nothing runs before for practice, because every fused multiply-add takes callgrind
/// long: the dynamic linker has bound all functions when the program begins.
template <class F> void count(char const* name, char const* verb, Index tokens, F&& f) {
  static std::deque<std::string> names;  // callgrind reads a name later
  Index const calls = std::max(Index{1}, 16 / tokens);
  names.push_back(std::string(name) + verb + " " + std::to_string(calls * tokens));
  CALLGRIND_START_INSTRUMENTATION;
  CALLGRIND_ZERO_STATS;
  for (Index i = 0; i < calls; ++i) f();
  CALLGRIND_DUMP_STATS_AT(names.back().c_str());
  CALLGRIND_STOP_INSTRUMENTATION;
}

template <class M> void count_matrix_memory() {
  bench::Layers<M> one(1, 1, 1), many(1, 1, 256);
  count(M::name, "/step", 1, [&] { one.steps(); });
  count(M::name, "/forward/T1", 1, [&] { one.forward(); });
  count(M::name, "/forward/T256", 256, [&] { many.forward(); });
}

template <template <class, Index, Index, class> class... Memories> void count_matrix_memories() {
  (count_matrix_memory<Memories<float, head_size, head_size, float>>(), ...);
}

/// WKV-4 has no heads: as many channels as a head has values.
void count_wkv4() {
  using Memory = Wkv4<float, head_size>;
  constexpr Index tokens = 256;
  bench::Inputs<float> make(1);
  auto const k = make.normals(tokens * head_size, 2.f), v = make.normals(tokens * head_size);
  auto const u = make.normals(head_size);
  std::vector<float> log_w, y(k.size());
  for (float const e : make.normals(head_size)) log_w.push_back(-std::exp(e));
  Memory::State state;
  auto const forward = [&](Index n) {
    Memory::forward(
        {.x = {.log_w = {log_w.data(), 1}, .k = {k.data(), n, 1}, .v = {v.data(), n, 1}, .u = {u.data(), 1}},
         .y = {y.data(), n, 1},
         .states = {&state, 1}});
  };
  count(Memory::name, "/step", 1,
        [&] { Memory::step(state, {.log_w = log_w.data(), .k = k.data(), .v = v.data(), .u = u.data()}, y.data()); });
  count(Memory::name, "/forward/T1", 1, [&] { forward(1); });
  count(Memory::name, "/forward/T256", tokens, [&] { forward(tokens); });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--versions") {
    std::printf("g++ %d, xsimd %d.%d\n", __GNUC__, XSIMD_VERSION_MAJOR, XSIMD_VERSION_MINOR);
    return 0;
  }
  if (!RUNNING_ON_VALGRIND) {
    std::fprintf(stderr, "count_instructions: run it under valgrind --tool=callgrind\n");
    return 2;
  }
  count_wkv4();
  count_matrix_memories<Wkv5, Wkv5PerHead, Wkv6, FinchC2, Wkv7, LinearAttention, RetNet, SimpleGla, Gla, DeltaNet,
                        GatedDeltaNet, Kda, GatedDeltaNet2, Comba, Iplr, Dplr>();
}
