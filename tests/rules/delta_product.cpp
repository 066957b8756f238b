/// Gated DeltaProduct as delta_rule.hpp describes it: Gated DeltaNet over micro-steps.
#include <cmath>

#include "rules/check_model.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

constexpr Index keys = 16, values = 24, heads = 2, tokens = 30;

/// Inputs with n factors a token, in numbers T; gates belong to tokens.
template <class T> struct Product {
  Index n;
  Random random{29};
  std::vector<T> q = random.normals<T>(tokens * heads * keys), k = random.units<T>(tokens * n * heads, keys),
                 v = random.normals<T>(tokens * n * heads * values),
                 log_w = random.log_decays<T>(tokens * heads, Decay::extremes),
                 beta = random.rates<T>(tokens * n * heads), state = random.normals<T>(heads * values * keys);
};

MatrixResult reference_of(Product<double> const& x) {
  MatrixResult out{std::vector<double>(tokens * heads * values), x.state};
  for (Index h = 0; h < heads; ++h) {
    auto const of_head = [&](std::vector<double> const& from, Index rows, Index size) {
      return MatView<double const>(from.data() + h * size, rows, size, heads * size);
    };
    auto const numbers = [&](std::vector<double> const& from) {
      std::vector<double> one;
      for (std::size_t i = to_size(h); i < from.size(); i += to_size(heads)) one.push_back(from[i]);
      return one;
    };
    auto const log_w = numbers(x.log_w), beta = numbers(x.beta);
    reference::GatedDeltaProduct<double>::forward({&out.state[to_size(h * values * keys)], values, keys},
                                                  {.q = of_head(x.q, tokens, keys),
                                                   .k = of_head(x.k, tokens * x.n, keys),
                                                   .v = of_head(x.v, tokens * x.n, values),
                                                   .log_w = log_w,
                                                   .beta = beta},
                                                  {out.y.data() + h * values, tokens, values, heads * values});
  }
  return out;
}

template <class T, Index K, Index V> MatrixResult kernel_of(Product<T> const& x) {
  using M = GatedDeltaNet<T, K, V>;
  Index const n = x.n;
  std::vector<T> gates(to_size(tokens * n * heads)), y(to_size(tokens * heads * values), T(-77));
  expand_gate<T>(x.log_w, heads, n, gates);
  std::vector<double> const initial(x.state.begin(), x.state.end());
  auto states = states_of<typename M::State>(initial, keys, values);
  typename M::ForwardCall const call{.x = {.q = Source<K>(x.q.data(), tokens, heads, keys).repeated(n),
                                           .k = {x.k.data(), tokens * n, heads, keys},
                                           .v = {x.v.data(), tokens * n, heads, values},
                                           .log_w = {gates.data(), tokens * n, heads},
                                           .beta = {x.beta.data(), tokens * n, heads}},
                                     .y = Sink<V>(y.data(), tokens, heads, values).repeated(n),
                                     .states = states};
  require_empty(M::check(call));
  M::forward(call);
  return {std::vector<double>(y.begin(), y.end()), numbers_of(states, keys, values)};
}

}  // namespace

TEST_CASE_TEMPLATE("delta_rule: micro-steps of Gated DeltaNet are Gated DeltaProduct", T, float, double) {
  for (Index const n : {1, 2, 3, 5}) {
    CAPTURE(n);
    MatrixResult const expected = reference_of(Product<double>{n});
    check_close(kernel_of<T, keys, values>(Product<T>{n}), expected, matrix_bound<T>);
    check_close(kernel_of<T, dynamic, dynamic>(Product<T>{n}), expected, matrix_bound<T>);
  }
}

TEST_CASE("delta_rule: Gated DeltaProduct with one factor is Gated DeltaNet") {
  Product<double> const x{1};
  std::vector<double> gates(x.log_w.size());
  expand_gate<double>(x.log_w, heads, 1, gates);
  CHECK(gates == x.log_w);
  RuleCase<GatedDeltaNetModel::Rule> const c{
      {keys, values, heads, {0, tokens}}, {.q = x.q, .k = x.k, .v = x.v, .log_w = x.log_w, .beta = x.beta}, x.state};
  check_close(test::reference_of<reference::GatedDeltaNet<double>>(c), reference_of(x), matrix_bound<double>);
}

TEST_CASE("delta_rule: expand_gate puts a token's gate on its first micro-step") {
  std::vector<float> const log_w{-1, -2, -3, -4};  // 2 tokens, 2 heads
  std::vector<float> gates(12, 7.0f);
  expand_gate<float>(log_w, 2, 3, gates);
  CHECK(gates == std::vector<float>{-1, -2, 0, 0, 0, 0, -3, -4, 0, 0, 0, 0});
}
