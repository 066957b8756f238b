#pragma once
/// Packed sequences for a rule under its model's own field names, through its memory and through its reference, whose Token
/// and Inputs have the same fields in the same order.
#include <deque>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "aviary/matrix/memory.hpp"
#include "support/check.hpp"
#include "support/random.hpp"

namespace aviary::test {

/// The sizes of a case.
struct Shape {
  Index keys, values, heads;
  std::vector<Index> offsets;  // one more than there are sequences
  Index tokens() const { return offsets.back(); }
  Index sequences() const { return static_cast<Index>(offsets.size()) - 1; }
};

struct MatrixResult {
  std::vector<double> y, state;  // (tokens, heads, V), (sequences, heads, V, K)
};

/// Checks outputs and final states: two assertions.
inline void check_close(MatrixResult const& x, MatrixResult const& expected, double bound,
                        Place place = {__builtin_FILE(), __builtin_LINE()}) {
  check_close(x.y, expected.y, bound, place);
  check_close(x.state, expected.state, bound, place);
}

/// The bound on max|x - ref| / max|ref| for a kernel with numbers T over up to about 1000 tokens: that of a plain
/// implementation in T, three times its measured error.
template <class T> inline constexpr double matrix_bound = sizeof(T) == 4 ? 3e-6 : 1e-12;

/// What a rounding to bf16 or f16 changes at most, relatively.
template <class S> inline constexpr double roundoff = std::is_same_v<S, bf16> ? 0x1p-8 : 0x1p-11;

/// The fields of a rule, each a vector of numbers: (tokens, heads, size) packed, or (heads, size).
template <class T> struct Vectors { template <Axis A> using Per = std::vector<T>; };
template <class R, class T = double> using FieldNumbers = typename R::template Fields<Vectors<T>::template Per>;

/// The memories of a model, given by one of them, and the reference of the same name.
template <class M, template <class> class Ref> struct Model {
  using Rule = typename M::Rule;
  template <class T, Index K, Index V = K> using Memory = MatrixMemory<Rule, T, K, V>;
  using Reference = Ref<double>;
};

/// The inputs of a rule and its initial states. Doubles hold the numbers of every arithmetic.
template <class R> struct RuleCase {
  Shape shape;
  FieldNumbers<R> x;
  std::vector<double> state;  // (sequences, heads, V, K)
};

/// Where the numbers of a field of a case lie, as numbers T.
template <class R, class T> class CaseFields {
 public:
  explicit CaseFields(RuleCase<R> const& c)
      : shape_(c.shape), x_(aviary::detail::transform_fields<R, FieldNumbers<R, T>>(c.x, [](auto, auto const& from) {
          std::vector<T> numbers;
          for (double const e : from) numbers.push_back(narrow<T>(e));
          return numbers;
        })) {}

  FieldNumbers<R, T>& numbers() { return x_; }
  FieldNumbers<R, T> const& numbers() const { return x_; }

  /// All of them, as a memory with K keys and V values takes them.
  template <class Inputs, Index K, Index V> Inputs inputs() const {
    return aviary::detail::transform_fields<R, Inputs>(
        x_, [&]<Axis A>(aviary::detail::AxisTag<A>, std::vector<T> const& from) {
          constexpr Index n = aviary::detail::axis_size<A, K, V>;
          if constexpr (per_token(A))
            return Source<n>(from.data(), shape_.tokens(), field_heads(A, from), size(A));
          else
            return HeadSource<n>(from.data(), field_heads(A, from), size(A));
        });
  }
  /// The same numbers as what a memory writes gradients to.
  template <class Gradients, Index K, Index V> Gradients sinks() {
    return aviary::detail::transform_fields<R, Gradients>(
        x_, [&]<Axis A>(aviary::detail::AxisTag<A>, std::vector<T> const& to) {
          constexpr Index n = aviary::detail::axis_size<A, K, V>;
          T* const data = const_cast<T*>(to.data());  // of this object, which is not const
          if constexpr (per_token(A))
            return Sink<n>(data, shape_.tokens(), field_heads(A, to), size(A));
          else
            return HeadSink<n>(data, field_heads(A, to), size(A));
        });
  }
  /// Those of token t and head h, as views and numbers.
  template <class Token> Token token(Index t, Index h) const {
    return aviary::detail::transform_fields<R, Token>(
        x_, [&]<Axis A>(aviary::detail::AxisTag<A>, std::vector<T> const& from) {
          T const* const at = from.data() + row(A, from, t, h) * size(A);
          if constexpr (one_number(A))
            return Required<T>(*at);
          else
            return VecView<T const>(at, size(A));
        });
  }

  /// Those of head h for n tokens, as a reference takes them; numbers that lie apart are gathered into `kept`.
  template <class Inputs> Inputs rows(Index first, Index n, Index h, std::deque<std::vector<T>>& kept) const {
    return aviary::detail::transform_fields<R, Inputs>(
        x_, [&]<Axis A>(aviary::detail::AxisTag<A>, std::vector<T> const& from) {
          if constexpr (A == Axis::head_one) {
            return Required<T>(from[to_size(row(A, from, 0, h))]);
          } else if constexpr (A == Axis::head_key) {
            return VecView<T const>(&from[to_size(row(A, from, 0, h) * size(A))], size(A));
          } else if constexpr (A == Axis::one) {
            auto& numbers = kept.emplace_back();
            for (Index t = first; t < first + n; ++t) numbers.push_back(from[to_size(row(A, from, t, h))]);
            return VecView<T const>(numbers);
          } else {
            return MatView<T const>(&from[to_size(row(A, from, first, h) * size(A))], n, size(A),
                                    field_heads(A, from) * size(A));
          }
        });
  }

 private:
  Index size(Axis a) const { return a == Axis::value ? shape_.values : along_key(a) ? shape_.keys : 1; }
  Index field_heads(Axis a, std::vector<T> const& from) const {
    return static_cast<Index>(from.size()) / (size(a) * (per_token(a) ? shape_.tokens() : 1));
  }
  /// The row of a field that holds what token t of head h reads.
  Index row(Axis a, std::vector<T> const& from, Index t, Index h) const {
    Index const heads = field_heads(a, from);
    return (per_token(a) ? t * heads : 0) + h * heads / shape_.heads;
  }

  Shape shape_;
  FieldNumbers<R, T> x_;
};

/// What a reference in double makes of a case.
template <class Reference, class R> MatrixResult reference_of(RuleCase<R> const& c) {
  auto const& [keys, values, heads, offsets] = c.shape;
  CaseFields<R, double> const x(c);
  MatrixResult out{std::vector<double>(to_size(c.shape.tokens() * heads * values)), c.state};
  for (Index s = 0; s < c.shape.sequences(); ++s)
    for (Index h = 0; h < heads; ++h) {
      Index const first = offsets[to_size(s)], n = offsets[to_size(s + 1)] - first;
      if (n == 0) continue;
      std::deque<std::vector<double>> kept;
      Reference::forward({&out.state[to_size((s * heads + h) * values * keys)], values, keys},
                         x.template rows<typename Reference::Inputs>(first, n, h, kept),
                         {&out.y[to_size((first * heads + h) * values)], n, values, heads * values});
    }
  return out;
}

/// States of the given numbers, (states, V, K).
template <class S> std::vector<S> states_of(std::vector<double> const& numbers, Index keys, Index values) {
  std::vector<S> states(numbers.size() / to_size(keys * values), S(keys, values));
  for (std::size_t s = 0; s < states.size(); ++s)
    import_state(states[s].view(), std::span(numbers).subspan(s * to_size(keys * values), to_size(keys * values)),
                 Orientation::value_key);
  return states;
}
/// And the numbers of states.
template <class S> std::vector<double> numbers_of(std::vector<S> const& states, Index keys, Index values) {
  std::vector<double> numbers(states.size() * to_size(keys * values));
  for (std::size_t s = 0; s < states.size(); ++s)
    export_state(states[s].view(), std::span(numbers).subspan(s * to_size(keys * values), to_size(keys * values)),
                 Orientation::value_key);
  return numbers;
}

/// A case in the numbers of memory M, with its states and its outputs.
template <class M> struct RuleRun {
  using Memory = M;
  using T = typename M::T;
  using R = typename M::Rule;
  using State = typename M::State;
  static constexpr bool same_bits = false;  // where a sequence is split decides what is fused, and so rounded
  Shape shape;
  CaseFields<R, T> x;
  std::vector<T> y;
  std::vector<State> states;

  explicit RuleRun(RuleCase<R> const& c)
      : shape(c.shape),
        x(c),
        y(to_size(shape.tokens() * shape.heads * shape.values), T(-77)),
        states(states_of<State>(c.state, shape.keys, shape.values)) {}

  typename M::Inputs inputs() const { return x.template inputs<typename M::Inputs, M::keys, M::values>(); }
  Index heads() const { return shape.heads; }
  std::vector<Index> const& offsets() const { return shape.offsets; }
  Sink<M::values> sink(T* to) const { return {to, shape.tokens(), shape.heads, shape.values}; }
  typename M::ForwardCall call() { return call(shape.offsets, 0); }
  /// The same inputs in other sequences, whose states are those from `sequence` on.
  typename M::ForwardCall call(std::span<Index const> other, Index sequence) {
    return {
        .x = inputs(),
        .y = sink(y.data()),
        .states = std::span(states).subspan(to_size(sequence * shape.heads), (other.size() - 1) * to_size(shape.heads)),
        .offsets = other};
  }
  typename M::Token token(Index t, Index h) const { return x.template token<typename M::Token>(t, h); }
  VecView<T, M::values> output(Index t, Index h) {
    return std::span(y).subspan(to_size((t * shape.heads + h) * shape.values), to_size(shape.values));
  }

  template <class P = simd::Native<T>> RuleRun& forward() {
    if (std::string const wrong = M::check(call()); !wrong.empty()) throw std::invalid_argument(wrong);
    M::template forward<P>(call());
    return *this;
  }
  template <class P = simd::Native<T>> RuleRun& steps() {
    for (Index s = 0; s < shape.sequences(); ++s)
      for (Index h = 0; h < shape.heads; ++h)
        for (Index t = shape.offsets[to_size(s)]; t < shape.offsets[to_size(s + 1)]; ++t)
          M::template step<P>(states[to_size(s * shape.heads + h)], token(t, h), output(t, h));
    return *this;
  }
  /// What lies beside the numbers of a state.
  static std::vector<double> padding(State const& state) {
    auto const s = state.view();
    std::vector<double> numbers;
    for (Index j = 0; j < s.keys(); ++j)
      for (Index i = s.values(); i < s.stride(); ++i) numbers.push_back(static_cast<double>(widen(s[j][i])));
    return numbers;
  }
  MatrixResult result() const {
    return {std::vector<double>(y.begin(), y.end()), numbers_of(states, shape.keys, shape.values)};
  }
};

}  // namespace aviary::test
