/// Speed of linear layers in every weight format: one token, bound by the bytes of the weights, and many, bound by the
/// arithmetic; beside a bare read of as many bytes and, where Eigen is at hand, beside its product of floats.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "aviary/dense/linear.hpp"
#include "support/inputs.hpp"
#include "support/peak.hpp"
#include "support/program.hpp"

#if __has_include(<Eigen/Core>)
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>
#endif

namespace {

using namespace aviary;

struct Format {
  WeightFormat format;
  char const* name;
};
constexpr Format formats[]{
    {WeightFormat::full, "f32"}, {NumberFormat::bf16, "bf16"}, {NumberFormat::f16, "f16"}, {NumberFormat::q8, "q8"}};

struct Shape {
  Index in, out, tokens;
};

/// A layer with its inputs and outputs.
class Problem {
 public:
  Problem(Shape shape, WeightFormat format)
      : shape_(shape),
        weights_(bench::Inputs<float>(1).normals(shape.in * shape.out)),
        x_(bench::Inputs<float>(1).normals(shape.tokens * shape.in)),
        y_(to_size(shape.tokens * shape.out)),
        linear_(WeightMatrix(MatView<float const>(weights_.data(), shape.out, shape.in)), format) {}

  double flops() const { return 2.0 * static_cast<double>(shape_.in * shape_.out * shape_.tokens); }
  double bytes() const { return static_cast<double>(linear_.bytes()); }
  std::vector<float> const& weights() const { return weights_; }

  void product() {
    linear_(MatView<float const>(x_.data(), shape_.tokens, shape_.in), {y_.data(), shape_.tokens, shape_.out});
    benchmark::ClobberMemory();
  }
#if defined(EIGEN_WORLD_VERSION)
  void product_of_eigen() {
    using Matrix = Eigen::MatrixXf;  // tokens are columns
    Eigen::Map<Matrix const> const w(weights_.data(), shape_.out, shape_.in), x(x_.data(), shape_.in, shape_.tokens);
    Eigen::Map<Matrix> y(y_.data(), shape_.out, shape_.tokens);
    if (shape_.tokens == 1)
      y.col(0).noalias() = w * x.col(0);
    else
      y.noalias() = w * x;
    benchmark::ClobberMemory();
  }
#endif

 private:
  Shape shape_;
  std::vector<float> weights_, x_, y_;
  Linear<float> linear_;
};

template <class F> void add(std::string const& name, Shape shape, WeightFormat format, F f) {
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    Problem problem(shape, format);
    double const elapsed = bench::seconds([&] {
      for (auto _ : state) f(problem);
    });
    double const seconds = elapsed / static_cast<double>(state.iterations());
    state.counters["% of peak"] = 100 * problem.flops() / seconds / bench::peak<float>();
    state.SetBytesProcessed(static_cast<std::int64_t>(problem.bytes()) * state.iterations());
  });
}

std::string name_of(Shape const& s) {
  return "/in" + std::to_string(s.in) + "/out" + std::to_string(s.out) + "/T" + std::to_string(s.tokens) + "/" +
         bench::instruction_set();
}

void add_all() {
  for (Index const tokens : {Index{1}, Index{4}, Index{64}, Index{512}})
    for (auto const& [in, out] : {std::pair{64, 64}, {64, 256}, {768, 768}, {768, 3072}, {3072, 768}, {768, 65536}}) {
      if (tokens > 1 && out == 65536) continue;  // the head is read for one token
      Shape const shape{in, out, tokens};
      for (auto const& [format, name] : formats)
        add(std::string("linear/") + name + name_of(shape), shape, format, [](Problem& x) { x.product(); });
      add("read/f32" + name_of(shape), shape, WeightFormat::full,
          [](Problem& x) { bench::read(x.weights().data(), static_cast<Index>(x.weights().size())); });
#if defined(EIGEN_WORLD_VERSION)
      add("eigen/f32" + name_of(shape), shape, WeightFormat::full, [](Problem& x) { x.product_of_eigen(); });
#endif
    }
}

/// Medians of rounds in which the product and what it is measured by take turns.
void row(Shape shape, Format const& format) {
  Problem problem(shape, format.format);
  std::vector<float> const same_bytes(static_cast<std::size_t>(problem.bytes()) / sizeof(float));
  int const repeat = static_cast<int>(std::ceil(2e7 / problem.flops()));
  std::vector<double> of_peak, rate, to_read;
  for (int round = 0; round < 15; ++round) {
    double const peak = bench::peak_burst<float>();
    double const time = bench::seconds([&] {
                          for (int i = 0; i < repeat; ++i) problem.product();
                        }) /
                        repeat;
    double const read = bench::seconds([&] {
                          for (int i = 0; i < repeat; ++i)
                            bench::read(same_bytes.data(), static_cast<Index>(same_bytes.size()));
                        }) /
                        repeat;
    of_peak.push_back(100 * problem.flops() / time / peak);
    rate.push_back(problem.bytes() / time / 1e9);
    to_read.push_back(time / read);
  }
  std::printf("%-6s %5td -> %5td, %3td tokens %12.1f %16.1f %18.2f\n", format.name, shape.in, shape.out, shape.tokens,
              bench::median(of_peak), bench::median(rate), bench::median(to_read));
  std::fflush(stdout);
}

void short_table() {
  std::printf("Linear layers, one thread; medians of 15 rounds; FMA peak %.0f GFLOP/s\n", bench::peak<float>() / 1e9);
  std::printf("%-33s %12s %16s %18s\n", "", "% of peak", "GB/s of weights", "x reading as much");
  for (Shape const shape : {Shape{768, 65536, 1}, Shape{768, 768, 1}, Shape{768, 3072, 64}, Shape{768, 768, 512}})
    for (Format const& format : formats) row(shape, format);
}

}  // namespace

int main(int argc, char** argv) {
  add_all();
  return bench::run(argc, argv, short_table);
}
