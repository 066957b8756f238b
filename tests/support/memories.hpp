#pragma once
/// Every model's memories, in the sizes that tests take, behind functions that are compiled once for all programs of tests:
/// a memory's forward and step are what takes longest to compile.
#include "support/rule_case.hpp"

namespace aviary::test {

enum class Arithmetic { float32, float64 };

/// K and V, known at compile time or at run time.
enum class Sizes { k16_v16, k16_v24, k64_v64, run_time };

/// In float there are all of them, in double, or with AVIARY_TEST_ONE_SIZE, k16_v24 and run_time.
constexpr bool has([[maybe_unused]] Arithmetic number, Sizes sizes) {
#if defined(AVIARY_TEST_ONE_SIZE)
  constexpr bool all = false;
#else
  bool const all = number == Arithmetic::float32;
#endif
  return all || sizes == Sizes::k16_v24 || sizes == Sizes::run_time;
}

inline char const* name(Arithmetic n) { return n == Arithmetic::float32 ? "float" : "double"; }
inline double matrix_bound_of(Arithmetic n) {
  return n == Arithmetic::float32 ? matrix_bound<float> : matrix_bound<double>;
}

/// What a memory of rule R makes of a case. Defined in memories_of.hpp, and instantiated for all rules of the library in
/// tests/support/memories/, in the sizes that there are.
template <class R> struct Memories {
  static MatrixResult forward(RuleCase<R> const& c, Arithmetic number, Sizes sizes);
  static MatrixResult steps(RuleCase<R> const& c, Arithmetic number, Sizes sizes);
};

}  // namespace aviary::test
