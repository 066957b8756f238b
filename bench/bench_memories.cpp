/// Speed of every memory of the matrix family in float: steps and packed sequences, states in cache and out of it, one and
/// two threads, beside a bare pass over the same states. bench_verbs has the other verbs and formats.
/// bench/support/peak.hpp says what "% of peak" means.
#include <cstdio>
#include <string>
#include <vector>

#include "support/measure.hpp"

namespace {

using namespace aviary;
using bench::cold_layers;

constexpr Index head_size = 64;

template <class M> void add_with_one_thread() {
  using Benchmarks = bench::Benchmarks<M>;
  for (Index const heads : {Index{1}, Index{12}, Index{32}}) {
    Benchmarks::add("step", {.heads = heads, .tokens = 16}, bench::steps);
    for (Index const tokens : {Index{1}, Index{16}, Index{256}, Index{1024}})
      Benchmarks::add("forward", {.heads = heads, .tokens = tokens}, bench::forward);
    if (heads == 1) continue;
    Benchmarks::add("step", {.heads = heads, .layers = cold_layers}, bench::steps);
    Benchmarks::add("forward", {.heads = heads, .layers = cold_layers}, bench::forward);
  }
}

template <class M> void add_with_two_threads() {
  if (!bench::has_threads) return;
  for (Index const heads : {Index{12}, Index{32}})
    for (Index const tokens : {Index{1}, Index{256}, Index{1024}})
      bench::Benchmarks<M>::add("forward", {.heads = heads, .tokens = tokens, .threads = 2}, bench::forward);
}

/// A row of the short table: medians over rounds in which a step, a sequence and the peak take turns.
template <class M> void row() {
  using Benchmarks = bench::Benchmarks<M>;
  typename Benchmarks::Problem token(1, 1, 256), sequence(1, 12, 256);
  bench::Threads const one(1);
  constexpr double flops = bench::flops_of<typename M::Rule> * Benchmarks::numbers;
  std::vector<double> step, step_share, forward, forward_share;
  for (int round = 0; round < 22; ++round) {
    double const peak = bench::peak_burst<float>();
    double const a = bench::seconds([&] { token.steps(); }) / token.work();
    double const b = bench::seconds([&] { sequence.forward(one); }) / sequence.work();
    if (round == 0) continue;  // from the empty context to ordinary numbers
    step.push_back(1e9 * a);
    step_share.push_back(100 * flops / a / peak);
    forward.push_back(1e9 * b);
    forward_share.push_back(100 * flops / b / peak);
  }
  std::printf("%-22s %12.0f %10.0f %12.0f %10.0f\n", M::name, bench::median(step), bench::median(step_share),
              bench::median(forward), bench::median(forward_share));
  std::fflush(stdout);
}

template <template <class, Index, Index, class> class... Memories> struct List {
  static void add() {
    (add_with_one_thread<Memories<float, head_size, head_size, float>>(), ...);
    (add_with_two_threads<Memories<float, head_size, head_size, float>>(), ...);
  }
  static void rows() { (row<Memories<float, head_size, head_size, float>>(), ...); }
};
using All = List<Wkv5, Wkv5PerHead, Wkv6, FinchC2, Wkv7, LinearAttention, RetNet, SimpleGla, Gla, DeltaNet,
                 GatedDeltaNet, Kda, GatedDeltaNet2, Comba, Iplr, Dplr>;

void short_table() {
  std::printf("Every memory, float, head size %td, one thread; medians of 21 rounds\n", head_size);
  std::printf("%-22s %23s %23s\n", "", "step, 1 head", "forward, 12 heads");
  std::printf("%-22s %12s %10s %12s %10s\n", "", "ns", "% of peak", "ns/token/head", "% of peak");
  All::rows();
}

}  // namespace

int main(int argc, char** argv) {
  using Any = Wkv6<float, head_size>;  // states of all memories are alike
  for (Index const heads : {Index{1}, Index{12}, Index{32}}) {
    bench::Benchmarks<Any>::add_copy({.heads = heads});
    if (heads > 1) bench::Benchmarks<Any>::add_copy({.heads = heads, .layers = cold_layers});
  }
  All::add();
  return bench::run(argc, argv, short_table);
}
