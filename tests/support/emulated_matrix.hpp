#pragma once
/// Matrix memories whose verbs are the kernels for a device, run on the host.
#include "aviary/cuda/matrix_kernels.hpp"
#include "support/emulated.hpp"

namespace aviary::test {

/// Where an executor runs tasks backwards, blocks and their threads run backwards.
template <class R, class Number, Index K, Index V, class Stored>
struct Emulated<MatrixMemory<R, Number, K, V, Stored>> : MatrixMemory<R, Number, K, V, Stored> {
  using M = MatrixMemory<R, Number, K, V, Stored>;
  using T = Number;
  using State = typename M::State;

  template <class P = T, class E = Serial> static void forward(typename M::ForwardCall const& call, E&& = {}) {
    forward_by<cuda::WideForward<M>>(call, backwards<E>);
  }
  /// By blocks of some width.
  template <class Kernel> static void forward_by(typename M::ForwardCall const& call, bool backwards = false) {
    with_states(call, [&](auto const& there, Index heads) {
      cuda::emulate<Kernel>(cuda::forward_arguments<Kernel, M>(there, heads), backwards);
    });
  }
  /// In pieces of so many tokens.
  template <class E = Serial>
  static void forward_in_pieces(typename M::ForwardCall const& call, Index piece, E&& = {}) {
    with_states(call, [&](auto const& there, Index heads) {
      using Kernel = cuda::WideForward<M>;
      cuda::PiecesPlan<M> const plan({there.offsets, there.tokens()}, heads, piece);
      auto forward = cuda::forward_arguments<Kernel, M>(there, heads);
      std::vector<State> before(to_size(plan.pieces.units()));
      std::vector<cuda::PieceMap<M>> maps(before.size());
      forward.pieces = plan.pieces, forward.initial = before.data();
      cuda::emulate<cuda::Map<M>>({there.x, plan.pieces, maps.data()}, backwards<E>);
      cuda::emulate<cuda::ScanKernel<M>>({plan.pieces, maps.data(), forward.final, before.data()}, backwards<E>);
      cuda::emulate<Kernel>(forward, backwards<E>);
    });
  }

  /// For one round.
  static std::size_t backward_workspace(typename M::Inputs const& x, Index heads, std::span<Index const> offsets = {},
                                        Index every = 16, Index = 1) noexcept {
    Index const tokens = aviary::detail::input_tokens<R>(x);
    return to_size(
        cuda::backward_plan<M>(x, heads, aviary::detail::Packing{offsets, tokens}.sequences(), every, tokens));
  }
  template <class P = T, class E = Serial> static void backward(typename M::BackwardCall const& call, E&& = {}) {
    auto arguments = cuda::backward_arguments<M>(call);
    for (Index const rounds = cuda::backward_rounds(arguments); arguments.round < rounds; ++arguments.round) {
      cuda::emulate<cuda::Backward<M>>(arguments, backwards<E>);
      if constexpr (cuda::Backward<M>::slices > 1) cuda::emulate<cuda::Pull<M>>(arguments, backwards<E>);
    }
    cuda::emulate<cuda::SumKernel<M>>(cuda::sum_arguments(arguments), backwards<E>);
  }

  /// The host's checks, with the tape and the workspace of these kernels.
  static std::string check(typename M::ForwardCall const& call) { return M::check(call); }
  static std::string check(typename M::BackwardCall call) {
    if (call.tape.every > cuda::Backward<M>::longest_interval) return "a tape with too few states";
    Index const heads = call.dy.heads();
    Index const sequences = aviary::detail::Packing{call.offsets, call.dy.tokens()}.sequences();
    if (static_cast<Index>(call.workspace.size()) <
        cuda::backward_plan<M>(call.x, heads, sequences, call.tape.every, 1))
      return "a small workspace";
    std::vector<T> numbers(M::backward_workspace(call.x, heads, call.offsets, call.tape.every));
    call.workspace = numbers;
    return M::check(call);
  }

 private:
  /// f(call, heads) with the states in one place, as on a device.
  template <class F> static void with_states(typename M::ForwardCall call, F&& f) {
    Index const sequences = aviary::detail::Packing{call.offsets, call.tokens()}.sequences();
    Index const heads = sequences == 0 ? 0 : static_cast<Index>(call.states.size()) / sequences;
    auto const given = call.states;
    std::vector<State> states;
    for (Index s = 0; s < sequences; ++s) states.insert(states.end(), given.of(s, heads), given.of(s, heads) + heads);
    call.states = states;
    f(call, heads);
    for (Index s = 0; s < sequences; ++s) std::copy_n(states.begin() + s * heads, heads, given.of(s, heads));
  }
  template <class E> static constexpr bool backwards = std::is_same_v<std::remove_cvref_t<E>, Backwards>;
};

}  // namespace aviary::test
