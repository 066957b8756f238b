#pragma once
/// Every model's memories, in the sizes that tests take, behind functions that are compiled once for all programs of tests:
/// a memory's passes are what takes longest to compile.
#include "support/gradient_case.hpp"

namespace aviary::test {

enum class Arithmetic { float32, float64 };

/// K and V, known at compile time or at run time.
enum class Sizes { k16_v16, k16_v24, k64_v64, run_time };

/// In float there are all of them, in double k16_v24 and run_time. With AVIARY_TEST_ONE_SIZE float has k16_v24, and double
/// run_time.
constexpr bool has(Arithmetic number, Sizes sizes) {
  bool const in_float = number == Arithmetic::float32;
#if defined(AVIARY_TEST_ONE_SIZE)
  return sizes == (in_float ? Sizes::k16_v24 : Sizes::run_time);
#else
  return in_float || sizes == Sizes::k16_v24 || sizes == Sizes::run_time;
#endif
}

/// Gradients: in float k16_v24 and run_time, in double run_time; with AVIARY_TEST_ONE_SIZE as above.
constexpr bool has_gradients(Arithmetic number, Sizes sizes) {
  return has(number, sizes) && (sizes == Sizes::run_time || (number == Arithmetic::float32 && sizes == Sizes::k16_v24));
}

inline char const* name(Arithmetic n) { return n == Arithmetic::float32 ? "float" : "double"; }
inline double matrix_bound_of(Arithmetic n) {
  return n == Arithmetic::float32 ? matrix_bound<float> : matrix_bound<double>;
}

/// What a memory of rule R makes of a case. Defined in memories_of.hpp, and instantiated for all rules of the library in
/// tests/support/memories/, in the sizes that there are: in others the sizes are those of run time.
template <class R> struct Memories {
  static MatrixResult forward(RuleCase<R> const& c, Arithmetic number, Sizes sizes);
  static MatrixResult steps(RuleCase<R> const& c, Arithmetic number, Sizes sizes);
  static GradientResult<R> gradients(GradientCase<R> const& c, Arithmetic number, Sizes sizes, Keep keep = {});
};

}  // namespace aviary::test
