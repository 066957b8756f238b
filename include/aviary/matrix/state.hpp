#pragma once
/// The state of one head: K rows of V numbers, key-major, s[k][v]; values are contiguous and rows padded with zeros to 64
/// bytes on every platform. In formulas S is V x K: s[k][v] is S[v][k].
#include <type_traits>

#include "aviary/core/aligned.hpp"
#include "aviary/core/view.hpp"

namespace aviary {

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
  AVIARY_HOST_DEVICE constexpr operator StateView<T const, K, V>() const noexcept requires(!std::is_const_v<T>) {
    return {s, key_extent, value_extent};
  }
};

/// A state as a value. Fixed sizes: an aggregate, trivially copyable; State{} is the empty context.
template <class T, Index K, Index V> struct State {
  alignas(alignment) T s[to_size(K)][to_size(padded<T>(V))];

  AVIARY_HOST_DEVICE static constexpr Index keys() noexcept { return K; }
  AVIARY_HOST_DEVICE static constexpr Index values() noexcept { return V; }
  AVIARY_HOST_DEVICE constexpr StateView<T, K, V> view() noexcept { return {&s[0][0], {}, {}}; }
  AVIARY_HOST_DEVICE constexpr StateView<T const, K, V> view() const noexcept { return {&s[0][0], {}, {}}; }
  AVIARY_HOST_DEVICE constexpr operator StateView<T, K, V>() noexcept { return view(); }
  AVIARY_HOST_DEVICE constexpr operator StateView<T const, K, V>() const noexcept { return view(); }
  friend bool operator==(State const&, State const&) = default;
};

/// A dynamic size: State{keys, values} is the empty context of that size. It owns its memory, in the same layout.
template <class T, Index K, Index V>
requires(K == dynamic || V == dynamic) class State<T, K, V> {
 public:
  State() = default;
  State(Extent<K> keys, Extent<V> values) : keys_(keys), values_(values), s_(to_size(keys * padded<T>(values))) {}

  Index keys() const noexcept { return keys_; }
  Index values() const noexcept { return values_; }
  StateView<T, K, V> view() noexcept { return {s_.data(), keys_, values_}; }
  StateView<T const, K, V> view() const noexcept { return {s_.data(), keys_, values_}; }
  operator StateView<T, K, V>() noexcept { return view(); }
  operator StateView<T const, K, V>() const noexcept { return view(); }
  friend bool operator==(State const&, State const&) = default;

 private:
  [[no_unique_address]] Extent<K> keys_;
  [[no_unique_address]] Extent<V> values_;
  AlignedVector<T> s_;
};

}  // namespace aviary
