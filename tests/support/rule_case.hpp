#pragma once
/// Packed sequences for a rule under its model's own field names, through its memory and through its reference, whose Token
/// and Inputs have the same fields in the same order.
#include <deque>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/matrix_case.hpp"

namespace aviary::test {

/// The fields of a rule, each a vector of numbers: (tokens, heads, size) packed, or (heads, size).
template <class T> struct Vectors { template <Axis A> using Per = std::vector<T>; };
template <class R, class T = float> using FieldNumbers = typename R::template Fields<Vectors<T>::template Per>;

/// The memories of a model, given by one of them, and the reference of the same name.
template <class M, template <class> class Ref> struct Model {
  using Rule = typename M::Rule;
  template <class T, Index K, Index V = K> using Memory = MatrixMemory<Rule, T, K, V>;
  using Reference = Ref<double>;
};

/// The inputs of a rule, as numbers T, and its initial states.
template <class R, class T = float> struct RuleCase {
  Shape shape;
  FieldNumbers<R, T> x;
  std::vector<T> state;  // (sequences, heads, V, K)
};

/// Where the numbers of a field of a case lie, as numbers T.
template <class R, class T> class CaseFields {
 public:
  template <class Given>
  explicit CaseFields(RuleCase<R, Given> const& c)
      : shape_(c.shape), x_(detail::transform_fields<R, FieldNumbers<R, T>>(c.x, [](auto, auto const& from) {
          return std::vector<T>(from.begin(), from.end());
        })) {}

  FieldNumbers<R, T> const& numbers() const { return x_; }

  /// All of them, as a memory with K keys and V values takes them.
  template <class Inputs, Index K, Index V> Inputs inputs() const {
    return detail::transform_fields<R, Inputs>(x_, [&]<Axis A>(detail::AxisTag<A>, std::vector<T> const& from) {
      constexpr Index n = detail::axis_size<A, K, V>;
      if constexpr (per_token(A))
        return Source<n>(from.data(), shape_.tokens(), field_heads<A>(from), size<A>());
      else
        return HeadSource<n>(from.data(), field_heads<A>(from), size<A>());
    });
  }
  /// Those of token t and head h, as views and numbers.
  template <class Token> Token token(Index t, Index h) const {
    return detail::transform_fields<R, Token>(x_, [&]<Axis A>(detail::AxisTag<A>, std::vector<T> const& from) {
      Index const n = size<A>(), heads = field_heads<A>(from), head = h * heads / shape_.heads;
      T const* const at = from.data() + ((per_token(A) ? t * heads : 0) + head) * n;
      if constexpr (one_number(A))
        return Required<T>(*at);
      else
        return VecView<T const>(at, n);
    });
  }

  /// Those of head h for n tokens, as a reference takes them; numbers that lie apart are gathered into `kept`.
  template <class Inputs> Inputs rows(Index first, Index n, Index h, std::deque<std::vector<T>>& kept) const {
    return detail::transform_fields<R, Inputs>(x_, [&]<Axis A>(detail::AxisTag<A>, std::vector<T> const& from) {
      Index const heads = field_heads<A>(from), head = h * heads / shape_.heads;
      if constexpr (A == Axis::head_one) {
        return Required<T>(from[to_size(head)]);
      } else if constexpr (A == Axis::head_key) {
        return VecView<T const>(&from[to_size(head * size<A>())], size<A>());
      } else if constexpr (A == Axis::one) {
        auto& numbers = kept.emplace_back();
        for (Index t = first; t < first + n; ++t) numbers.push_back(from[to_size(t * heads + head)]);
        return VecView<T const>(numbers);
      } else {
        return MatView<T const>(&from[to_size((first * heads + head) * size<A>())], n, size<A>(), heads * size<A>());
      }
    });
  }

 private:
  template <Axis A> Index size() const { return A == Axis::value ? shape_.values : along_key(A) ? shape_.keys : 1; }
  template <Axis A> Index field_heads(std::vector<T> const& from) const {
    return static_cast<Index>(from.size()) / (size<A>() * (per_token(A) ? shape_.tokens() : 1));
  }

  Shape const& shape_;
  FieldNumbers<R, T> x_;
};

/// What a reference in double makes of a case.
template <class Reference, class R, class T> MatrixResult reference_of(RuleCase<R, T> const& c) {
  auto const& [keys, values, heads, offsets] = c.shape;
  CaseFields<R, double> const x(c);
  MatrixResult out{std::vector<double>(to_size(c.shape.tokens() * heads * values)),
                   std::vector<double>(c.state.begin(), c.state.end())};
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

/// A case in the numbers of memory M, with its states and its outputs.
template <class M> class RuleRun {
  using T = typename M::T;
  using R = typename M::Rule;

 public:
  template <class Given>
  explicit RuleRun(RuleCase<R, Given> const& c)
      : shape_(c.shape), x_(c), y_(to_size(c.shape.tokens() * c.shape.heads * c.shape.values), T(-77)) {
    states_.assign(to_size(shape_.sequences() * shape_.heads), empty_state<M>(shape_.keys, shape_.values));
    for_each_state_number(
        [&, n = std::size_t(0)](auto& number) mutable { number = static_cast<typename M::StateNumber>(c.state[n++]); });
  }

  typename M::Inputs inputs() const { return x_.template inputs<typename M::Inputs, M::keys, M::values>(); }
  typename M::ForwardCall call() {
    return {.x = inputs(),
            .y = {y_.data(), shape_.tokens(), shape_.heads, shape_.values},
            .states = states_,
            .offsets = shape_.offsets};
  }
  RuleRun& forward() {
    if (std::string const wrong = M::check(call()); !wrong.empty()) throw std::invalid_argument(wrong);
    M::forward(call());
    return *this;
  }
  RuleRun& steps() {
    auto const& [keys, values, heads, offsets] = shape_;
    for (Index s = 0; s < shape_.sequences(); ++s)
      for (Index h = 0; h < heads; ++h)
        for (Index t = offsets[to_size(s)]; t < offsets[to_size(s + 1)]; ++t)
          M::step(states_[to_size(s * heads + h)], x_.template token<typename M::Token>(t, h),
                  VecView<T>(&y_[to_size((t * heads + h) * values)], values));
    return *this;
  }
  MatrixResult result() {
    MatrixResult out{std::vector<double>(y_.begin(), y_.end()), {}};
    for_each_state_number([&](auto const& number) { out.state.push_back(static_cast<double>(number)); });
    return out;
  }

 private:
  template <class F> void for_each_state_number(F&& f) {
    for (auto& state : states_)
      for (Index i = 0; i < shape_.values; ++i)
        for (Index j = 0; j < shape_.keys; ++j) f(state.view()(j, i));
  }

  Shape const& shape_;
  CaseFields<R, T> x_;
  std::vector<T> y_;
  std::vector<typename M::State> states_;
};

}  // namespace aviary::test
