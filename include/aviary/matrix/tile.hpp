#pragma once
/// A run of tokens of one head, prepared on the stack: what the recurrence is run over while a state lies in first-level
/// cache.
#include "aviary/matrix/step.hpp"

namespace aviary::detail {

/// Keys and values that a head has at most: a token's scratch lies on the stack.
inline constexpr Index largest_head = 1024;

/// How large the scratch of memory M is.
template <class M> struct TileSizes {
  using T = typename M::T;
  static constexpr bool is_static = M::keys != dynamic && M::values != dynamic;
  AVIARY_HOST_DEVICE static constexpr Index row_of(Index keys, Index values) noexcept {
    return padded<typename M::StateNumber>(keys > values ? keys : values);
  }
  /// The length of a row of prepared numbers, known at compile time or not.
  static constexpr Index fixed_row = is_static ? row_of(M::keys, M::values) : dynamic;
  AVIARY_HOST_DEVICE static constexpr Extent<fixed_row> row(Index keys, Index values) noexcept {
    return row_of(keys, values);
  }

  using Token = Prepared<typename M::Rule, T, fixed_row>;
  template <class P> using Kernel = detail::Kernel<typename M::Rule, P, T, fixed_row>;

  static constexpr Index token_numbers =
      Token::length(is_static ? row_of(M::keys, M::values) : row_of(largest_head, largest_head));
  /// Of a tile: 16 KiB, beside 16 KiB of state (K = V = 64 in float) in first-level cache; one token at least.
  static constexpr Index tile_numbers =
      token_numbers > Index{16384 / sizeof(T)} ? token_numbers : Index{16384 / sizeof(T)};
  /// Tokens of a tile.
  static constexpr Index tokens(Index keys, Index values) noexcept {
    Index const fit = tile_numbers / Token::length(row(keys, values));
    return fit < 64 ? fit : 64;
  }
};

/// @name The inputs of a call, by their rule
///@{
template <class R, class Inputs> Index input_tokens(Inputs const& x) noexcept {
  Index n = 0;
  for_each_field<R>(x, [&]<Axis A>(AxisTag<A>, auto const& field) {
    if constexpr (A == Axis::value) n = field.tokens();
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
  constexpr Index length = TileSizes<M>::is_static ? TileSizes<M>::fixed_row : largest_head;
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
  if constexpr (R::gate == Gate::none)
    return P(T(0));
  else if constexpr (R::gate == Gate::scalar)
    return P(T(token.log_w));
  else
    return simd::load_part<P>(token.log_w.data(), j, keys);
}

/// A state as the K x V matrix that it lies as.
template <class T, Index K, Index V> MatView<T> as_matrix(StateView<T, K, V> s) noexcept {
  return {s.s, s.keys(), s.values(), s.stride()};
}

/// Up to TileSizes<M>::tokens(...) tokens of a head of memory M, with packs P.
template <class M, class P> class Tile {
  using T = typename M::T;
  using Kernel = typename M::template Kernel<P>;
  using Prepared = typename M::Prepared;

 public:
  /// Prepares tokens t ... t + n - 1 of x, a sequence with one head.
  Tile(typename M::Inputs const& x, Index t, Index n, Index keys, Index values) noexcept
      : row_(TileSizes<M>::row(keys, values)), keys_(keys), tokens_(n) {
    AVIARY_ASSERT(n > 0 && n <= TileSizes<M>::tokens(keys, values));
    for (Index i = 0; i < n; ++i)
      with_token<M>(x, t + i, [&](typename M::Token const& one) {
        token(i).bonus() = Kernel::prepare(one, token(i), keys_, Extent<M::values>(values));
      });
  }

  /// Runs columns [first, last) of a state, rows `stride` apart, through the tokens: value<Q>(i, m) is what token m writes
  /// into the lanes of Q from column i on, put(i, m, y) takes what it reads there.
  template <class S, class Value, class Put>
  void run(S* s, Index stride, Index first, Index last, Value&& value, Put&& put) noexcept {
    simd::for_packs<P, TileSizes<M>::fixed_row>(first, last, [&]<class Q>(Index i) {
      constexpr bool erases = R::erase != Erase::none;
      S* const column = s + i;
      Q z(T(0));
      if constexpr (erases) z = Kernel::template probe<Q>(column, stride, token(0).p(), keys_);
      Index m = 0;
      for (; m + 1 < tokens_; ++m)
        put(i, m,
            Kernel::template advance<Q, erases>(column, stride, token(m), value.template operator()<Q>(i, m), z, keys_,
                                                token(m + 1)));
      put(i, m,
          Kernel::template advance<Q, false>(column, stride, token(m), value.template operator()<Q>(i, m), z, keys_,
                                             token(m)));
    });
  }

  Prepared token(Index i) noexcept { return Prepared(numbers_ + i * Prepared::length(row_), row_); }

 private:
  using R = typename M::Rule;
  alignas(alignment) T numbers_[to_size(TileSizes<M>::tile_numbers)];
  [[no_unique_address]] Extent<TileSizes<M>::fixed_row> row_;
  [[no_unique_address]] Extent<M::keys> keys_;
  Index tokens_;
};

/// Writes the lanes of y from value i on as the output of one token and head.
template <class T, Index V, class Q>
void put_lanes(Sink<V> const& sink, Index token, Index head, Index i, Q const& y) noexcept {
  using L = simd::Pack<Q>;
  Index const values = sink.size();
  if (T* const row = sink.template row<T>(token, head)) return simd::store_part(row, i, values, y);
  if (i >= values) return;
  T lanes[L::lanes];
  L::store(lanes, y);
  sink.put(token, head, i, values - i < L::lanes ? values - i : L::lanes, lanes);
}

}  // namespace aviary::detail
