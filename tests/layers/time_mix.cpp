/// What the time mixes of all generations owe.
#include "aviary/layers/time_mix.hpp"

#include <doctest/doctest.h>

#include "support/allocation_counter.hpp"
#include "support/checkpoint_case.hpp"
#include "support/compare.hpp"
#include "support/layer_case.hpp"
#include "support/plain_rwkv.hpp"
#include "support/rwkv_layers.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Matrix;
using test::max_error;
using test::Random;
using test::Version;

namespace {

/// A memory and the version of RWKV that its time mix is tried with.
template <class M, Version v, Index head_size = 16> struct Kind {
  using Memory = M;
  using T = typename M::T;
  static constexpr Version version = v;
  static constexpr Index size = head_size;
  static constexpr double bound = std::is_same_v<T, float> ? 2e-5 : 1e-12;
};

/// The same with states of the memory's own number type.
template <class M> struct WideStates;
template <class R, class T, Index N, class S> struct WideStates<MatrixMemory<R, T, N, N, S>> {
  using Memory = MatrixMemory<R, T, N>;
};

/// The time mixes of a random checkpoint, each with its state, and rows to give them.
template <class Kind> class Case {
 public:
  using T = typename Kind::T;
  using Out = std::vector<Matrix<T>>;  // of each layer

  explicit Case(test::RwkvShape shape, Index tokens = 13)
      : weights_(test::random_rwkv(with_version(shape))),
        text_(weights_.text()),
        blocks_(test::read_blocks<typename Kind::Memory>(SafeTensors(test::bytes_of(text_)))),
        random_(3),
        x_(tokens, shape.channels(), random_) {}

  Index channels() const { return x_.columns; }
  Index tokens() const { return x_.rows; }
  Index scratch_size() const { return std::max(mix(0).scratch_size(), mix(1).scratch_size()); }
  Matrix<T> const& x() const { return x_; }
  test::CheckpointCase const& weights() const { return weights_; }
  auto const& mix(std::size_t layer) const { return blocks_[layer].time_mix(); }

  /// The states before the first token.
  auto states() const { return std::vector{mix(0).empty_state(), mix(1).empty_state()}; }

  /// Both layers read the same rows, some after others; the second one goes on from the values of the first.
  template <class States, class E = Serial>
  Out run(std::vector<Index> const& split, States& states, Index tokens_at_once, E&& executor = {}) const {
    return run_all(split, tokens_at_once, executor, [&](std::size_t i, auto&& call) { call(states[i]); });
  }

  /// The same, each piece of the split being a sequence with states of its own: states[layer][piece].
  template <class States> Out run_apart(std::vector<Index> const& lengths, States& states, Index tokens_at_once) const {
    std::size_t calls = 0;
    return run_all(lengths, tokens_at_once, Serial(),
                   [&](std::size_t i, auto&& call) { call(states[i][calls++ / 2]); });
  }

 private:
  /// Calls with_state(layer, call) for every piece and layer; it calls call(state).
  template <class E, class WithState>
  Out run_all(std::vector<Index> const& split, Index tokens_at_once, E&& executor, WithState&& with_state) const {
    Out y(2, Matrix<T>(x_.rows, x_.columns));
    Matrix<T> v_first(x_.rows, mix(0).inner_channels());
    Scratch<T> scratch(tokens_at_once * scratch_size());
    Index first = 0;
    for (Index const count : split) {
      for (std::size_t i = 0; i < 2; ++i)
        with_state(i, [&](auto& state) {
          auto const to = y[i].view().rows(first, count);
          if constexpr (Kind::version == Version::v7)
            mix(i)(x_.rows_of(first, count), state, to, scratch, v_first.view().rows(first, count), executor);
          else
            mix(i)(x_.rows_of(first, count), state, to, scratch, executor);
        });
      first += count;
    }
    CHECK(scratch.left() == tokens_at_once * scratch_size());
    return y;
  }

  static test::RwkvShape with_version(test::RwkvShape shape) {
    shape.version = Kind::version;
    return shape;
  }

  test::CheckpointCase weights_;
  std::string text_;
  std::vector<Block<TimeMix<typename Kind::Memory>>> blocks_;
  Random random_;
  Matrix<T> x_;
};

#define ALL_KINDS                                                                                               \
  Kind<Wkv4<float>, Version::v4>, Kind<Wkv4<double>, Version::v4>, Kind<Wkv5PerHead<float, 16>, Version::v5_0>, \
      Kind<Wkv5PerHead<double, dynamic>, Version::v5_1>, Kind<Wkv5<float, dynamic>, Version::v5_2>,             \
      Kind<Wkv6<float, dynamic>, Version::v6>, Kind<Wkv6<double, 16>, Version::v6>,                             \
      Kind<Wkv7<float, 16>, Version::v7>, Kind<Wkv7<double, dynamic>, Version::v7>

}  // namespace

TEST_CASE_TEMPLATE("time mix: a plain model", K, ALL_KINDS) {
  for (Index const more_channels : {0, 7, -11}) {
    Case<K> const given({.head_size = K::size, .more_channels = more_channels, .first_state = true});
    auto states = given.states();
    auto const y = given.run({13}, states, 13);
    test::PlainRwkv plain(given.weights());
    std::vector<double> expected[2];
    for (Index t = 0; t < 13; ++t) {
      auto const row = given.x().view()[t];
      for (Index i = 0; i < 2; ++i) {
        auto const made = plain.time_mix(i, {row.begin(), row.end()});
        expected[i].insert(expected[i].end(), made.begin(), made.end());
      }
    }
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(max_error(y[i].numbers, expected[i]) <= K::bound);
      CHECK(std::equal(states[i].x.begin(), states[i].x.end(), given.x().view()[12].begin()));
    }
  }
}

TEST_CASE_TEMPLATE("time mix: split anywhere and with any scratch, within rounding", K, ALL_KINDS) {
  Case<K> const given({.head_size = K::size});
  auto whole_states = given.states();
  auto const whole = given.run({13}, whole_states, 13);
  for (auto const& split : test::splits_of_13())
    for (Index const tokens_at_once : {1, 5, 13}) {
      auto states = given.states();
      auto const y = given.run(split, states, tokens_at_once);
      for (std::size_t i = 0; i < 2; ++i) CHECK(max_error(y[i].numbers, whole[i].numbers) <= K::bound);
    }
}

TEST_CASE_TEMPLATE("time mix: a sequence has the same bits alone and among others", K, ALL_KINDS) {
  std::vector<Index> const lengths{0, 30, 1, 0, 29}, offsets{0, 0, 30, 31, 31, 60};
  Case<K> const given({.head_size = K::size, .first_state = true}, 60);
  auto const empty = given.states();
  std::vector const first{std::vector(5, empty[0]), std::vector(5, empty[1])};
  auto alone = first;
  auto const expected = given.run_apart(lengths, alone, 60);
  for (Index const tokens_at_once : {12, 37, 60}) {
    auto states = first;
    std::vector<Packed<typename std::remove_cvref_t<decltype(empty[0])>>> sequences;
    for (auto& of_layer : states) sequences.emplace_back(of_layer, offsets);
    CHECK(given.run({60}, sequences, tokens_at_once) == expected);
    CHECK(states == alone);
  }
}

TEST_CASE_TEMPLATE("time mix: the same bits whatever the executor", K, Kind<Wkv4<float>, Version::v4>,
                   Kind<Wkv5<float, dynamic>, Version::v5_2>, Kind<Wkv6<float, dynamic>, Version::v6>,
                   Kind<Wkv7<double, dynamic>, Version::v7>) {
  Case<K> const given({.heads = 4, .head_size = 64}, 128);  // enough to do for tasks
  auto states = given.states();
  auto const expected = given.run({128}, states, 128);
  for (Index const tasks : {2, 5}) {
    auto other = given.states();
    CHECK(given.run({128}, other, 128, test::Backwards{tasks}) == expected);
    CHECK(other == states);
  }
}

TEST_CASE_TEMPLATE("time mix: the form for one token", K, ALL_KINDS) {
  Case<K> const given({.head_size = K::size});
  using T = typename K::T;
  auto states = given.states(), rows = given.states();
  std::vector<Index> const one_by_one(13, 1);
  auto const expected = given.run(one_by_one, rows, 1);
  Scratch<T> scratch(given.scratch_size());
  std::vector<T> y(to_size(given.channels()));
  AlignedVector<T> v_first(to_size(given.mix(0).inner_channels()));
  for (Index t = 0; t < 13; ++t)
    for (std::size_t i = 0; i < 2; ++i) {
      if constexpr (K::version == Version::v7)
        given.mix(i)(given.x().view()[t], states[i], y, scratch, VecView<T>(v_first));
      else
        given.mix(i)(given.x().view()[t], states[i], y, scratch);
      CHECK(std::equal(y.begin(), y.end(), expected[i].view()[t].begin()));
    }
  CHECK(states == rows);
}

TEST_CASE_TEMPLATE("time mix: a scratch for less than a token is refused", K, ALL_KINDS) {
  Case<K> const given({.head_size = K::size});
  using T = typename K::T;
  Scratch<T> scratch(given.mix(0).scratch_size() - 1);
  auto state = given.mix(0).empty_state();
  Matrix<T> y(13, given.channels()), v_first(13, given.mix(0).inner_channels());
  auto const call = [&] {
    if constexpr (K::version == Version::v7)
      given.mix(0)(given.x().view(), state, y.view(), scratch, v_first.view());
    else
      given.mix(0)(given.x().view(), state, y.view(), scratch);
  };
  CHECK(test::message_of<std::invalid_argument>(call) == "aviary: scratch has " + std::to_string(scratch.left()) +
                                                             " numbers left, one token needs " +
                                                             std::to_string(scratch.left() + 1));
}

TEST_CASE_TEMPLATE("time mix: reset makes a state that of the empty context, without allocation", K, ALL_KINDS) {
  Case<K> const given({.head_size = K::size, .first_state = true});
  auto states = given.states();
  auto const expected = given.run({13}, states, 13);
  CHECK_FALSE(states == given.states());
  {
    test::AllocationCounter const allocations;
    for (std::size_t i = 0; i < 2; ++i) given.mix(i).reset(states[i]);
    CHECK(allocations.count() == 0);
  }
  TimeMix<typename K::Memory> const& mix = given.mix(0);
  static_assert(noexcept(mix.reset(states[0])));
  CHECK(states == given.states());
  CHECK(given.run({13}, states, 13) == expected);
}

/// MatrixMemory states an error of 3.5 unit roundoffs where decays are slow.
TEST_CASE_TEMPLATE("time mix: narrow states give the layer's outputs within their roundoff", K,
                   Kind<Wkv5PerHead<float, 16, 16, bf16>, Version::v5_1>,
                   Kind<Wkv5<float, dynamic, dynamic, f16>, Version::v5_2>,
                   Kind<Wkv6<float, dynamic, dynamic, f16>, Version::v6>, Kind<Wkv7<float, 16, 16, bf16>, Version::v7>,
                   Kind<Wkv7<double, dynamic, dynamic, bf16>, Version::v7>,
                   Kind<Wkv7<float, 16, 16, f16>, Version::v7>) {
  using S = typename K::Memory::StateNumber;
  using T = typename K::T;
  Case<K> const narrow({.head_size = K::size});
  Case<Kind<typename WideStates<typename K::Memory>::Memory, K::version>> const wide({.head_size = K::size});
  double const roundoff = std::is_same_v<S, bf16> ? 0x1p-8 : 0x1p-11;
  auto states = narrow.states();
  auto wide_states = wide.states();
  auto const y = narrow.run({13}, states, 13);
  auto const expected = wide.run({13}, wide_states, 13);
  for (std::size_t i = 0; i < 2; ++i) {
    auto const error = test::l2_error(y[i].numbers, expected[i].numbers);
    CHECK(error <= 3.5 * roundoff);
    CHECK(error > 0);
    for (std::size_t h = 0; h < states[i].s.size(); ++h) {
      std::vector<T> a(to_size(K::size * K::size)), b = a;
      export_state(states[i].s[h].view(), a, Orientation::key_value);
      export_state(wide_states[i].s[h].view(), b, Orientation::key_value);
      CHECK(test::l2_error(a, b) <= 3.5 * roundoff);
    }
  }
  for (std::size_t i = 0; i < 2; ++i) narrow.mix(i).reset(states[i]);
  CHECK(states == narrow.states());
}
