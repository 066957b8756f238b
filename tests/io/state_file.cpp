/// States written and read again: what comes back has every bit, and what does not fit is refused by name.
#include "aviary/io/state_file.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "aviary/delta_rule.hpp"
#include "aviary/dplr.hpp"
#include "aviary/linear_attention.hpp"
#include "aviary/wkv4.hpp"
#include "aviary/wkv5.hpp"
#include "aviary/wkv6.hpp"
#include "aviary/wkv7.hpp"
#include "support/random.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

/// A user's own rule: S' = S + v k^T, y = S' r.
struct SumRule {
  static constexpr char const* name = "sum";
  static constexpr Erase erase = Erase::none;
  static constexpr Read read = Read::after;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r, k;
    Per<Axis::value> v;
  };
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    return {.r = x.r, .k = x.k, .v = x.v};
  }
};
struct OtherRule : SumRule {
  static constexpr char const* name = "other";
};
template <class T, Index K = 3, Index V = 5, class S = T> using Memory = MatrixMemory<SumRule, T, K, V, S>;

/// States of random numbers, with a NaN, an infinity and a subnormal number among them.
template <class M> std::vector<typename M::State> random_states(std::size_t count, Index keys = 3, Index values = 5) {
  using S = typename M::StateNumber;
  typename M::State state{};
  if constexpr (M::keys == dynamic || M::values == dynamic) state = typename M::State(keys, values);
  std::vector<typename M::State> states(count, state);
  Random random(7);
  for (auto& one : states) {
    auto numbers = random.normals<float>(keys * values);
    numbers[1] = std::numeric_limits<float>::quiet_NaN();
    numbers[2] = -std::numeric_limits<float>::infinity();
    numbers[3] = std::numeric_limits<float>::denorm_min();
    import_state(one.view(), numbers, Orientation::key_value);
    one.view()(0, 0) = narrow<S>(1.0 / 3);
  }
  return states;
}
/// NaN is not equal to itself; its bits are.
template <class State> bool same_bits(std::vector<State> const& a, std::vector<State> const& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t s = 0; s < a.size(); ++s) {
    auto const x = a[s].view(), y = b[s].view();
    if (std::memcmp(x.s, y.s, to_size(x.keys() * x.stride()) * sizeof(*x.s)) != 0) return false;
  }
  return true;
}

template <class M>
std::filesystem::path save(TemporaryFolder const& folder, std::vector<typename M::State> const& states, Index heads,
                           StateFormat const& format = {}) {
  StateWriter().add<M>("blocks.0", states, heads, format).write(folder / "states");
  return folder / "states";
}
/// What the attempt to read says, without the path; and that no state was touched.
template <class M>
std::string refusal(std::filesystem::path const& path, std::vector<typename M::State> states, Index heads,
                    StateConversion const& convert = {}) {
  auto const before = states;
  std::string const text = message_of([&] { StateFile(path).read<M>("blocks.0", states, heads, convert); });
  CHECK(same_bits(states, before));
  std::string const prefix = path.string() + ": tensor 'blocks.0': ";
  CHECK(text.substr(0, prefix.size()) == prefix);
  return text.substr(std::min(text.size(), prefix.size()));
}

using Float = Memory<float>;
using Double = Memory<double>;
using Half = Memory<float, 3, 5, bf16>;
using Small = Memory<float, 3, 5, f16>;
using Dynamic = Memory<float, dynamic, dynamic>;

}  // namespace

TEST_CASE_TEMPLATE("state file: states come back with every bit", M, Float, Double, Half, Small, Dynamic) {
  TemporaryFolder const folder;
  auto const states = random_states<M>(6);
  for (Orientation const orientation : {Orientation::key_value, Orientation::value_key}) {
    save<M>(folder, states, 3, {.orientation = orientation});
    auto back = random_states<M>(6);
    for (auto& state : back) state.view()(1, 1) = {};
    REQUIRE(!same_bits(back, states));
    StateFile(folder / "states").read<M>("blocks.0", back, 3, {.orientation = orientation != Orientation::key_value});
    CHECK(same_bits(back, states));
  }
}

TEST_CASE("state file: is a safetensors file that others can read") {
  TemporaryFolder const folder;
  Float::State state{};
  for (Index j = 0; j < 3; ++j)
    for (Index i = 0; i < 5; ++i) state.s[j][i] = static_cast<float>(10 * j + i);
  save<Float>(folder, {state, state}, 2, {.orientation = Orientation::value_key, .dtype = NumberFormat::bf16});
  SafeTensors const file(folder / "states");
  CHECK(file.metadata() == Metadata{{"aviary.checksum", file.metadata().at("aviary.checksum")},
                                    {"aviary.states", "2"},
                                    {"aviary.states.blocks.0.layout", "value_key"},
                                    {"aviary.states.blocks.0.rule", "sum"}});
  Tensor const tensor = file.tensor("blocks.0", {1, 2, 5, 3});
  CHECK(tensor.dtype == NumberFormat::bf16);
  auto const numbers = tensor.read<float>();
  for (std::size_t i = 0; i < 5; ++i)
    for (std::size_t j = 0; j < 3; ++j) CHECK(numbers[15 + 3 * i + j] == static_cast<float>(10 * j + i));
}

TEST_CASE("state file: holds many groups of several rules, and further tensors") {
  TemporaryFolder const folder;
  using Wide = Memory<double, 2, 40>;
  auto const a = random_states<Float>(4);
  auto const b = random_states<Wide>(3, 2, 40);
  std::vector<float> const shift(16, 0.5f);
  StateWriter writer;
  writer.add<Float>("a", a, 2).add<Wide>("b", b, 1);
  writer.tensors().add("shift", {16}, shift).set_metadata("model", "mine");
  writer.write(folder / "states");

  StateFile const file(folder / "states");
  CHECK(file.names() == std::vector<std::string_view>{"a", "b"});
  StateInfo const info = file.info("b");
  CHECK(info.rule == "sum");
  CHECK(info.layout == "key_value");
  CHECK(info.dtype == NumberFormat::f64);
  CHECK(info.sequences == 3);
  CHECK(info.heads == 1);
  CHECK(info.rows == 2);
  CHECK(info.columns == 40);
  CHECK(file.tensors().tensor("shift").read<float>() == shift);
  CHECK(file.tensors().metadata().at("model") == "mine");
  std::vector<Float::State> read_a(4);
  std::vector<Memory<double, dynamic, dynamic>::State> read_b(3, {2, 40});  // sizes from the file's info
  file.read<Float>("a", read_a, 2);
  file.read<Memory<double, dynamic, dynamic>>("b", read_b, 1);
  CHECK(same_bits(read_a, a));
  for (Index i = 4; i < 40; ++i) CHECK(read_b[2].view()(1, i) == b[2].view()(1, i));
}

TEST_CASE("state file: number types convert where that is asked for") {
  TemporaryFolder const folder;
  std::vector<Float::State> states(1);
  states[0].s[2][4] = 1.0f / 3;
  for (NumberFormat const dtype : {NumberFormat::f64, NumberFormat::bf16, NumberFormat::f16}) {
    save<Float>(folder, states, 1, {.dtype = dtype});
    std::vector<Float::State> back(1);
    StateFile(folder / "states").read<Float>("blocks.0", back, 1, {.dtype = true});
    float const rounded = dtype == NumberFormat::f64    ? 1.0f / 3
                          : dtype == NumberFormat::bf16 ? widen(narrow<bf16>(1.0f / 3))
                                                        : widen(narrow<f16>(1.0f / 3));
    CHECK(back[0].s[2][4] == rounded);
  }
}

TEST_CASE("state file: a refusal says what differs") {
  TemporaryFolder const folder;
  auto const path = save<Float>(folder, random_states<Float>(4), 2);
  auto const states = random_states<Float>(4);
  CHECK(refusal<MatrixMemory<OtherRule, float, 3, 5>>(path, states, 2) ==
        "expected states of rule 'other', found 'sum'");
  CHECK(refusal<Float>(path, random_states<Float>(6), 2) == "expected 3 sequences, found 2");
  CHECK(refusal<Float>(path, states, 4) == "expected 1 sequences, found 2; expected 4 heads, found 2");
  CHECK(refusal<Memory<float, 5, 3>>(path, random_states<Memory<float, 5, 3>>(4, 5, 3), 2) ==
        "expected 5 keys, found 3; expected 3 values, found 5");
  CHECK(refusal<Dynamic>(path, random_states<Dynamic>(4, 3, 6), 2) == "expected 6 values, found 5");
  CHECK(refusal<Double>(path, random_states<Double>(4), 2) ==
        "expected dtype f64, found f32 (StateConversion::dtype converts)");
  CHECK(refusal<Half>(path, random_states<Half>(4), 2, {.orientation = true}) ==
        "expected dtype bf16, found f32 (StateConversion::dtype converts)");

  save<Float>(folder, states, 2, {.orientation = Orientation::value_key});
  CHECK(refusal<Float>(path, states, 2, {.dtype = true}) ==
        "expected layout key_value, found value_key (StateConversion::orientation converts)");
  CHECK(refusal<Memory<float, 3, 6>>(path, random_states<Memory<float, 3, 6>>(4, 3, 6), 2, {.orientation = true}) ==
        "expected 6 values, found 5");

  std::string const text = message_of([&] {
    auto to = states;
    StateFile(path).read<Float>("blocks.1", to, 2);
  });
  CHECK(text == path.string() + ": has no tensor 'blocks.1' among its 1");
}

TEST_CASE("state file: a file that is none, or another version, or damaged is refused") {
  TemporaryFolder const folder;
  std::vector<float> const numbers(15);
  std::vector<std::int64_t> const integers(15);
  auto const path = folder / "states";
  auto const write = [&](Metadata const& metadata, std::vector<std::int64_t> shape, auto const& from) {
    SafeTensorsWriter writer;
    writer.add("blocks.0", std::move(shape), from);
    for (auto const& [key, text] : metadata) writer.set_metadata(key, text);
    writer.write(path);
  };
  auto const opening = [&] { return message_of([&] { StateFile file(path); }); };
  write({}, {1, 1, 3, 5}, numbers);
  CHECK(opening() == path.string() + ": holds no states: the file's metadata lack 'aviary.states'");
  write({{"aviary.states", "3"}}, {1, 1, 3, 5}, numbers);
  CHECK(opening() == path.string() + ": expected states of format version 1 or 2, found '3'");
  write({{"aviary.states", "2"}}, {1, 1, 3, 5}, numbers);
  CHECK(opening() == path.string() + ": its checksum is missing: it is damaged");

  std::vector<Float::State> const one(1);
  Metadata metadata{{"aviary.states", "1"}};
  write(metadata, {1, 1, 3, 5}, numbers);
  CHECK(StateFile(path).names().empty());
  CHECK(refusal<Float>(path, one, 1) == "holds no states: the file's metadata lack 'aviary.states.blocks.0.rule'");
  metadata["aviary.states.blocks.0.rule"] = "sum";
  write(metadata, {1, 1, 3, 5}, numbers);
  CHECK(refusal<Float>(path, one, 1) == "holds no states: the file's metadata lack 'aviary.states.blocks.0.layout'");
  metadata["aviary.states.blocks.0.layout"] = "key_value";
  write(metadata, {3, 5}, numbers);
  CHECK(refusal<Float>(path, one, 1) == "expected shape [any, any, any, any], found [3, 5]");
  write(metadata, {1, 1, 3, 5}, integers);
  CHECK(refusal<Float>(path, one, 1, {.dtype = true}) == "expected dtype f32, found i64");
  metadata["aviary.states.blocks.0.layout"] = "diagonal";
  write(metadata, {1, 1, 3, 5}, numbers);
  CHECK(refusal<Float>(path, one, 1, {.orientation = true}) == "expected layout key_value, found 'diagonal'");
  metadata["aviary.states.blocks.0.layout"] = "num_den_exponent";
  write(metadata, {1, 1, 3, 5}, numbers);
  CHECK(refusal<Float>(path, one, 1, {.orientation = true}) == "expected layout key_value, found 'num_den_exponent'");
}

TEST_CASE("state file: a flipped bit is found, wherever it is") {
  std::ostringstream out;
  StateWriter().add<Float>("blocks.0", random_states<Float>(2), 2).write(out);
  std::string file = out.str();
  auto states = random_states<Float>(2);
  auto const read = [&] { StateFile(bytes_of(file)).read<Float>("blocks.0", states, 2); };
  read();
  auto const before = states;
  for (char& byte : file)
    for (int bit = 0; bit < 8; ++bit) {
      auto const flip = static_cast<char>(1 << bit);
      byte = static_cast<char>(byte ^ flip);
      REQUIRE_THROWS_AS(read(), std::runtime_error);
      byte = static_cast<char>(byte ^ flip);
    }
  CHECK(same_bits(states, before));
  file[file.size() - 1] ^= 1;
  CHECK(message_of(read) == "memory: its content does not fit its checksum: it is damaged");
}

TEST_CASE("state file: files of the version before are read as ever") {
  TemporaryFolder const folder;
  auto const states = random_states<Float>(2);
  save<Float>(folder, states, 2);
  SafeTensors const file(folder / "states");
  SafeTensorsWriter old;
  old.add(file.tensor("blocks.0"));
  for (auto const& [key, text] : file.metadata())
    if (key != "aviary.checksum") old.set_metadata(key, key == "aviary.states" ? "1" : text);
  old.write(folder / "old");
  std::vector<Float::State> back(2);
  StateFile(folder / "old").read<Float>("blocks.0", back, 2);
  CHECK(same_bits(back, states));
}

TEST_CASE("state file: what cannot be written or read into is refused") {
  StateWriter writer;
  auto const states = random_states<Float>(4);
  auto const adding = [&](std::vector<Float::State> const& group, Index heads, StateFormat const& format = {}) {
    return message_of<std::invalid_argument>([&] { writer.add<Float>("a", group, heads, format); });
  };
  CHECK(adding(states, 3) == "cannot write states 'a': expected a multiple of 3 heads, found 4 states");
  CHECK(adding({}, 3) == "cannot write states 'a': expected a multiple of 3 heads, found 0 states");
  CHECK(adding(states, 0) == "cannot write states 'a': expected a multiple of 0 heads, found 4 states");
  CHECK(adding(states, 2, {.dtype = NumberFormat::i32}) == "cannot write states 'a': i32 does not hold them");
  std::vector<Dynamic::State> mixed{{3, 5}, {3, 4}};
  CHECK(message_of<std::invalid_argument>([&] { writer.add<Dynamic>("a", mixed, 2); }) ==
        "cannot write states 'a': the first is 3 x 5, another 3 x 4");
  writer.add<Float>("a", states, 2);
  CHECK(adding(states, 2) == "cannot write tensor 'a': it is given twice");

  TemporaryFolder const folder;
  writer.write(folder / "states");
  StateFile const file(folder / "states");
  CHECK(message_of<std::invalid_argument>([&] { file.read<Dynamic>("a", mixed, 2); }) ==
        "cannot read states 'a': the states of the destination differ in size");
  CHECK(message_of<std::invalid_argument>([&] { file.read<Dynamic>("a", mixed, 3); }) ==
        "cannot read states 'a': expected a multiple of 3 heads as the destination, found 2 states");
}

TEST_CASE("state file: every rule of the library has a name of its own") {
  std::set<std::string_view> names;
  auto const name = [&]<template <class, Index, Index, class> class... Ms>() {
    (names.insert(Ms<float, 4, 4, float>::name), ...);
    return sizeof...(Ms);
  };
  auto const rules = name.operator()<Wkv5, Wkv5PerHead, Wkv6, FinchC2, Wkv7, Dplr, Iplr, DeltaNet, GatedDeltaNet, Kda,
                                     GatedDeltaNet2, Comba, LinearAttention, RetNet, SimpleGla, Gla>();
  names.insert(Wkv4<float>::name);
  CHECK(names.size() == rules + 1);
}

TEST_CASE_TEMPLATE("state file: states of channels come back with every bit", M, Wkv4<float, 20>, Wkv4<double, 5>,
                   Wkv4<float>) {
  TemporaryFolder const folder;
  Index const channels = M::channels == dynamic ? 7 : M::channels;
  typename M::State empty{};
  if constexpr (M::channels == dynamic) empty = typename M::State(channels);
  std::vector<typename M::State> states(4, empty);
  Random random(9);
  for (auto& state : states)
    for (Index c = 0; c < channels; ++c) {
      state.num[c] = static_cast<typename M::T>(random.normal());
      state.den[c] = static_cast<typename M::T>(random.uniform());
      state.exponent[c] = static_cast<typename M::T>(random.below(3'000'000) - 1'500'000);
    }
  StateWriter().template add<M>("a", states, 1).write(folder / "states");
  StateFile const file(folder / "states");
  CHECK(file.info("a").rule == "wkv4");
  CHECK(file.info("a").layout == "num_den_exponent");
  CHECK(file.info("a").sequences == 4);
  std::vector<typename M::State> back(4, empty);
  file.template read<M>("a", back, 1);
  CHECK(back == states);
}

TEST_CASE("state file: states of channels keep float, and are none of a matrix") {
  TemporaryFolder const folder;
  using M = Wkv4<float, 5>;
  std::vector<M::State> states(2);
  CHECK(message_of<std::invalid_argument>([&] {
          StateWriter().add<M>("blocks.0", states, 1, {.dtype = NumberFormat::bf16});
        }) == "cannot write states 'blocks.0': bf16 does not hold them");
  auto const path = save<M>(folder, states, 1, {.dtype = NumberFormat::f64});
  auto const reading = [&]<class N>(std::vector<typename N::State> to, StateConversion const& convert = {}) {
    return message_of([&] { StateFile(path).read<N>("blocks.0", to, 1, convert); });
  };
  std::string const prefix = path.string() + ": tensor 'blocks.0': ";
  CHECK(reading.operator()<M>(states) == prefix + "expected dtype f32, found f64 (StateConversion::dtype converts)");
  CHECK(reading.operator()<Wkv4<float>>({2, Wkv4<float>::State(6)}, {.dtype = true}) ==
        prefix + "expected 6 channels, found 5");
  CHECK(reading.operator()<Memory<float, 3, 5>>(std::vector<Memory<float, 3, 5>::State>(2), {.dtype = true}) ==
        prefix + "expected states of rule 'sum', found 'wkv4'; expected layout key_value, found 'num_den_exponent'");
  StateFile(path).read<M>("blocks.0", states, 1, {.dtype = true});
  CHECK(states == std::vector<M::State>(2));
}
