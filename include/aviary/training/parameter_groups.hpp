#pragma once
/// Which weights of a model learn faster, and which decay.
#include <string_view>

#include "aviary/core/config.hpp"

namespace AVIARY_NAMESPACE {

/// What an optimizer does differently with some weights.
struct ParameterGroup {
  double rate = 1;          ///< a multiple of the learning rate
  double weight_decay = 0;  ///< of the weights themselves: they lose learning rate * rate * weight_decay of their size

  friend bool operator==(ParameterGroup const&, ParameterGroup const&) = default;
};

/// The group of a released tensor, of any generation and of GoldFinch: matrices decay, vectors and low-rank maps do not; what
/// decays are made of has the doubled rate, the bonus of RWKV-4 and 5.0 three times the rate.
///
///     *_w1, *_w2                      1     no decay
///     time_state                      1     weight_decay: trained initial states
///     time_decay, att.w0              2     no decay
///     time_first                      3     no decay
///     *.weight, no vector             1     weight_decay
///     all others                      1     no decay
///
/// Source: configure_optimizers of the training code published with RWKV-4, 5, 6 (layer-wise rates on, the first stage of
/// training) and 7, and with GoldFinch. Their lists differ in names that only one of them has, and so make one.
/// @param name          as in released files: blocks.0.att.key.weight
/// @param is_matrix     whether more than one of its extents exceeds 1
/// @param weight_decay  of what decays: 0.001 in the code published with RWKV-7
constexpr ParameterGroup parameter_group(std::string_view name, bool is_matrix, double weight_decay) noexcept {
  auto const has = [name](std::string_view part) { return name.find(part) != std::string_view::npos; };
  if (has("_w1") || has("_w2")) return {};
  if (has("time_state")) return {.weight_decay = weight_decay};
  if (has("time_decay") || has("att.w0")) return {.rate = 2};
  if (has("time_first")) return {.rate = 3};
  if (is_matrix && has(".weight")) return {.weight_decay = weight_decay};
  return {};
}

}  // namespace AVIARY_NAMESPACE
