#pragma once
/// Where packed sequences begin and end, and how a call over them is cut into tasks.
#include <algorithm>
#include <span>

#include "aviary/core/config.hpp"

namespace AVIARY_NAMESPACE {

/// Kernels take tokens in groups of 1 to 4. A sequence that is cut into calls of `forward` after a multiple of so many tokens
/// has the bits of one call.
inline constexpr Index tokens_of_whole_groups = 12;

namespace detail {

/// The positions of packed sequences: n + 1 offsets for n sequences, or none for one sequence of all tokens.
struct Packing {
  Index const* offsets;
  Index count, tokens;

  constexpr Packing(std::span<Index const> positions, Index token_count) noexcept
      : offsets(positions.data()), count(static_cast<Index>(positions.size())), tokens(token_count) {}

  constexpr std::span<Index const> positions() const noexcept { return {offsets, to_size(count)}; }
  AVIARY_HOST_DEVICE constexpr Index sequences() const noexcept { return count == 0 ? 1 : count - 1; }
  AVIARY_HOST_DEVICE constexpr Index begin(Index s) const noexcept { return count == 0 ? 0 : offsets[s]; }
  AVIARY_HOST_DEVICE constexpr Index end(Index s) const noexcept { return count == 0 ? tokens : offsets[s + 1]; }
  /// How many states a tape keeps of the sequences before s, for each head: one for every `every` tokens begun.
  AVIARY_HOST_DEVICE constexpr Index kept_before(Index s, Index every) const noexcept {
    Index n = 0;
    if (every <= 0) return n;  // which a check refuses
    for (Index i = 0; i < s; ++i) n += (end(i) - begin(i) + every - 1) / every;
    return n;
  }
};

/// How a call is cut into tasks: sequences, then groups of heads, then, when these are too few, stretches of a state's row.
/// Heads that lie side by side stay together: a task that takes one of them alone touches as many pages of memory as one that
/// takes all. No cut changes a bit of the result.
struct Cut {
  Index heads_per_task, head_tasks, row_per_task, row_tasks;

  /// `row` numbers of a state's row, in whole lines of `line` numbers; `concurrency` tasks at once.
  static Cut of(Index sequences, Index heads, Index row, Index line, Index concurrency) noexcept {
    Cut c{heads, 1, row, 1};
    if (concurrency <= 1 || sequences * heads == 0) return c;
    Index const tasks = concurrency * (sequences == 1 ? 1 : 4);  // lengths differ: small tasks end together
    c.heads_per_task = std::clamp<Index>((sequences * heads + tasks - 1) / tasks, 1, heads);
    c.head_tasks = (heads + c.heads_per_task - 1) / c.heads_per_task;
    if (sequences * heads >= concurrency) return c;
    Index const lines = row / line, wanted = (concurrency + sequences * heads - 1) / (sequences * heads);
    Index const lines_per_task = std::max<Index>((lines + wanted - 1) / wanted, 1);
    c.row_per_task = lines_per_task * line;
    c.row_tasks = (lines + lines_per_task - 1) / lines_per_task;
    return c;
  }
};

}  // namespace detail
}  // namespace AVIARY_NAMESPACE
