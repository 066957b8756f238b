#pragma once
/// The inputs of a memory as tables of trained numbers: what ranges they have, and what gradients reach the tables.
#include <aviary/core/math.hpp>
#include <aviary/core/sequence.hpp>
#include <aviary/layers/functions.hpp>
#include <aviary/simd/pack.hpp>
#include <aviary/training/parameter_groups.hpp>

namespace state_tracking {

using aviary::Index;
using aviary::MatView;

/// What trained numbers become before a memory takes them.
enum class Range {
  all,              ///< they stay as they are
  unit,             ///< those of a head get length 1
  rate,             ///< (0, 1)
  doubled_rate,     ///< (0, 2)
  log_decay_7,      ///< RWKV-7: w in (0.5452, 1)
  log_decay_6,      ///< RWKV-6: w in (0, 1)
  log_decay_delta,  ///< Gated DeltaNet: w in (0, 1)
};

/// Which steps of a memory have rows of a table, where it takes several for a symbol.
enum class Rows {
  of_steps,       ///< each has one
  of_first_step,  ///< the others have zeros
  shared,         ///< one row is that of all symbols and steps
};

/// An input of a memory.
struct Field {
  Index size;  ///< numbers of a head
  Range range;
  double mean, deviation;  ///< of the trained numbers before they learn
  aviary::ParameterGroup group = {};
  Rows rows = Rows::of_steps;
};

namespace detail {

/// f(y of x, gradient of x from x and dy) for a range that treats each number alone.
template <class F> void with_range(Range range, F const& f) {
  switch (range) {
    case Range::all:
    case Range::unit:
      return f([](auto const& x) { return x; }, [](auto const&, auto const& dy) { return dy; });
    case Range::rate:
      return f([](auto const& x) { return aviary::sigmoid(x); },
               [](auto const& x, auto const& dy) { return aviary::sigmoid_gradient(x, dy); });
    case Range::doubled_rate:
      return f(
          [](auto const& x) {
            auto const half = aviary::sigmoid(x);
            return half + half;
          },
          [](auto const& x, auto const& dy) { return aviary::sigmoid_gradient(x, dy + dy); });
    case Range::log_decay_7:
      return f([](auto const& x) { return aviary::log_w_of_sigmoid(x); },
               [](auto const& x, auto const& dy) { return aviary::log_w_of_sigmoid_gradient(x, dy); });
    case Range::log_decay_6:
      return f([](auto const& x) { return aviary::log_w_of_exponential(x); },
               [](auto const& x, auto const& dy) { return aviary::log_w_of_exponential_gradient(x, dy); });
    case Range::log_decay_delta:  // that of published layers with both parameters 0
      return f([](auto const& x) { return aviary::log_w_of_softplus(x, x - x, x - x); },
               [](auto const& x, auto const& dy) { return aviary::log_w_of_softplus_gradient(x, x - x, x - x, dy).x; });
  }
}

/// Zeros for all steps of a symbol but the first.
template <class T> void clear_later_steps(MatView<T> rows, Index steps) {
  for (Index i = 0; i < rows.rows(); ++i)
    if (i % steps != 0) std::ranges::fill(rows[i], T(0));
}

}  // namespace detail

/// Makes inputs y of trained numbers x, both (rows, heads * size), with `steps` rows for a symbol.
template <class T> void into_range(Field const& field, Index steps, MatView<T const> x, MatView<T> y) {
  detail::with_range(field.range, [&](auto const& f, auto const&) {
    for (Index i = 0; i < x.rows(); ++i) aviary::simd::transform(x.columns(), y[i].data(), f, x[i].data());
  });
  if (field.range == Range::unit) aviary::normalize_heads(y, field.size);
  if (field.rows == Rows::of_first_step) detail::clear_later_steps(y, steps);
}

/// The gradient of x from that of y, in place.
template <class T> void pull_range(Field const& field, Index steps, MatView<T const> x, MatView<T> dy) {
  if (field.rows == Rows::of_first_step) detail::clear_later_steps(dy, steps);
  if (field.range == Range::unit) return aviary::normalize_heads_gradient<T>(x, field.size, dy, dy);
  detail::with_range(field.range, [&](auto const&, auto const& gradient) {
    for (Index i = 0; i < x.rows(); ++i)
      aviary::simd::transform(x.columns(), dy[i].data(), gradient, x[i].data(), dy[i].data());
  });
}

/// The rows of a field for some tokens, as whatever a memory takes them: it reads a field, or writes its gradient.
template <class T> struct FieldRows {
  T* data;
  Index tokens, heads;

  template <Index N> operator aviary::Source<N>() const { return {data, tokens, heads}; }
  template <Index N> operator aviary::HeadSource<N>() const { return {data, heads}; }
  template <Index N> operator aviary::Sink<N>() const { return {data, tokens, heads}; }
  template <Index N> operator aviary::HeadSink<N>() const { return {data, heads}; }
};

}  // namespace state_tracking
