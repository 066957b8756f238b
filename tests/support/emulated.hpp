#pragma once
/// Memories whose verbs are the kernels for a device, run on the host: suites and golden files go through them as through any
/// other.
#include <algorithm>
#include <span>
#include <type_traits>
#include <vector>

#include "aviary/cuda/channel_backward.hpp"
#include "support/eager.hpp"

namespace aviary::test {

/// States of memory M as they lie on a device, uploaded when this is made.
template <class M> class DeviceStates {
  using T = typename M::T;
  using State = typename M::State;

 public:
  /// `count` states; state(i) finds number i.
  template <class At> DeviceStates(Index count, Index channels, At&& state) : row_(padded<T>(channels)) {
    for (Index i = 0; i < count; ++i) states_.push_back(&state(i));
    for (State* const one : states_)
      for (T const* const row : rows(*one)) numbers_.insert(numbers_.end(), row, row + row_);
  }
  T* data() { return states_.empty() ? nullptr : numbers_.data(); }
  void download() const {
    auto from = numbers_.begin();
    for (State* const one : states_)
      for (T* const row : rows(*one)) {
        std::copy_n(from, row_, row);
        from += row_;
      }
  }

 private:
  static std::array<T*, 3> rows(State& state) {
    auto const s = state.view();
    return {s.num, s.den, s.exponent};
  }

  Index row_;
  std::vector<State*> states_;
  std::vector<T> numbers_;
};

/// A channel memory. Where an executor runs tasks backwards, blocks and their threads run backwards. Subnormal numbers are 0 where
/// they are on the host: not in sums over sequences.
template <class M> struct Emulated : M {
  using T = typename M::T;
  using State = typename M::State;

  template <class E = Serial> static void forward(typename M::ForwardCall const& call, E&& = {}) {
    using Kernel = cuda::ChannelForwardKernel<T>;
    auto states = states_of(call, call.states), kept = tape_of(call);
    {
      FlushToZero const flush;
      run<Kernel, E>(typename Kernel::Arguments(call, states.data(), kept.data()));
    }
    states.download();
    kept.download();
  }

  static std::size_t backward_workspace(typename M::Inputs const& x, std::span<Index const> offsets = {},
                                        Index every = 16) {
    aviary::detail::Packing const packing{offsets, x.k.tokens()};
    return to_size(cuda::ChannelBackwardPlan<T>(x.k.size(), x.k.tokens(), every).size(packing.sequences()));
  }
  template <class E = Serial> static void backward(typename M::BackwardCall const& call, E&& = {}) {
    using Kernel = cuda::ChannelBackwardKernel<T>;
    using Sum = cuda::ChannelSumKernel<T>;
    auto tape = tape_of(call), dstates = states_of(call, call.dstates);
    {
      FlushToZero const flush;
      run<Kernel, E>(typename Kernel::Arguments(call, tape.data(), dstates.data()));
    }
    run<Sum, E>(typename Sum::Arguments(call));
    dstates.download();
  }

  /// The host's check, with the workspace of these kernels.
  static std::string check(typename M::ForwardCall const& call) { return M::check(call); }
  static std::string check(typename M::BackwardCall call) {
    if (call.workspace.size() < backward_workspace(call.x, call.offsets, call.tape.every)) return "a small workspace";
    call.workspace = {call.workspace.data(), M::backward_workspace(call.x, call.offsets, call.tape.every)};
    return M::check(call);
  }

 private:
  template <class Kernel, class E> static void run(typename Kernel::Arguments const& arguments) {
    cuda::emulate<Kernel>(arguments, std::is_same_v<std::remove_cvref_t<E>, Backwards>);
  }
  template <class Call> static DeviceStates<M> states_of(Call const& call, States<State> const& states) {
    return {static_cast<Index>(states.size()), call.x.k.size(), [&](Index s) -> State& { return *states.of(s, 1); }};
  }
  template <class Call> static DeviceStates<M> tape_of(Call const& call) {
    auto const kept = call.tape.states;
    return {static_cast<Index>(kept.size()), call.x.k.size(), [=](Index i) -> State& { return kept[to_size(i)]; }};
  }
};

}  // namespace aviary::test
