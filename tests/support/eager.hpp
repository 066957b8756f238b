#pragma once
/// Executors that share out the least work: tests are small.
#include <utility>

#include "aviary/core/executor.hpp"

namespace aviary::test {

/// Executor E, but that a task is worth handing over however small it is.
template <class E> class Eager {
 public:
  static constexpr Index multiplies_per_task = 1;

  explicit Eager(E executor) : executor_(std::move(executor)) {}
  Index concurrency() const noexcept { return executor_.concurrency(); }
  template <class Task> void operator()(Index count, Task&& task) const { executor_(count, std::forward<Task>(task)); }

 private:
  E executor_;
};

/// Runs the last task first and claims any concurrency: results must not depend on the order of tasks.
struct Backwards {
  static constexpr Index multiplies_per_task = 1;

  Index tasks = 4;
  Index concurrency() const noexcept { return tasks; }
  template <class Task> void operator()(Index count, Task&& task) const {
    for (Index i = count; i-- > 0;) task(i);
  }
};

}  // namespace aviary::test
