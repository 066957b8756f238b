/// Speed of WKV-7: single steps and packed sequences, states in cache and out of it, beside the reference and a bare pass
/// over the same states. bench/support/peak.hpp says what "% of peak" means.
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "aviary/reference/wkv7.hpp"
#include "aviary/wkv7.hpp"
#include "support/inputs.hpp"
#include "support/peak.hpp"
#include "support/program.hpp"

namespace {

using namespace aviary;

constexpr Index head_size = 64;
constexpr double flops = 9.0 * head_size * head_size;  // per token and head
constexpr Index model_layers = 24;                     // whose states together do not stay in a core's caches

/// Some layers with a state per head each, and a sequence of inputs that they share.
template <class T> class Layers {
 public:
  using Memory = Wkv7<T, head_size>;

  Layers(Index layers, Index heads, Index tokens)
      : layers_(layers),
        x_(tokens, heads, head_size),
        y_(x_.v.size()),
        states_(static_cast<std::size_t>(layers * heads)) {
    forward();  // from the empty context to ordinary numbers
  }

  /// Layers times heads times tokens: what one call of forward or of steps goes through.
  double work() const { return static_cast<double>(layers_ * x_.heads * x_.tokens); }
  double state_bytes() const { return static_cast<double>(states_.size() * sizeof(states_[0])); }

  /// All tokens through every layer, a call for each.
  void forward() {
    auto const along = [&](std::vector<T> const& x) { return Source<head_size>(x.data(), x_.tokens, x_.heads); };
    for (Index layer = 0; layer < layers_; ++layer)
      Memory::forward({.x = {.r = along(x_.r),
                             .log_w = along(x_.log_w),
                             .k = along(x_.k),
                             .v = along(x_.v),
                             .kappa_hat = along(x_.unit),
                             .a = along(x_.rate)},
                       .y = {y_.data(), x_.tokens, x_.heads},
                       .states = {states_.data() + layer * x_.heads, static_cast<std::size_t>(x_.heads)}});
    benchmark::ClobberMemory();
  }
  /// All tokens through every layer, a call for each token and head.
  void steps() {
    for (Index t = 0; t < x_.tokens; ++t)
      for (Index layer = 0; layer < layers_; ++layer)
        for (Index h = 0; h < x_.heads; ++h) {
          Index const at = (t * x_.heads + h) * head_size;
          Memory::step(states_[static_cast<std::size_t>(layer * x_.heads + h)],
                       {.r = x_.r.data() + at,
                        .log_w = x_.log_w.data() + at,
                        .k = x_.k.data() + at,
                        .v = x_.v.data() + at,
                        .kappa_hat = x_.unit.data() + at,
                        .a = x_.rate.data() + at},
                       y_.data() + at);
        }
    benchmark::ClobberMemory();
  }
  /// Every state once, in the order of the kernels.
  void pass_over_states() {
    for (auto& state : states_) bench::pass_over(&state.s[0][0], head_size * head_size);
  }

 private:
  Index layers_;
  bench::Tokens<T> x_;
  std::vector<T> y_;
  std::vector<typename Memory::State> states_;
};

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

/// What one iteration of a benchmark goes through.
struct Work {
  double tokens, tokens_and_heads, bytes;
};

/// f() over and over. A token reads and writes its state once, whichever cache that comes from.
template <class F> double measure(benchmark::State& state, Work const& each, F&& f) {
  double const elapsed = bench::seconds([&] {
    for (auto _ : state) f();
  });
  double const seconds = elapsed / static_cast<double>(state.iterations());
  state.counters["tokens/s"] = each.tokens / seconds;
  state.counters["ns/token/head"] = 1e9 * seconds / each.tokens_and_heads;
  state.SetBytesProcessed(static_cast<std::int64_t>(each.bytes) * state.iterations());
  return seconds;
}

template <class T, class F> void add(std::string const& name, Index layers, Index heads, Index tokens, F f) {
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    Layers<T> problem(layers, heads, tokens);
    double const n = static_cast<double>(tokens);
    double const seconds = measure(state, {n, problem.work(), 2 * n * problem.state_bytes()}, [&] { f(problem); });
    state.counters["% of peak"] = 100 * problem.work() * flops / seconds / bench::peak<T>();
  });
}

/// A pass over the same states, with the figures of one token.
template <class T> void add_copy(std::string const& name, Index layers, Index heads) {
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    Layers<T> problem(layers, heads, 1);
    measure(state, {1, problem.work(), 2 * problem.state_bytes()}, [&] { problem.pass_over_states(); });
  });
}

template <class T> void add_kernels(std::string const& type) {
  std::string const end = "/" + bench::instruction_set();
  auto const forward = [](Layers<T>& x) { x.forward(); };
  auto const steps = [](Layers<T>& x) { x.steps(); };
  for (Index const heads : {Index{1}, Index{12}, Index{32}}) {
    std::string const shape = "/" + type + "/K64/H" + std::to_string(heads);
    add<T>("wkv7/step" + shape + end, 1, heads, 16, steps);
    add_copy<T>("copy/state" + shape + end, 1, heads);
    for (Index const tokens : {Index{1}, Index{16}, Index{256}, Index{1024}})
      add<T>("wkv7/forward" + shape + "/T" + std::to_string(tokens) + end, 1, heads, tokens, forward);
    if (heads == 1) continue;
    add<T>("wkv7/step" + shape + "/cold" + end, model_layers, heads, 1, steps);
    add<T>("wkv7/forward" + shape + "/T1/cold" + end, model_layers, heads, 1, forward);
    add_copy<T>("copy/state" + shape + "/cold" + end, model_layers, heads);
  }
}

void add_all() {
  add_kernels<float>("f32");
  add_kernels<double>("f64");
  std::string const name = "wkv7/reference/f64/K64/H1/T64/" + bench::instruction_set();
  benchmark::RegisterBenchmark(name.c_str(), [](benchmark::State& state) {
    Equations equations;
    double const n = equations.work();
    measure(state, {n, n, 2 * n * sizeof(double) * head_size * head_size}, [&] { equations.forward(); });
  });
}

/// A row of the short table: medians over rounds in which kernel, peak, reference and pass over the states take turns.
void row(char const* name, Layers<float>& x, std::function<void()> const& kernel, double token_passes) {
  Equations equations;
  std::vector<double> time, of_peak, to_reference, to_copy;
  for (int round = 0; round < 61; ++round) {
    double const peak = bench::peak_burst<float>();
    x.pass_over_states();  // the states are where they always are between two rounds
    double const copy = bench::seconds([&] { x.pass_over_states(); }) * token_passes;
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
  auto const steps = [](char const* name, Index layers, Index heads, Index tokens) {
    Layers<float> x(layers, heads, tokens);
    row(
        name, x, [&] { x.steps(); }, static_cast<double>(tokens));
  };
  auto const forward = [](char const* name, Index layers, Index heads, Index tokens) {
    Layers<float> x(layers, heads, tokens);
    row(
        name, x, [&] { x.forward(); }, static_cast<double>(tokens));
  };
  steps("step, 1 head, in L1", 1, 1, 1024);
  forward("forward, T = 256, 12 heads", 1, 12, 256);
  forward("forward, T = 1024, 32 heads", 1, 32, 1024);
  forward("decode, 24 layers, 32 heads", model_layers, 32, 1);
}

}  // namespace

int main(int argc, char** argv) {
  add_all();
  return bench::run(argc, argv, short_table);
}
