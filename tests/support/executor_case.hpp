#pragma once
/// What every executor owes, and what every kernel owes under any executor.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include "aviary/core/executor.hpp"
#include "aviary/wkv7.hpp"
#include "support/eager.hpp"
#include "support/random.hpp"

namespace aviary::test {

/// How often each of count tasks ran.
template <class E> std::vector<int> runs(E&& executor, Index count) {
  std::vector<std::atomic<int>> times(to_size(count));
  executor(count, [&](Index i) noexcept { ++times[to_size(i)]; });
  return {times.begin(), times.end()};
}

/// Every task once, all of them done on return, none of none; also when a task calls the executor again.
template <class E> void check_tasks(E&& executor) {
  for (Index const count : {0, 1, 2, 7, 100, 1000}) {
    CAPTURE(count);
    CHECK(runs(executor, count) == std::vector<int>(to_size(count), 1));
  }
  std::atomic<int> done{0};
  executor(20, [&](Index i) noexcept {
    if (i % 3 == 0) std::this_thread::yield();
    ++done;
  });
  CHECK(done.load() == 20);

  std::vector<std::atomic<int>> times(6 * 7);
  executor(6, [&](Index i) noexcept { executor(7, [&](Index j) noexcept { ++times[to_size(i * 7 + j)]; }); });
  CHECK(std::vector<int>(times.begin(), times.end()) == std::vector<int>(6 * 7, 1));
}

/// The outputs and states of packed WKV-7 sequences. One sequence with one head is cut along its values.
template <class M, class E>
std::pair<std::vector<float>, std::vector<typename M::State>> wkv7_result(Index heads,
                                                                          std::vector<Index> const& offsets,
                                                                          E&& executor) {
  constexpr Index keys = M::keys, values = M::values;
  Index const n = offsets.back();
  Wkv7Inputs<float> const x(3, n, heads, keys, values);
  std::vector<float> y(to_size(n * heads * values));
  std::vector<typename M::State> states((offsets.size() - 1) * to_size(heads));
  M::forward({.x = {.r = {x.r.data(), n, heads},
                    .log_w = {x.log_w.data(), n, heads},
                    .k = {x.k.data(), n, heads},
                    .v = {x.v.data(), n, heads},
                    .kappa_hat = {x.kappa_hat.data(), n, heads},
                    .a = {x.a.data(), n, heads}},
              .y = {y.data(), n, heads},
              .states = states,
              .offsets = offsets},
             executor);
  return {y, states};
}

/// The same bits as one thread gives, for one sequence with one head and for many.
template <class E> void check_bits(E&& executor) {
  auto const check = [&]<class M>(Index heads, std::vector<Index> const& offsets) {
    CAPTURE(heads);
    auto const expected = wkv7_result<M>(heads, offsets, Serial()),
               got = wkv7_result<M>(heads, offsets, Eager(executor));
    CHECK(got.first == expected.first);
    CHECK(got.second == expected.second);
  };
  check.template operator()<Wkv7<float, 64>>(1, {0, 50});
  check.template operator()<Wkv7<float, 16, 200>>(1, {0, 35});
  check.template operator()<Wkv7<float, 64>>(3, {0, 1, 1, 40, 41});
}

}  // namespace aviary::test
