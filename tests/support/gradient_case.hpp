#pragma once
/// Gradients of packed sequences: through memories, and what judges them. A loss is the sum of y * dy and of the final states
/// times theirs.
#include <cmath>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/rule_case.hpp"

namespace aviary::test {

/// The inputs of a rule, and the gradients of a loss with respect to the outputs and the final states.
template <class R> struct GradientCase : RuleCase<R> {
  std::vector<double> dy, dstates;  // (tokens, heads, V), (sequences, heads, V, K)
};

/// The gradients with respect to the inputs and the initial states.
template <class R> struct GradientResult {
  FieldNumbers<R> dx;           // each as many as the numbers of its field
  std::vector<double> dstates;  // (sequences, heads, V, K)
};

/// Random gradients of the outputs and the final states of a case.
template <class R> GradientCase<R> with_gradients(std::uint64_t seed, RuleCase<R> c) {
  Random random(seed);
  Shape const& shape = c.shape;
  auto dy = random.normals<double>(shape.tokens() * shape.heads * shape.values);
  auto dstates = random.normals<double>(static_cast<Index>(c.state.size()));
  return {std::move(c), std::move(dy), std::move(dstates)};
}

/// Numbers and what a rule calls them.
struct NamedNumbers {
  char const* name;
  Axis axis;
  std::vector<double>* numbers;
};

/// The fields of a rule, one by one.
template <class R> std::vector<NamedNumbers> named_fields(FieldNumbers<R>& x) {
  constexpr int fields = aviary::detail::field_count<R>;
  std::vector<NamedNumbers> named;
  [&]<int... I>(std::integer_sequence<int, I...>) {
    (named.push_back({aviary::detail::member_name<aviary::detail::Axes<R>, I>.text, Axis::one, nullptr}), ...);
  }
  (std::make_integer_sequence<int, fields>{});
  NamedNumbers* next = named.data();
  aviary::detail::Axes<R> axes{};
  aviary::detail::with_members<fields>(axes, [&](auto... axis) { ((next++->axis = decltype(axis)::value), ...); });
  next = named.data();
  aviary::detail::with_members<fields>(x, [&](auto&... field) { ((next++->numbers = &field), ...); });
  return named;
}
/// The same and the gradients of the states.
template <class R> std::vector<NamedNumbers> named_gradients(GradientResult<R>& g) {
  auto named = named_fields<R>(g.dx);
  named.push_back({"states", Axis::value, &g.dstates});
  return named;
}

/// Checks that each is within a bound of what is expected, by l2_error: an assertion for each.
void check_gradients(std::span<NamedNumbers const> x, std::span<NamedNumbers const> expected, double bound,
                     Place place = {__builtin_FILE(), __builtin_LINE()});
template <class R>
void check_gradients(GradientResult<R> x, GradientResult<R> expected, double bound,
                     Place place = {__builtin_FILE(), __builtin_LINE()}) {
  auto const named = named_gradients<R>(x), others = named_gradients<R>(expected);
  check_gradients(std::span(named), std::span(others), bound, place);
}

/// Checks that they have the same bits.
void check_same_gradients(std::span<NamedNumbers const> x, std::span<NamedNumbers const> expected,
                          Place place = {__builtin_FILE(), __builtin_LINE()});
template <class R>
void check_same_gradients(GradientResult<R> x, GradientResult<R> expected,
                          Place place = {__builtin_FILE(), __builtin_LINE()}) {
  auto const named = named_gradients<R>(x), others = named_gradients<R>(expected);
  check_same_gradients(std::span(named), std::span(others), place);
}

/// Gradients of inputs rounded to numbers S, which those of states never are.
template <class S, class R> GradientResult<R> rounded(GradientResult<R> g) {
  for (NamedNumbers const& field : named_fields<R>(g.dx))
    for (double& e : *field.numbers) e = double{widen(narrow<S>(static_cast<float>(e)))};
  return g;
}

/// Checks gradients against central differences of a loss that reads the numbers of `x`: the derivative along a random
/// direction, those with respect to two single numbers, and that with respect to the number where the gradient is largest. The
/// bound is relative to the norm of a gradient and to its largest number. An assertion for each.
void check_central_differences(std::span<NamedNumbers const> x, std::span<NamedNumbers const> gradients,
                               std::function<double()> const& loss, double bound,
                               Place place = {__builtin_FILE(), __builtin_LINE()});

/// The same with the loss of what forward(case) makes of a case in double.
template <class R, class F>
void check_differences(GradientCase<R> const& c, GradientResult<R> g, F&& forward, double bound = 1e-7,
                       Place place = {__builtin_FILE(), __builtin_LINE()}) {
  RuleCase<R> moved = c;
  auto x = named_fields<R>(moved.x);
  x.push_back({"states", Axis::value, &moved.state});
  auto const loss = [&] {
    MatrixResult const result = forward(moved);
    double sum = 0;
    for (std::size_t i = 0; i < result.y.size(); ++i) sum += result.y[i] * c.dy[i];
    for (std::size_t i = 0; i < result.state.size(); ++i) sum += result.state[i] * c.dstates[i];
    return sum;
  };
  check_central_differences(x, named_gradients<R>(g), loss, bound, place);
}

/// What `forward` is to keep for `backward`.
struct Keep {
  Index every = 16;
  bool readings = false;
};

/// A case through forward and backward of memory M, from inputs stored as In to gradients stored as Out.
template <class M, class In = typename M::T, class Out = typename M::T> struct GradientRun {
  using Memory = M;
  using T = typename M::T;
  using R = typename M::Rule;
  using State = typename M::State;
  using StateGradient = typename M::StateGradient;
  static constexpr bool erases = R::erase != Erase::none;

  Shape shape;
  std::vector<Index> offsets;  // of the sequences that are run: those of the shape, or one of them in parts
  CaseFields<R, In> x;
  std::vector<In> dy;
  std::vector<T> y, readings;
  std::vector<State> states, kept;
  std::vector<StateGradient> dstates;
  CaseFields<R, Out> dx;
  std::vector<T> workspace;
  Keep keep;

  explicit GradientRun(GradientCase<R> const& c, Keep keep_ = {}, double before = -77)
      : shape(c.shape),
        offsets(c.shape.offsets),
        x(c),
        y(c.dy.size()),
        readings(keep_.readings ? c.dy.size() : 0, T(-77)),
        states(states_of<State>(c.state, shape.keys, shape.values)),
        dstates(states_of<StateGradient>(c.dstates, shape.keys, shape.values)),
        dx(filled(c, before)),
        keep(keep_) {
    for (double const e : c.dy) dy.push_back(narrow<In>(e));
  }

  typename M::Inputs inputs() const { return x.template inputs<typename M::Inputs, M::keys, M::values>(); }
  typename M::Gradients gradients() { return dx.template sinks<typename M::Gradients, M::keys, M::values>(); }
  typename M::Tape tape() {
    typename M::Tape tape{.every = keep.every, .states = kept};
    if constexpr (erases)
      if (keep.readings) tape.readings = {readings.data(), shape.tokens(), shape.heads, shape.values};
    return tape;
  }
  typename M::BackwardCall call() {
    return {.x = inputs(),
            .dy = {dy.data(), shape.tokens(), shape.heads, shape.values},
            .tape = tape(),
            .dx = gradients(),
            .dstates = dstates,
            .workspace = workspace,
            .offsets = offsets};
  }

  template <class P = simd::Native<T>> GradientRun& forward() {
    kept.assign(M::tape_size(inputs(), offsets, keep.every), State(shape.keys, shape.values));
    typename M::ForwardCall const call{.x = inputs(),
                                       .y = {y.data(), shape.tokens(), shape.heads, shape.values},
                                       .states = states,
                                       .offsets = offsets,
                                       .tape = tape()};
    if (std::string const wrong = M::check(call); !wrong.empty()) throw std::invalid_argument(wrong);
    M::template forward<P>(call);
    return *this;
  }
  /// Room for `backward` with so many tasks at once.
  GradientRun& make_room(Index concurrency = 1) {
    workspace.assign(M::backward_workspace(inputs(), shape.heads, offsets, keep.every, concurrency), T(-77));
    return *this;
  }
  template <class P = simd::Native<T>, class E = Serial> GradientRun& backward(E&& executor = {}) {
    make_room(executor.concurrency());
    if (std::string const wrong = M::check(call()); !wrong.empty()) throw std::invalid_argument(wrong);
    M::template backward<P>(call(), executor);
    return *this;
  }

  GradientResult<R> result() const {
    return {aviary::detail::transform_fields<R, FieldNumbers<R>>(dx.numbers(),
                                                                 [](auto, std::vector<Out> const& from) {
                                                                   std::vector<double> numbers;
                                                                   for (Out const e : from)
                                                                     numbers.push_back(double{widen(e)});
                                                                   return numbers;
                                                                 }),
            numbers_of(dstates, shape.keys, shape.values)};
  }

 private:
  /// As many numbers as the fields have, all of them the same.
  static RuleCase<R> filled(RuleCase<R> c, double number) {
    for (NamedNumbers const& field : named_fields<R>(c.x)) field.numbers->assign(field.numbers->size(), number);
    return c;
  }
};

/// forward and backward of a case.
template <class M>
GradientResult<typename M::Rule> gradients_of(GradientCase<typename M::Rule> const& c, Keep keep = {}) {
  return GradientRun<M>(c, keep).forward().backward().result();
}

}  // namespace aviary::test
