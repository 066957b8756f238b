#pragma once
/// What the weights of a layer are, as types. A layer lists their names once, in a template over one of the structs below:
///
///     template <class As> struct Parameters {
///       typename As::Vector x_k;                                     ///< (C)
///       typename As::Matrix key;                                     ///< (F, C)
///       typename As::Vector x_r = As::no_vector();                   ///< (C), or none
///       typename As::template Setting<ShareOf> shares = ShareOf::previous;
///     };
///     using Weights = Parameters<GivenWeights<T>>;                   what the constructor copies
///     using Gradients = Parameters<WeightGradients<T>>;              what backward adds to; {} is not wanted
///
/// A layer that has another inside lists it as `typename Inner::template Parameters<As> inner`.
#include <concepts>

#include "aviary/core/view.hpp"
#include "aviary/dense/rows.hpp"
#include "aviary/dense/weights.hpp"

namespace AVIARY_NAMESPACE {

/// Weights as a layer's constructor takes them. Somebody else owns the numbers.
template <class T> struct GivenWeights {
  using Vector = VecView<T const>;
  /// What a linear map multiplies by, in any storage.
  using Matrix = WeightMatrix;
  /// Numbers in rows that are not multiplied as a matrix: those of each head.
  using Table = MatView<T const>;
  /// What is not trained.
  template <class Value> using Setting = Value;

  static Vector no_vector() noexcept { return {nullptr, 0}; }
  static Table no_table() noexcept { return {nullptr, 0, 0}; }
};

/// What the gradients of weights are added to, of the same shapes. {} says that a gradient is not wanted.
template <class T> struct WeightGradients {
  using Vector = VecSink<T>;
  using Matrix = MatSink<T>;
  using Table = MatSink<T>;
  /// Nothing: a setting has no gradient.
  template <class Value> struct Setting {
    Setting() = default;
    template <std::convertible_to<Value> Given> constexpr Setting(Given const&) noexcept {}
  };

  static Vector no_vector() noexcept { return {}; }
  static Table no_table() noexcept { return {}; }
};

}  // namespace AVIARY_NAMESPACE
