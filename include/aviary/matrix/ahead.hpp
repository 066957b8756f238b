#pragma once
/// What is fetched into cache while passes over a state run, a few lines at a time: a burst of fetches would stop them.
#include <cstdint>

#include "aviary/core/sequence.hpp"
#include "aviary/simd/pack.hpp"

namespace AVIARY_NAMESPACE::detail {

/// Memory that is wanted soon, for the passes of one group.
class Ahead {
 public:
  static constexpr Index lines = 4, bytes = lines * alignment;
  /// Addresses of `bytes` each, which may lie anywhere: the first goes to second-level cache, the second to the first level.
  using Entry = std::uintptr_t[2];
  struct Entries {
    Entry const *first, *last;
    AVIARY_HOST_DEVICE constexpr Entry const* begin() const noexcept { return first; }
    AVIARY_HOST_DEVICE constexpr Entry const* end() const noexcept { return last; }
  };

  constexpr Ahead() = default;
  /// All entries in `passes` passes.
  AVIARY_HOST_DEVICE constexpr Ahead(Entry const* entries, Index n, Index passes) noexcept
      : entries_(entries), n_(n), passes_(passes) {}
  /// Fetches line `line` of the entry that is next.
  AVIARY_HOST_DEVICE AVIARY_INLINE static void fetch(Entry const& entry, Index line) noexcept {
    simd::prefetch_far(entry[0] + to_size(line * alignment));
    simd::prefetch_near(entry[1] + to_size(line * alignment));
  }
  /// Takes the entries of the next pass, `most` at most.
  AVIARY_HOST_DEVICE AVIARY_INLINE Entries share(Index most) noexcept {
    Index n = passes_ > 1 ? (n_ + passes_ - 1) / passes_ : n_;
    n = n < most ? n : most;
    Entry const* const first = entries_;
    entries_ += n, n_ -= n, --passes_;
    return {first, entries_};
  }

 private:
  Entry const* entries_ = nullptr;
  Index n_ = 0, passes_ = 0;
};

/// The same for all groups of a turn: a list whose addresses move on by a step with every group.
class FetchPlan {
 public:
  Ahead ahead(Index passes) const noexcept { return {entries_, n_, passes}; }
  /// The next group's turn has come.
  void move() noexcept {
    for (Index i = 0; i < n_; ++i)
      for (int level = 0; level < 2; ++level) entries_[i][level] += steps_[i][level];
  }

  /// Shares `bytes` of memory out to all groups.
  void add(void const* memory, Index bytes, Index groups) noexcept {
    constexpr Index entry = 2 * Ahead::bytes;
    Index const share = (bytes + groups * entry - 1) / (groups * entry);
    auto const first = reinterpret_cast<std::uintptr_t>(memory);
    for (Index e = 0; e < share; ++e)
      add(first + to_size(e * entry), first + to_size(e * entry + Ahead::bytes), share * entry, share * entry);
  }
  /// Rows of `bytes`, one for each token of a group: those of `far` of the same tokens, and those of `near` of the tokens after
  /// them.
  void add(RowCursor const& far, RowCursor const& near, Index tokens, Index bytes) noexcept {
    for (Index m = 0; m < tokens; ++m)
      for (Index i = 0; i < bytes; i += Ahead::bytes)
        add(reinterpret_cast<std::uintptr_t>(far.at()) + to_size(m * far.step() + i),
            reinterpret_cast<std::uintptr_t>(near.at()) + to_size((tokens + m) * near.step() + i), tokens * far.step(),
            tokens * near.step());
  }

 private:
  void add(std::uintptr_t far, std::uintptr_t near, Index far_step, Index near_step) noexcept {
    if (n_ == most) return;  // passes have no turns for more
    entries_[n_][0] = far, entries_[n_][1] = near;
    steps_[n_][0] = to_size(far_step), steps_[n_++][1] = to_size(near_step);
  }

  static constexpr Index most = 96;
  Index n_ = 0;
  Ahead::Entry entries_[to_size(most)], steps_[to_size(most)];
};

}  // namespace AVIARY_NAMESPACE::detail
