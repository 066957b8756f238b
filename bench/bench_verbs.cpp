/// Speed of what bench_memories leaves out, for one memory with each kind of erasure: chunks, segments and what corrects their
/// outputs, and other formats of inputs, states and arithmetic.
#include <cstdio>
#include <vector>

#include "support/measure.hpp"

namespace {

using namespace aviary;

constexpr Index head_size = 64;
constexpr bench::Shape prompt{.heads = 12, .tokens = 256}, token{.heads = 12}, tokens{.heads = 12, .tokens = 16};

constexpr auto chunk16 = [](auto& problem, auto const&) { problem.template chunk<16>(); };
constexpr auto chunk64 = [](auto& problem, auto const&) { problem.template chunk<64>(); };
constexpr auto summarize = [](auto& problem, auto const& executor) { problem.summarize(executor); };
constexpr auto add_initial_state = [](auto& problem, auto const& executor) { problem.add_initial_state(executor); };
constexpr auto pull_outputs = [](auto& problem, auto const& executor) { problem.pull_outputs(executor); };

template <class M> void add_verbs() {
  using Benchmarks = bench::Benchmarks<M>;
  Benchmarks::add("chunk16", prompt, chunk16);
  Benchmarks::add("chunk64", prompt, chunk64);
  for (Index threads = 1; threads <= (bench::has_threads ? 2 : 1); ++threads) {
    bench::Shape shape = prompt;
    shape.threads = threads;
    Benchmarks::add("summarize", shape, summarize, 0);  // its operations depend on the erasure
    Benchmarks::add("add_initial_state", shape, add_initial_state, 2);
    Benchmarks::add("pull_outputs", shape, pull_outputs, 2);
  }
}

template <template <class, Index, Index, class> class Memory, class S> void add_states_of() {
  using Benchmarks = bench::Benchmarks<Memory<float, head_size, head_size, S>>;
  Benchmarks::add("step", tokens, bench::steps);
  Benchmarks::add("forward", token, bench::forward);
  Benchmarks::add("forward", prompt, bench::forward);
}
template <class M, class In> void add_inputs_of() {
  bench::Benchmarks<M, In>::add("forward", token, bench::forward);
  bench::Benchmarks<M, In>::add("forward", prompt, bench::forward);
}

template <template <class, Index, Index, class> class Memory> void add_formats() {
  using M = Memory<float, head_size, head_size, float>;
  add_inputs_of<M, bf16>();
  add_inputs_of<M, f16>();
  add_inputs_of<M, double>();
  add_states_of<Memory, bf16>();
  add_states_of<Memory, f16>();
}

template <template <class, Index, Index, class> class Memory> void add_double() {
  using Benchmarks = bench::Benchmarks<Memory<double, head_size, head_size, double>>;
  Benchmarks::add_copy(token);
  Benchmarks::add("step", tokens, bench::steps);
  Benchmarks::add("forward", token, bench::forward);
  Benchmarks::add("forward", prompt, bench::forward);
}

/// A row of the short table: medians over rounds in which all verbs take turns.
template <class M> void row() {
  typename bench::Benchmarks<M>::Problem problem(prompt.layers, prompt.heads, prompt.tokens);
  bench::Threads const one(1);
  std::vector<double> forward, in16, in64, segment, correction, pulled;
  auto const measure = [&](std::vector<double>& times, auto const& verb) {
    times.push_back(1e9 * bench::seconds([&] { verb(problem, one); }) / problem.work());
  };
  for (int round = 0; round < 11; ++round) {
    measure(forward, bench::forward);
    measure(in16, chunk16);
    measure(in64, chunk64);
    measure(segment, summarize);
    measure(correction, add_initial_state);
    measure(pulled, pull_outputs);
  }
  std::printf("%-20s %10.0f %10.0f %10.0f %10.0f %18.0f %13.0f\n", M::name, bench::median(forward), bench::median(in16),
              bench::median(in64), bench::median(segment), bench::median(correction), bench::median(pulled));
  std::fflush(stdout);
}

template <template <class, Index, Index, class> class... Memories> struct List {
  static void add() {
    (add_verbs<Memories<float, head_size, head_size, float>>(), ...);
    (add_formats<Memories>(), ...);
  }
  static void rows() { (row<Memories<float, head_size, head_size, float>>(), ...); }
};
using Chosen = List<Wkv6, GatedDeltaNet, Wkv7>;

void short_table() {
  std::printf("float, head size %td, %td heads, %td tokens, one thread; ns per token and head, medians of 11 rounds\n",
              head_size, prompt.heads, prompt.tokens);
  std::printf("%-20s %10s %10s %10s %10s %18s %13s\n", "", "forward", "chunk16", "chunk64", "summarize",
              "add_initial_state", "pull_outputs");
  Chosen::rows();
}

}  // namespace

int main(int argc, char** argv) {
  Chosen::add();
  add_double<Wkv6>();
  add_double<GatedDeltaNet>();
  add_double<Wkv7>();
  return bench::run(argc, argv, short_table);
}
