#pragma once
/// How kernels read the tokens of a call, field by field of its rule, and write its outputs.
#include "aviary/core/tape.hpp"
#include "aviary/matrix/rule.hpp"

namespace AVIARY_NAMESPACE::detail {

/// Keys and values that a head has at most: a token's scratch lies on the stack.
inline constexpr Index largest_head = 1024;

/// A tape, with room for what the tokens wrote because of what they read, (tokens, heads, V), if that is wanted: z = S p with
/// Erase::rank_one, v - z along_key. With it `backward` need not read the states for it once more.
template <class State, Index V> struct TapeWithReadings {
  Index every = 16;
  std::span<State> states = {};
  Sink<V> readings = {};
};
template <class R, class State, Index V>
using TapeOf = std::conditional_t<erases<R>(), TapeWithReadings<State, V>, Tape<State>>;

/// @name The sizes of a call's inputs
///@{
template <class R, class Inputs> Index input_tokens(Inputs const& x) noexcept {
  Index n = 0;
  for_each_field<R>(x, [&]<Axis A>(AxisTag<A>, auto const& field) {
    if constexpr (A == Axis::value) n = field.tokens();
  });
  return n;
}
/// The size of the first field along keys, or along values.
template <class R, Axis along, class Inputs> Index input_size(Inputs const& x) noexcept {
  Index n = 0;
  for_each_field<R>(x, [&]<Axis A>(AxisTag<A>, auto const& field) {
    if constexpr ((along == Axis::value) == (A == Axis::value) && !one_number(A))
      if (n == 0) n = field.size();
  });
  return n;
}
/// The most heads that a field has.
template <class R, class Inputs> Index input_heads(Inputs const& x) noexcept {
  Index n = 0;
  for_each_field<R>(x, [&](auto, auto const& field) { n = field.heads() > n ? field.heads() : n; });
  return n;
}
///@}

/// f(j, log_w) for packs of the keys of a head, j being the first key of each: what a token's decay is the exponential of. 0 where
/// the rule has no gate. The call has `heads` heads.
template <class M, class P, class F>
void for_log_decays([[maybe_unused]] typename M::Inputs const& x, [[maybe_unused]] Index token,
                    [[maybe_unused]] Index head, [[maybe_unused]] Index heads, Index keys, F&& f) noexcept {
  using T = typename M::T;
  using L = simd::Pack<P>;
  constexpr Gate gate = gate_of<typename M::Rule>;
  if constexpr (gate == Gate::none) {
    for (Index j = 0; j < keys; j += L::lanes) f(j, P(T(0)));
  } else {
    T scratch[to_size(gate == Gate::scalar ? 1 : M::keys == dynamic ? largest_head : M::keys)];
    auto const log_w = x.log_w.template row<T>(token, head * x.log_w.heads() / heads, scratch);
    for (Index j = 0; j < keys; j += L::lanes)
      f(j, gate == Gate::scalar ? P(log_w[0]) : simd::load_part<P>(log_w.data(), j, keys));
  }
}

/// Writes the lanes of y from value i on as the output of one token and head, if it is wanted.
template <class T, Index V, class Q>
void put_lanes(Sink<V> const& sink, Index token, Index head, Index i, Q const& y) noexcept {
  using L = simd::Pack<Q>;
  if (!sink) return;
  Index const values = sink.size();
  if (T* const row = sink.template row<T>(token, head)) return simd::store_part(row, i, values, y);
  if (i >= values) return;
  T lanes[L::lanes];
  L::store(lanes, y);
  sink.put(token, head, i, values - i < L::lanes ? values - i : L::lanes, lanes);
}

}  // namespace AVIARY_NAMESPACE::detail
