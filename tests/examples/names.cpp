/// Models under the names of other containers than released files: each has the logits of the released one.
#include "models/names.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "aviary/io/safetensors.hpp"
#include "models/any.hpp"
#include "models/reader.hpp"
#include "support/compare.hpp"
#include "support/container_case.hpp"
#include "support/generations.hpp"
#include "support/plain_rwkv.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::CheckpointCase;
using test::GgufCase;
using test::message_of;
using test::Quantiser;
using test::Version;

namespace {

std::filesystem::path samples() {
  return std::filesystem::path(AVIARY_TEST_GOLDEN_DIR).parent_path() / "io" / "containers";
}

/// Logits after some tokens.
std::vector<float> logits_of(TensorFile const& file) {
  auto const loaded = models::load_any<float>(file);
  CHECK(loaded.unused.empty());
  models::Reader reader(loaded.model);
  std::span<float const> const logits = reader.prefill(std::vector<TokenId>{3, 1, 4, 1, 5, 9, 2, 6});
  return {logits.begin(), logits.end()};
}
std::vector<float> logits_of(CheckpointCase const& model) { return logits_of(model.file()); }

TensorFile open(CheckpointCase const& model) { return models::with_released_names(model.file()); }
/// A file whose bytes must outlive it.
TensorFile open(std::string const& gguf) {
  return models::with_released_names(open_checkpoint(test::bytes_of(gguf), "FILE"));
}

/// The same tensors as the released ones: names, shapes (but for vectors), and numbers to the bit.
void check_same(TensorFile const& found, CheckpointCase const& model) {
  for (auto const& [name, entry] : model.tensors) {
    std::string const tensor_name = name;
    CAPTURE(tensor_name);
    REQUIRE(found.contains(name));
    Tensor const tensor = found.tensor(name);
    bool const is_vector = entry.shape.size() == 1 || (entry.shape.size() == 3 && entry.shape[1] == 1);
    if (!is_vector) CHECK(std::vector(tensor.shape.begin(), tensor.shape.end()) == entry.shape);
    CHECK(tensor.read<float>() == entry.numbers);
  }
}

/// A released model, and one of a trained checkpoint where the folder of further tests has it.
std::vector<CheckpointCase> models_of(Version version) {
  std::vector<CheckpointCase> found{test::random_rwkv({.version = version})};
  test::Generations::for_each([&]<class G>() {
    std::string const trained = G::trained;
    if (G::version != version || trained.empty()) return;
    std::filesystem::path const path =
        std::filesystem::path(AVIARY_TEST_DATA_DIR) / "models" / (trained + ".safetensors");
    if (std::string_view(AVIARY_TEST_DATA_DIR).empty() || !exists(path)) {
      MESSAGE("not run: AVIARY_TEST_DATA_DIR has no models/" << trained << ".safetensors");
      return;
    }
    SafeTensors const file(path);
    CheckpointCase& made = found.emplace_back();
    for (std::string_view const name : file.names()) {
      Tensor const tensor = file.tensor(name);
      made.add(std::string(name), {tensor.shape.begin(), tensor.shape.end()}, tensor.read<float>());
    }
  });
  return found;
}

}  // namespace

TEST_CASE("names: samples of other programs' files are the models that they were made of") {
  struct Sample {
    char const* path;
    Version version;
    bool has_words;
  };
  for (auto const& [path, version, has_words] :
       {Sample{"rwkv6.gguf", Version::v6, true}, Sample{"rwkv7.gguf", Version::v7, true},
        Sample{"fla", Version::v7, false}, Sample{"transformers", Version::v4, false}}) {
    std::string const sample = path;
    CAPTURE(sample);
    CheckpointCase const model = test::sample_model(version);
    TensorFile const file = models::open_model(samples() / path);
    file.verify();
    check_same(file, model);
    CHECK(file.vocabulary().has_value() == has_words);
    auto const logits = logits_of(file);
    CHECK(logits == logits_of(model));
    test::PlainRwkv plain(model);
    std::vector<double> expected;
    for (TokenId const token : {3, 1, 4, 1, 5, 9, 2, 6}) expected = plain.step(token);
    CHECK(test::max_error(logits, expected) <= 2e-5);
  }
}

TEST_CASE("names: transformers, RWKV-4 to 6") {
  for (Version const version : {Version::v4, Version::v5_0, Version::v5_1, Version::v5_2, Version::v6})
    for (CheckpointCase const& model : models_of(version)) {
      CAPTURE(test::name(version));
      CheckpointCase const other = test::to_transformers(model);
      CHECK(!other.tensors.contains("emb.weight"));
      TensorFile const file = open(other);
      check_same(file, model);
      CHECK(logits_of(file) == logits_of(model));
    }
}

TEST_CASE("names: flash-linear-attention, RWKV-6 and 7") {
  for (Version const version : {Version::v6, Version::v7})
    for (CheckpointCase const& model : models_of(version))
      for (bool const fused : {false, true}) {
        if (fused && version == Version::v6) continue;
        CAPTURE(test::name(version));
        CheckpointCase const other = test::to_fla(model, fused);
        CHECK(!other.tensors.contains("emb.weight"));
        TensorFile const file = open(other);
        check_same(file, model);
        CHECK(logits_of(file) == logits_of(model));
      }
}

TEST_CASE("names: GGUF, RWKV-6 and 7, rescaled layers and separate shares") {
  for (Version const version : {Version::v6, Version::v7})
    for (CheckpointCase model : models_of(version))
      for (int const rescale : {0, 1, 3})
        for (bool const fused : {true, false}) {
          if (version == Version::v7 && (rescale > 0 || !fused)) continue;
          CAPTURE(test::name(version));
          CAPTURE(rescale);
          std::string const gguf = test::to_gguf(model, Quantiser::none, rescale, fused).file();
          TensorFile const file = open(gguf);
          check_same(file, model);
          CHECK(logits_of(file) == logits_of(model));
        }
}

TEST_CASE("names: GGUF in blocks has the logits of the numbers that the blocks stand for") {
  for (Version const version : {Version::v6, Version::v7})
    for (Quantiser const quantiser : {Quantiser::q8_0, Quantiser::q4_0}) {
      CAPTURE(test::name(version));
      CheckpointCase model = test::random_rwkv({.version = version, .inner = 64});
      auto const before = logits_of(model);
      std::string const gguf = test::to_gguf(model, quantiser).file();
      auto const logits = logits_of(open(gguf));
      CHECK(logits == logits_of(model));
      CHECK(logits != before);
    }
}

TEST_CASE("names: released files and files of nothing known stay as they are") {
  for (Version const version : {Version::v4, Version::v7}) {
    CheckpointCase const model = test::random_rwkv({.version = version});
    TensorFile const file = open(model);
    CHECK(file.size() == model.tensors.size());
    CHECK(file.tensor("emb.weight").stored_name.empty());
  }
  CheckpointCase other;
  other.add("model.embed_tokens.weight", {1}, {1});
  CHECK(open(other).contains("model.embed_tokens.weight"));
  std::string const llama = GgufCase().text("general.architecture", "llama").file();
  CHECK(message_of([&] { models::load_any<float>(open(llama)); }) ==
        "FILE: expected a GGUF file of architecture rwkv6 or rwkv7, found 'llama'");
}

TEST_CASE("names: errors say what the file calls a tensor, and unknown ones are reported") {
  CheckpointCase model = test::random_rwkv({});
  CheckpointCase other = test::to_fla(model);
  other.add("model.layers.0.new", {1}, {1});
  other.add("model.layers.0.attn.new", {1}, {1});
  CHECK(models::load_any<float>(open(other)).unused ==
        std::vector<std::string>{"blocks.0.att.new", "model.layers.0.new"});
  other.tensors.at("model.layers.1.attn.k_proj.weight").shape = {32, 31};
  other.tensors.at("model.layers.1.attn.k_proj.weight").numbers.resize(32 * 31);
  CHECK(message_of([&] { models::load_any<float>(open(other)); }) ==
        "FILE: tensor 'blocks.1.att.key.weight' ('model.layers.1.attn.k_proj.weight' in the file): expected shape [32, "
        "32], found [32, 31]");
  CheckpointCase const fused = test::to_fla(model, true);
  CheckpointCase wrong = fused;
  wrong.tensors.at("model.layers.0.attn.x_x").shape = {3, 64};
  CHECK(message_of([&] { open(wrong); }) ==
        "FILE: tensor 'model.layers.0.attn.x_x': expected 6 tensors in one, found shape [3, 64]");
  CheckpointCase twice = fused;
  twice.tensors["model.layers.0.attn.x_r"] = model.tensors.at("blocks.0.att.x_r");
  CHECK(
      message_of([&] { open(twice); }) ==
      "FILE: tensor 'blocks.0.att.x_r' ('model.layers.0.attn.x_x' in the file): is given twice, under different names");
}

TEST_CASE("names: tensors of no numbers, whatever their sizes, are refused by whoever reads them") {
  constexpr std::int64_t large = std::int64_t{1} << 40;
  for (std::vector<std::int64_t> const& shape :
       std::vector<std::vector<std::int64_t>>{{0, large, large}, {0, large}, {large, 0}}) {
    CheckpointCase other = test::to_fla(test::random_rwkv({.version = Version::v6}));
    for (char const* const name : {"x_proj.0.linear.weight", "x_proj.2.weight", "w_proj.linear.lora.0.weight"}) {
      CheckpointCase changed = other;
      changed.add("model.layers.0.attn." + std::string(name), shape, {});
      CHECK(message_of([&] { models::load_any<float>(open(changed)); }).find("expected ") != std::string::npos);
    }
  }
}

TEST_CASE("names: the heads of a GGUF file are what it says") {
  CheckpointCase model = test::random_rwkv({});
  GgufCase file = test::to_gguf(model);
  auto const with = [&](GgufCase const& head_size) {
    GgufCase changed = file;
    changed.values[1] = head_size.values[0];
    std::string const bytes = changed.file();
    return message_of([&] { open(bytes); });
  };
  std::string const tensor = "FILE: tensor 'blk.0.time_mix_r_k.weight': expected heads of the file's wkv.head_size, ";
  CHECK(with(GgufCase().u32("rwkv7.wkv.head_size", 5)) == tensor + "5 numbers each, found shape [32]");
  CHECK(with(GgufCase().u32("rwkv7.wkv.head_size", 0)) == tensor + "0 numbers each, found shape [32]");
  CHECK(with(GgufCase().text("other", "")) == tensor + "0 numbers each, found shape [32]");
  CHECK(with(GgufCase().text("rwkv7.wkv.head_size", "x")) ==
        "FILE: value 'rwkv7.wkv.head_size': expected an integer from 0 on, found 'x'");
}
