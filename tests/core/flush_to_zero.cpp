#include "aviary/core/flush_to_zero.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <thread>
#include <vector>

#include "aviary/core/executor.hpp"

using namespace aviary;

namespace {

/// Computed when the program runs, whatever the optimizer would rather do.
template <class T> T times(T x, T y) {
  T volatile const a = x, b = y;
  return a * b;
}
template <class T> bool keeps_subnormal_results() { return times(std::numeric_limits<T>::min(), T(0.5)) > 0; }
template <class T> bool keeps_subnormal_operands() {
  return times(std::numeric_limits<T>::denorm_min(), T(1 / std::numeric_limits<T>::epsilon())) > 0;
}

#if defined(__SSE2__) || defined(__aarch64__)
constexpr bool known = true;
#else
constexpr bool known = false;
#endif

}  // namespace

TEST_CASE_TEMPLATE("flush to zero: takes subnormal numbers as 0 while it lives", T, float, double) {
  CHECK(keeps_subnormal_results<T>());
  CHECK(keeps_subnormal_operands<T>());
  {
    FlushToZero const flush;
    CHECK(keeps_subnormal_results<T>() != known);
    CHECK(keeps_subnormal_operands<T>() != known);
    CHECK(times(std::numeric_limits<T>::min(), T(2)) > 0);  // normal ones stay
    {
      FlushToZero const again;
      CHECK(keeps_subnormal_results<T>() != known);
    }
    CHECK(keeps_subnormal_results<T>() != known);
  }
  CHECK(keeps_subnormal_results<T>());
  CHECK(keeps_subnormal_operands<T>());
}

TEST_CASE("flush to zero: the tasks of a call, on whatever thread, and nothing around them") {
  Parallel threads(3, [](Index count, auto&& task) {
    std::vector<std::thread> all;
    for (Index i = 0; i < count; ++i)
      all.emplace_back([&task, i] {
        task(i);
        task(i);
      });
    for (auto& thread : all) thread.join();
  });
  for (Index const count : {1, 5}) {
    std::vector<int> kept(to_size(count), -1);
    detail::run_tasks(threads, count, [&](Index i) noexcept { kept[to_size(i)] = keeps_subnormal_results<float>(); });
    CHECK(kept == std::vector<int>(to_size(count), !known));
    CHECK(keeps_subnormal_results<float>());
  }
}
