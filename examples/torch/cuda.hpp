#pragma once
/// The kernels of matrix memories on a GPU: for heads of 64 x 64 and, of some rules, 128 x 128.
#include "aviary/cuda/matrix.hpp"
#include "calls.hpp"
#include "cuda_call.hpp"

namespace aviary_torch {

using aviary::bf16, aviary::f16;

/// Whether inputs go in chunks of rows stored as S on the current device, by some kernel: all fields along keys and
/// values but log_w are stored so, and it has tensor cores, and room for the blocks.
template <class M, class S, class Kernel> bool go_in_chunks(typename M::Inputs const& x) {
  using namespace aviary::cuda;
  int room = 0;
  return MatrixDeviceCheck<M>::template rows_are<S>("forward", x).empty() && tensor_cores<Kernel>("forward") &&
         runtime::property(runtime::Property::shared_bytes, room) == no_error &&
         Kernel::shared_bytes <= static_cast<std::size_t>(room);
}

/// On tensor cores where inputs go in chunks of bf16 or f16, else in float.
template <class M>
aviary::cuda::Status forward_on_gpu(typename M::ForwardCall const& call, aviary::cuda::Stream stream) {
  using namespace aviary::cuda;
  if (go_in_chunks<M, bf16, WideChunks<M, bf16>>(call.x)) return forward_in_chunks<M, bf16>(call, stream);
  if (go_in_chunks<M, f16, WideChunks<M, f16>>(call.x)) return forward_in_chunks<M, f16>(call, stream);
  return aviary::cuda::forward<M>(call, stream);
}
/// The same for gradients. make_call(numbers) is the call with a workspace of so many.
template <class M, class MakeCall>
aviary::cuda::Status backward_on_gpu(typename M::Inputs const& x, Index heads, Index sequences, Index every,
                                     aviary::cuda::Stream stream, MakeCall&& make_call) {
  using namespace aviary::cuda;
  std::size_t const in_chunks = backward_workspace_in_chunks<M>(x, heads, sequences, every);
  if (go_in_chunks<M, bf16, ChunkBackward<M, bf16>>(x))
    return backward_in_chunks<M, bf16>(make_call(in_chunks), stream);
  if (go_in_chunks<M, f16, ChunkBackward<M, f16>>(x)) return backward_in_chunks<M, f16>(make_call(in_chunks), stream);
  return aviary::cuda::backward<M>(make_call(backward_workspace<M>(x, heads, sequences, every)), stream);
}

/// Heads of `sizes` x `sizes` have kernels.
template <aviary::Index... sizes> struct Cuda {
  template <class R>
  static void forward(Arguments<R> const& x, Tensor const& y, Tensor const& states, Tensor const& tape, Index every) {
    CudaCall const on(R::name, x.v(), x.sequences);
    with_memory(x, [&]<class M>() {
      TORCH_CHECK_VALUE(every <= aviary::cuda::longest_interval<M>, "aviary: ", R::name, ": every is ", every,
                        ", expected at most ", aviary::cuda::longest_interval<M>, " on a GPU");
      if (states.numel() == 0) return;
      Fields<R> const rows = rows_of(x);
      auto const inputs = inputs_of<M>(rows);
      Index const kept = kept_states<M>(x, inputs, every);
      tape.slice(0, kept / std::max<Index>(x.heads, 1)).zero_();  // what these offsets do not need
      States<typename M::State> all(states, states.size(0) * x.heads), keeps(tape, kept);
      on.require(
          forward_on_gpu<M>(forward_call<M>(inputs, y, all.span(), keeps.span(), every, on.offsets()), on.stream()));
    });
  }

  template <class R>
  static void backward(Arguments<R> const& x, Tensor const& tape, Tensor const& dy, Fields<R> const& dx,
                       Tensor const& dstates, Index every) {
    CudaCall const on(R::name, x.v(), x.sequences);
    if (dy.numel() == 0)
      for (Tensor const& each : dx) each.zero_();  // what a head has for all tokens
    with_memory(x, [&]<class M>() {
      if (dstates.numel() == 0) return;
      Fields<R> const rows = rows_of(x);
      auto const inputs = inputs_of<M>(rows);
      States<typename M::State> keeps(tape, kept_states<M>(x, inputs, every));
      States<typename M::StateGradient> all(dstates, dstates.size(0) * x.heads);
      Tensor workspace;
      on.require(
          backward_on_gpu<M>(inputs, x.heads, x.sequences.sequences(), every, on.stream(), [&](std::size_t numbers) {
            workspace = at::empty({static_cast<Index>(numbers)}, x.state_options());
            return backward_call<M>(inputs, dy, dx, keeps.span(), every, all.span(), workspace, on.offsets());
          }));
    });
  }

 private:
  template <class R> static Fields<R> rows_of(Arguments<R> const& x) {
    Fields<R> rows = x.rows;
    for (Tensor& each : rows) each = in_float(each);
    return rows;
  }

  /// f.operator()<M>() with the memory for a call's sizes.
  template <class R, class F> static void with_memory(Arguments<R> const& x, F&& f) {
    auto const is = [&]<Index size>(std::integral_constant<Index, size>) {
      if (x.keys != size || x.values != size) return false;
      f.template operator()<aviary::MatrixMemory<R, float, size, size>>();
      return true;
    };
    bool const found = (is(std::integral_constant<Index, sizes>()) || ...);
    TORCH_CHECK_VALUE(found, "aviary: ", R::name, ": heads are ", x.keys, " x ", x.values,
                      ", expected on a GPU n x n, with n one of ", at::IntArrayRef({sizes...}));
  }
};

/// Registers rule number `number` of all `rules`, for which there is a file. Delta rules have the larger heads too.
template <std::size_t number, std::size_t rules> void implement_on_gpu(torch::Library& library) {
  static_assert(rules == count(AllRules()), "aviary: CMakeLists.txt has another number of rules than rules.hpp");
  using R = decltype(rule_at<number>(AllRules()));
  if constexpr (contains<R>(DeltaRules()))
    implement<Cuda<64, 128>>(library, Rules<R>());
  else
    implement<Cuda<64>>(library, Rules<R>());
}

}  // namespace aviary_torch
