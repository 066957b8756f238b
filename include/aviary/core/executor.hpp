#pragma once
/// Who runs the tasks of a call. The library starts no thread: an executor is the caller's.
#include <algorithm>
#include <concepts>
#include <utility>

#include "aviary/core/config.hpp"
#include "aviary/core/flush_to_zero.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {
struct AnyTask {
  void operator()(Index) const noexcept {}
};
}  // namespace detail

/// executor(count, task) calls task(0) ... task(count - 1), in any order and at any time, and returns when all are done.
/// executor.concurrency() is how many of them it may run at once. A task throws nothing. The number of tasks that a call
/// is cut into follows from concurrency() and from how much there is to do; its results do not.
///
/// Handing a task to another thread takes some microseconds. An executor whose threads are quicker or slower to start than
/// most says what a task is worth: static constexpr Index multiplies_per_task, in multiply-adds.
template <class E>
concept Executor = requires(E& executor, Index count, detail::AnyTask task) {
  { executor.concurrency() } -> std::convertible_to<Index>;
  executor(count, task);
};

/// One task after another on the calling thread.
struct Serial {
  static constexpr Index concurrency() noexcept { return 1; }
  template <class Task> constexpr void operator()(Index count, Task&& task) const {
    for (Index i = 0; i < count; ++i) task(i);
  }
};

/// Any callable f(count, task), such as a thread pool's parallel for, with the number of tasks that it runs at once. const
/// if the callable can be called as const.
template <class F> class Parallel {
 public:
  constexpr Parallel(Index concurrency, F f) : f_(std::move(f)), concurrency_(concurrency) {}
  constexpr Index concurrency() const noexcept { return concurrency_; }
  template <class Task> void operator()(Index count, Task&& task) { f_(count, std::forward<Task>(task)); }
  template <class Task>
  requires std::invocable<F const&, Index, Task>
  void operator()(Index count, Task&& task) const { f_(count, std::forward<Task>(task)); }

 private:
  F f_;
  Index concurrency_;
};

namespace detail {
/// How many tasks at once a call of so many multiply-adds is worth: one for every ten microseconds or so.
template <class E> Index tasks_worth(E const& executor, Index multiplies) noexcept {
  Index each = Index{1} << 18;
  if constexpr (requires { E::multiplies_per_task; }) each = E::multiplies_per_task;
  return std::clamp(multiplies / each, Index{1}, std::max<Index>(executor.concurrency(), 1));
}

/// Runs the tasks of a call, a single one on the calling thread. They take subnormal numbers as 0, whatever the thread that
/// they run on does with them.
template <class E, class Task> void run_tasks(E& executor, Index count, Task const& task) {
  auto const flushed = [&task](Index i) noexcept {
    FlushToZero const flush;
    task(i);
  };
  if (count == 1) return flushed(0);
  executor(count, flushed);
}
}  // namespace detail

#if defined(_OPENMP)
/// OpenMP threads; there where the compiler has OpenMP switched on.
class OpenMp {
 public:
  explicit constexpr OpenMp(Index threads) noexcept : threads_(threads) {}
  constexpr Index concurrency() const noexcept { return threads_; }
  template <class Task> void operator()(Index count, Task&& task) const {
#pragma omp parallel for schedule(dynamic, 1) num_threads(static_cast <int>(threads_))
    for (Index i = 0; i < count; ++i) task(i);
  }

 private:
  Index threads_;
};
#endif

}  // namespace AVIARY_NAMESPACE
