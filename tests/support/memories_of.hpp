#pragma once
/// The definitions of support/memories.hpp, for the sources that instantiate them.
#include <stdexcept>

#include "support/memories.hpp"

namespace aviary::test {
namespace detail {

/// f.operator()<Memory>() for the memory of rule R with these numbers and sizes.
template <class R, class F> MatrixResult with_memory(Arithmetic number, Sizes sizes, F&& f) {
  auto const sized = [&]<class T>() {
    switch (sizes) {
#if !defined(AVIARY_TEST_ONE_SIZE)
      case Sizes::k16_v16:
        return f.template operator()<MatrixMemory<R, T, 16, 16>>();
      case Sizes::k64_v64:
        return f.template operator()<MatrixMemory<R, T, 64, 64>>();
#endif
      case Sizes::k16_v24:
        return f.template operator()<MatrixMemory<R, T, 16, 24>>();
      case Sizes::run_time:
        return f.template operator()<MatrixMemory<R, T, dynamic, dynamic>>();
      default:
        throw std::invalid_argument("tests: a build with AVIARY_TEST_ONE_SIZE has no memory of this size");
    }
  };
  return number == Arithmetic::float32 ? sized.template operator()<float>() : sized.template operator()<double>();
}

}  // namespace detail

template <class R> MatrixResult Memories<R>::forward(RuleCase<R> const& c, Arithmetic number, Sizes sizes) {
  return detail::with_memory<R>(number, sizes, [&]<class M>() { return RuleRun<M>(c).forward().result(); });
}
template <class R> MatrixResult Memories<R>::steps(RuleCase<R> const& c, Arithmetic number, Sizes sizes) {
  return detail::with_memory<R>(number, sizes, [&]<class M>() { return RuleRun<M>(c).steps().result(); });
}

}  // namespace aviary::test
