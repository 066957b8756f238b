/// Initial weights: ranges, moments, angles, formulas at given layers, the same numbers from the same seed.
#include "aviary/training/initialize.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/check.hpp"

using namespace aviary;
using doctest::Approx;
using test::check_close;
using test::check_equal;
using test::check_that;

namespace {

struct Tensor {
  std::string name;
  std::vector<Index> shape;
};

template <class T = double> std::vector<T> initial(Initialization const& model, Tensor const& tensor) {
  Index size = 1;
  for (Index const extent : tensor.shape) size *= extent;
  std::vector<T> to(to_size(size), std::numeric_limits<T>::quiet_NaN());
  initialize<T>(model, tensor.name, tensor.shape, to);
  return to;
}

/// The products of all rows, or of all columns if there are more rows, and what they are to be.
template <class T> void check_orthogonal(std::vector<T> const& m, Index rows, Index columns, double gain) {
  bool const tall = rows > columns;
  Index const count = tall ? columns : rows, size = tall ? rows : columns;
  std::vector<double> products, expected;
  for (Index i = 0; i < count; ++i)
    for (Index j = 0; j < count; ++j) {
      double sum = 0;
      for (Index n = 0; n < size; ++n) {
        auto const at = [&](Index which) {
          return static_cast<double>(m[to_size(tall ? n * columns + which : which * columns + n)]);
        };
        sum += at(i) * at(j);
      }
      products.push_back(sum);
      expected.push_back(i == j ? gain * gain : 0);
    }
  check_close(products, expected, 1e-5);
}

void check_constant(std::vector<double> const& x, double number) {
  check_equal(x, std::vector<double>(x.size(), number));
}

/// n numbers that are spread evenly over +-bound, within five standard deviations of their mean and variance.
void check_even(std::vector<double> const& x, double bound) {
  double const n = static_cast<double>(x.size());
  double sum = 0, squares = 0, largest = 0;
  for (double const e : x) sum += e, squares += e * e, largest = std::max(largest, std::abs(e));
  CHECK(largest <= bound);
  CHECK(largest > 0.9 * bound);
  CHECK(std::abs(sum / n) < 5 * bound / std::sqrt(3 * n));
  CHECK(std::abs(squares / n - bound * bound / 3) < 5 * bound * bound * std::sqrt(4.0 / 45 / n));
}

std::string thrown(Initialization const& model, Tensor const& tensor) {
  try {
    initial(model, tensor);
  } catch (std::invalid_argument const& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("random: published numbers, and the same whatever was drawn before") {
  SplitMix64 random(1234567);
  CHECK(random.next() == 6457827717110365317u);
  CHECK(random.next() == 3203168211198807973u);
  SplitMix64 saved(random.state());
  CHECK(saved.normal() == random.normal());
  CHECK(saved.next() == random.next());
  CHECK(SplitMix64(1, "a").next() == SplitMix64(1, "a").next());
  CHECK(SplitMix64(1, "a").next() != SplitMix64(1, "b").next());
  CHECK(SplitMix64(1, "a").next() != SplitMix64(2, "a").next());
}

TEST_CASE("random: bits of normal numbers that every platform has") {
  SplitMix64 random(7);
  for (double const expected :
       {-0x1.55f251b9dfb32p-5, 0x1.c0c22ddaaa164p-1, -0x1.3955bfb12ef16p-2, -0x1.80a51b08c55fep-2})
    CHECK(random.normal() == expected);
}

TEST_CASE("random: moments of normal numbers") {
  constexpr Index n = 200000;
  SplitMix64 random(3);
  double moments[4] = {};
  for (Index i = 0; i < n; ++i) {
    double const x = random.normal();
    double power = 1;
    for (double& moment : moments) moment += (power *= x) / static_cast<double>(n);
  }
  // Five standard deviations of each mean: sqrt(1, 2, 15, 96) / sqrt(n).
  double const deviation = 5 / std::sqrt(static_cast<double>(n));
  CHECK(std::abs(moments[0]) < deviation);
  CHECK(std::abs(moments[1] - 1) < std::sqrt(2) * deviation);
  CHECK(std::abs(moments[2]) < std::sqrt(15) * deviation);
  CHECK(std::abs(moments[3] - 3) < std::sqrt(96) * deviation);
}

TEST_CASE_TEMPLATE("initialize: orthogonal matrices, wide, tall and square", T, float, double) {
  Initialization const model{.recipe = Recipe::rwkv6, .layers = 3, .seed = 5};
  check_orthogonal(initial<T>(model, {"head.weight", {200, 32}}), 200, 32, 0.5 * std::sqrt(200.0 / 32));
  check_orthogonal(initial<T>(model, {"head.weight", {32, 48}}), 32, 48, 0.5);
  check_orthogonal(initial<T>(model, {"blocks.1.att.receptance.weight", {96, 96}}), 96, 96, 1);
  check_orthogonal(initial<T>(model, {"blocks.1.att.key.weight", {33, 33}}), 33, 33, 0.1);
  check_orthogonal(initial<T>(model, {"blocks.1.ffn.key.weight", {112, 32}}), 112, 32, 1);
  check_orthogonal(initial<T>(model, {"head.weight", {1, 1}}), 1, 1, 0.5);
}

TEST_CASE("initialize: the seed and the name say it all") {
  Initialization const model{.recipe = Recipe::rwkv7, .layers = 4, .seed = 5};
  Tensor const one{"blocks.1.att.value.weight", {32, 32}}, other{"blocks.2.att.value.weight", {32, 32}};
  auto const numbers = initial(model, one);
  check_equal(initial(model, one), numbers);
  check_that(initial(model, other) != numbers, "other names have other numbers");
  Initialization next = model;
  next.seed = 6;
  check_that(initial(next, one) != numbers, "other seeds have other numbers");
}

TEST_CASE("initialize: what all generations have in common") {
  for (Recipe const recipe : {Recipe::rwkv4, Recipe::rwkv5_0, Recipe::rwkv5_1, Recipe::rwkv5_2, Recipe::rwkv6,
                              Recipe::rwkv7, Recipe::goldfinch}) {
    Initialization const model{.recipe = recipe, .layers = 8};
    check_even(initial(model, {"emb.weight", {100, 64}}), 1e-4);
    check_orthogonal(initial(model, {"head.weight", {128, 32}}), 128, 32, 1);
    check_constant(initial(model, {"ln_out.weight", {7}}), 1);
    check_constant(initial(model, {"blocks.0.ln0.bias", {7}}), 0);
    check_constant(initial(model, {"blocks.7.ln2.weight", {7}}), 1);
    check_constant(initial(model, {"blocks.3.att.ln_x.weight", {7}}), std::pow(0.5, 0.7));
    check_constant(initial(model, {"blocks.3.att.ln_x.bias", {7}}), 0);
    for (char const* const zero : {"att.output", "ffn.value"})
      check_constant(initial(model, {std::string("blocks.3.") + zero + ".weight", {5, 6}}), 0);
  }
}

TEST_CASE("initialize: RWKV-4") {
  Initialization const model{.recipe = Recipe::rwkv4, .layers = 5};  // layer 2: up = 1/2, down = 3/5
  Initialization const alone{.recipe = Recipe::rwkv4, .layers = 1};
  for (char const* const zero : {"att.key", "att.receptance", "ffn.receptance"})
    check_constant(initial(model, {std::string("blocks.2.") + zero + ".weight", {6, 6}}), 0);
  check_orthogonal(initial(model, {"blocks.2.ffn.key.weight", {64, 16}}), 64, 16, 2);
  auto const mix = initial(model, {"blocks.2.att.time_mix_v", {1, 1, 16}});
  CHECK(mix[0] == Approx(0.15));
  CHECK(mix[4] == Approx(std::pow(0.25, 0.6) + 0.15));
  CHECK(initial(model, {"blocks.2.att.time_mix_k", {1, 1, 16}})[4] == Approx(std::pow(0.25, 0.6)));
  CHECK(initial(model, {"blocks.2.att.time_mix_r", {1, 1, 16}})[4] == Approx(std::pow(0.25, 0.3)));
  CHECK(initial(model, {"blocks.2.ffn.time_mix_r", {1, 1, 16}})[4] == Approx(std::pow(0.25, 0.6)));
  auto const decay = initial(model, {"blocks.2.att.time_decay", {17}});
  CHECK(decay[0] == -5);
  CHECK(decay[4] == Approx(-5 + 8 * std::pow(0.25, 1.35)));
  CHECK(decay[16] == 3);
  auto const first = initial(model, {"blocks.2.att.time_first", {4}});
  check_close(first, std::vector{std::log(0.3), std::log(0.3) + 0.5, std::log(0.3) - 0.5, std::log(0.3)}, 1e-15);
  CHECK(initial(alone, {"blocks.0.att.time_decay", {17}})[4] == Approx(-5 + 8 * std::pow(0.25, 0.7)));
  CHECK(initial(alone, {"blocks.0.att.time_decay", {1}})[0] == -5);
}

TEST_CASE("initialize: RWKV-5") {
  for (Recipe const recipe : {Recipe::rwkv5_0, Recipe::rwkv5_1, Recipe::rwkv5_2}) {
    Initialization const model{.recipe = recipe, .layers = 5};
    bool const newest = recipe == Recipe::rwkv5_2;
    check_orthogonal(initial(model, {"blocks.2.att.key.weight", {16, 16}}), 16, 16, newest ? 0.1 : 1);
    check_orthogonal(initial(model, {"blocks.2.ffn.key.weight", {64, 16}}), 64, 16, newest ? 1 : 2);
    check_constant(initial(model, {"blocks.2.ffn.receptance.weight", {5, 5}}), 0);
    CHECK(initial(model, {"blocks.2.att.time_mix_g", {1, 1, 16}})[4] == Approx(std::pow(0.25, 0.3)));
    auto const decay = initial(model, {"blocks.2.att.time_decay", {17}});
    CHECK(decay[4] == Approx(-6 + 5 * std::pow(0.25, 1.35)));
    CHECK(decay[16] == -1);
  }
  check_constant(initial({.recipe = Recipe::rwkv5_0, .layers = 5}, {"blocks.2.att.time_first", {4}}), -3);
  auto const per_head = initial({.recipe = Recipe::rwkv5_1, .layers = 5}, {"blocks.2.att.time_faaaa", {5}});
  check_close(per_head, std::vector{0.5, 0.375, 0.25, 0.125, 0.0}, 1e-15);
  auto const bonus = initial({.recipe = Recipe::rwkv5_2, .layers = 5}, {"blocks.2.att.time_faaaa", {1, 5}});
  check_close(bonus, std::vector{0.5, 0.475, 0.15, 0.125, 0.1}, 1e-15);
}

TEST_CASE("initialize: RWKV-6 and GoldFinch") {
  for (Recipe const recipe : {Recipe::rwkv6, Recipe::goldfinch}) {
    Initialization const model{.recipe = recipe, .layers = 5};
    auto const at = [&](char const* name) { return initial(model, {std::string("blocks.2.") + name, {1, 1, 16}})[4]; };
    for (char const* const name : {"att.time_maa_x", "att.time_maa_w", "att.time_maa_k", "att.time_maa_v_cache"})
      CHECK(at(name) == Approx(1 - std::pow(0.25, 0.6)));
    for (char const* const name : {"att.time_maa_v", "att.time_maa_v2"})
      CHECK(at(name) == Approx(1 - std::pow(0.25, 0.6) - 0.15));
    for (char const* const name : {"att.time_maa_r", "att.time_maa_g", "att.time_maa_q"})
      CHECK(at(name) == Approx(1 - std::pow(0.25, 0.3)));
    for (char const* const name : {"ffn.time_maa_k", "ffn.time_maa_r"})
      CHECK(at(name) == Approx(1 - std::pow(0.25, recipe == Recipe::rwkv6 ? 0.216 : 0.6)));
    for (char const* const low_rank : {"maa", "decay", "maa_q", "maa_kv", "key", "value", "value2"}) {
      std::string const name = std::string("blocks.2.att.time_") + low_rank;
      check_constant(initial(model, {name + "_w1", {16, 8}}), 0);
      check_even(initial(model, {name + "_w2", {5, 32, 16}}), 0.01);
    }
    check_constant(initial(model, {"blocks.2.att.time_state", {2, 4, 4}}), 0);
    check_orthogonal(initial(model, {"blocks.2.att.gate.weight", {16, 16}}), 16, 16, 0.1);
    check_orthogonal(initial(model, {"blocks.2.att.value.weight", {16, 16}}), 16, 16, 1);
    check_orthogonal(initial(model, {"blocks.2.att.query.weight", {16, 16}}), 16, 16, 1);
    check_orthogonal(initial(model, {"w_kv_cache_a.weight", {4, 64}}), 4, 64, 1);
    check_orthogonal(initial(model, {"w_kv_cache_b.weight", {64, 68}}), 64, 68, 1);
    check_constant(initial(model, {"blocks.2.att.ln_q.weight", {4}}), 1);
  }
}

TEST_CASE("initialize: RWKV-7") {
  Initialization const model{.recipe = Recipe::rwkv7, .layers = 5, .head_size = 5};
  auto const share = [&](char const* name, double exponent) {
    CHECK(initial(model, {std::string("blocks.2.") + name, {1, 1, 16}})[4] == Approx(1 - std::pow(0.25, exponent)));
  };
  share("att.x_r", 0.12), share("att.x_g", 0.12), share("att.x_k", 0.42), share("att.x_v", 0.42);
  share("att.x_w", 0.54), share("att.x_a", 0.54), share("ffn.x_k", 0.1296);
  auto const in_head = [&](char const* name) {
    return initial(model, {std::string("blocks.2.att.") + name, {1, 1, 25}});
  };
  // Channel 6 is the second of a head of five: z = -1/2, and a quarter of the way.
  CHECK(in_head("w0")[6] == Approx(-5.5 + 6 * std::pow(0.25, 1 + std::pow(0.5, 0.3)) - 2.5 * 0.25));
  CHECK(in_head("w0")[0] == Approx(-8));
  CHECK(in_head("w0")[24] == Approx(3));
  CHECK(in_head("a0")[6] == Approx(-0.19 - 0.3 * 0.25 - 0.4 * 0.25));
  CHECK(in_head("v0")[6] == Approx(0.73 + 0.4 * 0.25));
  CHECK(in_head("k_k")[6] == Approx(0.71 + 0.1 * 0.25));
  check_constant(in_head("k_a"), 1.02);
  check_constant(in_head("r_k"), -0.04);
  for (char const* const name : {"w", "a", "v", "g"}) {
    check_constant(initial(model, {std::string("blocks.2.att.") + name + "1", {16, 8}}), 0);
    check_orthogonal(initial(model, {std::string("blocks.2.att.") + name + "2", {8, 16}}), 8, 16, 0.1);
    check_orthogonal(initial(model, {std::string("blocks.2.att.") + name + "2", {64, 16}}), 64, 16, 0.2);
  }
  check_orthogonal(initial(model, {"blocks.2.att.key.weight", {16, 16}}), 16, 16, 0.1);
  check_orthogonal(initial(model, {"blocks.2.att.receptance.weight", {16, 16}}), 16, 16, 1);
}

TEST_CASE("initialize: what it refuses") {
  Initialization const model{.recipe = Recipe::rwkv7, .layers = 12};
  CHECK(thrown(model, {"blocks.12.att.w0", {4}}) == "aviary: initialize: blocks.12.att.w0 is in none of 12 layers");
  for (char const* const name : {"blocks.x.att.w0", "blocks.", "blocks.3", "blocks.99999999999999999999.att.w0"})
    CHECK(thrown(model, {name, {4}}) == "aviary: initialize: " + std::string(name) + " is in none of 12 layers");
  for (char const* const name : {"", "blocks.0.", "blocks.0.att.time_decay", "blocks.0.att.w3", "head.bias", "head"})
    CHECK(thrown(model, {name, {4}}) ==
          "aviary: initialize: " + std::string(name) + " is no tensor with known initial weights");
  CHECK(thrown({.recipe = Recipe::rwkv6, .layers = 2}, {"blocks.0.att.time_maa_z", {4}}) ==
        "aviary: initialize: blocks.0.att.time_maa_z is no tensor with known initial weights");
  std::vector<double> three(3);
  CHECK_THROWS_WITH_AS(initialize<double>(model, "emb.weight", std::vector<Index>{2, 2}, three),
                       "aviary: initialize: emb.weight has 4 numbers, not 3", std::invalid_argument);
  CHECK(thrown(model, {"head.weight", {4}}) == "aviary: initialize: head.weight is a matrix, but its shape is none");
}
