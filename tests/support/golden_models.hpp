#pragma once
/// The matrix memories that golden files exist for: where the inputs of each are in a file of its op.
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
#include "support/golden.hpp"
#include "support/gradient_case.hpp"

namespace aviary::test {

/// The inputs of a rule in double.
template <class Rule> using GoldenFields = FieldNumbers<Rule>;

struct Wkv5Golden : Model<Wkv5<float, 64>, reference::Wkv5> {
  static constexpr char const* op = "wkv5_v52";
  static GoldenFields<Rule> fields(MatrixGolden const& x) {
    return {
        .r = x.numbers("r"), .log_w = x.wkv6_log_w(), .k = x.numbers("k"), .v = x.numbers("v"), .u = x.numbers("u")};
  }
};
struct Wkv5PerHeadGolden : Model<Wkv5PerHead<float, 64>, reference::Wkv5PerHead> {
  static constexpr char const* op = "wkv5_v50";
  static GoldenFields<Rule> fields(MatrixGolden const& x) {
    return {
        .r = x.numbers("r"), .log_w = x.wkv6_log_w(), .k = x.numbers("k"), .v = x.numbers("v"), .u = x.numbers("u")};
  }
};
struct Wkv6Golden : Model<Wkv6<float, 64>, reference::Wkv6> {
  static constexpr char const* op = "wkv6";
  static GoldenFields<Rule> fields(MatrixGolden const& x) {
    return {
        .r = x.numbers("r"), .log_w = x.wkv6_log_w(), .k = x.numbers("k"), .v = x.numbers("v"), .u = x.numbers("u")};
  }
};
struct Wkv7Golden : Model<Wkv7<float, 64>, reference::Wkv7> {
  static constexpr char const* op = "wkv7";
  static GoldenFields<Rule> fields(MatrixGolden const& x) {
    return {.r = x.numbers("r"),
            .log_w = x.wkv7_log_w(),
            .k = x.numbers("k"),
            .v = x.numbers("v"),
            .kappa_hat = x.numbers("kk"),
            .a = x.numbers("a")};
  }
};
struct GlaGolden : Model<Gla<float, 64>, reference::Gla> {
  static constexpr char const* op = "gla";
  static GoldenFields<Rule> fields(MatrixGolden const& x) {
    return {.q = x.scaled_q(), .k = x.numbers("k"), .v = x.numbers("v"), .log_w = x.numbers("gk")};
  }
};
struct DeltaNetGolden : Model<DeltaNet<float, 64>, reference::DeltaNet> {
  static constexpr char const* op = "delta_rule";
  static GoldenFields<Rule> fields(MatrixGolden const& x) {
    return {.q = x.scaled_q(), .k = x.numbers("k"), .v = x.numbers("v"), .beta = x.numbers("beta")};
  }
};
struct GatedDeltaNetGolden : Model<GatedDeltaNet<float, 64>, reference::GatedDeltaNet> {
  static constexpr char const* op = "gated_delta_rule";
  static GoldenFields<Rule> fields(MatrixGolden const& x) {
    return {.q = x.scaled_q(),
            .k = x.numbers("k"),
            .v = x.numbers("v"),
            .log_w = x.numbers("g"),
            .beta = x.numbers("beta")};
  }
};
struct KdaGolden : Model<Kda<float, 64>, reference::Kda> {
  static constexpr char const* op = "kda";
  static GoldenFields<Rule> fields(MatrixGolden const& x) {
    return {.q = x.scaled_q(),
            .k = x.numbers("k"),
            .v = x.numbers("v"),
            .log_w = x.numbers("g"),
            .beta = x.numbers("beta")};
  }
};
struct DplrGolden : Model<Dplr<float, 64>, reference::Dplr> {
  static constexpr char const* op = "dplr";
  static GoldenFields<Rule> fields(MatrixGolden const& x) {
    return {.q = x.scaled_q(),
            .log_w = x.numbers("gk"),
            .k = x.numbers("k"),
            .v = x.numbers("v"),
            .alpha = x.numbers("alpha"),
            .beta = x.numbers("beta")};
  }
};
struct IplrGolden : Model<Iplr<float, 64>, reference::Iplr> {
  static constexpr char const* op = "iplr";
  static GoldenFields<Rule> fields(MatrixGolden const& x) {
    return {.q = x.scaled_q(),
            .k = x.numbers("k"),
            .v = x.numbers("v"),
            .alpha = x.numbers("alpha"),
            .beta = x.numbers("beta")};
  }
};

template <class... G> struct GoldenList {
  /// f.operator()<G>() for each of them.
  template <class F> static void for_each(F&& f) { (f.template operator()<G>(), ...); }
};
using MatrixGoldens = GoldenList<Wkv5PerHeadGolden, Wkv5Golden, Wkv6Golden, Wkv7Golden, GlaGolden, DeltaNetGolden,
                                 GatedDeltaNetGolden, KdaGolden, DplrGolden, IplrGolden>;

/// A file of the model's op: its batch as packed sequences, its inputs and initial states.
template <class Golden> RuleCase<typename Golden::Rule> golden_case(MatrixGolden const& file) {
  Shape shape{file.keys(), file.values(), file.heads(), {}};
  for (Index s = 0; s <= file.batch(); ++s) shape.offsets.push_back(s * file.tokens());
  return {shape, Golden::fields(file), file.state("state0")};
}
/// The same with the gradients of a loss with respect to its outputs and final states, if it has them.
template <class Golden> GradientCase<typename Golden::Rule> golden_gradient_case(MatrixGolden const& file) {
  return {golden_case<Golden>(file), file.numbers("gout"), file.state("gstateT")};
}
inline MatrixResult golden_result(MatrixGolden const& file) { return {file.numbers("out"), file.state("stateT")}; }

/// The field of a rule that a tensor of a file is, or is made of.
inline std::string golden_field(std::string const& tensor) {
  if (tensor == "kk") return "kappa_hat";
  for (char const* const decay : {"w_raw", "w_pre", "w_log", "w", "gk", "g"})
    if (tensor == decay) return "log_w";
  return tensor;
}

/// Our gradient with respect to a field as the one with respect to a tensor of a file, by the chain rule. Each of w_raw or w_pre,
/// w_log and w is the one input: what follows from it follows.
inline std::vector<double> golden_gradient(MatrixGolden const& file, std::string const& tensor, std::vector<double> g,
                                           std::vector<double> const& log_w) {
  auto const scale = [&](auto&& factor) {
    for (std::size_t i = 0; i < g.size(); ++i) g[i] *= factor(i);
  };
  if (tensor == "q") scale([&](std::size_t) { return 1 / std::sqrt(static_cast<double>(file.keys())); });
  if (tensor == "w") scale([&](std::size_t i) { return std::exp(-log_w[i]); });  // w = exp(log_w)
  if (tensor == "w_raw") scale([&](std::size_t i) { return log_w[i]; });         // log_w = -exp(w_raw)
  if (tensor == "w_pre")                                                         // log_w = -exp(-1/2) sigmoid(w_pre)
    scale([&](std::size_t i) { return log_w[i] * (1 + std::exp(0.5) * log_w[i]); });
  return g;
}

}  // namespace aviary::test
