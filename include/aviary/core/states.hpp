#pragma once
/// Where the states of packed sequences lie.
#include <span>
#include <type_traits>
#include <utility>

#include "aviary/core/config.hpp"

namespace AVIARY_NAMESPACE {

/// The states of packed sequences, an argument of calls: the same number of each sequence, side by side. All of them lie in
/// one place, as in `.states = states`, or those of a sequence wherever its owner keeps them:
///
///     auto const first = [&](Index sequence) { return contexts[sequence]->heads.data(); };
///     M::forward({.x = x, .y = y, .states = {first, sequences, heads}, .offsets = offsets});
template <class State> class States {
 public:
  /// (sequences, states of each)
  template <class Range>
  requires std::is_convertible_v<Range, std::span<State>>
  constexpr States(Range&& range) noexcept : States(std::span<State>(std::forward<Range>(range))) {}
  constexpr States(std::span<State> all) noexcept : data_(all.data()), size_(all.size()) {}
  constexpr States(State* data, std::size_t size) noexcept : States(std::span<State>(data, size)) {}
  /// @param first  the first state of a sequence, as a function of the sequence's number. A call refers to it
  /// @param each  how many a sequence has
  template <class First>
  requires std::is_invocable_r_v<State*, First const&, Index>
  constexpr States(First const& first, Index sequences, Index each) noexcept
      : from_(&first),
        first_([](void const* from, Index sequence) { return (*static_cast<First const*>(from))(sequence); }),
        size_(to_size(sequences * each)) {}

  /// Of all sequences together.
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr bool empty() const noexcept { return size_ == 0; }
  /// The states of a sequence, of which each has `each`.
  State* of(Index sequence, Index each) const noexcept {
    return first_ != nullptr ? first_(from_, sequence) : data_ + sequence * each;
  }

 private:
  State* data_ = nullptr;
  void const* from_ = nullptr;
  State* (*first_)(void const*, Index) = nullptr;
  std::size_t size_;
};

}  // namespace AVIARY_NAMESPACE
