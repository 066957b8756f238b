/// Executors: every task once, none twice, and what counts as an executor.
#include "aviary/core/executor.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

using namespace aviary;

static_assert(Executor<Serial>);
static_assert(Executor<Parallel<void (*)(Index, detail::AnyTask)>>);

namespace {
struct NoConcurrency {
  void operator()(Index, auto&&) const {}
};
struct NoCall {
  Index concurrency() const { return 1; }
};

/// How often each of count tasks ran.
template <class E> std::vector<int> runs(E&& executor, Index count) {
  std::vector<std::atomic<int>> times(to_size(count));
  executor(count, [&](Index i) noexcept { ++times[to_size(i)]; });
  return {times.begin(), times.end()};
}
}  // namespace
static_assert(!Executor<NoConcurrency> && !Executor<NoCall> && !Executor<int>);

TEST_CASE("executor: the serial one runs tasks in order") {
  std::vector<Index> order;
  Serial()(5, [&](Index i) noexcept { order.push_back(i); });
  CHECK(order == std::vector<Index>{0, 1, 2, 3, 4});
  Serial()(0, [&](Index) noexcept { order.clear(); });
  CHECK(order.size() == 5);
  CHECK(Serial::concurrency() == 1);
}

TEST_CASE("executor: any callable runs every task once") {
  Parallel threads(3, [](Index count, auto&& task) {
    std::vector<std::thread> all;
    for (Index i = 0; i < count; ++i) all.emplace_back([&task, i] { task(i); });
    for (auto& thread : all) thread.join();
  });
  static_assert(Executor<decltype(threads)>);
  CHECK(threads.concurrency() == 3);
  CHECK(runs(threads, 7) == std::vector<int>(7, 1));
  CHECK(runs(threads, 0).empty());
}

#if defined(_OPENMP)
static_assert(Executor<OpenMp>);
TEST_CASE("executor: OpenMP runs every task once") {
  for (Index const threads : {1, 2, 4}) {
    OpenMp const executor(threads);
    CHECK(executor.concurrency() == threads);
    CHECK(runs(executor, 100) == std::vector<int>(100, 1));
    CHECK(runs(executor, 0).empty());
  }
}
#endif
