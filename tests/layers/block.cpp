/// Whole blocks of all generations: time mix, channel mix and what is between.
#include "aviary/layers/block.hpp"

#include <doctest/doctest.h>

#include "support/allocation_counter.hpp"
#include "support/block_case.hpp"
#include "support/checkpoint_case.hpp"
#include "support/compare.hpp"
#include "support/layer_case.hpp"
#include "support/rwkv_layers.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::BlockCase;
using test::Matrix;
using test::max_error;
using test::Random;
using test::Version;

namespace {

template <class T> constexpr double bound = std::is_same_v<T, float> ? 2e-5 : 1e-12;

/// A memory, and the committed golden file or the version of RWKV that its blocks are tried with.
template <class M> struct Golden6 {
  using Memory = M;
  static constexpr char const* path = AVIARY_TEST_GOLDEN_DIR "/block_rwkv6_t12_c32_h2.safetensors";
};
template <class M> struct Golden7 {
  using Memory = M;
  static constexpr char const* path = AVIARY_TEST_GOLDEN_DIR "/block_rwkv7_t12_c32_h2.safetensors";
};
template <class M, Version v> struct Of {
  using Memory = M;
  static constexpr Version version = v;
};

/// A memory of each generation, where possible one that published blocks are tried with: blocks take long to compile.
#define GENERATIONS                                                                                                    \
  Of<Wkv4<float>, Version::v4>, Of<Wkv5PerHead<float, dynamic>, Version::v5_1>, Of<Wkv6<float, dynamic>, Version::v6>, \
      Of<Wkv7<float, dynamic>, Version::v7>

/// Published blocks in both arithmetics and with both ways to give sizes; time_mix.cpp has the other pairs of these.
#define PUBLISHED \
  Golden6<Wkv6<float, dynamic>>, Golden6<Wkv6<double, 16>>, Golden7<Wkv7<float, dynamic>>, Golden7<Wkv7<double, 16>>

/// The blocks around a memory.
template <class Kind> using BlocksOf = BlockCase<Block<TimeMix<typename Kind::Memory>>>;

/// Two blocks with enough to do for threads.
template <class Kind> struct Blocks : BlocksOf<Kind> {
  static constexpr Index channels = 256;

  explicit Blocks(Index tokens_at_once)
      : BlocksOf<Kind>(test::read_blocks<typename Kind::Memory>(file()), tokens_at_once) {}

  static SafeTensors const& file() {
    static std::string const text =
        test::random_rwkv({.version = Kind::version, .heads = 4, .head_size = 64, .inner = 1024, .rank_w = 64}).text();
    static SafeTensors const made{test::bytes_of(text)};
    return made;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("block: published blocks from a non-empty state, whole, token by token and split", Kind, PUBLISHED) {
  using T = typename Kind::Memory::T;
  test::BlockGolden const file(Kind::path);
  Index const channels = file.channels();
  REQUIRE(file.tokens() == 12);
  for (std::vector<Index> const& split :
       {std::vector<Index>{12}, {1, 11}, {5, 7}, {0, 12}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}})
    for (Index const tokens_at_once : {1, 5, 12}) {
      BlocksOf<Kind> blocks(test::read_blocks<typename Kind::Memory>(file.tensors()), tokens_at_once);
      for (std::size_t i = 0; i < blocks.states.size(); ++i) file.read_state(static_cast<Index>(i), blocks.states[i]);
      auto x = file.tensors().tensor("x").template read<T>();
      Index first = 0;
      for (Index const count : split) {
        blocks.run({x.data() + first * channels, count, channels});
        first += count;
      }
      CHECK(max_error(x, file.numbers("y")) <= bound<T>);
      for (std::size_t i = 0; i < blocks.states.size(); ++i)
        for (auto const& part : file.compare_state(static_cast<Index>(i), blocks.states[i]))
          CHECK(max_error(part.got, part.expected) <= bound<T>);
    }
}

TEST_CASE_TEMPLATE("block: the time mix alone adds what published blocks add", Kind, PUBLISHED) {
  using T = typename Kind::Memory::T;
  test::BlockGolden const file(Kind::path);
  BlocksOf<Kind> blocks(test::read_blocks<typename Kind::Memory>(file.tensors()), 12);
  file.read_state(0, blocks.states[0]);
  auto x = file.tensors().tensor("x").template read<T>();
  auto const before = x;
  Matrix<T> v_first(12, 32), increment(12, 32), normal(12, 32);
  test::LayerTensors<T>(file.tensors(), "blocks.0.").layer_norm("ln1")({x.data(), 12, 32}, normal.view());
  auto const& mix = blocks.blocks[0].time_mix();
  if constexpr (TimeMix<typename Kind::Memory>::shares_values)
    mix(normal.view(), blocks.states[0].time_mix, increment.view(), blocks.scratch, v_first.view());
  else
    mix(normal.view(), blocks.states[0].time_mix, increment.view(), blocks.scratch);
  std::vector<double> expected;  // att_dx is (token, channel), or (token, layer, channel)
  auto const all = file.numbers("att_dx");
  std::size_t const row = all.size() / 12;
  for (std::size_t t = 0; t < 12; ++t) expected.insert(expected.end(), all.data() + t * row, all.data() + t * row + 32);
  CHECK(max_error(increment.numbers, expected) <= bound<T>);
  CHECK(x == before);
}

TEST_CASE_TEMPLATE("block: any scratch and executor, the same bits, and states are values", Kind, GENERATIONS) {
  using Given = Blocks<Kind>;
  Random random(5);
  Matrix<float> const x(13, Given::channels, random);
  Given whole(13);
  Matrix<float> y = x;
  whole.run(y.view());
  for (auto const& split : test::splits_of_13())
    for (Index const tokens_at_once : {1, 4}) {
      Given parts(tokens_at_once);
      Matrix<float> z = x;
      Index first = 0;
      for (Index const count : split) {
        parts.run(z.view().rows(first, count), test::Backwards{3});
        first += count;
      }
      CHECK(max_error(z.numbers, y.numbers) <= bound<float>);
    }
  Given other(13);
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

TEST_CASE_TEMPLATE("block: allocates nothing", Kind, GENERATIONS) {
  using Given = Blocks<Kind>;
  Random random(5);
  Matrix<float> x(130, Given::channels, random), v_first(130, Given::channels);
  Given given(64);
  test::AllocationCounter const allocations;
  for (Index const count : {130, 1, 64})
    for (std::size_t i = 0; i < given.blocks.size(); ++i) {
      if constexpr (Kind::version == Version::v7)
        given.blocks[i](x.view().rows(0, count), given.states[i], given.scratch, v_first.view().rows(0, count));
      else
        given.blocks[i](x.view().rows(0, count), given.states[i], given.scratch);
    }
  CHECK(allocations.count() == 0);
}

TEST_CASE_TEMPLATE("block: no token changes nothing", Kind, GENERATIONS) {
  Blocks<Kind> given(4);
  auto const before = given.states;
  given.run({nullptr, 0, given.channels});
  CHECK(given.states == before);
}

TEST_CASE("block: layers of different widths are refused") {
  std::vector<float> const ones(32, 1.0f), few(31, 1.0f);
  auto const text = test::random_rwkv({.version = Version::v4}).text();
  SafeTensors const file(test::bytes_of(text));
  auto const blocks = test::read_blocks<Wkv4<float>>(file);
  Matrix<float> const key(8, 32), value(32, 8);
  ChannelMix<float> const channel_mix({.x_k = ones, .key = key.view(), .value = value.view()});
  LayerNorm<float> const fitting(ones, ones), narrow(few, few);
  CHECK(test::message_of<std::invalid_argument>([&] {
          Block<TimeMix<Wkv4<float>>>(fitting, blocks[0].time_mix(), narrow, channel_mix);
        }) == "aviary: Block: ln1, time mix, ln2, channel mix have 32, 32, 31, 32 channels, expected one number");
}

TEST_CASE_TEMPLATE("block: reset makes a state that of the empty context, without allocation", Kind, GENERATIONS) {
  Blocks<Kind> given(13);
  auto const empty = given.states;
  Random random(5);
  Matrix<float> x(13, Blocks<Kind>::channels, random);
  given.run(x.view());
  CHECK_FALSE(given.states == empty);
  test::AllocationCounter const allocations;
  for (std::size_t i = 0; i < given.blocks.size(); ++i) given.blocks[i].reset(given.states[i]);
  CHECK(allocations.count() == 0);
  auto const& block = given.blocks[0];
  static_assert(noexcept(block.reset(std::declval<decltype(given.states[0])>())));
  CHECK(given.states == empty);
}
