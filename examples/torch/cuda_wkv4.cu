/// WKV-4 on a GPU, in float, with any number of channels.
#include <ATen/ops/zeros.h>

#include "aviary/cuda/channel.hpp"
#include "cuda_call.hpp"
#include "wkv4.hpp"

namespace aviary_torch {
namespace {

using M = aviary::Wkv4<float>;

/// Numbers of states (n, 3, C) in rows as the kernels have them, (n, 3, padded C).
Tensor padded_rows(Tensor const& x) {
  Index const channels = x.size(2);
  Tensor const rows = at::zeros({x.size(0), 3, aviary::padded<float>(channels)}, x.options());
  rows.slice(2, 0, channels).copy_(x);
  return rows;
}

/// What import_state does of a state, for all of them: (aa, bb, pp) as (num, den, exponent).
Tensor numbers_of(Tensor const& sums) {
  Tensor const wide = sums.to(at::kDouble), aa = wide.select(1, 0), bb = wide.select(1, 1), pp = wide.select(1, 2);
  Tensor const nothing = aa.eq(0).logical_and(bb.eq(0)), power = (pp * std::numbers::log2e).round();
  Tensor const rest = (pp - power * std::numbers::ln2).exp();
  auto const [den, lift] = (bb * rest).frexp();
  Tensor const lifted = lift.to(at::kDouble), numbers = at::empty(sums.sizes(), sums.options());
  numbers.select(1, 0).copy_((aa * rest * lifted.neg().exp2()).masked_fill(nothing, 0));
  numbers.select(1, 1).copy_(den.masked_fill(nothing, 0));
  numbers.select(1, 2).copy_((power + lifted).masked_fill(nothing, 0));
  return numbers;
}

/// What export_state does, from rows of kernels.
void write_sums(Tensor const& rows, Tensor const& sums) {
  Tensor const wide = rows.slice(2, 0, sums.size(2)).to(at::kDouble), nothing = wide.select(1, 1).eq(0);
  Tensor const pp = wide.select(1, 2) * std::numbers::ln2;
  sums.select(1, 2).copy_(pp.masked_fill(nothing, -1e30));
  Tensor const rest = (pp - sums.select(1, 2).to(at::kDouble)).exp().masked_fill(nothing, 1);
  sums.slice(1, 0, 2).copy_(wide.slice(1, 0, 2) * rest.unsqueeze(1));
}

struct Gpu {
  static constexpr bool has_double = false;

  static void forward(ChannelArguments<float> const& x, Tensor const& y, Tensor const& initial,
                      Tensor const& final_state, Tensor const& kept, Index every) {
    using Kernel = aviary::cuda::ChannelForwardKernel<float>;
    CudaCall const on(M::name, x.v, x.sequences);
    Tensor const states = padded_rows(numbers_of(initial)), keeps = padded_rows(kept);
    M::ForwardCall call{.x = x.inputs(), .y = x.rows<aviary::Sink<>>(y), .states = none, .offsets = on.offsets()};
    if (every > 0) call.tape.every = every;
    on.require(aviary::cuda::launch<Kernel>("forward", {call, numbers_in(states), numbers_in(keeps)}, on.stream()));
    write_sums(states, final_state);
    kept.copy_(keeps.slice(2, 0, x.channels));
  }

  static Tensor backward(ChannelArguments<float> const& x, Tensor const& kept, Tensor const& dy, Tensor const& dfinal,
                         M::Gradients const& dx, Index every) {
    using Kernel = aviary::cuda::ChannelBackwardKernel<float>;
    using Sum = aviary::cuda::ChannelSumKernel<float>;
    CudaCall const on(M::name, x.v, x.sequences);
    Tensor const dstates = padded_rows(numbers_of(dfinal)), keeps = padded_rows(kept);
    aviary::cuda::ChannelBackwardPlan<float> const plan(x.channels, x.v.size(0), every);
    Tensor const workspace = at::empty({plan.size(dfinal.size(0))}, x.state_options());
    M::BackwardCall const call{.x = x.inputs(),
                               .dy = x.rows<aviary::Source<>>(dy),
                               .tape = {.every = every, .states = {}},
                               .dx = dx,
                               .dstates = none,
                               .workspace = {numbers_in(workspace), aviary::to_size(workspace.numel())},
                               .offsets = on.offsets()};
    on.require(aviary::cuda::launch<Kernel>("backward", {call, numbers_in(keeps), numbers_in(dstates)}, on.stream()));
    on.require(aviary::cuda::launch<Sum>("backward", Sum::Arguments(call), on.stream()));
    return dstates.slice(2, 0, x.channels);
  }

 private:
  /// States go to the kernels as numbers: their size is known at run time, and on a device those of calls are not.
  static constexpr std::span<M::State> none = {};
  static float* numbers_in(Tensor const& x) { return x.numel() > 0 ? x.data_ptr<float>() : nullptr; }
};

}  // namespace
}  // namespace aviary_torch

TORCH_LIBRARY_IMPL(aviary, CUDA, library) { aviary_torch::implement_channels<aviary_torch::Gpu>(library); }
