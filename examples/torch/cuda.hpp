#pragma once
/// The kernels of matrix memories on a GPU: for heads of 64 x 64 and, of some rules, 128 x 128.
#include "aviary/cuda/matrix.hpp"
#include "calls.hpp"
#include "cuda_call.hpp"

namespace aviary_torch {

/// Whether inputs go in chunks of rows stored as S on the current device: all fields along keys and values but log_w
/// are stored so, and it has tensor cores, and room for the blocks.
template <class M, class S> bool go_in_chunks(typename M::Inputs const& x) {
  using namespace aviary::cuda;
  using Kernel = WideChunks<M, S>;
  int room = 0;
  return MatrixDeviceCheck<M>::template rows_are<S>("forward", x).empty() && tensor_cores<Kernel>("forward") &&
         runtime::property(runtime::Property::shared_bytes, room) == no_error &&
         Kernel::shared_bytes <= static_cast<std::size_t>(room);
}

/// On tensor cores where inputs go in chunks of bf16 or f16, else in float.
template <class M>
aviary::cuda::Status forward_on_gpu(typename M::ForwardCall const& call, aviary::cuda::Stream stream) {
  if (go_in_chunks<M, aviary::bf16>(call.x)) return aviary::cuda::forward_in_chunks<M, aviary::bf16>(call, stream);
  if (go_in_chunks<M, aviary::f16>(call.x)) return aviary::cuda::forward_in_chunks<M, aviary::f16>(call, stream);
  return aviary::cuda::forward<M>(call, stream);
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
      std::size_t const room = aviary::cuda::backward_workspace<M>(inputs, x.heads, x.sequences.sequences(), every);
      Tensor const workspace = at::empty({static_cast<Index>(room)}, x.state_options());
      on.require(aviary::cuda::backward<M>(
          backward_call<M>(inputs, dy, dx, keeps.span(), every, all.span(), workspace, on.offsets()), on.stream()));
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
