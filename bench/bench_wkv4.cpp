/// Speed of WKV-4: single steps, packed sequences, their gradients and their segments beside the reference, a plain loop
/// with std::exp, and a bare pass over the same keys, values and outputs.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "aviary/reference/wkv4.hpp"
#include "aviary/wkv4.hpp"
#include "support/inputs.hpp"
#include "support/peak.hpp"
#include "support/program.hpp"

namespace {

using namespace aviary;

/// One sequence through all channels of a layer.
template <class T> class Layer {
 public:
  using Memory = Wkv4<T>;

  Layer(Index channels, Index tokens) : channels_(channels), tokens_(tokens), state_(channels), segment_(channels) {
    bench::Inputs<T> make(1);
    Index const n = tokens * channels;
    k_ = make.normals(n, T(2));
    v_ = make.normals(n);
    u_ = make.normals(channels);
    for (T const e : make.normals(channels)) log_w_.push_back(-std::exp(e));
    y_.resize(k_.size());
    state_weights_.resize(k_.size());
    dy_ = make.normals(n);
    dk_.resize(k_.size());
    dv_.resize(k_.size());
    dlog_w_.resize(u_.size());
    du_.resize(u_.size());
    kept_.assign(Memory::tape_size(inputs()), state_);
    workspace_.resize(Memory::backward_workspace(inputs()));
    aa_.resize(u_.size());
    bb_.resize(u_.size());
    pp_.resize(u_.size(), T(-1e30));
    forward();  // from the empty context to ordinary numbers
    plain();
    forward_with_tape();
  }

  /// Tokens times channels: what one call of any of these goes through.
  double work() const { return static_cast<double>(k_.size()); }
  /// Of keys, values and outputs.
  double bytes() const { return 3 * work() * sizeof(T); }

  void forward() {
    Memory::forward({.x = inputs(), .y = {y_.data(), tokens_, 1, channels_}, .states = {&state_, 1}});
    benchmark::ClobberMemory();
  }
  /// Forward, with the states that gradients need.
  void forward_with_tape() {
    Memory::forward(
        {.x = inputs(), .y = {y_.data(), tokens_, 1, channels_}, .states = {&state_, 1}, .tape = {.states = kept_}});
    benchmark::ClobberMemory();
  }
  void backward() {
    Memory::backward({.x = inputs(),
                      .dy = {dy_.data(), tokens_, 1, channels_},
                      .tape = {.states = kept_},
                      .dx = {.log_w = {dlog_w_.data(), 1, channels_},
                             .k = {dk_.data(), tokens_, 1, channels_},
                             .v = {dv_.data(), tokens_, 1, channels_},
                             .u = {du_.data(), 1, channels_}},
                      .workspace = workspace_});
    benchmark::ClobberMemory();
  }
  void summarize() {
    Memory::summarize({.x = inputs(),
                       .segments = {&segment_, 1},
                       .y = {y_.data(), tokens_, 1, channels_},
                       .state_weights = {state_weights_.data(), tokens_, 1, channels_}});
    benchmark::ClobberMemory();
  }
  void steps() {
    for (Index t = 0; t < tokens_; ++t) {
      Index const at = t * channels_;
      Memory::step(state_,
                   {.log_w = log_w_, .k = {k_.data() + at, channels_}, .v = {v_.data() + at, channels_}, .u = u_},
                   {y_.data() + at, channels_});
    }
    benchmark::ClobberMemory();
  }
  void reference() {
    reference::Wkv4<T>::forward(
        {aa_, bb_, pp_},
        {.log_w = log_w_, .k = {k_.data(), tokens_, channels_}, .v = {v_.data(), tokens_, channels_}, .u = u_},
        {y_.data(), tokens_, channels_});
    benchmark::ClobberMemory();
  }
  /// The loop that one would write: four exponentials, as published inference code has them.
  [[gnu::noinline]] void plain() {
    T const *k = k_.data(), *v = v_.data();
    T* y = y_.data();
    for (Index t = 0; t < tokens_; ++t)
      for (std::size_t c = 0; c < u_.size(); ++c, ++k, ++v, ++y) {
        T const m = std::max(pp_[c], u_[c] + *k), e1 = std::exp(pp_[c] - m), e2 = std::exp(u_[c] + *k - m);
        *y = (e1 * aa_[c] + e2 * *v) / (e1 * bb_[c] + e2);
        T const next = std::max(pp_[c] + log_w_[c], *k), f1 = std::exp(pp_[c] + log_w_[c] - next),
                f2 = std::exp(*k - next);
        aa_[c] = f1 * aa_[c] + f2 * *v;
        bb_[c] = f1 * bb_[c] + f2;
        pp_[c] = next;
      }
    benchmark::ClobberMemory();
  }
  /// Every key and value read and every output written once.
  [[gnu::noinline]] void pass() {
    simd::transform(
        static_cast<Index>(k_.size()), y_.data(), [](auto const& k, auto const& v) { return k + v; }, k_.data(),
        v_.data());
    benchmark::ClobberMemory();
  }

 private:
  typename Memory::Inputs inputs() const {
    return {.log_w = {log_w_.data(), 1, channels_},
            .k = {k_.data(), tokens_, 1, channels_},
            .v = {v_.data(), tokens_, 1, channels_},
            .u = {u_.data(), 1, channels_}};
  }

  Index channels_, tokens_;
  std::vector<T> log_w_, k_, v_, u_, y_, state_weights_, aa_, bb_, pp_, dy_, dlog_w_, dk_, dv_, du_, workspace_;
  typename Memory::State state_;
  std::vector<typename Memory::State> kept_;
  typename Memory::Segment segment_;
};

template <class T, class F> void add(std::string const& name, Index channels, Index tokens, F f) {
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    Layer<T> layer(channels, tokens);
    double const elapsed = bench::seconds([&] {
      for (auto _ : state) f(layer);
    });
    double const seconds = elapsed / static_cast<double>(state.iterations());
    state.counters["tokens/s"] = static_cast<double>(tokens) / seconds;
    state.counters["ns/token/channel"] = 1e9 * seconds / layer.work();
    state.SetBytesProcessed(static_cast<std::int64_t>(layer.bytes()) * state.iterations());
  });
}

template <class T> void add_kernels(std::string const& type) {
  std::string const end = "/" + bench::instruction_set();
  for (Index const channels : {Index{768}, Index{2048}}) {
    for (Index const tokens : {Index{1}, Index{16}, Index{256}, Index{1024}}) {
      std::string const shape = "/" + type + "/C" + std::to_string(channels) + "/T" + std::to_string(tokens) + end;
      add<T>("wkv4/step" + shape, channels, tokens, [](Layer<T>& x) { x.steps(); });
      add<T>("wkv4/forward" + shape, channels, tokens, [](Layer<T>& x) { x.forward(); });
    }
    std::string const shape = "/" + type + "/C" + std::to_string(channels) + "/T256" + end;
    add<T>("wkv4/backward" + shape, channels, 256, [](Layer<T>& x) { x.backward(); });
    add<T>("wkv4/summarize" + shape, channels, 256, [](Layer<T>& x) { x.summarize(); });
    add<T>("wkv4/reference" + shape, channels, 256, [](Layer<T>& x) { x.reference(); });
    add<T>("wkv4/plain" + shape, channels, 256, [](Layer<T>& x) { x.plain(); });
    add<T>("copy/rows" + shape, channels, 256, [](Layer<T>& x) { x.pass(); });
  }
}

/// A row of the short table: medians over rounds in which kernel, plain loop, reference and pass take turns.
void row(char const* name, Index channels, Index tokens, void (Layer<float>::*kernel)()) {
  Layer<float> x(channels, tokens);
  Layer<double> exact(channels, 16);
  double const repeats = std::max(1.0, 65536 / x.work());  // short ones many times: a clock has its own cost
  auto const seconds = [&](auto&& f) {
    return bench::seconds([&] {
             for (double i = 0; i < repeats; ++i) f();
           }) /
           repeats;
  };
  std::vector<double> time, to_plain, to_reference, to_pass;
  for (int round = 0; round < 21; ++round) {
    double const own = seconds([&] { (x.*kernel)(); }), plain = seconds([&] { x.plain(); });
    double const reference = bench::seconds([&] { exact.reference(); }) / exact.work() * x.work();
    double const pass = seconds([&] { x.pass(); });
    time.push_back(1e9 * own / x.work());
    to_plain.push_back(plain / own);
    to_reference.push_back(reference / own);
    to_pass.push_back(own / pass);
  }
  std::printf("%-30s %16.3f %14.1f %14.1f %14.1f\n", name, bench::median(time), bench::median(to_plain),
              bench::median(to_reference), bench::median(to_pass));
  std::fflush(stdout);
}

void short_table() {
  std::printf("WKV-4, float, one thread; medians of 21 rounds\n");
  std::printf("%-30s %16s %14s %14s %14s\n", "", "ns/token/channel", "x faster than", "x faster than", "x one pass");
  std::printf("%-30s %16s %14s %14s %14s\n", "", "", "plain float", "the reference", "over rows");
  row("step, 768 channels", 768, 1, &Layer<float>::steps);
  row("step, 2048 channels", 2048, 1, &Layer<float>::steps);
  row("forward, T = 256, 768 channels", 768, 256, &Layer<float>::forward);
  row("forward, T = 1024, 2048", 2048, 1024, &Layer<float>::forward);
  row("the same with a tape", 2048, 1024, &Layer<float>::forward_with_tape);
  row("backward, T = 256, 768", 768, 256, &Layer<float>::backward);
  row("backward, T = 1024, 2048", 2048, 1024, &Layer<float>::backward);
}

}  // namespace

int main(int argc, char** argv) {
  add_kernels<float>("f32");
  add_kernels<double>("f64");
  return bench::run(argc, argv, short_table);
}
