#pragma once
/// What calls of a matrix memory look like where kernels for a device run them: its checks, and the workspace that they need.
#include "aviary/cuda/matrix_kernels.hpp"
#include "support/gradient_case.hpp"

namespace aviary::test {

template <class M> struct DeviceCalls : M {
  /// For one round.
  static std::size_t backward_workspace(typename M::Inputs const& x, Index heads, std::span<Index const> offsets = {},
                                        Index every = 16, Index = 1) noexcept {
    Index const tokens = aviary::detail::input_tokens<typename M::Rule>(x);
    return to_size(
        cuda::backward_plan<M>(x, heads, aviary::detail::Packing{offsets, tokens}.sequences(), every, tokens));
  }

  /// The host's checks, with the tape and the workspace of these kernels.
  static std::string check(typename M::ForwardCall const& call) { return M::check(call); }
  static std::string check(typename M::BackwardCall call) {
    if (call.tape.every > cuda::Backward<M>::longest_interval) return "a tape with too few states";
    Index const heads = call.dy.heads(),
                sequences = aviary::detail::Packing{call.offsets, call.dy.tokens()}.sequences();
    if (static_cast<Index>(call.workspace.size()) <
        cuda::backward_plan<M>(call.x, heads, sequences, call.tape.every, 1))
      return "a small workspace";
    std::vector<typename M::T> numbers(M::backward_workspace(call.x, heads, call.offsets, call.tape.every));
    call.workspace = numbers;
    return M::check(call);
  }

  /// f(call, heads) with the states in one place, as on a device.
  template <class F> static void with_states(typename M::ForwardCall call, F&& f) {
    Index const sequences = aviary::detail::Packing{call.offsets, call.tokens()}.sequences();
    Index const heads = sequences == 0 ? 0 : static_cast<Index>(call.states.size()) / sequences;
    auto const given = call.states;
    std::vector<typename M::State> states;
    for (Index s = 0; s < sequences; ++s) states.insert(states.end(), given.of(s, heads), given.of(s, heads) + heads);
    call.states = states;
    f(call, heads);
    for (Index s = 0; s < sequences; ++s) std::copy_n(states.begin() + s * heads, heads, given.of(s, heads));
  }
};

}  // namespace aviary::test
