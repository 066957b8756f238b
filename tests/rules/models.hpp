#pragma once
/// Every model of the matrix family: its memory, its reference, and random inputs of the kind that it is used with.
#include "aviary/delta_rule.hpp"
#include "aviary/dplr.hpp"
#include "aviary/linear_attention.hpp"
#include "aviary/reference/delta_rule.hpp"
#include "aviary/reference/dplr.hpp"
#include "aviary/reference/linear_attention.hpp"
#include "aviary/reference/wkv5.hpp"
#include "aviary/reference/wkv6.hpp"
#include "aviary/reference/wkv7.hpp"
#include "aviary/wkv5.hpp"
#include "aviary/wkv6.hpp"
#include "aviary/wkv7.hpp"
#include "support/memories.hpp"
#include "support/random.hpp"

namespace aviary::test {

/// Makes the fields of a case. Queries and keys have `key_heads` heads, a divisor of the shape's; all else has all of them.
struct Draw {
  Random random;
  Shape const& shape;
  Index key_heads;
  Decay decay;

  std::vector<double> normal_keys() { return random.normals<double>(shape.tokens() * key_heads * shape.keys); }
  std::vector<double> unit_keys() { return random.units<double>(shape.tokens() * key_heads, shape.keys); }
  std::vector<double> key_rates() { return random.rates<double>(rows() * shape.keys); }
  std::vector<double> normal_values() { return random.normals<double>(rows() * shape.values); }
  std::vector<double> value_rates() { return random.rates<double>(rows() * shape.values); }
  std::vector<double> rates() { return random.rates<double>(rows()); }
  std::vector<double> bonuses(Axis axis) { return random.normals<double>(count(axis)); }
  std::vector<double> log_w(Axis axis) { return random.log_decays<double>(count(axis), decay); }

 private:
  Index rows() const { return shape.tokens() * shape.heads; }
  Index count(Axis axis) const { return (per_token(axis) ? rows() : shape.heads) * (along_key(axis) ? shape.keys : 1); }
};

/// Rounded to float, as all inputs are.
inline std::vector<double> product(std::vector<double> x, std::vector<double> const& y, double sign = 1) {
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<double>(static_cast<float>(x[i] * sign * y[i % y.size()]));
  return x;
}

struct Wkv5Model : Model<Wkv5<float, 64>, reference::Wkv5> {
  static FieldNumbers<Rule> fields(Draw& d) {
    return {.r = d.normal_keys(),
            .log_w = d.log_w(Axis::head_key),
            .k = d.normal_keys(),
            .v = d.normal_values(),
            .u = d.bonuses(Axis::head_key)};
  }
};
struct Wkv5PerHeadModel : Model<Wkv5PerHead<float, 64>, reference::Wkv5PerHead> {
  static FieldNumbers<Rule> fields(Draw& d) {
    return {.r = d.normal_keys(),
            .log_w = d.log_w(Axis::head_one),
            .k = d.normal_keys(),
            .v = d.normal_values(),
            .u = d.bonuses(Axis::head_one)};
  }
};
struct Wkv6Model : Model<Wkv6<float, 64>, reference::Wkv6> {
  static FieldNumbers<Rule> fields(Draw& d) {
    return {.r = d.normal_keys(),
            .log_w = d.log_w(Axis::key),
            .k = d.normal_keys(),
            .v = d.normal_values(),
            .u = d.bonuses(Axis::head_key)};
  }
};
struct FinchC2Model : Model<FinchC2<float, 64>, reference::FinchC2> {
  static FieldNumbers<Rule> fields(Draw& d) {
    return {.r = d.normal_keys(), .log_w = d.log_w(Axis::key), .k = d.normal_keys(), .v = d.normal_values()};
  }
  /// What is written, (1 - w) k, has the error of w rounded to float: 3e-8 of 1 - w = 1e-3 and less.
  static constexpr double gradient_bound(Decay decay) { return decay == Decay::slow ? 4e-5 : matrix_bound<float>; }
};
struct Wkv7Model : Model<Wkv7<float, 64>, reference::Wkv7> {
  static FieldNumbers<Rule> fields(Draw& d) {
    return {.r = d.normal_keys(),
            .log_w = d.log_w(Axis::key),
            .k = d.normal_keys(),
            .v = d.normal_values(),
            .kappa_hat = d.unit_keys(),
            .a = d.key_rates()};
  }
};
struct LinearAttentionModel : Model<LinearAttention<float, 64>, reference::LinearAttention> {
  static FieldNumbers<Rule> fields(Draw& d) {
    return {.q = d.normal_keys(), .k = d.normal_keys(), .v = d.normal_values()};
  }
};
struct RetNetModel : Model<RetNet<float, 64>, reference::RetNet> {
  static FieldNumbers<Rule> fields(Draw& d) {
    return {.q = d.normal_keys(), .k = d.normal_keys(), .v = d.normal_values(), .log_w = d.log_w(Axis::head_one)};
  }
};
struct SimpleGlaModel : Model<SimpleGla<float, 64>, reference::SimpleGla> {
  static FieldNumbers<Rule> fields(Draw& d) {
    return {.q = d.normal_keys(), .k = d.normal_keys(), .v = d.normal_values(), .log_w = d.log_w(Axis::one)};
  }
};
struct GlaModel : Model<Gla<float, 64>, reference::Gla> {
  static FieldNumbers<Rule> fields(Draw& d) {
    return {.q = d.normal_keys(), .k = d.normal_keys(), .v = d.normal_values(), .log_w = d.log_w(Axis::key)};
  }
};
struct DeltaNetModel : Model<DeltaNet<float, 64>, reference::DeltaNet> {
  static FieldNumbers<Rule> fields(Draw& d) {
    return {.q = d.normal_keys(), .k = d.unit_keys(), .v = d.normal_values(), .beta = d.rates()};
  }
};
struct GatedDeltaNetModel : Model<GatedDeltaNet<float, 64>, reference::GatedDeltaNet> {
  static FieldNumbers<Rule> fields(Draw& d) {
    return {.q = d.normal_keys(),
            .k = d.unit_keys(),
            .v = d.normal_values(),
            .log_w = d.log_w(Axis::one),
            .beta = d.rates()};
  }
};
struct KdaModel : Model<Kda<float, 64>, reference::Kda> {
  static FieldNumbers<Rule> fields(Draw& d) {
    return {.q = d.normal_keys(),
            .k = d.unit_keys(),
            .v = d.normal_values(),
            .log_w = d.log_w(Axis::key),
            .beta = d.rates()};
  }
};
struct GatedDeltaNet2Model : Model<GatedDeltaNet2<float, 64>, reference::GatedDeltaNet2> {
  static FieldNumbers<Rule> fields(Draw& d) {
    return {.q = d.normal_keys(),
            .k = d.unit_keys(),
            .v = d.normal_values(),
            .log_w = d.log_w(Axis::key),
            .b = d.key_rates(),
            .c = d.value_rates()};
  }
};
/// The erased key is a part of the written one, as in published layers.
struct CombaModel : Model<Comba<float, 64>, reference::Comba> {
  static FieldNumbers<Rule> fields(Draw& d) {
    auto const k = d.unit_keys();
    return {.q = d.normal_keys(),
            .k = k,
            .v = d.normal_values(),
            .log_w = d.log_w(Axis::one),
            .p = product(k, {0.75}),
            .beta = d.rates()};
  }
};
/// The reading is written nearly against the probe, so that no state explodes.
struct DplrModel : Model<Dplr<float, 64>, reference::Dplr> {
  static FieldNumbers<Rule> fields(Draw& d) {
    auto const alpha = d.unit_keys();
    return {.q = d.normal_keys(),
            .log_w = d.log_w(Axis::key),
            .k = d.normal_keys(),
            .v = d.normal_values(),
            .alpha = alpha,
            .beta = product(alpha, d.random.rates<double>(static_cast<Index>(alpha.size())), -1)};
  }
};
struct IplrModel : Model<Iplr<float, 64>, reference::Iplr> {
  static FieldNumbers<Rule> fields(Draw& d) {
    auto const alpha = d.unit_keys();
    return {.q = d.normal_keys(),
            .k = d.normal_keys(),
            .v = d.normal_values(),
            .alpha = alpha,
            .beta = product(alpha, d.random.rates<double>(static_cast<Index>(alpha.size())), -1)};
  }
};

template <class Model>
RuleCase<typename Model::Rule> draw_case(std::uint64_t seed, Shape const& shape, Decay decay, Index key_heads) {
  Draw draw{Random(seed), shape, key_heads, decay};
  auto x = Model::fields(draw);
  return {shape, std::move(x),
          draw.random.normals<double>(shape.sequences() * shape.heads * shape.values * shape.keys)};
}
template <class Model> RuleCase<typename Model::Rule> draw_case(std::uint64_t seed, Shape const& shape, Decay decay) {
  return draw_case<Model>(seed, shape, decay, shape.heads);
}

}  // namespace aviary::test
