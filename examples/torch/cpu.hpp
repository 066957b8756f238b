#pragma once
/// The kernels of matrix memories on a processor: in float for heads of 64 x 64 and 128 x 128, and in float and double
/// for sizes known at run time.
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

struct Cpu {
  template <class R>
  static void forward(Arguments<R> const& x, Tensor const& y, Tensor const& states, Tensor const& tape, Index every) {
    with_memory(x, [&]<class M>() {
      auto const inputs = sequences<R, InputsOf<M>::template Per>(x.rows);
      Index const kept = every > 0 ? static_cast<Index>(M::tape_size(inputs, x.sequences.offsets, every)) : 0;
      tape.slice(0, kept / std::max<Index>(x.heads, 1)).zero_();  // what these offsets do not need
      States<typename M::State> all(states, states.size(0) * x.heads), keeps(tape, kept);
      typename M::ForwardCall call{.x = inputs,
                                   .y = sequence<aviary::Sink<M::values>, Axis::value>(packed(y)),
                                   .states = all.span(),
                                   .offsets = x.sequences.offsets};
      if (every > 0) call.tape.every = every;
      call.tape.states = keeps.span();
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
      using T = typename M::T;
      auto const inputs = sequences<R, InputsOf<M>::template Per>(x.rows);
      States<typename M::State> keeps(tape, static_cast<Index>(M::tape_size(inputs, x.sequences.offsets, every)));
      States<typename M::StateGradient> all(dstates, dstates.size(0) * x.heads);
      std::size_t const room =
          M::backward_workspace(inputs, x.heads, x.sequences.offsets, every, Threads::concurrency());
      Tensor const workspace = at::empty({static_cast<Index>(room)}, x.state_options());
      typename M::BackwardCall call{.x = inputs,
                                    .dy = sequence<aviary::Source<M::values>, Axis::value>(packed(dy)),
                                    .tape = {},
                                    .dx = sequences<R, GradientsOf<M>::template Per>(packed_fields<R>(dx)),
                                    .dstates = all.span(),
                                    .workspace = {workspace.template data_ptr<T>(), room},
                                    .offsets = x.sequences.offsets};
      call.tape.every = every;
      call.tape.states = keeps.span();
      require(M::check(call));
      M::backward(call, Threads());
      all.write();
    });
  }

 private:
  template <class M> using InputsOf = aviary::detail::InputFields<M::keys, M::values>;
  template <class M> using GradientsOf = aviary::detail::GradientFields<M::keys, M::values>;

  /// f.operator()<M>() with the memory for a call's sizes and arithmetic.
  template <class R, class F> static void with_memory(Arguments<R> const& x, F&& f) {
    using aviary::dynamic, aviary::MatrixMemory;
    if (arithmetic(x.v()) == at::kDouble) return f.template operator()<MatrixMemory<R, double, dynamic, dynamic>>();
    if (x.keys == 64 && x.values == 64) return f.template operator()<MatrixMemory<R, float, 64, 64>>();
    if (x.keys == 128 && x.values == 128) return f.template operator()<MatrixMemory<R, float, 128, 128>>();
    f.template operator()<MatrixMemory<R, float, dynamic, dynamic>>();
  }

  /// Rows as a Source or Sink.
  template <class S, Axis A> static S sequence(Tensor const& x) {
    Index const size = one_number(A) ? 1 : x.size(-1);
    return with_numbers(x, [&](auto* numbers) {
      if constexpr (per_token(A))
        return S(numbers, x.size(0), x.size(1), size, x.stride(0), x.stride(1));
      else
        return S(numbers, x.size(0), size);
    });
  }
  template <class R, template <Axis> class Per>
  static typename R::template Fields<Per> sequences(Fields<R> const& rows) {
    std::size_t i = 0;
    return aviary::detail::transform_fields<R, typename R::template Fields<Per>>(
        aviary::detail::Axes<R>{},
        [&]<Axis A>(aviary::detail::AxisTag<A>, auto) { return sequence<Per<A>, A>(rows[i++]); });
  }
};

}  // namespace aviary_torch
