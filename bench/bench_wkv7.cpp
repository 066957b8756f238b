/// WKV-7 beside what bounds it: the reference, the peak of fused multiply-adds and a bare pass over the same states.
/// bench_memories measures it beside the other memories. bench/support/peak.hpp says what "% of peak" means.
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "aviary/reference/wkv7.hpp"
#include "support/measure.hpp"

namespace {

using namespace aviary;

constexpr Index head_size = 64;
using Memory = Wkv7<float, head_size>;
using Layers = bench::Layers<Memory>;
constexpr double flops = bench::flops_of<Wkv7Rule> * bench::Benchmarks<Memory>::numbers;  // per token and head

/// One head of the reference; the same work as a step per token.
class Equations {
 public:
  double work() const { return static_cast<double>(x_.tokens); }
  void forward() {
    auto const along = [&](std::vector<double> const& x) {
      return MatView<double const>(x.data(), x_.tokens, head_size);
    };
    reference::Wkv7<double>::forward({state_.data(), head_size, head_size},
                                     {.r = along(x_.r),
                                      .log_w = along(x_.log_w),
                                      .k = along(x_.k),
                                      .v = along(x_.v),
                                      .kappa_hat = along(x_.unit),
                                      .a = along(x_.rate)},
                                     {y_.data(), x_.tokens, head_size});
    benchmark::ClobberMemory();
  }

 private:
  bench::Tokens<double> x_{64, 1, head_size};
  std::vector<double> y_ = std::vector<double>(64 * head_size), state_ = std::vector<double>(head_size * head_size);
};

void add_reference() {
  std::string const name = "wkv7/reference/f64/K64/H1/T64/" + bench::instruction_set();
  benchmark::RegisterBenchmark(name.c_str(), [](benchmark::State& state) {
    Equations equations;
    double const elapsed = bench::seconds([&] {
      for (auto _ : state) equations.forward();
    });
    state.counters["ns/token/head"] = 1e9 * elapsed / (static_cast<double>(state.iterations()) * equations.work());
  });
}

/// A row of the short table: medians over rounds in which kernel, peak, reference and pass over the states take turns.
void row(char const* name, Layers& x, std::function<void()> const& kernel) {
  auto const pass = [&] {
    for (auto& state : x.states()) bench::pass_over(&state.s[0][0], head_size * head_size);
  };
  Equations equations;
  std::vector<double> time, of_peak, to_reference, to_copy;
  kernel();  // from the empty context to ordinary numbers
  for (int round = 0; round < 61; ++round) {
    double const peak = bench::peak_burst<float>();
    pass();  // the states are where they always are between two rounds
    double const copy = bench::seconds(pass) * x.tokens();
    double const total = bench::seconds(kernel);
    double const reference = bench::seconds([&] { equations.forward(); }) / equations.work();
    double const each = total / x.work();
    time.push_back(each * 1e9);
    of_peak.push_back(100 * flops / each / peak);
    to_reference.push_back(reference / each);
    to_copy.push_back(total / copy);
  }
  std::printf("%-28s %14.1f %10.1f %16.1f %14.2f\n", name, bench::median(time), bench::median(of_peak),
              bench::median(to_reference), bench::median(to_copy));
  std::fflush(stdout);
}

void short_table() {
  std::printf("WKV-7, float, head size %td, one thread; medians of 61 rounds; FMA peak %.0f GFLOP/s\n", head_size,
              bench::peak<float>() / 1e9);
  std::printf("%-28s %14s %10s %16s %14s\n", "", "ns/token/head", "% of peak", "x faster than", "x one pass");
  std::printf("%-28s %14s %10s %16s %14s\n", "", "", "", "the reference", "over states");
  auto const forward = [](char const* name, Index layers, Index heads, Index tokens) {
    Layers x(layers, heads, tokens);
    row(name, x, [&] { x.forward(); });
  };
  Layers token(1, 1, 1024);
  row("step, 1 head, in L1", token, [&] { token.steps(); });
  forward("forward, T = 256, 12 heads", 1, 12, 256);
  forward("forward, T = 1024, 32 heads", 1, 32, 1024);
  forward("decode, 24 layers, 32 heads", bench::cold_layers, 32, 1);
}

}  // namespace

int main(int argc, char** argv) {
  add_reference();
  return bench::run(argc, argv, short_table);
}
