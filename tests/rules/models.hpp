#pragma once
/// Every model of the matrix family: its memory, its reference, and inputs of the kind that it is used with.
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
#include "rules/rule_case.hpp"

namespace aviary::test {

/// What models share: a memory and the reference of the same name.
template <template <class, Index, Index> class M, template <class> class Ref> struct Model {
  template <class T, Index K, Index V = K> using Memory = M<T, K, V>;
  using Rule = typename M<double, 1, 1>::Rule;
  using Reference = Ref<double>;
  using Fields = FieldNumbers<Rule>;
};

inline std::vector<float> product(std::vector<float> x, std::vector<float> const& y, float sign = 1) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] *= sign * y[i % y.size()];
  return x;
}

struct Wkv5Model : Model<Wkv5, reference::Wkv5> {
  static Fields fields(Draw& d) {
    return {.r = d.normal_keys(),
            .log_w = d.log_w(Axis::head_key),
            .k = d.normal_keys(),
            .v = d.normal_values(),
            .u = d.bonuses(Axis::head_key)};
  }
};
struct Wkv5PerHeadModel : Model<Wkv5PerHead, reference::Wkv5PerHead> {
  static Fields fields(Draw& d) {
    return {.r = d.normal_keys(),
            .log_w = d.log_w(Axis::head_one),
            .k = d.normal_keys(),
            .v = d.normal_values(),
            .u = d.bonuses(Axis::head_one)};
  }
};
struct Wkv6Model : Model<Wkv6, reference::Wkv6> {
  static Fields fields(Draw& d) {
    return {.r = d.normal_keys(),
            .log_w = d.log_w(Axis::key),
            .k = d.normal_keys(),
            .v = d.normal_values(),
            .u = d.bonuses(Axis::head_key)};
  }
};
struct FinchC2Model : Model<FinchC2, reference::FinchC2> {
  static Fields fields(Draw& d) {
    return {.r = d.normal_keys(), .log_w = d.log_w(Axis::key), .k = d.normal_keys(), .v = d.normal_values()};
  }
};
struct Wkv7Model : Model<Wkv7, reference::Wkv7> {
  static Fields fields(Draw& d) {
    return {.r = d.normal_keys(),
            .log_w = d.log_w(Axis::key),
            .k = d.normal_keys(),
            .v = d.normal_values(),
            .kappa_hat = d.unit_keys(),
            .a = d.key_rates()};
  }
};
struct LinearAttentionModel : Model<LinearAttention, reference::LinearAttention> {
  static Fields fields(Draw& d) { return {.q = d.normal_keys(), .k = d.normal_keys(), .v = d.normal_values()}; }
};
struct RetNetModel : Model<RetNet, reference::RetNet> {
  static Fields fields(Draw& d) {
    return {.q = d.normal_keys(), .k = d.normal_keys(), .v = d.normal_values(), .log_w = d.log_w(Axis::head_one)};
  }
};
struct SimpleGlaModel : Model<SimpleGla, reference::SimpleGla> {
  static Fields fields(Draw& d) {
    return {.q = d.normal_keys(), .k = d.normal_keys(), .v = d.normal_values(), .log_w = d.log_w(Axis::one)};
  }
};
struct GlaModel : Model<Gla, reference::Gla> {
  static Fields fields(Draw& d) {
    return {.q = d.normal_keys(), .k = d.normal_keys(), .v = d.normal_values(), .log_w = d.log_w(Axis::key)};
  }
};
struct DeltaNetModel : Model<DeltaNet, reference::DeltaNet> {
  static Fields fields(Draw& d) {
    return {.q = d.normal_keys(), .k = d.unit_keys(), .v = d.normal_values(), .beta = d.rates()};
  }
};
struct GatedDeltaNetModel : Model<GatedDeltaNet, reference::GatedDeltaNet> {
  static Fields fields(Draw& d) {
    return {.q = d.normal_keys(),
            .k = d.unit_keys(),
            .v = d.normal_values(),
            .log_w = d.log_w(Axis::one),
            .beta = d.rates()};
  }
};
struct KdaModel : Model<Kda, reference::Kda> {
  static Fields fields(Draw& d) {
    return {.q = d.normal_keys(),
            .k = d.unit_keys(),
            .v = d.normal_values(),
            .log_w = d.log_w(Axis::key),
            .beta = d.rates()};
  }
};
struct GatedDeltaNet2Model : Model<GatedDeltaNet2, reference::GatedDeltaNet2> {
  static Fields fields(Draw& d) {
    return {.q = d.normal_keys(),
            .k = d.unit_keys(),
            .v = d.normal_values(),
            .log_w = d.log_w(Axis::key),
            .b = d.key_rates(),
            .c = d.value_rates()};
  }
};
/// The erased key is a part of the written one, as in published layers.
struct CombaModel : Model<Comba, reference::Comba> {
  static Fields fields(Draw& d) {
    auto const k = d.unit_keys();
    return {.q = d.normal_keys(),
            .k = k,
            .v = d.normal_values(),
            .log_w = d.log_w(Axis::one),
            .p = product(k, {0.75f}),
            .beta = d.rates()};
  }
};
/// The reading is written nearly against the probe, so that no state explodes.
struct DplrModel : Model<Dplr, reference::Dplr> {
  static Fields fields(Draw& d) {
    auto const alpha = d.unit_keys();
    return {.q = d.normal_keys(),
            .log_w = d.log_w(Axis::key),
            .k = d.normal_keys(),
            .v = d.normal_values(),
            .alpha = alpha,
            .beta = product(alpha, d.random.rates<float>(static_cast<Index>(alpha.size())), -1)};
  }
};
struct IplrModel : Model<Iplr, reference::Iplr> {
  static Fields fields(Draw& d) {
    auto const alpha = d.unit_keys();
    return {.q = d.normal_keys(),
            .k = d.normal_keys(),
            .v = d.normal_values(),
            .alpha = alpha,
            .beta = product(alpha, d.random.rates<float>(static_cast<Index>(alpha.size())), -1)};
  }
};

}  // namespace aviary::test
