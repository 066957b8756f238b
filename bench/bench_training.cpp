/// Speed of a training step of a small RWKV-7 in float, 256 channels with heads of 64: the products of a linear map and of its
/// gradients, and a block forward and backward; beside Eigen's products where Eigen is installed. bench/support/peak.hpp says
/// what "% of peak" means. The flops of a block are those of its matrices and of its memory, as they are executed.
#include <cstdio>
#include <string>
#include <vector>

#include "aviary/dense/gradient.hpp"
#include "aviary/layers/block.hpp"
#include "aviary/layers/time_mix7.hpp"
#include "support/inputs.hpp"
#include "support/peak.hpp"
#include "support/program.hpp"

#if __has_include(<Eigen/Core>)
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>
#endif

namespace {

using namespace aviary;

/// What is measured: its flops, and a call of it.
struct Verb {
  char const* name;
  double flops;
  void (*run)(void* problem);
};
template <class Problem, void (Problem::*member)()>
constexpr void (*call)(void*) = [](void* problem) {
  (static_cast<Problem*>(problem)->*member)();
  benchmark::ClobberMemory();
};

struct Shape {
  Index in, out, tokens;
};

/// A linear map with the gradients of its inputs and weights.
class Products {
 public:
  explicit Products(Shape s)
      : s_(s),
        w_(make_.normals(s.in * s.out)),
        x_(make_.normals(s.tokens * s.in)),
        dy_(make_.normals(s.tokens * s.out)),
        y_(dy_.size()),
        dx_(x_.size()),
        dw_(w_.size()),
        linear_(weights(), WeightFormat::full) {}

  std::vector<Verb> verbs() const {
    double const flops = 2.0 * static_cast<double>(s_.in * s_.out * s_.tokens);
    return {
      {"forward", flops, call<Products, &Products::forward>},
          {"input_gradient", flops, call<Products, &Products::input_gradient>},
          {"weight_gradient", flops, call<Products, &Products::weight_gradient>},
#if defined(EIGEN_WORLD_VERSION)
          {"eigen/forward", flops, call<Products, &Products::forward_of_eigen>},
          {"eigen/input_gradient", flops, call<Products, &Products::input_gradient_of_eigen>},
          {"eigen/weight_gradient", flops, call<Products, &Products::weight_gradient_of_eigen>},
#endif
    };
  }

  void forward() { linear_(x(), MatView<float>(y_.data(), s_.tokens, s_.out)); }
  void input_gradient() {
    add_input_gradient<float>(weights(), WeightLayout::out_in, dy(), MatView<float>(dx_.data(), s_.tokens, s_.in));
  }
  void weight_gradient() { add_weight_gradient<float>(dy(), x(), MatView<float>(dw_.data(), s_.out, s_.in)); }
#if defined(EIGEN_WORLD_VERSION)
  void forward_of_eigen() { eigen(y_, s_.tokens).noalias() += eigen(x_, s_.tokens) * eigen(w_, s_.out).transpose(); }
  void input_gradient_of_eigen() { eigen(dx_, s_.tokens).noalias() += eigen(dy_, s_.tokens) * eigen(w_, s_.out); }
  void weight_gradient_of_eigen() {
    eigen(dw_, s_.out).noalias() += eigen(dy_, s_.tokens).transpose() * eigen(x_, s_.tokens);
  }
#endif

 private:
  MatView<float const> weights() const { return {w_.data(), s_.out, s_.in}; }
  MatView<float const> x() const { return {x_.data(), s_.tokens, s_.in}; }
  MatView<float const> dy() const { return {dy_.data(), s_.tokens, s_.out}; }
#if defined(EIGEN_WORLD_VERSION)
  using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  static Eigen::Map<Rows> eigen(std::vector<float>& numbers, Index rows) {
    return {numbers.data(), rows, static_cast<Index>(numbers.size()) / rows};
  }
#endif

  Shape s_;
  bench::Inputs<float> make_{1};
  std::vector<float> w_, x_, dy_, y_, dx_, dw_;
  Linear<float> linear_;
};

/// A block, neither the first nor gated, that takes sequences of 256 tokens.
class BlockProblem {
 public:
  using Mix = TimeMix<Wkv7<float, 64>>;
  using Layer = Block<Mix>;
  static constexpr Index channels = 256, heads = 4, inner = 1024, length = 256;

  explicit BlockProblem(Index sequences)
      : tokens_(sequences * length),
        block_(LayerNorm<float>(weights_.ln1_weight, weights_.ln1_bias), Mix(weights_.time_mix),
               LayerNorm<float>(weights_.ln2_weight, weights_.ln2_bias), ChannelMix<float>(weights_.channel_mix)),
        states_(to_size(sequences), block_.empty_state()),
        before_(states_),
        dstates_(to_size(sequences), block_.empty_state_gradient()),
        tape_(block_.time_mix().make_tape(tokens_, sequences)),
        scratch_(std::max(tokens_ * block_.scratch_size(), block_.backward_scratch_size(tokens_, sequences))),
        input_(make_.normals(tokens_ * channels)),
        x_(input_),
        dy_(make_.normals(tokens_ * channels)),
        d_(dy_),
        v_first_(make_.normals(tokens_ * channels)),
        dv_first_(v_first_.size()) {
    for (Index s = 0; s <= sequences; ++s) offsets_.push_back(s * length);
  }

  /// A multiply-add for each weight; 9 flops for each number of a state, and 24 backward (see bench_backward.cpp).
  std::vector<Verb> verbs() const {
    double const tokens = static_cast<double>(tokens_), state = static_cast<double>(channels * 64);
    double const once = 2.0 * static_cast<double>(matrices_), memory = 9 * state;
    return {{"block/forward", tokens * (once + memory), call<BlockProblem, &BlockProblem::forward>},
            {"block/backward", tokens * (3 * once + memory + 24 * state), call<BlockProblem, &BlockProblem::backward>}};
  }

  void forward() {
    x_ = input_;
    for (auto& state : states_) block_.reset(state);
    block_(rows(x_), Packed<Layer::State>(States<Layer::State>(states_), offsets_), scratch_, rows(v_first_));
  }
  void backward() {
    d_ = dy_;
    block_.backward({.weights = weights_,
                     .x = rows(input_),
                     .states = Packed<Layer::State const>(States<Layer::State const>(before_), offsets_),
                     .d = rows(d_),
                     .dstates = States<Layer::StateGradient>(dstates_),
                     .dweights = gradients_},
                    tape_, scratch_, rows(v_first_), rows(dv_first_));
  }

 private:
  MatView<float> rows(std::vector<float>& numbers) const { return {numbers.data(), tokens_, channels}; }

  /// Numbers of a weight and of its gradient.
  struct Numbers {
    Index rows, columns;
    std::vector<float> weight, gradient;
    operator VecView<float const>() const { return weight; }
    operator MatView<float const>() const { return {weight.data(), rows, columns}; }
    operator WeightMatrix() const { return MatView<float const>(*this); }
    operator VecSink<float>() { return VecView<float>(gradient); }
    operator MatSink<float>() { return MatView<float>(gradient.data(), rows, columns); }
  };
  Numbers numbers(Index rows, Index columns, float scale) {
    return {rows, columns, make_.normals(rows * columns, scale), std::vector<float>(to_size(rows * columns))};
  }
  Numbers vector() { return numbers(1, channels, 0.5f); }
  Numbers matrix(Index rows, Index columns) {
    matrices_ += rows * columns;
    return numbers(rows, columns, 0.06f);
  }

  bench::Inputs<float> make_{1};
  Index tokens_, matrices_ = 0;
  Numbers ln1_weight_ = vector(), ln1_bias_ = vector(), ln2_weight_ = vector(), ln2_bias_ = vector();
  Numbers x_r_ = vector(), x_w_ = vector(), x_k_ = vector(), x_v_ = vector(), x_a_ = vector(), x_g_ = vector();
  Numbers w0_ = vector(), a0_ = vector(), v0_ = vector(), k_k_ = vector(), k_a_ = vector();
  Numbers ln_x_weight_ = vector(), ln_x_bias_ = vector(), x_ffn_ = vector(), r_k_ = numbers(heads, 64, 0.1f);
  Numbers receptance_ = matrix(channels, channels), key_ = matrix(channels, channels);
  Numbers value_ = matrix(channels, channels), output_ = matrix(channels, channels);
  Numbers w1_ = matrix(channels, 64), w2_ = matrix(64, channels), a1_ = matrix(channels, 64);
  Numbers a2_ = matrix(64, channels), g1_ = matrix(channels, 128), g2_ = matrix(128, channels);
  Numbers v1_ = matrix(channels, 32), v2_ = matrix(32, channels);
  Numbers key_ffn_ = matrix(inner, channels), value_ffn_ = matrix(channels, inner);

  template <class Parameters> Parameters parameters() {
    return {.ln1_weight = ln1_weight_,
            .ln1_bias = ln1_bias_,
            .time_mix = {.x_r = x_r_,
                         .x_w = x_w_,
                         .x_k = x_k_,
                         .x_v = x_v_,
                         .x_a = x_a_,
                         .x_g = x_g_,
                         .receptance = receptance_,
                         .key = key_,
                         .value = value_,
                         .output = output_,
                         .w0 = w0_,
                         .w1 = w1_,
                         .w2 = w2_,
                         .a0 = a0_,
                         .a1 = a1_,
                         .a2 = a2_,
                         .g1 = g1_,
                         .g2 = g2_,
                         .k_k = k_k_,
                         .k_a = k_a_,
                         .r_k = r_k_,
                         .ln_x_weight = ln_x_weight_,
                         .ln_x_bias = ln_x_bias_,
                         .v0 = v0_,
                         .v1 = v1_,
                         .v2 = v2_},
            .ln2_weight = ln2_weight_,
            .ln2_bias = ln2_bias_,
            .channel_mix = {.x_k = x_ffn_, .key = key_ffn_, .value = value_ffn_}};
  }
  Layer::Weights weights_ = parameters<Layer::Weights>();
  Layer::Gradients gradients_ = parameters<Layer::Gradients>();

  Layer block_;
  std::vector<Layer::State> states_, before_;
  std::vector<Layer::StateGradient> dstates_;
  Mix::Tape tape_;
  Scratch<float> scratch_;
  std::vector<float> input_, x_, dy_, d_, v_first_, dv_first_;
  std::vector<Index> offsets_;
};

template <class Problem, class Size> void add(Size size, std::string const& name) {
  for (Verb const& verb : Problem(size).verbs())
    benchmark::RegisterBenchmark((verb.name + name + "/" + bench::instruction_set()).c_str(),
                                 [=](benchmark::State& state) {
                                   Problem problem(size);
                                   verb.run(&problem);
                                   double const elapsed = bench::seconds([&] {
                                     for (auto _ : state) verb.run(&problem);
                                   });
                                   double const rate = verb.flops * static_cast<double>(state.iterations()) / elapsed;
                                   state.counters["GFLOP/s"] = rate / 1e9;
                                   state.counters["% of peak"] = 100 * rate / bench::peak<float>();
                                 });
}

constexpr std::array<std::pair<Index, Index>, 8> maps{
    {{256, 256}, {256, 1024}, {1024, 256}, {256, 64}, {64, 256}, {256, 32}, {32, 256}, {256, 65536}}};

void add_all() {
  for (Index const tokens : {256, 2048})
    for (auto const& [in, out] : maps) {
      if (tokens > 256 && out == 65536) continue;  // logits are made a stretch at a time
      add<Products>(Shape{in, out, tokens},
                    "/in" + std::to_string(in) + "/out" + std::to_string(out) + "/T" + std::to_string(tokens));
    }
  for (Index const sequences : {1, 8}) add<BlockProblem>(sequences, "/T" + std::to_string(sequences * 256));
}

/// Shares of the peak, medians of rounds in which the verbs and the peak take turns.
template <class Problem, class Size> void row(Size size, std::string const& name) {
  Problem problem(size);
  auto const verbs = problem.verbs();
  std::vector<std::vector<double>> shares(verbs.size());
  for (int round = 0; round < 10; ++round) {
    double const peak = bench::peak_burst<float>();
    for (std::size_t i = 0; i < verbs.size(); ++i) {
      double const seconds = bench::seconds([&] { verbs[i].run(&problem); });
      if (round > 0) shares[i].push_back(100 * verbs[i].flops / seconds / peak);
    }
  }
  std::printf("%-24s", name.c_str());
  for (auto const& of_verb : shares) std::printf(" %15.0f", bench::median(of_verb));
  std::printf("\n");
  std::fflush(stdout);
}

void short_table() {
  std::printf("float, one thread: %% of the FMA peak, %.0f GFLOP/s; medians of 9 rounds\n", bench::peak<float>() / 1e9);
  std::printf("%-24s %15s %15s %15s   and of Eigen, where it is installed\n", "256 tokens", "forward", "of inputs",
              "of weights");
  for (auto const& [in, out] : maps)
    if (out < 65536) row<Products>(Shape{in, out, 256}, std::to_string(in) + " -> " + std::to_string(out));
  std::printf("%-24s %15s %15s\n", "a block of 256 channels", "forward", "backward");
  for (Index const sequences : {1, 8}) row<BlockProblem>(sequences, std::to_string(sequences * 256) + " tokens");
}

}  // namespace

int main(int argc, char** argv) {
  add_all();
  return bench::run(argc, argv, short_table);
}
