#pragma once
/// One rule as two operators of PyTorch, whatever the device:
///
///     RULE_forward(fields..., initial_state?, offsets?, every) -> (y, final_state, tape)
///     RULE_backward(fields..., tape, dy, dfinal_state?, offsets?, every) -> (gradients of fields..., dinitial_state)
///
/// Names and number of the fields are the rule's. Shapes: (B, T, H, K or V) for a field of every token, (B, T, H) where
/// it is one number, (H, K) and (H) for fields of a head; the H of v is that of y and of the states, and those of
/// others divide it. States are (sequences, H, K, V), the tape (kept, H, K, V), of float32, or of float64 where v is.
#include <array>
#include <tuple>
#include <utility>

#include "rules.hpp"
#include "tensors.hpp"

namespace aviary_torch {

using aviary::Axis;
template <class R> inline constexpr std::size_t fields = static_cast<std::size_t>(aviary::detail::field_count<R>);
template <class R> using Fields = std::array<Tensor, fields<R>>;

/// f(axis, index, name) for each field of rule R.
template <class R, class F> void for_each_field(F&& f) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    std::size_t i = 0;
    std::array const names{aviary::detail::member_name<aviary::detail::Axes<R>, static_cast<int>(I)>.text...};
    aviary::detail::for_each_field<R>(aviary::detail::Axes<R>{}, [&](auto axis, auto) {
      f(axis, i, names[i]);
      ++i;
    });
  }
  (std::make_index_sequence<fields<R>>{});
}

/// Fields as rows: (tokens, heads, ...), or (heads, ...) for fields of a head.
template <class R> Fields<R> packed_fields(Fields<R> x) {
  for_each_field<R>([&]<Axis A>(aviary::detail::AxisTag<A>, std::size_t i, char const*) {
    x[i] = per_token(A) ? packed(x[i]) : x[i].contiguous();
  });
  return x;
}

/// The inputs of a call whose shapes are right.
template <class R> struct Arguments {
  Fields<R> x;     ///< as they came
  Fields<R> rows;  ///< the same as (tokens, heads, ...), or (heads, ...) for fields of a head
  Index heads = 0, keys = 0, values = 0;
  Packed sequences;

  Arguments(Fields<R> const& given, MaybeTensor const& offsets)
      : x(given), sequences(R::name, v().size(0), v().size(1), offsets) {
    heads = v().size(2);
    values = v().size(3);
    for_each_field<R>([&]<Axis A>(aviary::detail::AxisTag<A>, std::size_t i, char const*) {
      if (A == Axis::key && keys == 0) keys = x[i].size(-1);
    });
    for_each_field<R>([&]<Axis A>(aviary::detail::AxisTag<A>, std::size_t i, char const* name) {
      std::vector<std::int64_t> expected;
      if (per_token(A)) expected = {v().size(0), v().size(1)};
      Index const found = x[i].dim() > static_cast<Index>(expected.size()) ? x[i].size(per_token(A) ? 2 : 0) : 0;
      expected.push_back(found > 0 && heads % found == 0 ? found : heads);
      if (!one_number(A)) expected.push_back(A == Axis::value ? values : keys);
      TORCH_CHECK_VALUE(x[i].sizes() == expected, "aviary: ", R::name, ": ", name, " has shape ", x[i].sizes(),
                        ", expected ", at::IntArrayRef(expected));
      TORCH_CHECK_VALUE(x[i].device() == v().device(), "aviary: ", R::name, ": ", name, " is on ", x[i].device(),
                        ", expected ", v().device());
    });
    rows = packed_fields<R>(x);
  }

  /// The first field along values.
  Tensor const& v() const {
    Tensor const* found = nullptr;
    for_each_field<R>([&]<Axis A>(aviary::detail::AxisTag<A>, std::size_t i, char const* name) {
      if (A != Axis::value || found != nullptr) return;
      TORCH_CHECK_VALUE(x[i].dim() == 4, "aviary: ", R::name, ": ", name, " has shape ", x[i].sizes(),
                        ", expected 4 axes (batch, tokens, heads, values)");
      found = &x[i];
    });
    return *found;
  }
  at::TensorOptions state_options() const { return v().options().dtype(arithmetic(v())); }
  /// n states of each head, uninitialised.
  Tensor make_states(Index n) const { return at::empty({n, heads, keys, values}, state_options()); }
  /// A copy of the states of all sequences, or zeros, in a tensor of their own.
  Tensor copy_of_states(MaybeTensor const& given, char const* name) const {
    Tensor states = make_states(sequences.sequences());
    if (!given) return states.zero_();
    TORCH_CHECK_VALUE(given->sizes() == states.sizes() && given->scalar_type() == states.scalar_type(),
                      "aviary: ", R::name, ": ", name, " has shape ", given->sizes(), " of ", given->scalar_type(),
                      ", expected ", states.sizes(), " of ", states.scalar_type());
    return states.copy_(*given);
  }
};

/// The operators of rule R on a device, which has
///
///     static void forward<R>(Arguments<R> const&, Tensor y, Tensor states, Tensor tape, Index every);
///     static void backward<R>(Arguments<R> const&, Tensor tape, Tensor dy, Fields<R> dx, Tensor dstates, Index every);
///
/// with y, dy, dx and dstates contiguous; states before the tokens in and after them out, for gradients the reverse.
template <class R, class Device, class = std::make_index_sequence<fields<R>>> struct Operators;
template <class R, class Device, std::size_t... I> struct Operators<R, Device, std::index_sequence<I...>> {
  template <std::size_t> struct FieldOf { using Type = Tensor; };  // nvcc takes no alias that ignores its argument
  template <std::size_t i> using Field = typename FieldOf<i>::Type;

  static std::tuple<Tensor, Tensor, Tensor> forward(Field<I> const&... field, MaybeTensor const& initial_state,
                                                    MaybeTensor const& offsets, std::int64_t every) {
    Arguments<R> const x({field...}, offsets);
    Tensor y = at::empty(x.v().sizes(), x.v().options());
    Tensor states = x.copy_of_states(initial_state, "initial_state");
    Tensor tape = x.make_states(x.sequences.kept(every));
    Device::template forward<R>(x, y, states, tape, every);
    return {y, states, tape};
  }

  static std::tuple<Field<I>..., Tensor> backward(Field<I> const&... field, Tensor const& tape, Tensor const& dy,
                                                  MaybeTensor const& dfinal_state, MaybeTensor const& offsets,
                                                  std::int64_t every) {
    Arguments<R> const x({field...}, offsets);
    TORCH_CHECK_VALUE(every > 0, "aviary: ", R::name, ": gradients need a tape, and every is ", every);
    Tensor const expected = x.make_states(x.sequences.kept(every));
    TORCH_CHECK_VALUE(tape.sizes() == expected.sizes() && tape.scalar_type() == expected.scalar_type(),
                      "aviary: ", R::name, ": tape has shape ", tape.sizes(), ", expected ", expected.sizes());
    TORCH_CHECK_VALUE(dy.sizes() == x.v().sizes(), "aviary: ", R::name, ": dy has shape ", dy.sizes(), ", expected ",
                      x.v().sizes());
    for (Tensor const* each : {&tape, &dy})
      TORCH_CHECK_VALUE(each->device() == x.v().device(), "aviary: ", R::name, ": ", each == &dy ? "dy" : "tape",
                        " is on ", each->device(), ", expected ", x.v().device());
    Tensor dstates = x.copy_of_states(dfinal_state, "dfinal_state");
    Fields<R> dx{at::empty(field.sizes(), field.options())...};
    Device::template backward<R>(x, tape.contiguous(), dy.contiguous(), dx, dstates, every);
    return {dx[I]..., dstates};
  }
};

/// The names of a rule's two operators with their arguments.
template <class R> std::array<std::string, 2> schemas() {
  std::string inputs, gradients;
  for_each_field<R>([&](auto, std::size_t, char const* name) {
    inputs += std::string("Tensor ") + name + ", ";
    gradients += std::string("Tensor d") + name + ", ";
  });
  std::string const name = R::name;
  return {name + "_forward(" + inputs +
              "Tensor? initial_state, Tensor? offsets, int every) -> (Tensor y, Tensor final_state, Tensor tape)",
          name + "_backward(" + inputs +
              "Tensor tape, Tensor dy, Tensor? dfinal_state, Tensor? offsets, int every) -> (" + gradients +
              "Tensor dinitial_state)"};
}

/// Registers a device's operators of some rules.
template <class Device, class... R> void implement(torch::Library& library, Rules<R...>) {
  (library.impl((std::string(R::name) + "_forward").c_str(), &Operators<R, Device>::forward), ...);
  (library.impl((std::string(R::name) + "_backward").c_str(), &Operators<R, Device>::backward), ...);
}

}  // namespace aviary_torch
