/// Memories, attention and elementwise functions as programs have them that are compiled with -ffast-math, within the bounds
/// of other programs. This file alone is compiled so, not what compares numbers, which must see a NaN.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "aviary/core/convert.hpp"
#include "aviary/gold.hpp"
#include "aviary/reference/wkv4.hpp"
#include "aviary/reference/wkv6.hpp"
#include "aviary/reference/wkv7.hpp"
#include "aviary/wkv4.hpp"
#include "aviary/wkv6.hpp"
#include "aviary/wkv7.hpp"
#include "support/check.hpp"
#include "support/random.hpp"

using namespace aviary;
using test::check_close;
using test::Decay;
using test::Random;

namespace {

constexpr Index size = 64, tokens = 200, all = tokens * size;
using Numbers = std::vector<float>;

/// Rows of a sequence with one head, in both number types.
class Field {
 public:
  explicit Field(Numbers floats) : floats_(std::move(floats)), doubles_(floats_.begin(), floats_.end()) {}

  template <Index N> operator Source<N>() const { return {floats_.data(), rows(), 1}; }
  template <Index N> operator HeadSource<N>() const { return {floats_.data(), 1}; }
  operator MatView<double const>() const { return {doubles_.data(), rows(), size}; }
  operator VecView<double const>() const { return {doubles_.data(), size}; }

 private:
  Index rows() const { return static_cast<Index>(floats_.size()) / size; }
  Numbers floats_;
  std::vector<double> doubles_;
};

struct Outputs {
  Numbers y = Numbers(to_size(all));
  std::vector<double> exact = std::vector<double>(to_size(all)), state = std::vector<double>(size * size);
  MatView<double> exact_rows() { return {exact.data(), tokens, size}; }
  MatView<double> state_rows() { return {state.data(), size, size}; }
};

}  // namespace

TEST_CASE("fast_math: WKV-4, with keys near 0 and far from it") {
  for (double const scale : {1, 30}) {
    CAPTURE(scale);
    using M = Wkv4<float, size>;
    Random random(1);
    Field const log_w(random.log_decays<float>(size, Decay::wide)), u(random.normals<float>(size)),
        k(random.normals<float>(all, scale)), v(random.normals<float>(all));
    Outputs out;
    std::vector<M::State> states(1);
    M::forward({.x = {.log_w = log_w, .k = k, .v = v, .u = u}, .y = {out.y.data(), tokens, 1}, .states = states});
    std::vector<double> aa(size), bb(size), pp(size, -1e30);
    reference::Wkv4<>::forward({aa, bb, pp}, {.log_w = log_w, .k = k, .v = v, .u = u}, out.exact_rows());
    check_close(out.y, out.exact, 1e-5);
  }
}

TEST_CASE("fast_math: WKV-6") {
  using M = Wkv6<float, size>;
  Random random(2);
  Field const r(random.normals<float>(all)), log_w(random.log_decays<float>(all, Decay::wide)),
      k(random.normals<float>(all)), v(random.normals<float>(all)), u(random.normals<float>(size));
  Outputs out;
  std::vector<M::State> states(1);
  M::forward({.x = {.r = r, .log_w = log_w, .k = k, .v = v, .u = u}, .y = {out.y.data(), tokens, 1}, .states = states});
  reference::Wkv6<>::forward(out.state_rows(), {.r = r, .log_w = log_w, .k = k, .v = v, .u = u}, out.exact_rows());
  check_close(out.y, out.exact, 3e-6);
}

TEST_CASE("fast_math: WKV-7") {
  using M = Wkv7<float, size>;
  Random random(3);
  Field const r(random.normals<float>(all)), log_w(random.log_decays<float>(all, Decay::wide)),
      k(random.normals<float>(all)), v(random.normals<float>(all)), kappa_hat(random.units<float>(tokens, size)),
      a(random.rates<float>(all));
  Outputs out;
  std::vector<M::State> states(1);
  M::forward({.x = {.r = r, .log_w = log_w, .k = k, .v = v, .kappa_hat = kappa_hat, .a = a},
              .y = {out.y.data(), tokens, 1},
              .states = states});
  reference::Wkv7<>::forward(out.state_rows(), {.r = r, .log_w = log_w, .k = k, .v = v, .kappa_hat = kappa_hat, .a = a},
                             out.exact_rows());
  check_close(out.y, out.exact, 3e-6);
}

TEST_CASE("fast_math: elementwise functions") {
  std::vector<float> x, y;
  for (float e = -70; e <= 70; e += 0.01f) x.push_back(e);
  auto const is_close = [&](auto const& f) {
    y.resize(x.size());
    simd::transform<float>(static_cast<Index>(x.size()), y.data(), f, x.data());
    std::vector<double> parts, ones(x.size(), 1);
    for (std::size_t i = 0; i < x.size(); ++i)
      parts.push_back(static_cast<double>(y[i]) / f(static_cast<double>(x[i])));
    check_close(parts, ones, 1e-6);
  };
  is_close([](auto const& e) { return sigmoid(e); });
  is_close([](auto const& e) { return softplus(e); });
  is_close([](auto const& e) { return activation::tanh(e); });
  is_close([](auto const& e) { return log_w_of_exponential(e); });
  is_close([](auto const& e) { return log_w_of_sigmoid(e); });
  is_close([](auto const& e) { return sigmoid_gradient(e, std::remove_cvref_t<decltype(e)>(1)); });
  is_close([](auto const& e) { return softplus_gradient(e, std::remove_cvref_t<decltype(e)>(1)); });
}

TEST_CASE("fast_math: numbers in 16 bits") {
  Numbers x;
  for (float e = 1e-4f; e < 65504; e *= 1.01f) x.push_back(e), x.push_back(-e);
  auto const check = [&]<class S>(S, double bound) {
    std::vector<S> narrowed(x.size());
    Numbers back(x.size());
    convert(x.data(), narrowed.data(), static_cast<Index>(x.size()));
    convert(narrowed.data(), back.data(), static_cast<Index>(x.size()));
    for (std::size_t i = 0; i < x.size(); ++i) back[i] /= x[i];
    check_close(back, Numbers(x.size(), 1), bound);
  };
  check(bf16{}, 0x1p-8);
  check(f16{}, 0x1p-11);
}

TEST_CASE("fast_math: attention") {
  Random random(4);
  Numbers const q = random.normals<float>(size), k = random.normals<float>(all, 3), v = random.normals<float>(all);
  KeyValueCache<float> cache(size, 1);
  cache.append(MatView<float const>(k.data(), tokens, size), MatView<float const>(v.data(), tokens, size));
  Scratch<float> scratch(cache.scratch_size());
  Numbers y(size);
  cache.attend(MatView<float const>(q.data(), 1, size), tokens - 1, MatView<float>(y.data(), 1, size), scratch);

  std::vector<double> exact(size), scores(to_size(tokens));
  double largest = -1e30, sum = 0;
  for (std::size_t t = 0; t < scores.size(); ++t) {
    for (std::size_t i = 0; i < size; ++i) scores[t] += double{q[i]} * double{k[t * size + i]};
    largest = std::max(largest, scores[t]);
  }
  for (double& score : scores) sum += score = std::exp(score - largest);
  for (std::size_t t = 0; t < scores.size(); ++t)
    for (std::size_t i = 0; i < size; ++i) exact[i] += scores[t] / sum * double{v[t * size + i]};
  check_close(y, exact, 1e-4);
}
