#pragma once
/// oneTBB's threads as an executor. Nothing else includes this header: who does has oneTBB (2021 or newer) and links it.
#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/partitioner.h>
#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_group.h>

#include "aviary/core/executor.hpp"

namespace AVIARY_NAMESPACE {

/// The threads of the task arena that a call is made in. To use fewer of them:
///
///     tbb::task_arena arena(4);
///     arena.execute([&] { Memory::forward(call, Tbb()); });
///
/// Runs all tasks even where the work around the call has been cancelled: a call of the library is done when it returns.
struct Tbb {
  Index concurrency() const noexcept { return tbb::this_task_arena::max_concurrency(); }

  template <class Task> void operator()(Index count, Task&& task) const {
    tbb::task_group_context uncancelled(tbb::task_group_context::isolated);
    tbb::parallel_for(
        tbb::blocked_range<Index>(0, count),
        [&task](tbb::blocked_range<Index> const& range) {
          for (Index i = range.begin(); i < range.end(); ++i) task(i);
        },
        tbb::simple_partitioner(), uncancelled);
  }
};

}  // namespace AVIARY_NAMESPACE
