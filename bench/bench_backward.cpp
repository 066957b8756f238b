/// Speed of gradients beside forward: memories with each kind of erasure and decay, in float, one and two threads.
/// bench/support/peak.hpp says what "% of peak" means.
#include <cstdio>
#include <vector>

#include "support/measure.hpp"

namespace {

using namespace aviary;

constexpr Index head_size = 64;
constexpr bench::Shape prompt{.heads = 12, .tokens = 256}, batch{.heads = 32, .tokens = 1024};

/// Floating-point operations for each number of a state and token, as they are counted token by token: 2 for each of dr, dk, dv
/// and the state's own gradient, 3 to compute the state again and 1 to decay its gradient, and 2 for dw; 4 more for what was
/// probed, or 10 with an update of its own. Groups of tokens need fewer.
template <class R>
inline constexpr double backward_flops = 10 + (gate_of<R> != Gate::none ? 4 : 0) +
                                         (R::erase == Erase::rank_one    ? 10
                                          : R::erase == Erase::along_key ? 4
                                                                         : 0);

constexpr auto with_tape = [](auto& problem, auto const& executor) { problem.forward_with_tape(executor); };
constexpr auto backward = [](auto& problem, auto const& executor) { problem.backward(executor); };

template <class M> void add() {
  for (bench::Shape shape : {prompt, batch})
    for (shape.threads = 1; shape.threads <= (bench::has_threads ? 2 : 1); ++shape.threads) {
      bench::Benchmarks<M>::add("forward_with_tape", shape, with_tape);
      bench::Benchmarks<M>::add("backward", shape, backward, backward_flops<typename M::Rule>);
    }
}

/// A row of the short table: medians over rounds in which the verbs and the peak take turns.
template <class M> void row(bench::Shape const& shape) {
  typename bench::Benchmarks<M>::Problem problem(1, shape.heads, shape.tokens);
  bench::Threads const one(1);
  std::vector<double> forward, tape, back, share;
  for (int round = 0; round < 10; ++round) {
    double const peak = bench::peak_burst<float>();
    double const a = bench::seconds([&] { problem.forward(one); }) / problem.work();
    double const b = bench::seconds([&] { problem.forward_with_tape(one); }) / problem.work();
    double const c = bench::seconds([&] { problem.backward(one); }) / problem.work();
    if (round == 0) continue;
    forward.push_back(1e9 * a);
    tape.push_back(1e9 * b);
    back.push_back(1e9 * c);
    share.push_back(100 * backward_flops<typename M::Rule> * bench::Benchmarks<M>::numbers / c / peak);
  }
  std::printf("%-20s %8td %6td %10.0f %10.0f %10.0f %10.2f %10.0f\n", M::name, shape.tokens, shape.heads,
              bench::median(forward), bench::median(tape), bench::median(back),
              bench::median(back) / bench::median(forward), bench::median(share));
  std::fflush(stdout);
}

template <template <class, Index, Index, class> class... Memories> struct List {
  static void add_all() { (add<Memories<float, head_size, head_size, float>>(), ...); }
  static void rows(bench::Shape const& shape) { (row<Memories<float, head_size, head_size, float>>(shape), ...); }
};
using Chosen = List<Wkv5, Wkv6, Gla, DeltaNet, GatedDeltaNet, Kda, Dplr, Wkv7>;

void short_table() {
  std::printf("float, head size %td, one thread, readings on the tape; ns per token and head, medians of 9 rounds\n",
              head_size);
  std::printf("%-20s %8s %6s %10s %10s %10s %10s %10s\n", "", "tokens", "heads", "forward", "and tape", "backward",
              "x forward", "% of peak");
  Chosen::rows(prompt);
  Chosen::rows(batch);
}

}  // namespace

int main(int argc, char** argv) {
  Chosen::add_all();
  return bench::run(argc, argv, short_table);
}
