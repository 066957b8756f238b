#pragma once
/// The definitions of support/memories.hpp, for the sources that instantiate them.
#include <stdexcept>
#include <type_traits>

#include "support/memories.hpp"

namespace aviary::test {
namespace detail {

/// f.operator()<Memory>() for the memory of rule R with these numbers and sizes, of those that has(number, sizes) is true for.
template <class R, auto has, class F> auto with_memory(Arithmetic number, Sizes sizes, F&& f) {
  using Result = decltype(f.template operator()<MatrixMemory<R, float, dynamic, dynamic>>());
  auto const fixed = [&]<class T, Index K, Index V, Sizes s>() -> Result {
    if constexpr (has(std::is_same_v<T, float> ? Arithmetic::float32 : Arithmetic::float64, s))
      return f.template operator()<MatrixMemory<R, T, K, V>>();
    else
      throw std::invalid_argument("tests: this build has no memory of this size and arithmetic");
  };
  auto const sized = [&]<class T>() {
    switch (has(number, sizes) ? sizes : Sizes::run_time) {
      case Sizes::k16_v16:
        return fixed.template operator()<T, 16, 16, Sizes::k16_v16>();
      case Sizes::k16_v24:
        return fixed.template operator()<T, 16, 24, Sizes::k16_v24>();
      case Sizes::k64_v64:
        return fixed.template operator()<T, 64, 64, Sizes::k64_v64>();
      default:
        return fixed.template operator()<T, dynamic, dynamic, Sizes::run_time>();
    }
  };
  return number == Arithmetic::float32 ? sized.template operator()<float>() : sized.template operator()<double>();
}

}  // namespace detail

template <class R> MatrixResult Memories<R>::forward(RuleCase<R> const& c, Arithmetic number, Sizes sizes) {
  return detail::with_memory<R, has>(number, sizes, [&]<class M>() { return RuleRun<M>(c).forward().result(); });
}
template <class R> MatrixResult Memories<R>::steps(RuleCase<R> const& c, Arithmetic number, Sizes sizes) {
  return detail::with_memory<R, has>(number, sizes, [&]<class M>() { return RuleRun<M>(c).steps().result(); });
}
template <class R>
GradientResult<R> Memories<R>::gradients(GradientCase<R> const& c, Arithmetic number, Sizes sizes, Keep keep) {
  return detail::with_memory<R, has_gradients>(number, sizes, [&]<class M>() { return gradients_of<M>(c, keep); });
}

}  // namespace aviary::test
