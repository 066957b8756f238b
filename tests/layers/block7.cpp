/// Whole blocks of RWKV-7: time mix, channel mix and what is between.
#include <doctest/doctest.h>

#include "aviary/layers/block.hpp"
#include "aviary/layers/time_mix7.hpp"
#include "models/rwkv7.hpp"
#include "support/allocation_counter.hpp"
#include "support/checkpoint_case.hpp"
#include "support/compare.hpp"
#include "support/golden.hpp"
#include "support/layer_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Matrix;
using test::max_error;
using test::Random;

namespace {

template <class T> constexpr double bound = std::is_same_v<T, float> ? 2e-5 : 1e-12;

/// All blocks of a file, their states, and a scratch for some tokens.
template <class T, Index Size> struct Blocks {
  using Block = typename models::Rwkv7<T, Size>::Block;

  std::vector<Block> blocks;
  std::vector<typename Block::State> states;
  std::vector<Scratch<T>> scratch;  // one

  Blocks(SafeTensors const& file, Index channels, Index tokens) {
    models::WeightReader<T, SafeTensors> read(file);
    for (Index i = 0; i < models::count_layers(file); ++i) {
      models::LoadOptions const options;
      models::BlockReader<T, SafeTensors> reader(file, read, i, channels, options);
      blocks.push_back(models::Rwkv7<T, Size>::read_block(reader));
      states.push_back(blocks.back().empty_state());
    }
    Index most = 0;
    for (Block const& block : blocks) most = std::max(most, block.scratch_size());
    scratch.emplace_back(tokens * most);
  }

  template <class E = Serial> void run(MatView<T> x, E&& executor = {}) {
    Matrix<T> v_first(x.rows(), blocks.front().time_mix().inner_channels());
    for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i](x, states[i], scratch.front(), executor, v_first.view());
  }
};

/// Reads or compares the states of a golden file, which are (head, value, key).
template <class T, class State> void set_state(test::GoldenFile const& file, std::string const& prefix, State& state) {
  auto const copy = [&](std::string const& name, auto& to) {
    auto const from = file.numbers(prefix + name);
    REQUIRE(from.size() == to.size());
    std::transform(from.begin(), from.end(), to.begin(), [](double x) { return static_cast<T>(x); });
  };
  copy("att_x", state.time_mix.x);
  copy("ffn_x", state.channel_mix.x);
  auto const from = file.numbers(prefix + "S");
  std::size_t at = 0;
  for (auto& head : state.time_mix.s)
    for (Index i = 0; i < head.values(); ++i)
      for (Index j = 0; j < head.keys(); ++j) head.view()(j, i) = static_cast<T>(from.at(at++));
}

template <class State> std::vector<double> numbers_of(State const& state) {
  std::vector<double> numbers(state.time_mix.x.begin(), state.time_mix.x.end());
  for (auto const& head : state.time_mix.s)
    for (Index i = 0; i < head.values(); ++i)
      for (Index j = 0; j < head.keys(); ++j) numbers.push_back(static_cast<double>(head.view()(j, i)));
  numbers.insert(numbers.end(), state.channel_mix.x.begin(), state.channel_mix.x.end());
  return numbers;
}

std::vector<double> golden_state(test::GoldenFile const& file, std::string const& prefix) {
  std::vector<double> numbers;
  for (char const* name : {"att_x", "S", "ffn_x"}) {
    auto const part = file.numbers(prefix + name);
    numbers.insert(numbers.end(), part.begin(), part.end());
  }
  return numbers;
}

template <class T_, Index Size_> struct Kind {
  using T = T_;
  static constexpr Index size = Size_;
};

}  // namespace

TEST_CASE_TEMPLATE("block7: published blocks from a non-empty state, whole, token by token and split", Of,
                   Kind<float, 16>, Kind<float, dynamic>, Kind<double, 16>, Kind<double, dynamic>) {
  using T = typename Of::T;
  test::GoldenFile const file(AVIARY_TEST_GOLDEN_DIR "/block_rwkv7_t12_c32_h2.safetensors");
  Index const tokens = file.size("x", 0), channels = file.size("x", 1);
  REQUIRE(tokens == 12);
  for (std::vector<Index> const& split :
       {std::vector<Index>{12}, {1, 11}, {5, 7}, {0, 12}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}})
    for (Index const tokens_at_once : {1, 5, 12}) {
      Blocks<T, Of::size> blocks(file.tensors(), channels, tokens_at_once);
      for (std::size_t i = 0; i < 2; ++i) set_state<T>(file, "state0." + std::to_string(i) + ".", blocks.states[i]);
      auto x = file.tensors().tensor("x").template read<T>();
      Index first = 0;
      for (Index const count : split) {
        blocks.run({x.data() + first * channels, count, channels});
        first += count;
      }
      CHECK(max_error(x, file.numbers("y")) <= bound<T>);
      for (std::size_t i = 0; i < 2; ++i)
        CHECK(max_error(numbers_of(blocks.states[i]), golden_state(file, "stateT." + std::to_string(i) + ".")) <=
              bound<T>);
    }
}

TEST_CASE_TEMPLATE("block7: time mix and channel mix alone add what published blocks add", T, float, double) {
  test::GoldenFile const file(AVIARY_TEST_GOLDEN_DIR "/block_rwkv7_t12_c32_h2.safetensors");
  Blocks<T, 16> blocks(file.tensors(), 32, 12);
  set_state<T>(file, "state0.0.", blocks.states[0]);
  auto x = file.tensors().tensor("x").template read<T>();
  auto const before = x;
  Matrix<T> v_first(12, 32), increment(12, 32), normal(12, 32);
  models::WeightReader<T, SafeTensors> read(file.tensors());
  read.layer_norm("blocks.0.ln1", 32)({x.data(), 12, 32}, normal.view());
  blocks.blocks[0].time_mix()(normal.view(), blocks.states[0].time_mix, increment.view(), blocks.scratch.front(),
                              Serial{}, v_first.view());
  std::vector<double> expected;  // att_dx is (token, layer, channel)
  auto const all = file.numbers("att_dx");
  for (std::size_t t = 0; t < 12; ++t) expected.insert(expected.end(), all.data() + t * 64, all.data() + t * 64 + 32);
  CHECK(max_error(increment.numbers, expected) <= bound<T>);
  CHECK(x == before);
}

TEST_CASE("block7: any scratch and executor, the same bits, and states are values") {
  test::RwkvShape const shape{.layers = 2, .heads = 2, .head_size = 64, .inner = 200};
  std::string const text = test::random_rwkv(shape).text();
  SafeTensors const file(test::bytes_of(text));
  Random random(5);
  Matrix<float> const x(13, shape.channels(), random);

  Blocks<float, 64> whole(file, shape.channels(), 13);
  Matrix<float> y = x;
  whole.run(y.view());
  for (auto const& split : test::splits_of_13())
    for (Index const tokens_at_once : {1, 4}) {
      Blocks<float, 64> parts(file, shape.channels(), tokens_at_once);
      Matrix<float> z = x;
      Index first = 0;
      for (Index const count : split) {
        parts.run(z.view().rows(first, count), test::Backwards{3});
        first += count;
      }
      CHECK(max_error(z.numbers, y.numbers) <= bound<float>);
    }
  Blocks<float, 64> other(file, shape.channels(), 13);
  Matrix<float> z = x;
  other.run(z.view(), test::Backwards{3});
  CHECK(z == y);
  CHECK(other.states == whole.states);

  auto const kept = other.states;  // going on twice from the same state gives the same
  Matrix<float> a = x, b = x;
  other.run(a.view());
  CHECK_FALSE(other.states == kept);
  other.states = kept;
  other.run(b.view());
  CHECK(a == b);
}

TEST_CASE("block7: allocates nothing") {
  test::RwkvShape const shape{.layers = 2, .heads = 4, .head_size = 64, .inner = 1024, .rank_w = 64};
  std::string const text = test::random_rwkv(shape).text();
  SafeTensors const file(test::bytes_of(text));
  Random random(5);
  Matrix<float> x(130, shape.channels(), random), v_first(130, shape.channels());
  Blocks<float, 64> fixed(file, shape.channels(), 64);
  Blocks<float, dynamic> flexible(file, shape.channels(), 64);
  test::AllocationCounter const allocations;
  for (Index const count : {130, 1, 64}) {
    for (std::size_t i = 0; i < 2; ++i) {
      fixed.blocks[i](x.view().rows(0, count), fixed.states[i], fixed.scratch.front(), Serial{},
                      v_first.view().rows(0, count));
      flexible.blocks[i](x.view().rows(0, count), flexible.states[i], flexible.scratch.front(), Serial{},
                         v_first.view().rows(0, count));
    }
  }
  CHECK(allocations.count() == 0);
}

TEST_CASE("block7: no token changes nothing") {
  std::string const text = test::random_rwkv({}).text();
  SafeTensors const file(test::bytes_of(text));
  Blocks<float, 16> blocks(file, 32, 4);
  auto const before = blocks.states;
  blocks.run({nullptr, 0, 32});
  CHECK(blocks.states == before);
}

namespace {

/// Weights of a time mix of 12 channels with 2 heads of 8; each may be replaced by one of another shape.
struct TimeMixCase {
  using TimeMix = aviary::TimeMix<Wkv7<float, 8>>;
  Matrix<float> channels{1, 12}, inner{1, 16}, in{16, 12}, out{12, 16}, first{12, 5}, second{5, 16}, r_k{2, 8};

  TimeMix::Weights weights() const {
    VecView<float const> const c(channels.numbers), a(inner.numbers);
    return {.x_r = c,
            .x_w = c,
            .x_k = c,
            .x_v = c,
            .x_a = c,
            .x_g = c,
            .receptance = in.view(),
            .key = in.view(),
            .value = in.view(),
            .output = out.view(),
            .w0 = a,
            .w1 = first.view(),
            .w2 = second.view(),
            .a0 = a,
            .a1 = first.view(),
            .a2 = second.view(),
            .g1 = first.view(),
            .g2 = second.view(),
            .k_k = a,
            .k_a = a,
            .r_k = r_k.view(),
            .ln_x_weight = a,
            .ln_x_bias = a};
  }
  std::string message(TimeMix::Weights const& w) const {
    return test::message_of<std::invalid_argument>([&] { TimeMix{w}; });
  }
};

}  // namespace

TEST_CASE("block7: weights of a wrong shape are refused by name") {
  TimeMixCase given;
  CHECK(TimeMixCase::TimeMix(given.weights()).channels() == 12);
  CHECK(TimeMixCase::TimeMix(given.weights()).inner_channels() == 16);
  Matrix<float> const wrong(3, 7);
  VecView<float const> const short_row(wrong.numbers.data(), 7);

  auto w = given.weights();
  w.r_k = wrong.view();
  CHECK(given.message(w) == "aviary: TimeMix<Wkv7>: r_k is 3 x 7, expected 3 x 8");
  w = given.weights();
  w.x_g = short_row;
  CHECK(given.message(w) == "aviary: TimeMix<Wkv7>: x_g is 7, expected 12");
  w = given.weights();
  w.ln_x_bias = short_row;
  CHECK(given.message(w) == "aviary: TimeMix<Wkv7>: ln_x_bias is 7, expected 16");
  w = given.weights();
  w.output = wrong.view();
  CHECK(given.message(w) == "aviary: TimeMix<Wkv7>: output is 3 x 7, expected 12 x 16");
  w = given.weights();
  w.a2 = wrong.view();
  CHECK(given.message(w) == "aviary: TimeMix<Wkv7>: a2 is 3 x 7, expected 5 x 16");
  w = given.weights();
  w.v0 = VecView<float const>(given.inner.numbers);
  w.v1 = wrong.view();
  CHECK(given.message(w) == "aviary: TimeMix<Wkv7>: v1 is 3 x 7, expected 12 x 7");
}
