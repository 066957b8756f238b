#pragma once
/// Random packed sequences for a rule under its model's own field names, through its memory and through a reference whose
/// Token has the same fields in the same order. A model is a Model of models.hpp.
#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "support/compare.hpp"
#include "support/matrix_case.hpp"
#include "support/random.hpp"

namespace aviary::test {

/// The fields of a rule, each a vector of numbers: (tokens, heads, size) packed, or (heads, size).
template <class T> struct Vectors { template <Axis A> using Per = std::vector<T>; };
template <class R, class T = float> using FieldNumbers = typename R::template Fields<Vectors<T>::template Per>;

/// Makes the fields of a case. Queries and keys have `key_heads` heads, a divisor of the shape's; all else has all of them.
struct Draw {
  Random random;
  Shape const& shape;
  Index key_heads;
  Decay decay;

  std::vector<float> normal_keys() { return random.normals<float>(shape.tokens() * key_heads * shape.keys); }
  std::vector<float> unit_keys() { return random.units<float>(shape.tokens() * key_heads, shape.keys); }
  std::vector<float> key_rates() { return random.rates<float>(rows() * shape.keys); }
  std::vector<float> normal_values() { return random.normals<float>(rows() * shape.values); }
  std::vector<float> value_rates() { return random.rates<float>(rows() * shape.values); }
  std::vector<float> rates() { return random.rates<float>(rows()); }
  std::vector<float> bonuses(Axis axis) { return random.normals<float>(count(axis)); }
  std::vector<float> log_w(Axis axis) { return random.log_decays<float>(count(axis), decay); }

 private:
  Index rows() const { return shape.tokens() * shape.heads; }
  Index count(Axis axis) const { return (per_token(axis) ? rows() : shape.heads) * (along_key(axis) ? shape.keys : 1); }
};

/// The inputs of a rule, as numbers T, and its initial states.
template <class R, class T = float> struct RuleCase {
  Shape shape;
  FieldNumbers<R, T> x;
  std::vector<float> state;  // (sequences, heads, V, K)

  RuleCase(Shape shape_, FieldNumbers<R, T> x_, std::uint64_t seed = 3)
      : shape(std::move(shape_)),
        x(std::move(x_)),
        state(Random(seed).normals<float>(shape.sequences() * shape.heads * shape.values * shape.keys)) {}
};

template <class Model>
RuleCase<typename Model::Rule> draw_case(std::uint64_t seed, Shape const& shape, Decay decay, Index key_heads) {
  Draw draw{Random(seed), shape, key_heads, decay};
  return {shape, Model::fields(draw)};
}
template <class Model> RuleCase<typename Model::Rule> draw_case(std::uint64_t seed, Shape const& shape, Decay decay) {
  return draw_case<Model>(seed, shape, decay, shape.heads);
}

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

 private:
  template <Axis A> Index size() const { return A == Axis::value ? shape_.values : along_key(A) ? shape_.keys : 1; }
  template <Axis A> Index field_heads(std::vector<T> const& from) const {
    return static_cast<Index>(from.size()) / (size<A>() * (per_token(A) ? shape_.tokens() : 1));
  }

  Shape const& shape_;
  FieldNumbers<R, T> x_;
};

/// f(sequence, head, token) for all of them, in the order of time.
template <class F> void for_each_token(Shape const& shape, F&& f) {
  for (Index s = 0; s < shape.sequences(); ++s)
    for (Index h = 0; h < shape.heads; ++h)
      for (Index t = shape.offsets[to_size(s)]; t < shape.offsets[to_size(s + 1)]; ++t) f(s, h, t);
}

/// What a reference in double makes of a case.
template <class Reference, class R, class T> MatrixResult reference_of(RuleCase<R, T> const& c) {
  Index const keys = c.shape.keys, values = c.shape.values, heads = c.shape.heads;
  CaseFields<R, double> const x(c);
  MatrixResult out{std::vector<double>(to_size(c.shape.tokens() * heads * values)),
                   std::vector<double>(c.state.begin(), c.state.end())};
  for_each_token(c.shape, [&](Index s, Index h, Index t) {
    MatView<double> const state(&out.state[to_size((s * heads + h) * values * keys)], values, keys);
    Reference::step(state, x.template token<typename Reference::Token>(t, h),
                    {&out.y[to_size((t * heads + h) * values)], values});
  });
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
    for_each_state_number([&, n = std::size_t(0)](T& number) mutable { number = static_cast<T>(c.state[n++]); });
  }

  typename M::Inputs inputs() const { return x_.template inputs<typename M::Inputs, M::keys, M::values>(); }
  typename M::Forward call() {
    return {.x = inputs(),
            .y = {y_.data(), shape_.tokens(), shape_.heads, shape_.values},
            .states = states_,
            .offsets = shape_.offsets};
  }
  RuleRun& forward() {
    REQUIRE(M::check(call()) == "");
    M::forward(call());
    return *this;
  }
  RuleRun& steps() {
    for_each_token(shape_, [&](Index s, Index h, Index t) {
      M::step(states_[to_size(s * shape_.heads + h)], x_.template token<typename M::Token>(t, h),
              VecView<T, M::values>(VecView<T>(&y_[to_size((t * shape_.heads + h) * shape_.values)], shape_.values)));
    });
    return *this;
  }
  MatrixResult result() {
    MatrixResult out{std::vector<double>(y_.begin(), y_.end()), {}};
    for_each_state_number([&](T number) { out.state.push_back(static_cast<double>(number)); });
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

/// CHECKs outputs and final states.
inline void check_close(MatrixResult const& x, MatrixResult const& expected, double bound) {
  CHECK(max_error(x.y, expected.y) <= bound);
  CHECK(max_error(x.state, expected.state) <= bound);
}

/// forward and a loop of step of memory M against a result.
template <class M> void check_memory(RuleCase<typename M::Rule> const& c, MatrixResult const& expected) {
  CAPTURE(sizeof(typename M::T));
  CAPTURE(M::keys);
  CAPTURE(M::values);
  check_close(RuleRun<M>(c).forward().result(), expected, matrix_bound<typename M::T>);
  check_close(RuleRun<M>(c).steps().result(), expected, matrix_bound<typename M::T>);
}

/// Memories of the given sizes, in float and in double, against the model's reference.
template <class Model, Index K, Index V> void check_sizes(Index keys, Index values, std::vector<Decay> const& decays) {
  for (Decay const decay : decays) {
    CAPTURE(name(decay));
    // sequences of no token, one, part of a tile, and several tiles; key heads shared by two value heads
    auto const c = draw_case<Model>(17, {keys, values, 4, {0, 0, 1, 4, 71}}, decay, 2);
    MatrixResult const expected = reference_of<typename Model::Reference>(c);
    check_memory<typename Model::template Memory<float, K, V>>(c, expected);
    check_memory<typename Model::template Memory<double, K, V>>(c, expected);
  }
}

/// A model in all sizes and at all decays against its reference.
template <class Model> void check_model() {
  std::vector<Decay> const decays{Decay::wkv7, Decay::slow, Decay::none, Decay::wide, Decay::extremes};
  check_sizes<Model, 16, 16>(16, 16, decays);
  check_sizes<Model, 16, 24>(16, 24, decays);
  check_sizes<Model, dynamic, dynamic>(24, 10, decays);
  check_sizes<Model, 64, 64>(64, 64, {Decay::wkv7});
}

}  // namespace aviary::test
