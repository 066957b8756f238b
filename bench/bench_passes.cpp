/// How many tokens go through a state together, in packs how wide: what pass_shape of matrix/pass.hpp was chosen by. A head of
/// 64 x 64 floats stays in first-level cache, and so do its inputs; preparation is counted.
#include <cstdio>
#include <string>
#include <vector>

#include "aviary/delta_rule.hpp"
#include "aviary/wkv6.hpp"
#include "aviary/wkv7.hpp"
#include "support/inputs.hpp"
#include "support/peak.hpp"
#include "support/program.hpp"

namespace {

using namespace aviary;

constexpr Index head_size = 64, tokens = 96;
using Pack = simd::Native<float>;

template <class M> typename M::Token token(bench::Tokens<float> const& x, Index t) {
  Index const at = t * head_size;
  float const *const r = &x.r[to_size(at)], *const log_w = &x.log_w[to_size(at)], *const k = &x.k[to_size(at)],
                     *const v = &x.v[to_size(at)], *const unit = &x.unit[to_size(at)],
                     *const rate = &x.rate[to_size(at)];
  if constexpr (std::is_same_v<M, Wkv6<float, head_size>>)
    return {.r = r, .log_w = log_w, .k = k, .v = v, .u = rate};
  else if constexpr (std::is_same_v<M, Wkv7<float, head_size>>)
    return {.r = r, .log_w = log_w, .k = k, .v = v, .kappa_hat = unit, .a = rate};
  else
    return {.q = r, .k = unit, .v = v, .log_w = *log_w, .beta = *rate};
}

/// One head of memory M that takes its tokens in passes of a shape.
template <class M, PassShape shape> class Head {
  using R = typename M::Rule;
  static constexpr int N = shape.tokens;
  using Group = typename M::template Group<N>;
  using Passes = aviary::Passes<form_of<R>, Pack, float, float, head_size, head_size, N, shape.packs>;

 public:
  void forward() {
    for (Index t = 0; t < tokens; t += N) {
      Group const group(numbers_.data(), {});
      float* y[to_size(N)];
      for (int m = 0; m < N; ++m) y[m] = &y_[to_size((t + m) * head_size)];
      prepare<R, Pack>(&x_[to_size(t)], group, group.pair_products(), Extent<head_size>(), Extent<head_size>());
      Passes::run(&state_.s[0][0], {}, head_size, group, y, 0, head_size, {});
    }
    benchmark::ClobberMemory();
  }

 private:
  static std::vector<typename M::Token> all_tokens(bench::Tokens<float> const& numbers) {
    std::vector<typename M::Token> all;
    for (Index t = 0; t < tokens; ++t) all.push_back(token<M>(numbers, t));
    return all;
  }

  bench::Tokens<float> given_{tokens, 1, head_size};
  std::vector<typename M::Token> x_ = all_tokens(given_);
  std::vector<float> y_ = std::vector<float>(tokens * head_size);
  AlignedVector<float> numbers_ = AlignedVector<float>(to_size(Group::length(head_size)));
  typename M::State state_;
};

/// f.operator()<shape>() for shapes of one to four tokens.
template <class F> void for_each_shape(F&& f) {
  constexpr int most = simd::Pack<Pack>::registers >= 32 ? 4 : 2;
  f.template operator()<PassShape{1, most}>();
  f.template operator()<PassShape{2, most}>();
  f.template operator()<PassShape{3, most}>();
  f.template operator()<PassShape{4, most / 2}>();
  f.template operator()<PassShape{4, most}>();
}

template <class M> void add(std::string const& name) {
  for_each_shape([&]<PassShape shape>() {
    std::string const full = "passes/" + name + "/tokens" + std::to_string(shape.tokens) + "/packs" +
                             std::to_string(shape.packs) + "/" + bench::instruction_set();
    benchmark::RegisterBenchmark(full.c_str(), [](benchmark::State& state) {
      Head<M, shape> head;
      double const elapsed = bench::seconds([&] {
        for (auto _ : state) head.forward();
      });
      state.counters["ns/token/head"] = 1e9 * elapsed / static_cast<double>(state.iterations() * tokens);
    });
  });
}

/// Medians over rounds in which all shapes take turns.
template <class M> void table(char const* name) {
  constexpr PassShape chosen = pass_shape<Pack>(form_of<typename M::Rule>);
  for_each_shape([&]<PassShape shape>() {
    Head<M, shape> head;
    Head<M, chosen> other;
    std::vector<double> time, ratio;
    for (int round = 0; round < 41; ++round) {
      double const mine = bench::seconds([&] { head.forward(); }),
                   chosen_one = bench::seconds([&] { other.forward(); });
      time.push_back(1e9 * mine / tokens);
      ratio.push_back(chosen_one / mine);
    }
    bool const is_chosen = shape.tokens == chosen.tokens && shape.packs == chosen.packs;
    std::printf("%-20s %8d %6d %14.1f %10.2f%s\n", name, shape.tokens, shape.packs, bench::median(time),
                bench::median(ratio), is_chosen ? "  chosen" : "");
  });
}

void short_table() {
  std::printf("%-20s %8s %6s %14s %10s\n", "", "tokens", "packs", "ns/token/head", "speed");
  table<Wkv6<float, head_size>>("WKV-6");
  table<GatedDeltaNet<float, head_size>>("Gated DeltaNet");
  table<Wkv7<float, head_size>>("WKV-7");
}

}  // namespace

int main(int argc, char** argv) {
  add<Wkv6<float, head_size>>("none");
  add<GatedDeltaNet<float, head_size>>("along_key");
  add<Wkv7<float, head_size>>("rank_one");
  return bench::run(argc, argv, short_table);
}
