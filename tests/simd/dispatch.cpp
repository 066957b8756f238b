/// The choice among the instruction sets of a program. Programs that have several: tests/consumer.
#include "aviary/simd/dispatch.hpp"

#include <doctest/doctest.h>

#include <string>

using aviary::dispatch::Set;
using namespace aviary::simd;

namespace dispatch_test {

struct Table {
  int (*twice)(int);
};

}  // namespace dispatch_test

namespace {

using dispatch_test::Table;

int twice(int x) { return 2 * x; }

bool all(Set) noexcept { return true; }
bool without_avx512(Set set) noexcept { return set < Set::avx512; }
bool without_avx2(Set set) noexcept { return set != Set::avx2; }
bool baseline_alone(Set set) noexcept { return set == Set::baseline; }

}  // namespace

AVIARY_ENTRIES(dispatch_test::Table){.twice = twice};

TEST_CASE("dispatch: without a name, the best set that is in the program and runs") {
  CHECK(detail::find_set("", all, all) == Set::amx);
  CHECK(detail::find_set("", without_avx512, all) == Set::avx2);
  CHECK(detail::find_set("", all, without_avx512) == Set::avx2);
  CHECK(detail::find_set("", without_avx2, without_avx512) == Set::baseline);
  CHECK(detail::find_set("", baseline_alone, all) == Set::baseline);
}

TEST_CASE("dispatch: a name forces its set, or is refused in words") {
  for (Set const set : detail::best_first) {
    CHECK(detail::find_set(name_of(set), all, all) == set);
  }
  CHECK(!detail::find_set("avx512", all, without_avx512));
  CHECK(detail::why_no_set("avx512", all, without_avx512) ==
        "AVIARY_INSTRUCTION_SET: expected avx2 or baseline, found 'avx512', which this processor cannot run");
  CHECK(!detail::find_set("avx2", without_avx2, all));
  CHECK(detail::why_no_set("avx2", without_avx2, all) ==
        "AVIARY_INSTRUCTION_SET: expected amx or vnni or avx512 or baseline, found 'avx2', which this program was "
        "compiled without");
  for (char const* name : {"AVX2", "avx", "avx512 ", "?"}) {
    CHECK(!detail::find_set(name, all, all));
    CHECK(detail::why_no_set(name, all, baseline_alone) ==
          "AVIARY_INSTRUCTION_SET: expected baseline, found '" + std::string(name) + "'");
  }
}

TEST_CASE("dispatch: a program without further sets has a baseline") {
  static_assert(noexcept(find<Table>()));
  auto const chosen = find<Table>();
  REQUIRE(chosen);
  CHECK(chosen.set == Set::baseline);
  CHECK(chosen->twice(21) == 42);
  CHECK(find<Table>("baseline")->twice(21) == 42);
  CHECK(!find<Table>("avx2"));
  CHECK(!find<Table>("avx512"));
}

TEST_CASE("dispatch: the processor runs what the program was compiled for") {
  CHECK(runs(Set::baseline));
  for (std::size_t i = 1; i < detail::best_first.size(); ++i)
    CHECK((runs(detail::best_first[i]) || !runs(detail::best_first[i - 1])));
#if defined(AVIARY_ISA_HAS_V3)
  CHECK(runs(Set::avx2));
#if defined(__AVX512BW__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
  CHECK(runs(Set::avx512));
#if defined(__AVX512VNNI__)
  CHECK(runs(Set::vnni));
#if defined(__AVX512BF16__) && defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__)
  CHECK(runs(Set::amx));
#endif
#endif
#endif
#endif
}
