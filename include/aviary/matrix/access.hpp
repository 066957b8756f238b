#pragma once
/// How kernels read the tokens of a call, field by field of its rule, and write its outputs.
#include "aviary/matrix/rule.hpp"

namespace AVIARY_NAMESPACE::detail {

/// Keys and values that a head has at most: a token's scratch lies on the stack.
inline constexpr Index largest_head = 1024;

/// @name The inputs of a call, by their rule
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
/// One head of `heads`, as a sequence with one head.
template <class R, class Inputs> Inputs input_head(Inputs const& x, Index h, Index heads) noexcept {
  return transform_fields<R, Inputs>(x, [&](auto, auto const& field) { return field.head(h * field.heads() / heads); });
}
/// f(token) for token t of a sequence with one head.
template <class M, class F> void with_token(typename M::Inputs const& x, Index t, F&& f) noexcept {
  using T = typename M::T;
  constexpr bool is_static = M::keys != dynamic && M::values != dynamic;
  constexpr Index length = is_static ? padded<T>(M::keys > M::values ? M::keys : M::values) : largest_head;
  alignas(alignment) T scratch[field_count<typename M::Rule>][to_size(length)];
  Index n = 0;
  f(transform_fields<typename M::Rule, typename M::Token>(x, [&]<Axis A>(AxisTag<A>, auto const& field) {
    auto const numbers = field.template row<T>(t, 0, scratch[n++]);
    if constexpr (one_number(A))
      return Required<T>(numbers[0]);
    else
      return numbers;
  }));
}
///@}

/// log_w of a token for the keys from j on, 0 where the rule has no gate.
template <class R, class P, class Token>
P log_decay([[maybe_unused]] Token const& token, [[maybe_unused]] Index j, [[maybe_unused]] Index keys) noexcept {
  using T = typename simd::Pack<P>::value_type;
  if constexpr (gate_of<R> == Gate::none)
    return P(T(0));
  else if constexpr (gate_of<R> == Gate::scalar)
    return P(T(token.log_w));
  else
    return simd::load_part<P>(token.log_w.data(), j, keys);
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
