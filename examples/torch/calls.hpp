#pragma once
/// Calls of matrix memories from tensors, on any device.
#include <span>
#include <type_traits>

#include "aviary/matrix/memory.hpp"
#include "operator.hpp"

namespace aviary_torch {

/// The states of a contiguous tensor (..., keys, values), as the library has them: where they lie, if the library has
/// them in the same layout, else copies.
template <class State> class States {
  static constexpr bool in_place = std::is_trivially_copyable_v<State>;
  using T = std::remove_cvref_t<decltype(*std::declval<State&>().view().s)>;

 public:
  States(Tensor const& x, Index count) : numbers_(static_cast<T*>(x.data_ptr())), count_(aviary::to_size(count)) {
    Index const keys = x.size(-2), values = x.size(-1);
    if constexpr (in_place) {
      static_assert(aviary::padded<T>(State::values()) == State::values(), "aviary: rows of a tensor have no padding");
      TORCH_CHECK(reinterpret_cast<std::uintptr_t>(numbers_) % alignof(State) == 0,
                  "aviary: states lie at a multiple of ", alignof(State), " bytes");
    } else {
      copies_.assign(count_, State(keys, values));
      for (std::size_t i = 0; i < count_; ++i) import_state(copies_[i].view(), part(i), layout);
    }
  }
  std::span<State> span() {
    if constexpr (in_place)
      return {reinterpret_cast<State*>(numbers_), count_};
    else
      return copies_;
  }
  /// Brings the tensor up to date.
  void write() {
    for (std::size_t i = 0; i < copies_.size(); ++i) export_state(std::as_const(copies_[i]).view(), part(i), layout);
  }

 private:
  static constexpr auto layout = aviary::Orientation::key_value;
  std::span<T> part(std::size_t i) const {
    std::size_t const size = aviary::to_size(copies_[i].keys() * copies_[i].values());
    return {numbers_ + i * size, size};
  }

  T* numbers_;
  std::size_t count_;
  std::vector<State> copies_;
};

/// Rows as a Source or Sink.
template <class S, Axis A> S sequence(Tensor const& x) {
  Index const size = one_number(A) ? 1 : x.size(-1);
  return with_numbers(x, [&](auto* numbers) {
    if constexpr (per_token(A))
      return S(numbers, x.size(0), x.size(1), size, x.stride(0), x.stride(1));
    else
      return S(numbers, x.size(0), size);
  });
}
template <class R, template <Axis> class Per> typename R::template Fields<Per> sequences(Fields<R> const& rows) {
  std::size_t i = 0;
  return aviary::detail::transform_fields<R, typename R::template Fields<Per>>(
      aviary::detail::Axes<R>{},
      [&]<Axis A>(aviary::detail::AxisTag<A>, auto) { return sequence<Per<A>, A>(rows[i++]); });
}

/// The inputs of memory M from rows.
template <class M> typename M::Inputs inputs_of(Fields<typename M::Rule> const& rows) {
  return sequences<typename M::Rule, aviary::detail::InputFields<M::keys, M::values>::template Per>(rows);
}
/// States of all heads that a tape keeps of these inputs.
template <class M>
Index kept_states(Arguments<typename M::Rule> const& x, typename M::Inputs const& inputs, Index every) {
  return every > 0 ? static_cast<Index>(M::tape_size(inputs, x.sequences.offsets, every)) : 0;
}

/// A call that keeps a state for every `every` tokens in `kept`, if that is positive.
template <class M>
typename M::ForwardCall forward_call(typename M::Inputs const& inputs, Tensor const& y,
                                     std::span<typename M::State> states, std::span<typename M::State> kept,
                                     Index every, std::span<Index const> offsets) {
  typename M::ForwardCall call{.x = inputs,
                               .y = sequence<aviary::Sink<M::values>, Axis::value>(packed(y)),
                               .states = states,
                               .offsets = offsets};
  if (every > 0) call.tape.every = every;
  call.tape.states = kept;
  return call;
}

template <class M>
typename M::BackwardCall backward_call(typename M::Inputs const& inputs, Tensor const& dy,
                                       Fields<typename M::Rule> const& dx, std::span<typename M::State> kept,
                                       Index every, std::span<typename M::StateGradient> dstates,
                                       Tensor const& workspace, std::span<Index const> offsets) {
  using R = typename M::Rule;
  using T = typename M::T;
  typename M::BackwardCall call{
      .x = inputs,
      .dy = sequence<aviary::Source<M::values>, Axis::value>(packed(dy)),
      .tape = {},
      .dx = sequences<R, aviary::detail::GradientFields<M::keys, M::values>::template Per>(packed_fields<R>(dx)),
      .dstates = dstates,
      .workspace = {workspace.template data_ptr<T>(), aviary::to_size(workspace.numel())},
      .offsets = offsets};
  call.tape.every = every;
  call.tape.states = kept;
  return call;
}

}  // namespace aviary_torch
