/// Executors: every task once, none twice, the same bits from all; and what counts as an executor.
#include "aviary/core/executor.hpp"

#include <doctest/doctest.h>

#include <stdexcept>
#include <thread>
#include <vector>

#include "support/executor_case.hpp"

using namespace aviary;
using namespace aviary::test;

static_assert(Executor<Serial>);
static_assert(Executor<Parallel<void (*)(Index, detail::AnyTask)>>);

namespace {
struct NoConcurrency {
  void operator()(Index, auto&&) const {}
};
struct NoCall {
  Index concurrency() const { return 1; }
};
static_assert(!Executor<NoConcurrency> && !Executor<NoCall> && !Executor<int>);

/// As many threads as there are tasks, up to a number, each with every so many tasks; said to be that many.
auto threads(Index most) {
  return Parallel(most, [most](Index count, auto&& task) {
    std::vector<std::thread> all;
    for (Index first = 0; first < std::min(most, count); ++first)
      all.emplace_back([&task, first, most, count] {
        for (Index i = first; i < count; i += most) task(i);
      });
    for (auto& thread : all) thread.join();
  });
}
}  // namespace

TEST_CASE("executor: the serial one runs tasks in order") {
  std::vector<Index> order;
  Serial()(5, [&](Index i) noexcept { order.push_back(i); });
  CHECK(order == std::vector<Index>{0, 1, 2, 3, 4});
  CHECK(Serial::concurrency() == 1);
  check_tasks(Serial());
}

TEST_CASE("executor: any callable runs every task once, and changes no bit") {
  static_assert(Executor<decltype(threads(1))>);
  for (Index const most : {1, 2, 3, 8}) {
    CAPTURE(most);
    CHECK(threads(most).concurrency() == most);
    check_tasks(threads(most));
    check_bits(threads(most));
  }
}

TEST_CASE("executor: what it throws passes through forward") {
  Eager const refuses(Parallel(2, [](Index, auto&&) { throw std::runtime_error("no threads"); }));
  CHECK_THROWS_WITH_AS((wkv7_result<Wkv7<float, 16>>(2, {0, 5}, refuses)), "no threads", std::runtime_error);
}

#if defined(_OPENMP)
static_assert(Executor<OpenMp>);
TEST_CASE("executor: OpenMP runs every task once, and changes no bit") {
  for (Index const number : {1, 2, 4, 7}) {
    CAPTURE(number);
    OpenMp const executor(number);
    CHECK(executor.concurrency() == number);
    check_tasks(executor);
    check_bits(executor);
  }
}
#endif
