/// oneTBB as an executor, where the build found it.
#if defined(AVIARY_TEST_TBB)
#include "aviary/core/executor_tbb.hpp"

#include <doctest/doctest.h>
#include <oneapi/tbb/global_control.h>

#include <vector>

#include "support/executor_case.hpp"

using namespace aviary;
using namespace aviary::test;

static_assert(Executor<Tbb>);

TEST_CASE("executor: oneTBB runs every task once, and changes no bit") {
  tbb::global_control const more(tbb::global_control::max_allowed_parallelism, 8);  // than there are cores, perhaps
  for (int const number : {1, 2, 4, 7}) {
    CAPTURE(number);
    tbb::task_arena arena(number);
    arena.execute([&] {
      CHECK(Tbb().concurrency() == number);
      check_tasks(Tbb());
      check_bits(Tbb());
    });
  }
}

TEST_CASE("executor: oneTBB runs every task when the work around it has been cancelled") {
  tbb::task_group_context context;
  std::vector<int> times;
  tbb::parallel_for(
      0, 1,
      [&](int) {
        context.cancel_group_execution();
        times = runs(Tbb(), 100);
      },
      context);
  CHECK(times == std::vector<int>(100, 1));
}
#endif
