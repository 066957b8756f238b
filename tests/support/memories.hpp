#pragma once
/// Every model's memories, in the sizes that tests take, behind functions that are compiled once for all programs of tests:
/// a memory's forward and step are what takes longest to compile.
#include "support/rule_case.hpp"

namespace aviary::test {

enum class Arithmetic { float32, float64 };

/// K and V, known at compile time or at run time.
enum class Sizes { k16_v16, k16_v24, k64_v64, run_time };

inline char const* name(Arithmetic n) { return n == Arithmetic::float32 ? "float" : "double"; }
inline double matrix_bound_of(Arithmetic n) {
  return n == Arithmetic::float32 ? matrix_bound<float> : matrix_bound<double>;
}

/// What a memory of rule R makes of a case. Defined in memories_of.hpp, and instantiated for all rules of the library in
/// tests/support/memories/. With AVIARY_TEST_ONE_SIZE there is k16_v24 and run_time alone.
template <class R> struct Memories {
  static MatrixResult forward(RuleCase<R> const& c, Arithmetic number, Sizes sizes);
  static MatrixResult steps(RuleCase<R> const& c, Arithmetic number, Sizes sizes);
};

}  // namespace aviary::test
