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
/// One that tensor cores serve.
template <class M>
concept TensorMatrices = DeviceMatrices<M> && std::is_same_v<typename M::T, float> &&
                         sizeof(typename M::StateNumber) <= sizeof(float);

namespace runtime {

/// How many heads of how many sequences a call has.
template <class M> struct Heads {
  Index sequences, of_each;
  explicit Heads(typename M::ForwardCall const& call) noexcept
      : sequences(detail::Packing{call.offsets, call.tokens()}.sequences()),
        of_each(sequences == 0 ? 0 : static_cast<Index>(call.states.size()) / sequences) {}
};

/// By wide blocks if they are enough for the device, else by narrow ones.
template <class Wide, class Narrow, class M>
Status forward(char const* verb, typename M::ForwardCall const& call, Heads<M> heads, Stream stream) {
  if (call.states.empty()) return {};
  int count = 0;
  if (Status const status = processors(verb, count); !status) return status;
  if (static_cast<Index>(call.states.size()) * Wide::slices >= count)
    return launch<Wide>(verb, forward_arguments<Wide, M>(call, heads.of_each), stream);
  return launch<Narrow>(verb, forward_arguments<Narrow, M>(call, heads.of_each), stream);
}

/// In pieces, tokens going as Way says.
template <class Way, class M>
Status forward_in_pieces(char const* verb, typename M::ForwardCall const& call, Heads<M> heads, Index piece,
                         std::span<typename M::T> workspace, Stream stream) {
  if (call.states.empty()) return {};
  using Kernel = ForwardKernel<M, Way>;
  PiecesPlan<M> const plan({call.offsets, call.tokens()}, heads.of_each, piece);
  auto forward = forward_arguments<Kernel, M>(call, heads.of_each);
  auto* const maps = plan.maps_in(workspace.data());
  auto* const before = plan.states_in(workspace.data());
  forward.pieces = plan.pieces, forward.initial = before;
  if (Status const status = launch<MapKernel<M, Way>>(verb, {call.x, plan.pieces, maps}, stream); !status)
    return status;
  if (Status const status = launch<ScanKernel<M>>(verb, {plan.pieces, maps, forward.final, before}, stream); !status)
    return status;
  return launch<Kernel>(verb, forward, stream);
}

}  // namespace runtime

/// Packed sequences through all heads. The bits depend neither on the device nor on what other sequences there are.
/// Error:  that of the host's kernels.
/// Cost:   2 to 5 fused multiply-adds a state element and token. A block takes a head, or a part of its values where there are too
///         few heads for the device; where that is too little, see forward_in_pieces.
template <DeviceMatrices M> Status forward(typename M::ForwardCall const& call, Stream stream) {
  runtime::Heads<M> const heads(call);
  if (Status const wrong = status_of("forward", MatrixDeviceCheck<M>::forward(call, heads.of_each)); !wrong)
    return wrong;
  return runtime::forward<WideForward<M>, NarrowForward<M>>("forward", call, heads, stream);
}

/// `forward` on tensor cores, in chunks of 16 tokens from a sequence's first one on (equations, 2.4 and 2.5). All fields along keys and
/// values but log_w are stored as S. Needs a device, and code compiled for one, of compute capability 8.0.
/// Error:  operands are rounded to 11 bits (TF32; numbers of bf16 and f16 are exact there), sums are in float: outputs and states are
///         within 8 x 2^-11 of their largest number. A token that is not finite spoils its chunk.
/// Cost:   2 to 4 multiply-adds a state element and token, on tensor cores; a block needs more shared memory than those of `forward`.
template <TensorMatrices M, Stored S = bf16>
Status forward_in_chunks(typename M::ForwardCall const& call, Stream stream) {
  char const* const verb = "forward_in_chunks";
  runtime::Heads<M> const heads(call);
  if (Status const wrong = status_of(verb, MatrixDeviceCheck<M>::template rows_are<S>(verb, call.x)); !wrong)
    return wrong;
  if (Status const wrong = status_of(verb, MatrixDeviceCheck<M>::forward(call, heads.of_each)); !wrong) return wrong;
  if (Status const status = tensor_cores<WideChunks<M, S>>(verb); !status) return status;
  return runtime::forward<WideChunks<M, S>, NarrowChunks<M, S>>(verb, call, heads, stream);
}

/// Numbers of workspace for `forward_in_pieces`, on a boundary of 64 bytes.
template <DeviceMatrices M>
std::size_t pieces_workspace(typename M::Inputs const& x, Index heads, Index piece, Index sequences = 1) noexcept {
  detail::Packing const packing{{}, detail::input_tokens<typename M::Rule>(x)};
  return to_size(sequences * PiecesPlan<M>(packing, heads, piece).total());
}

/// `forward` where there are few heads and long sequences: these are cut into pieces of so many tokens, which are taken at once, twice:
/// first to one affine map each, then, when the states between them are known, to their outputs. Where a tape keeps states a piece is
/// a multiple of its interval. With a format S of numbers tokens go in chunks, as in forward_in_chunks.
/// Error:  that of `forward`, or of forward_in_chunks, and of the maps' composition (equations, 2.7).
/// Cost:   with an erasure 2 + K / V times the work of `forward`, else twice; it pays where `forward` leaves most of a device idle.
template <DeviceMatrices M, class S = void>
requires(std::is_void_v<S> || (TensorMatrices<M> && Stored<S>)) Status
    forward_in_pieces(typename M::ForwardCall const& call, Index piece, std::span<typename M::T> workspace,
                      Stream stream) {
  char const* const verb = "forward_in_pieces";
  runtime::Heads<M> const heads(call);
  if (Status const wrong =
          status_of(verb, MatrixDeviceCheck<M>::forward_in_pieces(call, heads.of_each, piece, workspace));
      !wrong)
    return wrong;
  if constexpr (std::is_void_v<S>) {
    return runtime::forward_in_pieces<Wide<M>>(verb, call, heads, piece, workspace, stream);
  } else {
    if (Status const wrong = status_of(verb, MatrixDeviceCheck<M>::template rows_are<S>(verb, call.x)); !wrong)
      return wrong;
    if (Status const status = tensor_cores<ForwardKernel<M, Chunks<M, S>>>(verb); !status) return status;
    return runtime::forward_in_pieces<Chunks<M, S>>(verb, call, heads, piece, workspace, stream);
  }
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

namespace runtime {

/// By some kernel that walks back.
template <class Walk, class M> Status backward(char const* verb, typename M::BackwardCall const& call, Stream stream) {
  Index const heads = call.dy.heads(), sequences = detail::Packing{call.offsets, call.dy.tokens()}.sequences();
  Index const least = backward_plan<M, Walk>(call.x, heads, sequences, call.tape.every, 1);
  if (Status const wrong = status_of(verb, MatrixDeviceCheck<M>::backward(call, Walk::longest_interval, least)); !wrong)
    return wrong;
  auto arguments = backward_arguments<M, Walk>(call);
  for (Index rounds = backward_rounds(arguments); arguments.round != rounds; ++arguments.round) {
    if (Status const status = launch<Walk>(verb, arguments, stream); !status) return status;
    if constexpr (Walk::hands_over)
      if (Status const status = launch<PullKernel<M, Walk>>(verb, arguments, stream); !status) return status;
  }
  return launch<SumKernel<M>>(verb, sum_arguments(arguments), stream);
}

}  // namespace runtime

/// The gradients of packed sequences, as on the host. tape.every is at most longest_interval<M>. The bits depend neither on what is
/// wanted nor on the order in which blocks run.
/// Error:  that of the host's kernels.
template <DeviceMatrices M> Status backward(typename M::BackwardCall const& call, Stream stream) {
  return runtime::backward<Backward<M>, M>("backward", call, stream);
}

/// backward_workspace for backward_in_chunks: blocks meet there after every `round` tokens in any case.
template <TensorMatrices M>
std::size_t backward_workspace_in_chunks(typename M::Inputs const& x, Index heads, Index sequences = 1,
                                         Index every = 16, Index round = 1024) noexcept {
  return to_size(backward_plan<M, ChunkBackward<M, bf16>>(x, heads, sequences, every, round));
}

/// `backward` on tensor cores, in chunks (equations, 2.6), for what forward_in_chunks takes. tape.every is at most 16, and best 16.
/// Error:  gradients are within 16 x 2^-11 of their norm.
template <TensorMatrices M, Stored S = bf16>
Status backward_in_chunks(typename M::BackwardCall const& call, Stream stream) {
  char const* const verb = "backward_in_chunks";
  if (Status const wrong = status_of(verb, MatrixDeviceCheck<M>::template rows_are<S>(verb, call.x)); !wrong)
    return wrong;
  if (Status const status = tensor_cores<ChunkBackward<M, S>>(verb); !status) return status;
  return runtime::backward<ChunkBackward<M, S>, M>(verb, call, stream);
}

}  // namespace AVIARY_NAMESPACE::cuda
