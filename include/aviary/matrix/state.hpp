#pragma once
/// The state of one head: K rows of V numbers, key-major, s[k][v]; values are contiguous and rows padded with zeros to 64
/// bytes on every platform. In formulas S is V x K: s[k][v] is S[v][k].
#include <algorithm>
#include <concepts>
#include <type_traits>

#include "aviary/core/aligned.hpp"
#include "aviary/core/convert.hpp"
#include "aviary/core/view.hpp"

namespace AVIARY_NAMESPACE {

/// A state where it lies. T may be const.
template <class T, Index K, Index V> struct StateView {
  T* s;
  [[no_unique_address]] Extent<K> key_extent;
  [[no_unique_address]] Extent<V> value_extent;

  AVIARY_HOST_DEVICE constexpr Index keys() const noexcept { return key_extent; }
  AVIARY_HOST_DEVICE constexpr Index values() const noexcept { return value_extent; }
  /// Numbers from one row to the next.
  AVIARY_HOST_DEVICE constexpr Index stride() const noexcept { return padded<T>(value_extent); }
  AVIARY_HOST_DEVICE constexpr T* operator[](Index key) const noexcept { return s + key * stride(); }
  AVIARY_HOST_DEVICE constexpr T& operator()(Index key, Index value) const noexcept {
    return s[key * stride() + value];
  }
  /// Const is T const. A template: of a function to its own class, which views of const numbers would have, nvcc warns.
  template <class Const>
  requires(std::is_same_v<Const, T const>) AVIARY_HOST_DEVICE constexpr operator StateView<Const, K, V>()
      const noexcept {
    return {s, key_extent, value_extent};
  }
};

/// A state as a value, trivially copyable if its sizes are fixed. State(keys, values) is the empty context, whatever the
/// sizes; where they are fixed, so is State().
template <class T, Index K, Index V> struct State {
  alignas(alignment) T s[to_size(K)][to_size(padded<T>(V))] = {};

  constexpr State() = default;
  AVIARY_HOST_DEVICE constexpr State(Extent<K>, Extent<V>) noexcept {}

  AVIARY_HOST_DEVICE static constexpr Index keys() noexcept { return K; }
  AVIARY_HOST_DEVICE static constexpr Index values() noexcept { return V; }
  AVIARY_HOST_DEVICE constexpr StateView<T, K, V> view() noexcept { return {&s[0][0], {}, {}}; }
  AVIARY_HOST_DEVICE constexpr StateView<T const, K, V> view() const noexcept { return {&s[0][0], {}, {}}; }
  AVIARY_HOST_DEVICE constexpr operator StateView<T, K, V>() noexcept { return view(); }
  AVIARY_HOST_DEVICE constexpr operator StateView<T const, K, V>() const noexcept { return view(); }
  /// Makes it the empty context.
  AVIARY_HOST_DEVICE constexpr void clear() noexcept {
    for (auto& row : s)
      for (T& number : row) number = T{};
  }
  friend bool operator==(State const&, State const&) = default;
};

/// A dynamic size. The state owns its memory, in the same layout. State() has no size yet, which every check refuses.
template <class T, Index K, Index V>
requires(K == dynamic || V == dynamic) struct State<T, K, V> {
  State() = default;
  State(Extent<K> keys, Extent<V> values) : keys_(keys), values_(values), s_(to_size(keys * padded<T>(values))) {}

  Index keys() const noexcept { return keys_; }
  Index values() const noexcept { return values_; }
  StateView<T, K, V> view() noexcept { return {s_.data(), keys_, values_}; }
  StateView<T const, K, V> view() const noexcept { return {s_.data(), keys_, values_}; }
  operator StateView<T, K, V>() noexcept { return view(); }
  operator StateView<T const, K, V>() const noexcept { return view(); }
  /// Makes it the empty context of its size, without an allocation.
  void clear() noexcept { std::fill(s_.begin(), s_.end(), T{}); }
  friend bool operator==(State const&, State const&) = default;

 private:
  [[no_unique_address]] Extent<K> keys_;
  [[no_unique_address]] Extent<V> values_;
  AlignedVector<T> s_;
};

/// How the numbers of a state lie in memory of others: dense, rows without padding.
enum class Orientation : unsigned char {
  key_value,  ///< [key][value], as in a State
  value_key,  ///< [value][key], S of the formulas: what RWKV-7 code stores
};

namespace detail {
/// A state as the K x V matrix that it lies as.
template <class T, Index K, Index V> MatView<T> as_matrix(StateView<T, K, V> s) noexcept {
  return {s.s, s.keys(), s.values(), s.stride()};
}

/// What std::vector, std::array and std::span of numbers of any floating format have.
template <class Numbers>
concept StoredNumbers = requires(Numbers& numbers) {
  requires Stored<std::remove_cvref_t<decltype(*numbers.data())>>;
  { numbers.size() } -> std::convertible_to<Index>;
};

template <class To, class From> To converted(From x) noexcept {
  if constexpr (std::is_same_v<To, From>)
    return x;  // the bits of NaN, too
  else
    return narrow<To>(widen(x));
}
}  // namespace detail

/// Fills a state from keys x values numbers of any floating format, and its padding with zeros.
template <class T, Index K, Index V, detail::StoredNumbers From>
void import_state(StateView<T, K, V> to, From const& from, Orientation orientation) noexcept {
  Index const keys = to.keys(), values = to.values();
  AVIARY_ASSERT(static_cast<Index>(from.size()) == keys * values);
  auto const* const numbers = from.data();
  for (Index j = 0; j < keys; ++j) {
    T* const row = to[j];
    if (orientation == Orientation::key_value)
      convert(numbers + j * values, row, values);
    else
      for (Index i = 0; i < values; ++i) row[i] = detail::converted<T>(numbers[i * keys + j]);
    std::fill(row + values, row + to.stride(), T{});
  }
}

/// Fills keys x values numbers of any floating format from a state.
template <class T, Index K, Index V, detail::StoredNumbers To>
void export_state(StateView<T, K, V> from, To&& to, Orientation orientation) noexcept {
  Index const keys = from.keys(), values = from.values();
  AVIARY_ASSERT(static_cast<Index>(to.size()) == keys * values);
  auto* const numbers = to.data();
  for (Index j = 0; j < keys; ++j) {
    T const* const row = from[j];
    if (orientation == Orientation::key_value)
      convert(row, numbers + j * values, values);
    else
      for (Index i = 0; i < values; ++i)
        numbers[i * keys + j] = detail::converted<std::remove_reference_t<decltype(*numbers)>>(row[i]);
  }
}

}  // namespace AVIARY_NAMESPACE
