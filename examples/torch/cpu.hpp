#pragma once
/// The kernels of matrix memories on a processor: in float for heads of 64 x 64 and 128 x 128, and in float and double
/// for sizes known at run time.
#include "calls.hpp"

namespace aviary_torch {

struct Cpu {
  template <class R>
  static void forward(Arguments<R> const& x, Tensor const& y, Tensor const& states, Tensor const& tape, Index every) {
    with_memory(x, [&]<class M>() {
      auto const inputs = inputs_of<M>(x.rows);
      Index const kept = kept_states<M>(x, inputs, every);
      tape.slice(0, kept / std::max<Index>(x.heads, 1)).zero_();  // what these offsets do not need
      States<typename M::State> all(states, states.size(0) * x.heads), keeps(tape, kept);
      auto const call = forward_call<M>(inputs, y, all.span(), keeps.span(), every, x.sequences.offsets);
      require(M::check(call));
      M::forward(call, Threads());
      all.write();
      keeps.write();
    });
  }

  template <class R>
  static void backward(Arguments<R> const& x, Tensor const& tape, Tensor const& dy, Fields<R> const& dx,
                       Tensor const& dstates, Index every) {
    with_memory(x, [&]<class M>() {
      auto const inputs = inputs_of<M>(x.rows);
      States<typename M::State> keeps(tape, kept_states<M>(x, inputs, every));
      States<typename M::StateGradient> all(dstates, dstates.size(0) * x.heads);
      std::size_t const room =
          M::backward_workspace(inputs, x.heads, x.sequences.offsets, every, Threads::concurrency());
      Tensor const workspace = at::empty({static_cast<Index>(room)}, x.state_options());
      auto const call =
          backward_call<M>(inputs, dy, dx, keeps.span(), every, all.span(), workspace, x.sequences.offsets);
      require(M::check(call));
      M::backward(call, Threads());
      all.write();
    });
  }

 private:
  /// f.operator()<M>() with the memory for a call's sizes and arithmetic.
  template <class R, class F> static void with_memory(Arguments<R> const& x, F&& f) {
    using aviary::dynamic, aviary::MatrixMemory;
    if (arithmetic(x.v()) == at::kDouble) return f.template operator()<MatrixMemory<R, double, dynamic, dynamic>>();
    if (x.keys == 64 && x.values == 64) return f.template operator()<MatrixMemory<R, float, 64, 64>>();
    if (x.keys == 128 && x.values == 128) return f.template operator()<MatrixMemory<R, float, 128, 128>>();
    f.template operator()<MatrixMemory<R, float, dynamic, dynamic>>();
  }
};

}  // namespace aviary_torch
