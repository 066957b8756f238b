/// A layer whose projections and gates are Eigen's own matrices, around a Gated DeltaNet memory: a whole sequence with
/// `forward`, then the same tokens one by one with `step`. Tokens are columns, as Eigen stores them.
#include <Eigen/Dense>
#include <aviary/delta_rule.hpp>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

using Eigen::MatrixXf, Eigen::VectorXf;

constexpr int heads = 4, size = 16, channels = heads * size;
using Memory = aviary::GatedDeltaNet<float, size>;

struct Layer {
  MatrixXf q, k, v, g, out;  // (channels, channels)
  MatrixXf decay, beta;      // (heads, channels)

  /// What the memory is given of the tokens in the columns of x.
  struct Fields {
    MatrixXf q, k, v, log_w, beta;
  };
  Fields project(MatrixXf const& x) const {
    Fields f{.q = q * x,
             .k = k * x,
             .v = v * x,
             .log_w = -(1 + (decay * x).array().exp()).log(),  // w = 1 / (1 + exp(decay x))
             .beta = sigmoid(beta * x)};
    for (int h = 0; h < heads; ++h) f.k.middleRows(h * size, size).colwise().normalize();
    return f;
  }
  /// The layer's output: y of the memory, gated and added to x.
  MatrixXf finish(MatrixXf const& x, MatrixXf const& y) const { return x + out * y.cwiseProduct(sigmoid(g * x)); }

  /// A sequence of tokens: every matrix is a Source or a Sink as it stands.
  MatrixXf forward(MatrixXf const& x, std::vector<Memory::State>& states) const {
    Fields const f = project(x);
    MatrixXf y(channels, x.cols());
    Memory::forward({.x = {.q = f.q, .k = f.k, .v = f.v, .log_w = f.log_w, .beta = f.beta}, .y = y, .states = states});
    return finish(x, y);
  }
  /// One token: each head takes its segment of every vector.
  VectorXf step(VectorXf const& x, std::vector<Memory::State>& states) const {
    Fields const f = project(x);
    VectorXf y(channels);
    for (int h = 0; h < heads; ++h) {
      auto const head = [&](MatrixXf const& m) { return m.col(0).segment<size>(h * size); };
      Memory::step(states[std::size_t(h)],
                   {.q = head(f.q), .k = head(f.k), .v = head(f.v), .log_w = f.log_w(h), .beta = f.beta(h)},
                   y.segment<size>(h * size));
    }
    return finish(x, y);
  }

  static MatrixXf sigmoid(MatrixXf const& x) { return 1 / (1 + (-x.array()).exp()); }
};

int main(int argc, char** argv) {
  if (argc > 1) {
    bool const help = std::string_view(argv[1]) == "--help";
    std::fputs(
        "eigen_model: runs a layer of Eigen's matrices over a sequence, and token by token; takes no arguments\n",
        help ? stdout : stderr);
    return help ? 0 : 2;
  }
  std::srand(1);  // Eigen's random numbers, in [-1, 1], come from rand()
  auto const random = [](int rows) -> MatrixXf { return MatrixXf::Random(rows, channels) * 0.125f; };
  Layer const layer{random(channels), random(channels), random(channels), random(channels),
                    random(channels), random(heads),    random(heads)};
  MatrixXf const x = MatrixXf::Random(channels, 100);

  std::vector<Memory::State> states(heads), stepped(heads);  // empty contexts
  MatrixXf const whole = layer.forward(x, states);
  MatrixXf one_by_one(whole.rows(), whole.cols());
  for (int t = 0; t < x.cols(); ++t) one_by_one.col(t) = layer.step(x.col(t), stepped);
  float const relative = (one_by_one - whole).cwiseAbs().maxCoeff<Eigen::PropagateNaN>() / whole.cwiseAbs().maxCoeff();
  bool const ok = relative <= 1e-5f;
  std::printf("100 tokens at once and one by one: outputs differ by at most %.1e of the largest: %s\n",
              double(relative), ok ? "ok" : "WRONG");
  return ok ? 0 : 1;
}
