/// AdamW against its algorithm in a plain loop, and the groups of released tensors.
#include "aviary/training/adamw.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "support/allocation_counter.hpp"
#include "support/check.hpp"
#include "support/eager.hpp"
#include "support/random.hpp"

using namespace aviary;
using test::check_close;
using test::check_equal;
using test::check_that;
using test::Random;

namespace {

using Outcome = Update::Outcome;
constexpr double infinity = std::numeric_limits<double>::infinity();

/// Arrays of weights of a few sizes, one of several blocks, each of another group.
template <class T> struct Weights {
  struct Array {
    std::vector<T> values, gradients, first, second;
    ParameterGroup group;
    friend bool operator==(Array const&, Array const&) = default;
  };
  std::vector<Array> arrays;

  explicit Weights(Random& random) {
    for (auto const& [size, group] : {std::pair<Index, ParameterGroup>{1, {}},
                                      {9000, {.weight_decay = 0.1}},
                                      {0, {}},
                                      {37, {.rate = 2}},
                                      {4096, {.rate = 3, .weight_decay = 0.01}}})
      arrays.push_back({random.normals<T>(size), random.normals<T>(size), std::vector<T>(to_size(size)),
                        std::vector<T>(to_size(size)), group});
  }
  std::vector<Parameter<T>> parameters() {
    std::vector<Parameter<T>> to;
    for (Array& a : arrays) to.push_back({a.values, a.gradients, a.first, a.second, a.group});
    return to;
  }
  void new_gradients(Random& random, double scale = 1) {
    for (Array& a : arrays) a.gradients = random.normals<T>(static_cast<Index>(a.gradients.size()), scale);
  }
  template <class E = Serial> Update update(AdamW const& adam, UpdateCall const& call, E&& executor = {}) {
    std::vector<Parameter<T>> const to = parameters();
    return adamw_update(adam, std::span<Parameter<T> const>(to), call, executor);
  }
  double norm() const {
    double sum = 0;
    for (Array const& a : arrays)
      for (T const e : a.gradients) sum += static_cast<double>(e) * static_cast<double>(e);
    return std::sqrt(sum);
  }
};

/// The paper's algorithm, number by number.
struct Plain {
  std::vector<std::vector<double>> x, m, v;

  template <class T> explicit Plain(Weights<T> const& weights) {
    for (auto const& a : weights.arrays) {
      x.emplace_back(a.values.begin(), a.values.end());
      m.emplace_back(a.values.size());
      v.emplace_back(a.values.size());
    }
  }
  template <class T> void update(AdamW const& adam, Weights<T> const& weights, UpdateCall const& call) {
    double const norm = std::abs(call.gradient_scale) * weights.norm();
    double const factor = call.gradient_scale * std::min(1.0, call.largest_norm / norm);
    double const t = static_cast<double>(call.step);
    for (std::size_t a = 0; a < x.size(); ++a)
      for (std::size_t i = 0; i < x[a].size(); ++i) {
        double const g = factor * static_cast<double>(weights.arrays[a].gradients[i]);
        m[a][i] = adam.beta1 * m[a][i] + (1 - adam.beta1) * g;
        v[a][i] = adam.beta2 * v[a][i] + (1 - adam.beta2) * g * g;
        double const m_hat = m[a][i] / (1 - std::pow(adam.beta1, t)), v_hat = v[a][i] / (1 - std::pow(adam.beta2, t));
        ParameterGroup const& group = weights.arrays[a].group;
        x[a][i] -= call.learning_rate * group.rate *
                   (m_hat / (std::sqrt(v_hat) + adam.epsilon) + group.weight_decay * x[a][i]);
      }
  }
};

/// All arrays as one: a weight alone may come near zero, where it has no relative accuracy.
template <class T> void check_same(Weights<T> const& weights, Plain const& plain, double bound) {
  std::vector<T> x, m, v;
  std::vector<double> plain_x, plain_m, plain_v;
  auto const append = [](auto& to, auto const& from) { to.insert(to.end(), from.begin(), from.end()); };
  for (std::size_t a = 0; a < plain.x.size(); ++a) {
    append(x, weights.arrays[a].values), append(plain_x, plain.x[a]);
    append(m, weights.arrays[a].first), append(plain_m, plain.m[a]);
    append(v, weights.arrays[a].second), append(plain_v, plain.v[a]);
  }
  check_close(x, plain_x, bound);
  check_close(m, plain_m, bound);
  check_close(v, plain_v, bound);
}

/// 20 updates, of each of which some ten roundings are of the size of the weights, or of gradients, at most.
template <class T> constexpr double bound = 200 * static_cast<double>(std::numeric_limits<T>::epsilon());

}  // namespace

TEST_CASE_TEMPLATE("adamw: 20 updates as in the paper, with groups, shortened gradients and sums of them", T, float,
                   double) {
  for (AdamW const& adam : {AdamW{}, AdamW{.beta1 = 0.8, .beta2 = 0.999, .epsilon = 1e-3}})
    for (double const largest : {infinity, 1.0}) {
      Random random(1);
      Weights<T> weights(random);
      Plain plain(weights);
      for (Index step = 1; step <= 20; ++step) {
        UpdateCall const call{.step = step,
                              .learning_rate = 0.01 / static_cast<double>(step),
                              .loss = 3,
                              .gradient_scale = step % 2 == 0 ? 1 : 0.125,
                              .largest_norm = largest};
        plain.update(adam, weights, call);
        Update const made = weights.update(adam, call);
        check_that(static_cast<bool>(made), "the update is made");
        check_close(std::vector{made.norm}, std::vector{call.gradient_scale * weights.norm()}, 1e-12);
        weights.new_gradients(random);
      }
      check_same(weights, plain, bound<T>);
    }
}

TEST_CASE_TEMPLATE("adamw: the same bits whatever the executor, and from saved arrays", T, float, double) {
  Random random(2);
  Weights<T> weights(random), saved = weights;
  std::vector<Weights<T>> shared(3, weights);
  for (Index step = 1; step <= 20; ++step) {
    UpdateCall const call{.step = step, .learning_rate = 0.01, .largest_norm = 1};
    weights.new_gradients(random);
    if (step == 11) saved = weights;
    auto const update = [&](Weights<T>& of, Index tasks) {
      for (std::size_t a = 0; a < of.arrays.size(); ++a) of.arrays[a].gradients = weights.arrays[a].gradients;
      return of.update({}, call, test::Backwards{tasks});
    };
    Update const alone = weights.update({}, call);
    for (Index const tasks : {2, 3, 7}) {
      Weights<T>& of = shared[to_size(tasks) % 3];
      check_equal(std::vector{update(of, tasks).norm}, std::vector{alone.norm});
      check_that(of.arrays == weights.arrays, "weights and moments have the same bits");
    }
    if (step >= 11) update(saved, 1);
  }
  check_that(saved.arrays == weights.arrays, "saved arrays went on with the same bits");
}

TEST_CASE_TEMPLATE("adamw: what is not finite is reported, and changes nothing", T, float, double) {
  Random random(3);
  Weights<T> weights(random);
  weights.update({}, {.step = 1, .learning_rate = 0.01});
  auto const refused = [](Weights<T> of, double loss, Outcome outcome) {
    Weights<T> const before = of;
    Update const made = of.update({}, {.step = 2, .learning_rate = 0.01, .loss = loss});
    check_that(!made && made.outcome == outcome, "it says why there was no update");
    // Gradients may be NaN, which is unequal to itself.
    for (std::size_t a = 0; a < of.arrays.size(); ++a)
      check_that(of.arrays[a].values == before.arrays[a].values && of.arrays[a].first == before.arrays[a].first &&
                     of.arrays[a].second == before.arrays[a].second,
                 "nothing was updated");
  };
  refused(weights, infinity, Outcome::loss_not_finite);
  refused(weights, std::nan(""), Outcome::loss_not_finite);
  for (T const bad :
       {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity(), std::numeric_limits<T>::max()}) {
    Weights<T> of = weights;
    of.arrays[1].gradients[8999] = bad;
    refused(of, 1, Outcome::norm_not_finite);
    of.arrays[1].gradients[8999] = 1;
    of.arrays[3].gradients[0] = -bad;
    refused(of, 1, Outcome::norm_not_finite);
  }
}

TEST_CASE("adamw: long gradients that are shortened are no reason to stop, nor are zeros") {
  Random random(4);
  Weights<float> weights(random);
  for (float& g : weights.arrays[1].gradients) g = 1e30f;
  Update const made = weights.update({}, {.step = 1, .learning_rate = 0.01, .largest_norm = 1});
  CHECK(made);
  CHECK(made.norm == doctest::Approx(1e30 * std::sqrt(9000)));
  CHECK(weights.arrays[1].first[0] == doctest::Approx(0.1 / std::sqrt(9000)));

  weights.new_gradients(random, 0);
  for (auto& a : weights.arrays) a.first.assign(a.first.size(), 0), a.second.assign(a.second.size(), 0);
  Weights<float> const before = weights;
  Update const none = weights.update({.epsilon = 1e-18}, {.step = 1, .learning_rate = 0.01, .largest_norm = 1});
  CHECK(none);
  CHECK(none.norm == 0);
  check_that(weights.arrays[0] == before.arrays[0], "what does not decay stays");
  CHECK(weights.arrays[1].values[5] == doctest::Approx(0.999 * static_cast<double>(before.arrays[1].values[5])));
  CHECK(adamw_update<float>({}, {}, {.step = 1, .learning_rate = 1}).norm == 0);
}

TEST_CASE("adamw: it does not allocate") {
  Random random(5);
  Weights<float> weights(random);
  std::vector<Parameter<float>> const to = weights.parameters();
  test::AllocationCounter const allocations;
  CHECK(adamw_update<float>({}, to, {.step = 1, .learning_rate = 1}));
  CHECK(allocations.count() == 0);
}

TEST_CASE("adamw: groups of released tensors") {
  ParameterGroup const plain, decays{.weight_decay = 0.1};
  auto const matrix = [](char const* name) { return parameter_group(name, true, 0.1); };
  auto const vector = [](char const* name) { return parameter_group(name, false, 0.1); };
  for (char const* const name : {"emb.weight", "head.weight", "blocks.0.att.key.weight", "blocks.3.ffn.value.weight",
                                 "w_kv_cache_a.weight", "blocks.1.att.time_state"})
    CHECK(matrix(name) == decays);
  for (char const* const name : {"blocks.0.att.time_maa_w1", "blocks.0.att.time_decay_w2", "blocks.0.att.time_faaaa",
                                 "blocks.0.att.w1", "blocks.0.att.g2", "blocks.0.att.r_k"})
    CHECK(matrix(name) == plain);
  for (char const* const name : {"ln_out.weight", "blocks.0.ln0.bias", "blocks.2.att.ln_x.weight", "blocks.0.att.a0",
                                 "blocks.0.att.time_mix_k", "blocks.0.ffn.time_maa_r", "blocks.0.att.x_w"})
    CHECK(vector(name) == plain);
  CHECK(vector("blocks.0.att.time_decay") == ParameterGroup{.rate = 2});
  CHECK(matrix("blocks.0.att.time_decay") == ParameterGroup{.rate = 2});
  CHECK(vector("blocks.11.att.w0") == ParameterGroup{.rate = 2});
  CHECK(vector("blocks.0.att.time_first") == ParameterGroup{.rate = 3});
}
