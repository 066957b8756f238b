/// WKV-4 on a processor. States are (aa, bb, pp) as published: sums aa e^pp and bb e^pp.
#include <ATen/ops/cat.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include "aviary/wkv4.hpp"
#include "tensors.hpp"

namespace aviary_torch {
namespace {

/// The inputs of a call whose shapes are right, for arithmetic in T.
template <class T> struct ChannelArguments {
  using M = aviary::Wkv4<T>;
  using State = typename M::State;

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
  static void expect(char const* name, Tensor const& x, at::IntArrayRef shape) {
    TORCH_CHECK_VALUE(x.sizes() == shape, "aviary: wkv4: ", name, " has shape ", x.sizes(), ", expected ", shape);
  }
  at::TensorOptions state_options() const { return v.options().dtype(c10::CppTypeToScalarType<T>::value); }
  /// n states as a tensor; a tape has those that it keeps, then the initial ones and the final ones.
  Tensor make_states(Index n) const { return at::empty({n, 3, channels}, state_options()); }
  Tensor make_tape(Index every, MaybeTensor const& offsets) const {
    return make_states(every > 0 ? sequences.kept(every, offsets) + 2 * sequences.sequences() : 0);
  }
  void expect_states(char const* name, Tensor const& x, Index n) const {
    expect(name, x, {n, 3, channels});
    TORCH_CHECK_VALUE(x.scalar_type() == c10::CppTypeToScalarType<T>::value, "aviary: wkv4: ", name, " is of ",
                      x.scalar_type(), ", expected ", c10::CppTypeToScalarType<T>::value);
  }
  /// Row `part` (aa, bb or pp) of state s.
  std::span<T> row(Tensor const& states, Index s, Index part) const {
    return {states.data_ptr<T>() + (s * 3 + part) * channels, aviary::to_size(channels)};
  }
  /// The library's states from those of a contiguous tensor.
  std::vector<State> read(Tensor const& from) const {
    std::vector<State> states(aviary::to_size(from.size(0)), State(channels));
    for (Index s = 0; s < from.size(0); ++s)
      import_state(states[aviary::to_size(s)].view(), row(from, s, 0), row(from, s, 1), row(from, s, 2));
    return states;
  }
  void write(std::vector<State> const& states, Tensor const& to) const {
    for (Index s = 0; s < to.size(0); ++s) {
      auto const part = [&](Index i) { return aviary::VecView<T>(row(to, s, i)); };
      export_state(states[aviary::to_size(s)].view(), part(0), part(1), part(2));
    }
  }

  /// f(row of the tape, numbers of the state) for each state that a tape keeps. They lie there as they are: gradients
  /// go from one to the next by their exponents.
  template <class F> void for_kept(std::vector<State>& kept, Tensor const& tape, F&& f) const {
    for (std::size_t s = 0; s < kept.size(); ++s) {
      f(row(tape, static_cast<Index>(s), 0), kept[s].num);
      f(row(tape, static_cast<Index>(s), 1), kept[s].den);
      f(row(tape, static_cast<Index>(s), 2), kept[s].exponent);
    }
  }
  /// Room for the states that a tape keeps.
  std::vector<State> make_kept(typename M::Inputs const& inputs, Index every) const {
    return std::vector<State>(every > 0 ? M::tape_size(inputs, sequences.offsets, every) : 0, State(channels));
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

using Outputs = std::tuple<Tensor, Tensor, Tensor>;
template <class T>
Outputs forward_in(ChannelArguments<T> const& x, Tensor const& like, MaybeTensor const& initial,
                   MaybeTensor const& offsets, Index every) {
  using M = aviary::Wkv4<T>;
  Index const sequences = x.sequences.sequences();
  Tensor const y = at::empty(like.sizes(), like.options());
  Tensor const state = x.make_states(sequences).zero_(), tape = x.make_tape(every, offsets).zero_();
  if (initial) {
    x.expect_states("initial_state", *initial, sequences);
    state.copy_(*initial);
  }
  auto const inputs = x.inputs();
  auto states = x.read(state);
  auto kept = x.make_kept(inputs, every);
  typename M::ForwardCall call{
      .x = inputs, .y = x.template rows<aviary::Sink<>>(packed(y)), .states = states, .offsets = x.sequences.offsets};
  if (every > 0) call.tape = {.every = every, .states = kept};
  require(M::check(call));
  M::forward(call, Threads());
  Tensor const final_state = x.make_states(sequences);
  x.write(states, final_state);
  if (every > 0) {
    x.for_kept(kept, tape, [](auto row, auto& numbers) { std::copy_n(numbers.data(), row.size(), row.data()); });
    tape.slice(0, tape.size(0) - 2 * sequences).copy_(at::cat({state, final_state}));
  }
  return {y, final_state, tape};
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
template <class T>
Gradients backward_in(ChannelArguments<T> const& x, Tensor const& given_tape, Tensor const& dy,
                      MaybeTensor const& dfinal, MaybeTensor const& offsets, Index every) {
  using M = aviary::Wkv4<T>;
  TORCH_CHECK_VALUE(every > 0, "aviary: wkv4: gradients need a tape, and every is ", every);
  Index const sequences = x.sequences.sequences();
  x.expect_states("tape", given_tape, x.make_tape(every, offsets).size(0));
  x.expect("dy", packed(dy), x.v.sizes());
  Tensor const tape = given_tape.contiguous(), rows_of_dy = packed(dy).contiguous();
  Tensor const ends = tape.slice(0, tape.size(0) - 2 * sequences);
  auto const inputs = x.inputs();
  auto kept = x.make_kept(inputs, every);
  x.for_kept(kept, tape, [](auto row, auto& numbers) { std::copy_n(row.data(), row.size(), numbers.data()); });
  Tensor dfinal_sums = x.make_states(sequences).zero_();
  if (dfinal) {
    x.expect_states("dfinal_state", *dfinal, sequences);
    dfinal_sums.copy_(*dfinal);
    dfinal_sums.select(1, 2).copy_(ends.slice(0, sequences).select(1, 2).neg());  // of sums aa e^pp: relative to e^-pp
  }
  auto dstates = x.read(dfinal_sums);

  Tensor const dlog_w = at::empty(x.log_w.sizes(), x.log_w.options()), du = at::empty(x.u.sizes(), x.u.options());
  Tensor const dk = at::empty(dy.sizes(), x.k.options()), dv = at::empty(dy.sizes(), x.v.options());
  Tensor const workspace =
      at::empty({static_cast<Index>(M::backward_workspace(inputs, x.sequences.offsets, every))}, x.state_options());
  typename M::BackwardCall const call{.x = inputs,
                                      .dy = x.template rows<aviary::Source<>>(rows_of_dy),
                                      .tape = {.every = every, .states = kept},
                                      .dx = {.log_w = x.template head_row<aviary::HeadSink<>>(dlog_w),
                                             .k = x.template rows<aviary::Sink<>>(packed(dk)),
                                             .v = x.template rows<aviary::Sink<>>(packed(dv)),
                                             .u = x.template head_row<aviary::HeadSink<>>(du)},
                                      .dstates = dstates,
                                      .workspace = {workspace.data_ptr<T>(), aviary::to_size(workspace.numel())},
                                      .offsets = x.sequences.offsets};
  require(M::check(call));
  M::backward(call, Threads());

  Tensor const dinitial = x.make_states(sequences);
  for (Index s = 0; s < sequences; ++s) {
    auto const& ds = dstates[aviary::to_size(s)];
    for (Index c = 0; c < x.channels; ++c) {
      auto const at = [&](Tensor const& states, Index part) -> T& {
        return x.row(states, s, part)[aviary::to_size(c)];
      };
      double const scale = std::exp(double{ds.exponent[c]} * std::numbers::ln2 + double{at(ends, 2)});
      at(dinitial, 0) = static_cast<T>(double{ds.num[c]} * scale);
      at(dinitial, 1) = static_cast<T>(double{ds.den[c]} * scale);
      at(dinitial, 2) = at(ends, 0) * at(dinitial, 0) + at(ends, 1) * at(dinitial, 1);
    }
  }
  return {dlog_w, dk, dv, du, dinitial};
}

/// f(arguments) in the arithmetic for v.
template <class F>
auto with_arguments(Tensor const& log_w, Tensor const& k, Tensor const& v, Tensor const& u, MaybeTensor const& offsets,
                    F&& f) {
  TORCH_CHECK_VALUE(v.dim() == 3, "aviary: wkv4: v has shape ", v.sizes(),
                    ", expected 3 axes (batch, tokens, channels)");
  if (arithmetic(v) == at::kDouble) return f(ChannelArguments<double>(log_w, k, v, u, offsets));
  return f(ChannelArguments<float>(log_w, k, v, u, offsets));
}

Outputs forward(Tensor const& log_w, Tensor const& k, Tensor const& v, Tensor const& u,
                MaybeTensor const& initial_state, MaybeTensor const& offsets, std::int64_t every) {
  return with_arguments(log_w, k, v, u, offsets,
                        [&](auto const& x) { return forward_in(x, v, initial_state, offsets, every); });
}
Gradients backward(Tensor const& log_w, Tensor const& k, Tensor const& v, Tensor const& u, Tensor const& tape,
                   Tensor const& dy, MaybeTensor const& dfinal_state, MaybeTensor const& offsets, std::int64_t every) {
  return with_arguments(log_w, k, v, u, offsets,
                        [&](auto const& x) { return backward_in(x, tape, dy, dfinal_state, offsets, every); });
}

}  // namespace
}  // namespace aviary_torch

TORCH_LIBRARY_IMPL(aviary, CPU, library) {
  library.impl("wkv4_forward", &aviary_torch::forward);
  library.impl("wkv4_backward", &aviary_torch::backward);
}
