#pragma once
/// WKV-4 as operators, whatever the device. States are (aa, bb, pp) as published: sums aa e^pp and bb e^pp.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>

#include <numbers>

#include "aviary/wkv4.hpp"
#include "tensors.hpp"

namespace aviary_torch {

/// The inputs of a call whose shapes are right, for arithmetic in T.
template <class T> struct ChannelArguments {
  using M = aviary::Wkv4<T>;

  Tensor log_w, k, v, u;  // contiguous rows
  Index channels;
  Packed sequences;

  ChannelArguments(Tensor const& given_log_w, Tensor const& given_k, Tensor const& given_v, Tensor const& given_u,
                   MaybeTensor const& offsets)
      : log_w(given_log_w.contiguous()),
        k(packed(given_k).contiguous()),
        v(packed(given_v).contiguous()),
        u(given_u.contiguous()),
        channels(given_v.size(2)),
        sequences(M::name, given_v.size(0), given_v.size(1), offsets) {
    expect("k", given_k, given_v.sizes());
    expect("log_w", log_w, {channels});
    expect("u", u, {channels});
  }
  void expect(char const* name, Tensor const& x, at::IntArrayRef shape) const {
    TORCH_CHECK_VALUE(x.sizes() == shape, "aviary: wkv4: ", name, " has shape ", x.sizes(), ", expected ", shape);
    TORCH_CHECK_VALUE(x.device() == v.device(), "aviary: wkv4: ", name, " is on ", x.device(), ", expected ",
                      v.device());
  }
  void expect_states(char const* name, Tensor const& x, Index n) const {
    expect(name, x, {n, 3, channels});
    TORCH_CHECK_VALUE(x.scalar_type() == c10::CppTypeToScalarType<T>::value, "aviary: wkv4: ", name, " is of ",
                      x.scalar_type(), ", expected ", c10::CppTypeToScalarType<T>::value);
  }
  at::TensorOptions state_options() const { return v.options().dtype(c10::CppTypeToScalarType<T>::value); }
  /// n states as a tensor; a tape has those that it keeps, then the initial ones and the final ones.
  Tensor make_states(Index n) const { return at::empty({n, 3, channels}, state_options()); }
  Tensor make_tape(Index every) const {
    return make_states(every > 0 ? sequences.kept(every) + 2 * sequences.sequences() : 0);
  }
  /// How many states the tape keeps for these offsets.
  Index kept(Index every) const {
    return every > 0 ? static_cast<Index>(M::tape_size(inputs(), sequences.offsets, every)) : 0;
  }

  /// What a call reads or writes: a tensor as a Source or a Sink.
  template <class S> S rows(Tensor const& x) const {
    return with_numbers(x, [&](auto* numbers) { return S(numbers, x.size(0), 1, channels); });
  }
  template <class S> S head_row(Tensor const& x) const {
    return with_numbers(x, [&](auto* numbers) { return S(numbers, 1, channels); });
  }
  typename M::Inputs inputs() const {
    using aviary::Source, aviary::HeadSource;
    return {.log_w = head_row<HeadSource<>>(log_w),
            .k = rows<Source<>>(k),
            .v = rows<Source<>>(v),
            .u = head_row<HeadSource<>>(u)};
  }
};

/// The operators on a device, which has
///
///     static constexpr bool has_double;
///     static void forward(ChannelArguments<T> const&, Tensor y, Tensor initial, Tensor final, Tensor kept,
///                         Index every);
///     static Tensor backward(ChannelArguments<T> const&, Tensor kept, Tensor dy, Tensor dfinal,
///                            M::Gradients const& dx, Index every);
///
/// with all tensors contiguous. States are as published but for those of the tape, which are as the library has them,
/// (num, den, exponent): gradients go from one to the next by their exponents. So are the gradients of initial states,
/// which `backward` returns. dfinal is what import_state takes for gradients.
template <class Device> struct ChannelOperators {
  using Outputs = std::tuple<Tensor, Tensor, Tensor>;
  using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

  static Outputs forward(Tensor const& log_w, Tensor const& k, Tensor const& v, Tensor const& u,
                         MaybeTensor const& initial_state, MaybeTensor const& offsets, std::int64_t every) {
    return with_arguments(log_w, k, v, u, offsets, [&](auto const& x) {
      Index const sequences = x.sequences.sequences();
      Tensor const y = at::empty(v.sizes(), v.options()), final_state = x.make_states(sequences);
      Tensor const state = x.make_states(sequences).zero_(), tape = x.make_tape(every).zero_();
      if (initial_state) {
        x.expect_states("initial_state", *initial_state, sequences);
        state.copy_(*initial_state);
      }
      Device::forward(x, packed(y), state, final_state, tape.slice(0, 0, x.kept(every)), every);
      if (every > 0) tape.slice(0, tape.size(0) - 2 * sequences).copy_(at::cat({state, final_state}));
      return Outputs{y, final_state, tape};
    });
  }

  static Gradients backward(Tensor const& log_w, Tensor const& k, Tensor const& v, Tensor const& u,
                            Tensor const& given_tape, Tensor const& dy, MaybeTensor const& dfinal_state,
                            MaybeTensor const& offsets, std::int64_t every) {
    return with_arguments(log_w, k, v, u, offsets, [&]<class T>(ChannelArguments<T> const& x) {
      TORCH_CHECK_VALUE(every > 0, "aviary: wkv4: gradients need a tape, and every is ", every);
      Index const sequences = x.sequences.sequences();
      x.expect_states("tape", given_tape, x.make_tape(every).size(0));
      x.expect("dy", packed(dy), x.v.sizes());
      Tensor const tape = given_tape.contiguous();
      Tensor const ends = tape.slice(0, tape.size(0) - 2 * sequences);
      Tensor dfinal = x.make_states(sequences).zero_();
      if (dfinal_state) {
        x.expect_states("dfinal_state", *dfinal_state, sequences);
        dfinal.copy_(*dfinal_state);
        dfinal.select(1, 2).copy_(ends.slice(0, sequences).select(1, 2).neg());  // of sums aa e^pp: relative to e^-pp
      }
      Tensor const dlog_w = at::empty(x.log_w.sizes(), x.log_w.options()), du = at::empty(x.u.sizes(), x.u.options());
      Tensor const dk = at::empty(dy.sizes(), x.k.options()), dv = at::empty(dy.sizes(), x.v.options());
      Tensor const dstates = Device::backward(x, tape.slice(0, 0, x.kept(every)), packed(dy).contiguous(), dfinal,
                                              {.log_w = x.template head_row<aviary::HeadSink<>>(dlog_w),
                                               .k = x.template rows<aviary::Sink<>>(packed(dk)),
                                               .v = x.template rows<aviary::Sink<>>(packed(dv)),
                                               .u = x.template head_row<aviary::HeadSink<>>(du)},
                                              every);
      // sums aa e^pp: what reaches them is that of a sum relative to 2^exponent, times 2^exponent e^pp
      auto const wide = [](Tensor const& states, Index part) { return states.select(1, part).to(at::kDouble); };
      Tensor const scale = (wide(dstates, 2) * std::numbers::ln2 + wide(ends.slice(0, 0, sequences), 2)).exp();
      Tensor const dinitial = x.make_states(sequences);
      dinitial.select(1, 0).copy_(wide(dstates, 0) * scale);
      dinitial.select(1, 1).copy_(wide(dstates, 1) * scale);
      Tensor const sums = ends.slice(0, 0, sequences).slice(1, 0, 2);
      dinitial.select(1, 2).copy_((sums * dinitial.slice(1, 0, 2)).sum(1));
      return Gradients{dlog_w, dk, dv, du, dinitial};
    });
  }

 private:
  /// f(arguments) in the arithmetic for v.
  template <class F>
  static auto with_arguments(Tensor const& log_w, Tensor const& k, Tensor const& v, Tensor const& u,
                             MaybeTensor const& offsets, F&& f) {
    TORCH_CHECK_VALUE(v.dim() == 3, "aviary: wkv4: v has shape ", v.sizes(),
                      ", expected 3 axes (batch, tokens, channels)");
    if constexpr (Device::has_double)
      if (arithmetic(v) == at::kDouble) return f(ChannelArguments<double>(log_w, k, v, u, offsets));
    return f(ChannelArguments<float>(log_w, k, v, u, offsets));
  }
};

/// Registers a device's operators.
template <class Device> void implement_channels(torch::Library& library) {
  library.impl("wkv4_forward", &ChannelOperators<Device>::forward);
  library.impl("wkv4_backward", &ChannelOperators<Device>::backward);
}

}  // namespace aviary_torch
