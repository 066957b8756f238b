/// What people call inside kernels of their own, in float and double on a device, against double on the host.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "aviary/cache/online_softmax.hpp"
#include "aviary/core/math.hpp"
#include "aviary/delta_rule.hpp"
#include "aviary/dplr.hpp"
#include "aviary/linear_attention.hpp"
#include "aviary/wkv4.hpp"
#include "aviary/wkv5.hpp"
#include "aviary/wkv6.hpp"
#include "aviary/wkv7.hpp"
#include "support/rule_case.hpp"
#include "support/run_on_device.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

/// Elementwise functions and their gradients.
template <class T> struct Elementwise {
  static constexpr Index results = 28;
  AVIARY_HOST_DEVICE void operator()(double const* numbers, double* y) const noexcept {
    T const x = static_cast<T>(numbers[0]), a = static_cast<T>(numbers[1]), b = static_cast<T>(numbers[2]);
    T const dy = static_cast<T>(numbers[3]), least = T(-5), value = T(0.625);
    auto const put = [&](T number) { *y++ = static_cast<double>(number); };
    auto const put_gradients = [&](DecayGradients<T> const& d) { put(d.x), put(d.a_log), put(d.dt_bias); };
    put(sigmoid(x)), put(sigmoid_gradient(x, dy)), put(sigmoid_gradient_of_value(value, dy));
    put(tanh_gradient(x, dy)), put(tanh_gradient_of_value(value, dy));
    put(silu(x)), put(silu_gradient(x, dy));
    put(softplus(x)), put(softplus_gradient(x, dy));
    put(squared_relu(x)), put(squared_relu_gradient(x, dy));
    put(log_w_of_exponential(x)), put(log_w_of_exponential_gradient(x, dy));
    put(log_w_of_exponential_gradient_of_value(-value, dy));
    put(log_w_of_sigmoid(x)), put(log_w_of_sigmoid_gradient(x, dy));
    put(log_w_of_gla(x)), put(log_w_of_gla_gradient(x, dy));
    put(log_w_of_softplus(x, a, b)), put_gradients(log_w_of_softplus_gradient(x, a, b, dy));
    put(log_w_of_bounded_sigmoid(x, a, b, least));
    put_gradients(log_w_of_bounded_sigmoid_gradient(x, a, b, least, dy));
    put(static_cast<T>(log_w_of_retnet(3))), put(static_cast<T>(query_scale(64)));
  }
};

/// Numbers of 16 bits.
struct Storage {
  static constexpr Index results = 3;
  AVIARY_HOST_DEVICE void operator()(double const* x, double* y) const noexcept {
    y[0] = double{widen(narrow<bf16>(static_cast<float>(*x)))};
    y[1] = double{widen(narrow<f16>(static_cast<float>(*x)))};
    y[2] = double{widen(narrow<f16>(*x))};
  }
};

/// Twelve scores in blocks of four.
template <class T> struct Softmax {
  static constexpr Index results = 3;
  AVIARY_HOST_DEVICE void operator()(double const* scores, double* y) const noexcept {
    OnlineSoftmax<T> softmax;
    T mean = T(0);
    for (int block = 0; block < 12; block += 4) {
      T largest = static_cast<T>(scores[block]), weights = T(0), more = T(0);
      for (int i = block; i < block + 4; ++i) largest = scores[i] > largest ? static_cast<T>(scores[i]) : largest;
      T const rescale = softmax.begin(largest);
      for (int i = block; i < block + 4; ++i) {
        T const weight = softmax.weigh(static_cast<T>(scores[i]));
        weights += weight, more += weight * T(i);
      }
      softmax.add(weights, rescale);
      mean = mean * rescale + more;
    }
    y[0] = static_cast<double>(softmax.most);
    y[1] = static_cast<double>(softmax.log_sum());
    y[2] = static_cast<double>(mean / softmax.sum);
  }
};

/// Three tokens through a step.
template <class R, class T> struct Steps {
  static constexpr Index K = 12, V = 10, tokens = 3, results = V * (tokens + K);
  static constexpr Index numbers = aviary::detail::field_count<R> * K;
  using M = MatrixMemory<R, T, K, V>;
  AVIARY_HOST_DEVICE void operator()(double const* x, double* y) const noexcept {
    typename M::State s{};
    for (Index t = 0; t < tokens; ++t) {
      T token[to_size(numbers)], out[to_size(V)];
      for (Index i = 0; i < numbers; ++i) token[i] = static_cast<T>(x[t * numbers + i]);
      Index field = 0;
      auto const fields = aviary::detail::transform_fields<R, typename M::Token>(
          aviary::detail::Axes<R>{}, [&]<Axis A>(aviary::detail::AxisTag<A>, auto const&) {
            T const* const at = token + K * field++;
            if constexpr (one_number(A))
              return Required<T>(*at);
            else
              return VecView<T const, aviary::detail::axis_size<A, K, V>>(at);
          });
      M::template step<T>(s, fields, VecView<T, V>(out));
      for (Index i = 0; i < V; ++i) *y++ = static_cast<double>(out[i]);
    }
    for (Index j = 0; j < K; ++j)
      for (Index i = 0; i < V; ++i) *y++ = static_cast<double>(s.s[j][i]);
  }
};
template <class T> struct ChannelSteps {
  static constexpr Index C = 6, tokens = 3, results = C * tokens, numbers = 4 * C;
  using M = Wkv4<T, C>;
  AVIARY_HOST_DEVICE void operator()(double const* x, double* y) const noexcept {
    typename M::State s{};
    for (Index t = 0; t < tokens; ++t) {
      T token[numbers], out[C];
      for (Index i = 0; i < numbers; ++i) token[i] = static_cast<T>(x[t * numbers + i]);
      using Row = VecView<T const, C>;
      T const* const at = token;
      M::template step<T>(s, {Row(at), Row(at + C), Row(at + 2 * C), Row(at + 3 * C)}, VecView<T, C>(out));
      for (Index i = 0; i < C; ++i) *y++ = static_cast<double>(out[i]);
    }
  }
};

/// Numbers of a float from -1/2 to 0: decays are.
std::vector<double> small_numbers(Index n) {
  auto x = Random(5).rates<double>(n);
  for (double& e : x) e = static_cast<double>(static_cast<float>(-e / 2));
  return x;
}

/// Each result by itself.
template <template <class> class Case, class T> void check_results(std::vector<double> const& x, double bound) {
  std::vector<double> expected(to_size(Case<double>::results));
  Case<double>{}(x.data(), expected.data());
  auto const y = run_on_device(Case<T>{}, x);
  check_each(Case<T>::results, "a result is within its bound", [&](Index i) {
    return std::abs(y[to_size(i)] - expected[to_size(i)]) <= bound * std::abs(expected[to_size(i)]);
  });
}

template <class R, class T> void check_steps() {
  Note const note("rule", R::name);
  auto const x = small_numbers(Steps<R, T>::tokens * Steps<R, T>::numbers);
  std::vector<double> expected(to_size(Steps<R, double>::results));
  Steps<R, double>{}(x.data(), expected.data());
  check_close(run_on_device(Steps<R, T>{}, x), expected, matrix_bound<T>);
}

template <class T, class... R> void check_all_steps() { (check_steps<R, T>(), ...); }

}  // namespace

TEST_CASE_TEMPLATE("marked functions: elementwise functions and their gradients", T, float, double) {
  constexpr double ulp = std::numeric_limits<T>::epsilon();
  for (double const x : {-7.5, -2.25, -0.5, -0.015625, 0.25, 1.0, 3.5, 7.0}) {
    Note const note("8 x", static_cast<Index>(8 * x));
    // 10 ulp and 2 |z| more, z = e^(1/4) (x + 1/2), are the largest of the errors that core/math.hpp states
    check_results<Elementwise, T>({x, 0.25, 0.5, -1.5}, (10 + 2 * 1.3 * (std::abs(x) + 0.5)) * ulp);
  }
}

TEST_CASE("marked functions: numbers of 16 bits are rounded as on the host") {
  for (double const x : {0.0, 1.0, -3.14159265, 65504.0, 1e-7, 1e30, -1e-40}) {
    std::vector<double> expected(3);
    Storage{}(&x, expected.data());
    check_equal(run_on_device(Storage{}, {x}), expected);
  }
}

TEST_CASE_TEMPLATE("marked functions: the softmax of blocks", T, float, double) {
  check_results<Softmax, T>({-3, 2, 0.5, -100, 7, 6.5, -1, 7, 90, 89, 88.5, 60}, matrix_bound<T>);
}

TEST_CASE_TEMPLATE("marked functions: a step of every rule", T, float, double) {
  check_all_steps<T, Wkv5Rule<Axis::head_key>, Wkv5Rule<Axis::head_one>, Wkv6Rule, FinchC2Rule, Wkv7Rule,
                  LinearAttentionRule, GatedLinearAttentionRule<Axis::head_one>, GatedLinearAttentionRule<Axis::one>,
                  GatedLinearAttentionRule<Axis::key>, DeltaNetRule, GatedDeltaRule<Axis::one>,
                  GatedDeltaRule<Axis::key>, GatedDeltaNet2Rule, CombaRule, DplrRule, IplrRule>();
}

TEST_CASE_TEMPLATE("marked functions: a step of WKV-4", T, float, double) {
  auto const x = small_numbers(ChannelSteps<T>::tokens * ChannelSteps<T>::numbers);
  std::vector<double> expected(to_size(ChannelSteps<double>::results));
  ChannelSteps<double>{}(x.data(), expected.data());
  check_close(run_on_device(ChannelSteps<T>{}, x), expected, sizeof(T) == 4 ? 1e-5 : 1e-12);
}
