#pragma once
/// The memories that learn, and the ranges of their inputs.
#include <array>
#include <aviary/delta_rule.hpp>
#include <aviary/wkv6.hpp>
#include <aviary/wkv7.hpp>

#include "state_tracking/fields.hpp"

namespace state_tracking {

inline constexpr Index head_size = 16;

/// @name What inputs are like before they learn
/// What is written decays, so that nothing stays of it that is not needed. The numbers under a sigmoid move ten times as
/// fast as others: a reflection is exact where they are far out.
///@{
inline constexpr Field query{head_size, Range::all, 0, 1};
inline constexpr Field written{head_size, Range::all, 0, 0.1, {.weight_decay = 1}};
inline constexpr Field direction{head_size, Range::unit, 0, 1};
constexpr Field rate_of(Index size, Range range) { return {size, range, 0, 2, {.rate = 10}}; }
constexpr Field decay_of(Index size, Range range, Rows rows = Rows::of_steps) {
  return {size, range, -8, 1, {.rate = 10}, rows};
}
///@}

/// With rates in (0, 1), as released layers have them, or in (0, 2). Decays have the released range in both: they are 1 in
/// float from a trained number of -17 on.
template <class T, Range rates> struct Rwkv7 {
  using Memory = aviary::Wkv7<T, head_size>;
  static constexpr char const* name = rates == Range::rate ? "rwkv7" : "rwkv7-relaxed";
  static constexpr Index steps = 1;
  static constexpr std::array fields{
      query, decay_of(head_size, Range::log_decay_7), written, written, direction, rate_of(head_size, rates)};
  /// Inputs or gradients of the memory, from one thing for each field.
  template <class As> static As named(auto const& x) {
    return {.r = x[0], .log_w = x[1], .k = x[2], .v = x[3], .kappa_hat = x[4], .a = x[5]};
  }
};

template <class T> struct Rwkv6 {
  using Memory = aviary::Wkv6<T, head_size>;
  static constexpr char const* name = "rwkv6";
  static constexpr Index steps = 1;
  static constexpr Field bonus{head_size, Range::all, 0, 1, {}, Rows::shared};
  static constexpr std::array fields{query, decay_of(head_size, Range::log_decay_6), written, written, bonus};
  template <class As> static As named(auto const& x) {
    return {.r = x[0], .log_w = x[1], .k = x[2], .v = x[3], .u = x[4]};
  }
};

/// With beta up to 2.
template <class T> struct DeltaNet {
  using Memory = aviary::DeltaNet<T, head_size>;
  static constexpr char const* name = "delta-net";
  static constexpr Index steps = 1;
  static constexpr std::array fields{query, direction, written, rate_of(1, Range::doubled_rate)};
  template <class As> static As named(auto const& x) { return {.q = x[0], .k = x[1], .v = x[2], .beta = x[3]}; }
};

/// Two steps a symbol, the gate on the first of them, and beta up to 2.
template <class T> struct GatedDeltaProduct {
  using Memory = aviary::GatedDeltaNet<T, head_size>;
  static constexpr char const* name = "delta-product";
  static constexpr Index steps = 2;
  static constexpr std::array fields{query, direction, written,
                                     decay_of(1, Range::log_decay_delta, Rows::of_first_step),
                                     rate_of(1, Range::doubled_rate)};
  template <class As> static As named(auto const& x) {
    return {.q = x[0], .k = x[1], .v = x[2], .log_w = x[3], .beta = x[4]};
  }
};

/// f(a model of each kind, a value without members)
template <class T, class F> void for_each_model(F const& f) {
  f(Rwkv7<T, Range::rate>{});
  f(Rwkv7<T, Range::doubled_rate>{});
  f(Rwkv6<T>{});
  f(DeltaNet<T>{});
  f(GatedDeltaProduct<T>{});
}

}  // namespace state_tracking
