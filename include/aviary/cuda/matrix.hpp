#pragma once
/// The verbs of matrix memories on a device:
///
///     using M = aviary::Wkv7<float, 64>;
///     aviary::cuda::Status const status = aviary::cuda::forward<M>({.x = x, .y = y, .states = states}, stream);
///     if (!status) std::fputs(status.message().c_str(), stderr);
///
/// Calls are those of the host, with pointers of the device everywhere: numbers, states, tape, positions of sequences and
/// workspace. Inputs and outputs are float, bf16 or f16, each field its own (double too where the arithmetic is double). A verb puts
/// kernels on the stream and returns; it allocates nothing on the device, waits for nothing and reads nothing that lies there. States
/// lie in one array.
#include "aviary/cuda/launch.hpp"
#include "aviary/cuda/matrix_check.hpp"
#include "aviary/cuda/matrix_kernels.hpp"

namespace AVIARY_NAMESPACE::cuda {

template <class M> inline constexpr bool is_matrix_memory = false;
template <class R, class T, Index K, Index V, class S>
inline constexpr bool is_matrix_memory<MatrixMemory<R, T, K, V, S>> = true;

/// A matrix memory whose states may lie on a device.
template <class M>
concept DeviceMatrices = is_matrix_memory<M> && M::keys != dynamic&& M::values != dynamic&& M::keys <= 256;

/// Packed sequences through all heads. The bits depend neither on the device nor on what other sequences there are.
/// Error:  that of the host's kernels.
/// Cost:   2 to 5 fused multiply-adds a state element and token. A block takes a head, or a part of its values where there are too
///         few heads for the device; where that is too little, see forward_in_pieces.
template <DeviceMatrices M> Status forward(typename M::ForwardCall const& call, Stream stream) {
  Index const sequences = detail::Packing{call.offsets, call.tokens()}.sequences();
  Index const heads = sequences == 0 ? 0 : static_cast<Index>(call.states.size()) / sequences;
  if (Status const wrong = status_of("forward", MatrixDeviceCheck<M>::forward(call, heads)); !wrong) return wrong;
  if (call.states.empty()) return {};
  int count = 0;
  if (Status const status = processors("forward", count); !status) return status;
  using Wide = WideForward<M>;
  using Narrow = NarrowForward<M>;
  if (sequences * heads * Wide::slices >= count)
    return launch<Wide>("forward", forward_arguments<Wide, M>(call, heads), stream);
  return launch<Narrow>("forward", forward_arguments<Narrow, M>(call, heads), stream);
}

/// Numbers of workspace for `forward_in_pieces`, on a boundary of 64 bytes.
template <DeviceMatrices M>
std::size_t pieces_workspace(typename M::Inputs const& x, Index heads, Index piece, Index sequences = 1) noexcept {
  detail::Packing const packing{{}, detail::input_tokens<typename M::Rule>(x)};
  return to_size(sequences * PiecesPlan<M>(packing, heads, piece).total());
}

/// `forward` where there are few heads and long sequences: these are cut into pieces of so many tokens, which are taken at once, twice:
/// first to one affine map each, then, when the states between them are known, to their outputs. Where a tape keeps states a piece is
/// a multiple of its interval.
/// Error:  that of `forward`, and of the maps' composition (equations, 2.7).
/// Cost:   with an erasure 2 + K / V times the work of `forward`, else twice; it pays where `forward` leaves most of a device idle.
template <DeviceMatrices M>
Status forward_in_pieces(typename M::ForwardCall const& call, Index piece, std::span<typename M::T> workspace,
                         Stream stream) {
  char const* const verb = "forward_in_pieces";
  detail::Packing const packing{call.offsets, call.tokens()};
  Index const sequences = packing.sequences();
  Index const heads = sequences == 0 ? 0 : static_cast<Index>(call.states.size()) / sequences;
  if (Status const wrong = status_of(verb, MatrixDeviceCheck<M>::forward_in_pieces(call, heads, piece, workspace));
      !wrong)
    return wrong;
  if (call.states.empty()) return {};
  using Kernel = WideForward<M>;
  PiecesPlan<M> const plan(packing, heads, piece);
  auto forward = forward_arguments<Kernel, M>(call, heads);
  auto* const maps = plan.maps_in(workspace.data());
  auto* const before = plan.states_in(workspace.data());
  forward.pieces = plan.pieces, forward.initial = before;
  if (Status const status = launch<Map<M>>(verb, {call.x, plan.pieces, maps}, stream); !status) return status;
  if (Status const status = launch<ScanKernel<M>>(verb, {plan.pieces, maps, forward.final, before}, stream); !status)
    return status;
  return launch<Kernel>(verb, forward, stream);
}

/// Tokens between states of a tape, at most, for `backward` on a device.
template <DeviceMatrices M> inline constexpr Index longest_interval = Backward<M>::longest_interval;

/// Numbers of workspace that `backward` needs on a device for these inputs, sequences and a tape of that interval. Where several blocks
/// share a head (more than 64 values, or 64 keys) they meet after every `round` tokens: more of these take more memory and less time.
template <DeviceMatrices M>
std::size_t backward_workspace(typename M::Inputs const& x, Index heads, Index sequences = 1, Index every = 16,
                               Index round = 1024) noexcept {
  return to_size(backward_plan<M>(x, heads, sequences, every, round));
}

/// The gradients of packed sequences, as on the host. tape.every is at most longest_interval<M>. The bits depend neither on what is
/// wanted nor on the order in which blocks run.
/// Error:  that of the host's kernels.
template <DeviceMatrices M> Status backward(typename M::BackwardCall const& call, Stream stream) {
  Index const heads = call.dy.heads(), sequences = detail::Packing{call.offsets, call.dy.tokens()}.sequences();
  Index const least = backward_plan<M>(call.x, heads, sequences, call.tape.every, 1);
  if (Status const wrong =
          status_of("backward", MatrixDeviceCheck<M>::backward(call, Backward<M>::longest_interval, least));
      !wrong)
    return wrong;
  auto arguments = backward_arguments<M>(call);
  for (Index rounds = backward_rounds(arguments); arguments.round != rounds; ++arguments.round) {
    if (Status const status = launch<Backward<M>>("backward", arguments, stream); !status) return status;
    if constexpr (Backward<M>::slices > 1)
      if (Status const status = launch<Pull<M>>("backward", arguments, stream); !status) return status;
  }
  return launch<SumKernel<M>>("backward", sum_arguments(arguments), stream);
}

}  // namespace AVIARY_NAMESPACE::cuda
