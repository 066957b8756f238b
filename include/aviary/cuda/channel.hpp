#pragma once
/// The verbs of WKV-4 on a device:
///
///     using M = aviary::Wkv4<float, 768>;
///     aviary::cuda::Status const status = aviary::cuda::forward<M>({.x = x, .y = y, .states = states}, stream);
///     if (!status) std::fputs(status.message().c_str(), stderr);
///
/// Calls are those of the host, with pointers of the device everywhere: numbers, states, tape, positions of sequences and
/// workspace. Inputs and outputs are of any floating format. A verb puts kernels on the stream and returns; it allocates
/// nothing on the device, waits for nothing and reads nothing that lies there. States lie in one array.
#include "aviary/cuda/channel_check.hpp"
#include "aviary/cuda/launch.hpp"

namespace AVIARY_NAMESPACE::cuda {

template <class M> inline constexpr bool is_channel_memory = false;
template <class T, Index C> inline constexpr bool is_channel_memory<ChannelMemory<T, C>> = true;

/// A channel memory whose states may lie on a device.
template <class M>
concept DeviceChannels = is_channel_memory<M> && M::channels != dynamic;

/// The numbers of states that lie side by side; null if there are none.
template <class T, Index C> T* numbers_of(ChannelState<T, C>* states) noexcept {
  static_assert(sizeof(ChannelState<T, C>) == 3 * to_size(padded<T>(C)) * sizeof(T));
  return reinterpret_cast<T*>(states);
}

/// Packed sequences through all channels, with the bits that a thread of the host would have but for the compiler's roundings: a
/// product and a sum may be rounded together. Subnormal numbers are as the compiler is told (-ftz).
/// Error:  as on the host.
/// Cost:   k and v are read once, y is written once. A warp takes 32 channels of a sequence: sequences x channels / 32 of them
///         keep a device busy if they are some hundreds.
template <DeviceChannels M> Status forward(typename M::ForwardCall const& call, Stream stream) {
  using Kernel = ChannelForwardKernel<typename M::T>;
  if (std::string const words = ChannelDeviceCheck<M>::forward(call); !words.empty())
    return status_of("forward", words);
  if (call.states.empty()) return {};
  return launch<Kernel>("forward", {call, numbers_of(call.states.of(0, 1)), numbers_of(call.tape.states.data())},
                        stream);
}

/// Numbers of workspace that `backward` needs on a device for so many sequences: for each sequence and channel 2, and where
/// states of the tape are more than 16 tokens apart, 3 more for each further 16.
template <DeviceChannels M>
std::size_t backward_workspace(typename M::Inputs const& x, Index sequences = 1, Index every = 16) noexcept {
  return to_size(ChannelBackwardPlan<typename M::T>(x.k.size(), x.k.tokens(), every).size(sequences));
}

/// The gradients of packed sequences. The same bits whatever is wanted, however far apart the states of the tape are, and in
/// whatever order blocks run.
/// Error:  as on the host.
/// Cost:   k, v and dy are read once, dk and dv are written once; k and v twice where states of the tape are more than 16 tokens
///         apart.
template <DeviceChannels M> Status backward(typename M::BackwardCall const& call, Stream stream) {
  using T = typename M::T;
  if (std::string const words = ChannelDeviceCheck<M>::backward(call); !words.empty())
    return status_of("backward", words);
  T* const dstates = call.dstates.empty() ? nullptr : numbers_of(call.dstates.of(0, 1));
  Status const status =
      launch<ChannelBackwardKernel<T>>("backward", {call, numbers_of(call.tape.states.data()), dstates}, stream);
  return status ? launch<ChannelSumKernel<T>>("backward", typename ChannelSumKernel<T>::Arguments(call), stream)
                : status;
}

}  // namespace AVIARY_NAMESPACE::cuda
