/// Models from nothing: their tensors have the released shapes, and they load.
#include "models/new_model.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "models/random_checkpoint.hpp"
#include "support/check.hpp"
#include "support/reader.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using models::Generation;
using models::NewModel;

namespace {

constexpr Generation generations[] = {Generation::rwkv4, Generation::rwkv5_0, Generation::rwkv5_1,  Generation::rwkv5_2,
                                      Generation::rwkv6, Generation::rwkv7,   Generation::goldfinch};
using Shape = std::vector<std::int64_t>;

std::string name(Generation generation) { return std::string(models::name_of(generation)); }

/// A small model with two kinds of layers where there are two.
NewModel small(Generation generation) {
  return {.generation = generation, .layers = 3, .channels = 32, .vocab = 11, .head_size = 16};
}

std::map<std::string, Shape> shapes_by_name(NewModel const& model) {
  std::map<std::string, Shape> shapes;
  for (auto const& [name, shape] : models::shapes_of(model)) shapes[name] = shape;
  return shapes;
}

std::vector<float> numbers(models::WeightStore<float> const& weights) {
  std::vector<float> all;
  for (auto const& entry : weights.entries())
    all.insert(all.end(), entry.values.data(), entry.values.data() + entry.values.size());
  return all;
}

/// It is recognised, has no tensor without a use, and its logits after some tokens are finite and not all 0.
void check_loads(TensorFile const& file, NewModel const& model) {
  CHECK(models::generation_of(file) == model.generation);
  auto const loaded = test::reader_of(models::load_any<float>(file));
  CHECK(loaded.unused == std::vector<std::string>());
  std::vector<TokenId> const tokens{1, 0, 5, 1, 10};
  auto const logits = loaded.model->prefill(tokens);
  REQUIRE(static_cast<Index>(logits.size()) == model.vocab);
  double sum = 0;
  for (float const logit : logits) sum += std::abs(logit);
  CHECK(std::isfinite(sum));
  CHECK(sum > 0);
}

std::string refusal(NewModel const& model) {
  return test::message_of<std::invalid_argument>([&] { models::shapes_of(model); });
}

}  // namespace

TEST_CASE("new_model: a model of any generation loads") {
  for (Generation const generation : generations) {
    test::Note const note("generation", name(generation));
    NewModel const model = small(generation);
    auto const weights = models::new_weights<float>(model, 1);
    check_loads(weights.file(), model);
    CHECK(weights.size() == models::count_weights(model));
    CHECK(weights.learning() == weights.size());
  }
}

TEST_CASE("new_model: chosen sizes, one layer, one head, heads of 64") {
  for (Generation const generation : generations) {
    test::Note const note("generation", name(generation));
    NewModel model = small(generation);
    model.inner = 24;
    model.rank_w = 3, model.rank_a = 4, model.rank_v = 5, model.rank_g = 6, model.rank_mix = 7, model.rank_keys = 8;
    model.compressed = 9;
    check_loads(models::new_weights<float>(model, 1).file(), model);
    CHECK(shapes_by_name(model)["blocks.1.ffn.key.weight"] == Shape{24, 32});
    model.channels = model.head_size = 64;
    model.layers = generation == Generation::goldfinch ? 2 : 1;
    check_loads(models::new_weights<float>(model, 1).file(), model);
  }
}

TEST_CASE("new_model: a random checkpoint of any generation loads") {
  for (Generation const generation : generations) {
    test::Note const note("generation", name(generation));
    check_loads(models::random_checkpoint(small(generation)).file(), small(generation));
  }
}

TEST_CASE("new_model: the seed says it all") {
  for (Generation const generation : generations) {
    auto const weights = numbers(models::new_weights<float>(small(generation), 7));
    test::check_equal(numbers(models::new_weights<float>(small(generation), 7)), weights);
    test::check_that(numbers(models::new_weights<float>(small(generation), 8)) != weights, "another seed tells");
  }
}

TEST_CASE("new_model: weights are the initial ones, and the bonus of RWKV-5.0 is no logarithm") {
  NewModel model = small(Generation::rwkv7);
  Initialization const first{.recipe = Recipe::rwkv7, .layers = 3, .seed = 5, .head_size = 16};
  auto const weights = models::new_weights<float>(model, 5);
  for (char const* const tensor : {"blocks.2.att.w0", "blocks.1.att.key.weight", "emb.weight"}) {
    auto const& entry = weights[tensor];
    std::vector<float> expected(to_size(entry.values.size()));
    initialize<float>(first, tensor, std::vector<Index>(entry.shape.begin(), entry.shape.end()), expected);
    test::check_equal(entry.values, expected);
  }
  auto const older = models::new_weights<float>(small(Generation::rwkv5_0), 5);
  // exp of a number in float that is exactly -3: an error of one unit in the last place or less.
  test::check_close(older["blocks.1.att.time_faaaa"].values, std::vector<double>(2, std::exp(-3.0)), 0x1p-23);
}

TEST_CASE("new_model: the published table of RWKV-7 1.5B") {
  // "RWKV-7 weight example for 1.5B (L24-D2048, vocab 65536)" in the README of BlinkDL/RWKV-LM at 524481d.
  Index constexpr c = 2048;
  std::map<std::string, Shape> expected{{"emb.weight", {65536, c}},   {"head.weight", {65536, c}},
                                        {"blocks.0.ln0.weight", {c}}, {"blocks.0.ln0.bias", {c}},
                                        {"ln_out.weight", {c}},       {"ln_out.bias", {c}}};
  for (Index layer = 0; layer < 24; ++layer) {
    std::string const block = "blocks." + std::to_string(layer) + ".", att = block + "att.", ffn = block + "ffn.";
    for (std::string const norm : {"ln1", "ln2", "att.ln_x"})
      expected[block + norm + ".weight"] = expected[block + norm + ".bias"] = {c};
    for (char const* const vector : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "k_k", "k_a"})
      expected[att + vector] = {1, 1, c};
    expected[att + "w1"] = expected[att + "a1"] = {c, 96};
    expected[att + "w2"] = expected[att + "a2"] = {96, c};
    expected[att + "g1"] = {c, 256};
    expected[att + "g2"] = {256, c};
    expected[att + "r_k"] = {32, 64};
    for (std::string const matrix : {"receptance", "key", "value", "output"})
      expected[att + matrix + ".weight"] = {c, c};
    expected[ffn + "x_k"] = {1, 1, c};
    expected[ffn + "key.weight"] = {8192, c};
    expected[ffn + "value.weight"] = {c, 8192};
    if (layer == 0) continue;
    expected[att + "v0"] = {1, 1, c};
    expected[att + "v1"] = {c, 64};
    expected[att + "v2"] = {64, c};
  }
  test::check_that(
      shapes_by_name({.generation = Generation::rwkv7, .layers = 24, .channels = c, .vocab = 65536}) == expected,
      "the tensors are those of the table");
}

TEST_CASE("new_model: released sizes have as many weights as their publications say") {
  auto const count = [](Generation generation, Index layers, Index channels, Index vocab = 65536) {
    return models::count_weights({.generation = generation, .layers = layers, .channels = channels, .vocab = vocab});
  };
  // BlinkDL/RWKV-LM at 524481d, README: "actually 450.767872 M" for 24 layers and ranks of 64, 64, 32 and 128.
  NewModel const rwkv7{.generation = Generation::rwkv7, .layers = 24, .channels = 1024, .vocab = 65536, .rank_g = 128};
  CHECK(models::count_weights(rwkv7) == 450'767'872);
  // The same formula with the layers and channels of rwkv_v7_demo.py, 0.1B.
  Index constexpr c = 768, unused = c + 2 * c * 32;
  CHECK(count(Generation::rwkv7, 12, c) ==
        2 * 65536 * c + 4 * c + 12 * (19 * c + 12 * c * c + 2 * c * (64 + 32 + 64 + 128)) - unused);

  // In units of the last digit that is published.
  auto const rounded = [](Index weights, double unit) { return std::lround(static_cast<double>(weights) / unit); };
  // "0.19 billion to 2.9 billion": abstract of arXiv:2503.14456.
  CHECK(rounded(count(Generation::rwkv7, 12, 768), 1e7) == 19);
  CHECK(rounded(count(Generation::rwkv7, 12, 768), 1e6) == 191);
  CHECK(rounded(count(Generation::rwkv7, 32, 2560), 1e8) == 29);
  // "0.46 to 7.5 billion", "1.6 and 3.1 billion": abstract of arXiv:2404.05892.
  CHECK(rounded(count(Generation::rwkv5_2, 24, 1024), 1e7) == 46);
  CHECK(rounded(count(Generation::rwkv5_2, 32, 4096), 1e8) == 75);
  CHECK(rounded(count(Generation::rwkv6, 24, 2048), 1e8) == 16);
  CHECK(rounded(count(Generation::rwkv6, 32, 2560), 1e8) == 31);
  // RWKV-4-Pile-169M and -430M, whose vocabulary is that of GPT-NeoX.
  CHECK(rounded(count(Generation::rwkv4, 12, 768, 50277), 1e6) == 169);
  CHECK(rounded(count(Generation::rwkv4, 24, 1024, 50277), 1e6) == 430);
}

TEST_CASE("new_model: what is 0 is what the published code chooses") {
  auto const of = [](Generation generation, Index channels) {
    return models::completed({.generation = generation, .layers = 6, .channels = channels, .vocab = 10});
  };
  for (Generation const generation : {Generation::rwkv4, Generation::rwkv5_0, Generation::rwkv7})
    CHECK(of(generation, 832).inner == 4 * 832);
  for (Generation const generation :
       {Generation::rwkv5_1, Generation::rwkv5_2, Generation::rwkv6, Generation::goldfinch}) {
    CHECK(of(generation, 832).inner == 2912);  // 91 times 32
    CHECK(of(generation, 64 * 13).inner % 32 == 0);
    CHECK(of(generation, 64 * 3).inner == 672);
  }
  CHECK(of(Generation::rwkv6, 4096).rank_mix == 32);
  CHECK(of(Generation::rwkv6, 4096).rank_w == 64);
  CHECK(of(Generation::goldfinch, 2048).rank_v == 64);
  CHECK(of(Generation::goldfinch, 2048).rank_keys == 128);
  CHECK(of(Generation::goldfinch, 512).rank_keys == 64);
  CHECK(of(Generation::goldfinch, 2048).compressed == 128);
  CHECK(of(Generation::rwkv7, 64).rank_w == 32);
  CHECK(of(Generation::rwkv7, 64).rank_v == 32);
  CHECK(of(Generation::rwkv7, 64).rank_g == 32);
  auto const shapes = shapes_by_name(of(Generation::goldfinch, 64));
  for (Index layer = 0; layer < 6; ++layer)
    CHECK(shapes.contains("blocks." + std::to_string(layer) + ".att.query.weight") == (layer >= 4));
}

TEST_CASE("new_model: sizes that do not fit are refused") {
  NewModel const model = small(Generation::rwkv7);
  auto const with = [&](auto&& change) {
    NewModel changed = model;
    change(changed);
    return refusal(changed);
  };
  CHECK_NOTHROW(models::shapes_of(model));
  CHECK(with([](NewModel& m) { m.generation = Generation::unknown; }) ==
        "expected a known generation for a new model, found unknown");
  CHECK(with([](NewModel& m) { m.layers = 0; }) == "RWKV-7: expected layers from 1 to 4096, found 0");
  CHECK(with([](NewModel& m) { m.channels = 40; }) ==
        "RWKV-7: expected channels that are a multiple of the head size 16, found 40");
  CHECK(with([](NewModel& m) { m.channels = -32; }) == "RWKV-7: expected channels from 1 to 1048576, found -32");
  CHECK(with([](NewModel& m) { m.channels = Index{1} << 62; }).starts_with("RWKV-7: expected channels from 1"));
  CHECK(with([](NewModel& m) { m.vocab = 0; }) == "RWKV-7: expected vocab from 1 to 4194304, found 0");
  CHECK(with([](NewModel& m) { m.head_size = 0; }) == "RWKV-7: expected head_size from 1 to 1024, found 0");
  CHECK(with([](NewModel& m) { m.head_size = 2048; }) == "RWKV-7: expected head_size from 1 to 1024, found 2048");
  CHECK(with([](NewModel& m) { m.inner = -1; }) == "RWKV-7: expected inner from 1 to 4194304, found -1");
  CHECK(with([](NewModel& m) { m.rank_g = -1; }) == "RWKV-7: expected rank_g from 1 to 4194304, found -1");
  CHECK(with([](NewModel& m) {
          m.generation = Generation::goldfinch;
          m.layers = 1;
        }) == "GoldFinch: expected layers from 2 to 4096, found 1");
  CHECK(with([](NewModel& m) {
          m.generation = Generation::rwkv5_2;
          m.head_size = 1;
        }) == "RWKV-5.2: expected head_size from 2 to 1024, found 1");
  NewModel without_heads = model;
  without_heads.generation = Generation::rwkv4;
  without_heads.head_size = 0;
  without_heads.channels = 33;
  CHECK_NOTHROW(models::shapes_of(without_heads));
}
