#pragma once
/// Gradients of layers with a state, over packed sequences: runs of `backward`, and the loss that judges them, which is the sum
/// of y * dy and of the final states times theirs. Everything is double.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "aviary/channel/state.hpp"
#include "aviary/core/scratch.hpp"
#include "aviary/layers/packed.hpp"
#include "aviary/layers/parameters.hpp"
#include "aviary/matrix/state.hpp"
#include "support/allocation_counter.hpp"
#include "support/gradient_case.hpp"
#include "support/layer_case.hpp"

namespace aviary::test {

/// Weights, or their gradients, by name. One that is not there is none, or not wanted.
template <class T> using TensorsOf = std::map<std::string, Matrix<T>>;
using Tensors = TensorsOf<double>;

/// Tensors as one of the structs of parameters.hpp names them.
template <class As> struct TensorsAs;
template <template <class> class Of, class T> struct TensorsAs<Of<T>> {
  using As = Of<T>;
  std::conditional_t<std::is_same_v<As, GivenWeights<T>>, TensorsOf<T> const, TensorsOf<T>>& tensors;

  typename As::Vector row(char const* name) const {
    auto const found = tensors.find(name);
    if (found == tensors.end()) return As::no_vector();
    return found->second.view()[0];
  }
  typename As::Matrix matrix(char const* name) const { return found_or(name, typename As::Matrix{}); }
  typename As::Table table(char const* name) const { return found_or(name, As::no_table()); }

 private:
  template <class Rows> Rows found_or(char const* name, Rows none) const {
    auto const found = tensors.find(name);
    if (found == tensors.end()) return none;
    return found->second.view();
  }
};

/// @name f(number) for all numbers of a memory
/// The sums of a channel memory become relative to 2^0 first, where they are what a loss reads.
///@{
template <class T, Index K, Index V, class F> void for_each_number(State<T, K, V>& memory, F&& f) {
  for (Index k = 0; k < memory.keys(); ++k)
    for (Index v = 0; v < memory.values(); ++v) f(memory.view()(k, v));
}
template <class T, Index C, class F> void for_each_number(ChannelState<T, C>& memory, F&& f) {
  for (auto* const sums : {&memory.num, &memory.den})
    for (Index c = 0; c < memory.channels(); ++c) {
      (*sums)[c] = std::ldexp((*sums)[c], static_cast<int>(memory.exponent[c]));
      f((*sums)[c]);
    }
  memory.exponent.clear();
}
///@}

/// f(number) for all numbers of a layer's state, one after another.
template <class State, class F> void for_each_number(State& state, F&& f) {
  if constexpr (requires { state.time_mix; }) {
    for_each_number(state.time_mix, f);
    for_each_number(state.channel_mix, f);
  } else {
    for (auto& e : state.x) f(e);
    if constexpr (requires { state.s; })
      for (auto& memory : state.s) for_each_number(memory, f);
  }
}
template <class State> std::vector<double> numbers_in(std::vector<State> states) {
  std::vector<double> numbers;
  for (State& state : states) for_each_number(state, [&](double e) { numbers.push_back(e); });
  return numbers;
}
template <class State> std::vector<State> with_numbers(std::vector<State> states, std::vector<double> const& numbers) {
  auto from = numbers.begin();
  for (State& state : states) for_each_number(state, [&](double& e) { e = *from++; });
  return states;
}

/// A layer's weights and inputs, and the gradients of what it makes of them. Kind has
///   Layer, and parameters(TensorsAs<As>), which gives Layer::Parameters<As> in words of the tensors.
template <class Kind> struct LayerGradientCase {
  using Layer = typename Kind::Layer;
  using Given = GivenWeights<double>;
  static constexpr bool shares_values = requires { requires Layer::shares_values; };

  Kind kind;
  std::vector<Index> offsets;
  Tensors tensors;
  Matrix<double> x, dy;                 // (tokens, C)
  Matrix<double> v_first, dv_first;     // (tokens, A); dv_first counts where the layer writes v_first
  std::vector<double> states, dstates;  // of all sequences

  LayerGradientCase(Kind of, Tensors weights, std::vector<Index> ends, std::uint64_t seed)
      : kind(of),
        offsets(std::move(ends)),
        tensors(std::move(weights)),
        x(0, 0),
        dy(0, 0),
        v_first(0, 0),
        dv_first(0, 0) {
    Random random(seed);
    Layer const made = layer();
    Index const tokens = offsets.back(), c = made.channels();
    x = Matrix<double>(tokens, c, random);
    dy = Matrix<double>(tokens, c, random);
    if constexpr (shares_values) {
      v_first = Matrix<double>(tokens, made.inner_channels(), random);
      dv_first = Matrix<double>(tokens, made.inner_channels(), random);
    }
    Index const n = static_cast<Index>(numbers_in(empty_states(made)).size());
    states = random.normals<double>(n, 0.5);
    dstates = random.normals<double>(n);
  }

  Index sequences() const { return static_cast<Index>(offsets.size()) - 1; }
  bool writes_values() const { return shares_values && !tensors.contains("v0"); }
  typename Layer::Weights weights() const { return kind.template parameters<Given>(TensorsAs<Given>{tensors}); }
  Layer layer() const { return Layer(weights()); }
  auto empty_states(Layer const& made) const {
    return std::vector<typename Layer::State>(to_size(sequences()), made.empty_state());
  }

  /// What the layer's own forward pass makes of the numbers as they are now.
  struct Outputs {
    Matrix<double> y, v_first;
    std::vector<typename Layer::State> states;
  };
  Outputs forward() const {
    Layer const made = layer();
    Outputs after{Matrix<double>(x.rows, x.columns), v_first, with_numbers(empty_states(made), states)};
    Scratch<double> scratch(x.rows * made.scratch_size());
    Packed<typename Layer::State> const packed(after.states, offsets);
    if constexpr (shares_values)
      made(x.view(), packed, after.y.view(), scratch, after.v_first.view());
    else
      made(x.view(), packed, after.y.view(), scratch);
    return after;
  }
  double loss() const {
    Outputs const after = forward();
    double sum = dot(after.y.numbers, dy.numbers) + dot(numbers_in(after.states), dstates);
    if (writes_values()) sum += dot(after.v_first.numbers, dv_first.numbers);
    return sum;
  }

 private:
  static double dot(std::vector<double> const& a, std::vector<double> const& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }
};

/// What `backward` adds to. All begin at a number of their own, so that what is overwritten shows.
template <class Kind> struct LayerGradients {
  using Layer = typename Kind::Layer;
  using Wanted = WeightGradients<double>;
  static constexpr bool shares_values = LayerGradientCase<Kind>::shares_values;

  Matrix<double> dx, dv_first;
  Tensors tensors;
  std::vector<typename Layer::StateGradient> dstates;
  std::size_t allocations = 0;  // of all backward calls

  explicit LayerGradients(LayerGradientCase<Kind> const& c) : dx(c.x.rows, c.x.columns), dv_first(c.dv_first) {
    if (!c.writes_values()) std::fill(dv_first.numbers.begin(), dv_first.numbers.end(), 0.0);
    for (auto const& [name, tensor] : c.tensors) tensors.emplace(name, Matrix<double>(tensor.rows, tensor.columns));
    Layer const layer = c.layer();
    dstates = with_numbers(
        std::vector<typename Layer::StateGradient>(to_size(c.sequences()), layer.empty_state_gradient()), c.dstates);
  }

  /// Adds what comes from rows [first, last) of one call, with these sequences in it.
  /// @param states  before these rows     @param between  what `backward` of a time mix is to do between, if anything
  template <class E = Serial, class... Between>
  void add(LayerGradientCase<Kind> const& c, std::vector<typename Layer::State> const& states, Index first, Index last,
           std::vector<Index> const& offsets, E&& executor = {}, Between const&... between) {
    Layer const layer = c.layer();
    auto const weights = c.weights();
    auto const sinks = c.kind.template parameters<Wanted>(TensorsAs<Wanted>{tensors});
    Index const n = last - first, s = c.sequences();
    Matrix<double> values = c.v_first;
    typename Layer::BackwardCall const call{.weights = weights,
                                            .x = c.x.rows_of(first, n),
                                            .states = {std::span(states), offsets},
                                            .dy = c.dy.rows_of(first, n),
                                            .dx = dx.view().rows(first, n),
                                            .dstates = dstates,
                                            .dweights = sinks};
    if constexpr (requires { layer.make_tape(n, s); }) {
      auto tape = layer.make_tape(n, s);
      Scratch<double> scratch(layer.backward_scratch_size(n, s, executor.concurrency()));
      AllocationCounter const counter;
      if constexpr (shares_values)
        layer.backward(call, tape, scratch, values.view().rows(first, n), dv_first.view().rows(first, n), executor,
                       between...);
      else
        layer.backward(call, tape, scratch, executor, between...);
      allocations += counter.count();
    } else {
      Scratch<double> scratch(layer.backward_scratch_size(n));
      AllocationCounter const counter;
      layer.backward(call, scratch, executor);
      allocations += counter.count();
    }
  }
  template <Executor E = Serial, class... Between>
  LayerGradients& add(LayerGradientCase<Kind> const& c, E&& executor = {}, Between const&... between) {
    add(c, with_numbers(c.empty_states(c.layer()), c.states), 0, c.x.rows, c.offsets, executor, between...);
    return *this;
  }
};

/// Gradients or what they are of, by name.
class NamedLists {
 public:
  template <class Kind> explicit NamedLists(LayerGradientCase<Kind>& c) {
    put("x", c.x.numbers);
    put("states", c.states);
    if (c.shares_values && !c.writes_values()) put("v_first", c.v_first.numbers);
    for (auto& [name, tensor] : c.tensors) put(name.c_str(), tensor.numbers);
  }
  template <class Kind> NamedLists(LayerGradientCase<Kind> const& c, LayerGradients<Kind>& d) {
    states_ = numbers_in(d.dstates);
    put("x", d.dx.numbers);
    put("states", states_);
    if (c.shares_values && !c.writes_values()) put("v_first", d.dv_first.numbers);
    for (auto& [name, tensor] : d.tensors) put(name.c_str(), tensor.numbers);
  }
  NamedLists(NamedLists const&) = delete;
  NamedLists& operator=(NamedLists const&) = delete;
  std::span<NamedNumbers const> all() const { return lists_; }

 private:
  void put(char const* name, std::vector<double>& numbers) { lists_.push_back({name, Axis::one, &numbers}); }

  std::vector<double> states_;
  std::vector<NamedNumbers> lists_;
};

/// 70 sequences of no token, one or two: more than a call of a memory takes.
inline std::vector<Index> offsets_of_many_sequences() {
  std::vector<Index> offsets{0};
  for (Index s = 0; s < 70; ++s) offsets.push_back(offsets.back() + s % 3);
  return offsets;
}

/// Checks gradients of x, the initial states and every weight against central differences of the layer's own forward pass.
template <class Kind>
void check_layer_differences(LayerGradientCase<Kind> c, double bound = 1e-8,
                             Place place = {__builtin_FILE(), __builtin_LINE()}) {
  LayerGradients<Kind> d(c);
  d.add(c);
  NamedLists const gradients(c, d);
  NamedLists const of(c);
  check_central_differences(
      of.all(), gradients.all(), [&] { return c.loss(); }, bound, place);
}

/// Checks that two calls with the states' gradients handed back, cut at row `cut` of one sequence, agree with one.
template <class Kind>
void check_layer_in_two(LayerGradientCase<Kind> const& c, Index cut, double bound = 1e-12,
                        Place place = {__builtin_FILE(), __builtin_LINE()}) {
  auto const before = with_numbers(c.empty_states(c.layer()), c.states);
  auto between = before;
  auto const layer = c.layer();
  Matrix<double> y(cut, c.x.columns), values = c.v_first;
  Scratch<double> scratch(cut * layer.scratch_size());
  if constexpr (LayerGradientCase<Kind>::shares_values)
    layer(c.x.rows_of(0, cut), between.front(), y.view(), scratch, values.view().rows(0, cut));
  else
    layer(c.x.rows_of(0, cut), between.front(), y.view(), scratch);
  LayerGradients<Kind> one(c), two(c);
  one.add(c);
  two.add(c, between, cut, c.x.rows, {0, c.x.rows - cut});
  two.add(c, before, 0, cut, {0, cut});
  check_gradients(NamedLists(c, two).all(), NamedLists(c, one).all(), bound, place);
}

/// Checks that a call without tokens changes no gradient.
template <class Kind>
void check_layer_without_tokens(LayerGradientCase<Kind> const& c, Place place = {__builtin_FILE(), __builtin_LINE()}) {
  LayerGradients<Kind> d(c), expected(c);
  d.add(c);
  check_equal(numbers_in(d.dstates), numbers_in(expected.dstates), place);
  check_that(d.tensors == expected.tensors, "no gradient of a weight", place);
}

/// Gives a layer around a matrix memory a trained first state. Checks that its empty contexts have it, stored by value and
/// key; that backward alone does not add to its gradient; and the gradient that reset_backward() makes of those of the states
/// before the tokens, against central differences.
template <class Kind>
void check_first_state(LayerGradientCase<Kind> c, double bound = 1e-8,
                       Place place = {__builtin_FILE(), __builtin_LINE()}) {
  using Wanted = WeightGradients<double>;
  auto const heads_of = [](auto const& state) -> auto const& {
    if constexpr (requires { state.time_mix; })
      return state.time_mix.s;
    else
      return state.s;
  };
  auto const untrained = c.layer().empty_state();
  Index const n = heads_of(untrained)[0].view().keys();
  Random random(11);
  Matrix<double> const random_state(static_cast<Index>(heads_of(untrained).size()) * n, n, random);
  Matrix<double>& first = c.tensors.emplace("first_state", random_state).first->second;
  auto const layer = c.layer();
  std::vector<double> had;
  auto const trained = layer.empty_state();
  for (auto const& head : heads_of(trained))
    for (Index value = 0; value < n; ++value)
      for (Index key = 0; key < n; ++key) had.push_back(head.view()(key, value));
  check_equal(had, first.numbers, place);
  auto const loss = [&] {
    c.states = numbers_in(c.empty_states(c.layer()));
    return c.loss();
  };
  loss();
  LayerGradients<Kind> d(c);
  d.add(c);
  std::vector<double>& gradient = d.tensors.at("first_state").numbers;
  check_equal(gradient, std::vector<double>(gradient.size()), place);
  auto const sinks = c.kind.template parameters<Wanted>(TensorsAs<Wanted>{d.tensors});
  for (auto const& dstate : d.dstates) layer.reset_backward(dstate, sinks);
  NamedNumbers const of[]{{"first_state", Axis::one, &first.numbers}};
  NamedNumbers const gradients[]{{"first_state", Axis::one, &gradient}};
  check_central_differences(of, gradients, loss, bound, place);
  layer.reset_backward(d.dstates[0], typename LayerGradientCase<Kind>::Layer::Gradients{});
}

/// Checks that `backward` of a time mix hands its outputs to what it does between, reads dy only from then on, and gives the
/// same bits as without.
template <class Kind>
void check_layer_between(LayerGradientCase<Kind> c, Place place = {__builtin_FILE(), __builtin_LINE()}) {
  LayerGradients<Kind> expected(c), d(c);
  expected.add(c);
  std::vector<double> const dy = c.dy.numbers;
  std::fill(c.dy.numbers.begin(), c.dy.numbers.end(), std::numeric_limits<double>::quiet_NaN());
  Matrix<double> y(c.x.rows, c.x.columns);
  Index calls = 0;
  d.add(c, Serial(), [&](MatView<double const> handed) {
    ++calls;
    aviary::detail::transform_rows(y.view(), activation::none, handed);
    std::copy(dy.begin(), dy.end(), c.dy.numbers.begin());
  });
  check_that(calls == 1, "called once", place);
  check_close(y.numbers, c.forward().y.numbers, 1e-12, place);
  check_same_gradients(NamedLists(c, d).all(), NamedLists(c, expected).all(), place);
}

/// Checks that any executor gives the same bits, and that nothing is allocated.
template <class Kind>
void check_layer_executors(LayerGradientCase<Kind> const& c, Place place = {__builtin_FILE(), __builtin_LINE()}) {
  LayerGradients<Kind> expected(c);
  expected.add(c);
  check_that(expected.allocations == 0, "backward allocates nothing", place);
  for (Index const tasks : {2, 7}) {
    Note const note("tasks", tasks);
    LayerGradients<Kind> d(c);
    d.add(c, Backwards{tasks});
    check_same_gradients(NamedLists(c, d).all(), NamedLists(c, expected).all(), place);
  }
}

/// Checks that a gradient that is not wanted, one by one, changes no bit of the others.
template <class Kind>
void check_layer_unwanted(LayerGradientCase<Kind> const& c, Place place = {__builtin_FILE(), __builtin_LINE()}) {
  LayerGradients<Kind> all(c);
  all.add(c);
  for (auto const& [name, tensor] : c.tensors) {
    Note const note("without", name);
    LayerGradients<Kind> others(c), expected = all;
    others.tensors.erase(name);
    others.add(c);
    expected.tensors.erase(name);
    check_same_gradients(NamedLists(c, others).all(), NamedLists(c, expected).all(), place);
  }
}

}  // namespace aviary::test
