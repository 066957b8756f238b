#pragma once
/// Matrix memories whose verbs are the kernels for a device, run on the host.
#include "support/device_calls.hpp"
#include "support/emulated.hpp"

namespace aviary::test {

/// Where an executor runs tasks backwards, blocks and their threads run backwards.
template <class R, class Number, Index K, Index V, class Stored>
struct Emulated<MatrixMemory<R, Number, K, V, Stored>> : DeviceCalls<MatrixMemory<R, Number, K, V, Stored>> {
  using M = MatrixMemory<R, Number, K, V, Stored>;
  using T = Number;
  using State = typename M::State;

  template <class P = T, class E = Serial> static void forward(typename M::ForwardCall const& call, E&& = {}) {
    forward_by<cuda::WideForward<M>>(call, backwards<E>);
  }
  /// By blocks of some width.
  template <class Kernel> static void forward_by(typename M::ForwardCall const& call, bool in_reverse = false) {
    Emulated::with_states(call, [&](auto const& there, Index heads) {
      cuda::emulate<Kernel>(cuda::forward_arguments<Kernel, M>(there, heads), in_reverse);
    });
  }
  /// In pieces of so many tokens, which go as Way says.
  template <class Way = cuda::Wide<M>, class E = Serial>
  static void forward_in_pieces(typename M::ForwardCall const& call, Index piece, E&& = {}) {
    Emulated::with_states(call, [&](auto const& there, Index heads) {
      using Kernel = cuda::ForwardKernel<M, Way>;
      cuda::PiecesPlan<M> const plan({there.offsets, there.tokens()}, heads, piece);
      auto forward = cuda::forward_arguments<Kernel, M>(there, heads);
      std::vector<State> before(to_size(plan.pieces.units()));
      std::vector<cuda::PieceMap<M>> maps(before.size());
      forward.pieces = plan.pieces, forward.initial = before.data();
      cuda::emulate<cuda::MapKernel<M, Way>>({there.x, plan.pieces, maps.data()}, backwards<E>);
      cuda::emulate<cuda::ScanKernel<M>>({plan.pieces, maps.data(), forward.final, before.data()}, backwards<E>);
      cuda::emulate<Kernel>(forward, backwards<E>);
    });
  }

  template <class P = T, class E = Serial> static void backward(typename M::BackwardCall const& call, E&& = {}) {
    backward_by<cuda::Backward<M>>(call, backwards<E>);
  }
  /// By some kernel that walks back.
  template <class Walk> static void backward_by(typename M::BackwardCall const& call, bool in_reverse = false) {
    auto arguments = cuda::backward_arguments<M, Walk>(call);
    for (Index const rounds = cuda::backward_rounds(arguments); arguments.round < rounds; ++arguments.round) {
      cuda::emulate<Walk>(arguments, in_reverse);
      if constexpr (Walk::hands_over) cuda::emulate<cuda::PullKernel<M, Walk>>(arguments, in_reverse);
    }
    cuda::emulate<cuda::SumKernel<M>>(cuda::sum_arguments(arguments), in_reverse);
  }

 private:
  template <class E> static constexpr bool backwards = std::is_same_v<std::remove_cvref_t<E>, Backwards>;
};

}  // namespace aviary::test
