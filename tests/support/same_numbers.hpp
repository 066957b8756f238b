#pragma once
/// Inputs of any rule whose fields all lie in one place: for tests that ask how a call runs, not what it computes.
#include "aviary/matrix/memory.hpp"

namespace aviary::test {

/// Every field reads (tokens, heads, size) numbers from x on; for a number of a token or a head, the first ones.
template <class M> typename M::Inputs same_inputs(typename M::T const* x, Index tokens, Index heads, Index size) {
  using R = typename M::Rule;
  return aviary::detail::transform_fields<R, typename M::Inputs>(
      aviary::detail::Axes<R>{}, [&]<Axis A>(aviary::detail::AxisTag<A>, auto) {
        constexpr Index n = aviary::detail::axis_size<A, M::keys, M::values>;
        Index const numbers = one_number(A) ? 1 : size;
        if constexpr (per_token(A))
          return Source<n>(x, tokens, heads, numbers);
        else
          return HeadSource<n>(x, heads, numbers);
      });
}

/// The same for a token of one head.
template <class M> typename M::Token same_token(typename M::T const* x, Index size) {
  using R = typename M::Rule;
  return aviary::detail::transform_fields<R, typename M::Token>(
      aviary::detail::Axes<R>{}, [&]<Axis A>(aviary::detail::AxisTag<A>, auto) {
        if constexpr (one_number(A))
          return Required<typename M::T>(*x);
        else
          return VecView<typename M::T const, aviary::detail::axis_size<A, M::keys, M::values>>(x, size);
      });
}

}  // namespace aviary::test
