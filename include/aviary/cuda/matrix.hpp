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
  auto const arguments = forward_arguments<M>(call, heads);
  if (WideForward<M>::blocks(arguments) >= count) return launch<WideForward<M>>("forward", arguments, stream);
  return launch<NarrowForward<M>>("forward", arguments, stream);
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
  if (sequences * heads == 0) return {};
  auto arguments = backward_arguments<M>(call);
  for (Index rounds = backward_rounds(arguments); arguments.round < rounds; ++arguments.round) {
    if (Status const status = launch<Backward<M>>("backward", arguments, stream); !status) return status;
    if constexpr (Backward<M>::slices > 1)
      if (Status const status = launch<Pull<M>>("backward", arguments, stream); !status) return status;
  }
  return launch<SumKernel<M>>("backward", sum_arguments(arguments), stream);
}

}  // namespace AVIARY_NAMESPACE::cuda
