/// Speed of linear layers in every weight format and arithmetic: one token, bound by the bytes of the weights, and many, bound
/// by the arithmetic; beside the product of floats, a bare read of as many bytes and, where Eigen is at hand, its product.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <deque>
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
constexpr Format formats[]{{WeightFormat::full, "f32"},
                           {NumberFormat::bf16, "bf16"},
                           {{NumberFormat::bf16, Arithmetic::bits16}, "bf16/bits16"},
                           {{NumberFormat::bf16, Arithmetic::bits8}, "bf16/bits8"},
                           {NumberFormat::f16, "f16"},
                           {NumberFormat::q8, "q8"},
                           {{NumberFormat::q8, Arithmetic::bits8}, "q8/bits8"},
                           {NumberFormat::q4, "q4"},
                           {{NumberFormat::q4, Arithmetic::bits8}, "q4/bits8"}};

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
  for (Index const tokens : {Index{1}, Index{8}, Index{16}, Index{64}, Index{512}})
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

/// Medians of rounds in which the product and what it is measured by take turns. `layers` of them take turns as well: those
/// of a model together do not stay in a core's caches.
void rows(Shape shape, Index layers) {
  std::printf("%td -> %td, %td token%s%s\n", shape.in, shape.out, shape.tokens, shape.tokens == 1 ? "" : "s",
              layers > 1 ? ", weights from memory" : "");
  std::deque<Problem> floats;
  for (Index i = 0; i < layers; ++i) floats.emplace_back(shape, WeightFormat::full);
  int const repeat = static_cast<int>(std::ceil(2e7 / floats[0].flops() / static_cast<double>(layers)));
  auto const time = [&](auto const& f) {
    return bench::seconds([&] {
             for (int i = 0; i < repeat; ++i) f();
           }) /
           repeat;
  };
  for (Format const& format : formats) {
    std::deque<Problem> problems;
    for (Index i = 0; i < layers; ++i) problems.emplace_back(shape, format.format);
    double const bytes = problems[0].bytes() * static_cast<double>(layers),
                 flops = problems[0].flops() * static_cast<double>(layers);
    std::vector<float> const same_bytes(static_cast<std::size_t>(bytes) / sizeof(float));
    std::vector<double> of_peak, of_floats, rate, to_read;
    for (int round = 0; round < 15; ++round) {
      double const peak = bench::peak_burst<float>();
      double const of_float = time([&] {
        for (Problem& problem : floats) problem.product();
      });
      double const product = time([&] {
        for (Problem& problem : problems) problem.product();
      });
      double const read = time([&] { bench::read(same_bytes.data(), static_cast<Index>(same_bytes.size())); });
      of_peak.push_back(100 * flops / product / peak);
      of_floats.push_back(of_float / product);
      rate.push_back(bytes / product / 1e9);
      to_read.push_back(product / read);
    }
    std::printf("  %-24s %12.1f %12.2f %18.1f %20.2f\n", format.name, bench::median(of_peak), bench::median(of_floats),
                bench::median(rate), bench::median(to_read));
    std::fflush(stdout);
  }
}

void short_table() {
  std::printf("Linear layers, one thread; medians of 15 rounds; FMA peak %.0f GFLOP/s\n", bench::peak<float>() / 1e9);
  std::printf("%-26s %12s %12s %18s %20s\n", "", "% of peak", "x f32", "GB/s of weights", "x reading as much");
  for (Index const tokens : {1, 8, 16}) rows({768, 3072, tokens}, 12);
  for (Index const tokens : {1, 8, 64, 512}) rows({768, 768, tokens}, 1);
  rows({768, 3072, 64}, 1);
}

}  // namespace

int main(int argc, char** argv) {
  add_all();
  return bench::run(argc, argv, short_table);
}
