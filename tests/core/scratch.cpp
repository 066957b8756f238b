#include "aviary/core/scratch.hpp"

#include <doctest/doctest.h>

#include <utility>

#include "support/allocation_counter.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;

TEST_CASE("scratch: rows lie on 64-byte boundaries, apart from each other, and are given back") {
  Scratch<float> scratch(100 * padded<float>(10));
  CHECK(scratch.left() == 1600);
  {
    Scratch<float>::Frame const frame(scratch);
    auto const a = scratch.rows(3, 10), b = scratch.rows(2, 17);
    CHECK(a.rows() == 3);
    CHECK(a.columns() == 10);
    for (Index t = 0; t < 3; ++t) CHECK(reinterpret_cast<std::uintptr_t>(&a(t, 0)) % 64 == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(b.data()) % 64 == 0);
    CHECK(b.data() >= &a(2, 9) + 1);
    CHECK(scratch.left() == 1600 - 3 * 16 - 2 * 32);
  }
  CHECK(scratch.left() == 1600);
}

TEST_CASE("scratch: stretches cover all tokens once, and one token must fit") {
  Scratch<double> scratch(100);
  std::vector<std::pair<Index, Index>> stretches;
  scratch.for_stretches(10, 25, [&](Index first, Index count) { stretches.emplace_back(first, count); });
  CHECK(stretches == std::vector<std::pair<Index, Index>>{{0, 4}, {4, 4}, {8, 2}});
  scratch.for_stretches(0, 25, [&](Index, Index) { FAIL("no token, no stretch"); });
  CHECK(test::message_of<std::invalid_argument>([&] { scratch.for_stretches(1, 101, [](Index, Index) {}); }) ==
        "aviary: scratch has 100 numbers left, one token needs 101");
}

TEST_CASE("allocation counter: sees what is allocated") {
#if !defined(AVIARY_TEST_ADDRESS_SANITIZER)
  test::AllocationCounter const allocations;
  std::vector<int> volatile_size(1000);
  CHECK(volatile_size.data() != nullptr);
  CHECK(allocations.count() == 1);
  Scratch<float> const aligned(100);
  CHECK(aligned.left() == 100);
  CHECK(allocations.count() == 2);
#endif
}
