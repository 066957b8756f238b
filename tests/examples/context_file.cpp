#include "models/context_file.hpp"

#include <doctest/doctest.h>

#include <functional>

#include "models/rwkv7.hpp"
#include "support/generations.hpp"
#include "support/reader.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::message_of;
using test::RwkvShape;
using test::TemporaryFolder;

namespace {

using Ids = std::vector<TokenId>;

test::LoadedReader load(RwkvShape const& shape) {
  return test::reader_of(models::load_any<float>(test::random_rwkv(shape).file()));
}
test::LoadedReader load_double(RwkvShape const& shape) {
  return test::reader_of(models::load_rwkv7<double>(test::random_rwkv(shape).file()));
}

/// Logits to compare, bit by bit.
std::vector<float> copy(std::span<float const> x) { return {x.begin(), x.end()}; }

/// The tensors and texts of a file, written anew after a change.
void rewrite(
    std::filesystem::path const& from, std::filesystem::path const& to,
    std::function<void(SafeTensorsWriter&, Tensor const&)> const& add,
    std::function<void(SafeTensorsWriter&)> const& at_last = [](SafeTensorsWriter&) {}) {
  SafeTensors const file(from);
  SafeTensorsWriter writer;
  for (auto const& [key, text] : file.metadata()) writer.set_metadata(key, text);
  for (std::string_view const name : file.names()) add(writer, file.tensor(name));
  at_last(writer);
  writer.write(to);
}

}  // namespace

TEST_CASE("context file: a loaded context goes on to the same bits") {
  TemporaryFolder const folder;
  auto const path = folder / "s.safetensors";
  auto const check = [&](auto&& make, RwkvShape const& shape) {
    CAPTURE(test::name(shape.version));
    auto const loaded = make(shape), other = make(shape);
    models::Reader& model = *loaded.model;
    auto const before = copy(model.prefill(Ids{3, 1, 4, 1, 5}));
    model.save_state(path);
    auto const next = copy(model.step(9)), after = copy(model.prefill(Ids{2, 6, 5}));

    models::Reader& second = *other.model;
    second.load_state(path);
    CHECK(copy(second.logits()) == before);
    CHECK(copy(second.step(9)) == next);
    CHECK(copy(second.prefill(Ids{2, 6, 5})) == after);
    second.step(7);
    second.load_state(path);  // into a context that is not empty
    CHECK(copy(second.step(9)) == next);
  };
  for (test::Version const version : test::Generations::versions) {
    check(load, {.version = version});
    check(load, {.version = version, .layers = 3, .heads = 2, .head_size = 64, .first_state = true});
  }
  check(load_double, {});
}

TEST_CASE("context file: an empty context") {
  TemporaryFolder const folder;
  auto const path = folder / "s.safetensors";
  auto const loaded = load({.version = test::Version::v6, .first_state = true});  // which is that of an empty one
  models::Reader& model = *loaded.model;
  CHECK(model.logits().empty());
  model.save_state(path);
  auto const first = copy(model.step(4));
  CHECK(copy(model.logits()) == first);
  model.load_state(path);
  CHECK(model.logits().empty());
  CHECK(copy(model.step(4)) == first);
  model.reset();
  CHECK(model.logits().empty());
}

TEST_CASE("context file: logits belong to a saved value, too") {
  auto const loaded = load({}), wider = load({.vocab = 12});
  models::Reader& model = *loaded.model;
  models::Context const empty = model.save();
  auto const first = copy(model.step(4));
  models::Context const kept = model.save();
  model.step(5);
  model.restore(kept);
  CHECK(copy(model.logits()) == first);
  model.restore(empty);
  CHECK(model.logits().empty());
  wider.model->step(4);  // memories of the same shapes, another number of tokens
  CHECK(message_of<std::invalid_argument>([&] { model.restore(wider.model->save()); }) ==
        "this state belongs to another model");
}

TEST_CASE("context file: a saved value of another head size or other weights is refused") {
  for (test::Version const version : test::Generations::versions) {
    CAPTURE(test::name(version));
    if (version == test::Version::v4) continue;  // it has no heads
    auto const loaded = load({.version = version, .heads = 3, .head_size = 8});
    loaded.model->step(4);
    for (RwkvShape const& shape : {RwkvShape{.version = version, .heads = 3, .head_size = 4, .more_channels = 12},
                                   RwkvShape{.version = version, .heads = 6, .head_size = 4}}) {
      auto const other = load(shape);  // of as many channels
      other.model->step(4);
      CHECK(message_of<std::invalid_argument>([&] { loaded.model->restore(other.model->save()); }) ==
            "this state belongs to another model");
    }
    auto weights = test::random_rwkv({.version = version, .heads = 3, .head_size = 8});
    weights.tensors.at("ln_out.bias").numbers[0] += 1;
    auto const other = test::reader_of(models::load_any<float>(weights.file()));
    CHECK(message_of<std::invalid_argument>([&] { loaded.model->restore(other.model->save()); }) ==
          "this state belongs to another model");
  }
}

TEST_CASE("context file: files of before, without fingerprint and checksum, are read as ever") {
  TemporaryFolder const folder;
  auto const path = folder / "s.safetensors", old = folder / "old.safetensors";
  auto const loaded = load({});
  auto const logits = copy(loaded.model->step(4));
  loaded.model->save_state(path);
  SafeTensors const file(path);
  SafeTensorsWriter writer;
  for (std::string_view const name : file.names()) writer.add(file.tensor(name));
  for (auto const& [key, text] : file.metadata())
    if (key != "aviary.checksum" && key != "aviary.weights")
      writer.set_metadata(key, key == "aviary.states" ? "1" : text);
  writer.write(old);
  loaded.model->reset();
  loaded.model->load_state(old);
  CHECK(copy(loaded.model->logits()) == logits);
}

TEST_CASE("context file: holds what its description says") {
  TemporaryFolder const folder;
  auto const path = folder / "s.safetensors";
  auto const loaded = load({.layers = 3, .heads = 2, .head_size = 16});
  loaded.model->step(4);
  loaded.model->save_state(path);
  StateFile const file(path);
  CHECK(file.tensors().metadata().at("aviary.context") == "wkv7, 3 layers, 32 channels, 11 tokens");
  CHECK(file.tensors().metadata().at("aviary.weights").size() == 16);
  CHECK(file.tensors().has_checksum());
  CHECK(file.names() == std::vector<std::string_view>{"blocks.0.att_s", "blocks.1.att_s", "blocks.2.att_s"});
  CHECK(file.info("blocks.2.att_s").rule == "wkv7");
  CHECK(file.info("blocks.2.att_s").heads == 2);
  for (char const* name : {"blocks.0.att_x", "blocks.2.ffn_x"}) CHECK(file.tensors().tensor(name, {32}).size() == 32);
  CHECK(copy(loaded.model->logits()) == file.tensors().tensor("logits", {11}).read<float>());
  CHECK(file.tensors().size() == 3 * 3 + 1);
}

TEST_CASE("context file: numbers of another type convert") {
  TemporaryFolder const folder;
  auto const path = folder / "s.safetensors";
  auto const in_float = load({}), in_double = load_double({});
  auto const logits = copy(in_float.model->prefill(Ids{1, 2, 3}));
  in_float.model->save_state(path);
  in_double.model->load_state(path);
  CHECK(copy(in_double.model->logits()) == logits);
  in_double.model->save_state(path);
  auto const next = copy(in_float.model->step(5));
  in_float.model->load_state(path);
  CHECK(copy(in_float.model->step(5)) == next);
}

TEST_CASE("context file: what belongs to another model is refused and changes nothing") {
  TemporaryFolder const folder;
  auto const path = folder / "s.safetensors", bad = folder / "bad.safetensors";
  auto const loaded = load({.layers = 2, .heads = 2, .head_size = 16});
  models::Reader& model = *loaded.model;
  model.step(4);
  model.save_state(path);
  auto const expected = copy(model.step(5));
  model.load_state(path);
  auto const complaint = [&] {
    std::string const text = message_of([&] { model.load_state(bad); });
    models::Context const state = model.save();
    CHECK(copy(model.step(5)) == expected);
    model.restore(state);
    CHECK(text.starts_with(bad.string() + ": "));
    return text.substr(std::min(text.size(), bad.string().size() + 2));
  };
  auto const from = [&](RwkvShape const& shape) {
    auto const other = load(shape);
    other.model->step(4);
    other.model->save_state(bad);
    return complaint();
  };
  std::string const wanted = "expected the context of a model of wkv7, 2 layers, 32 channels, 11 tokens, found ";
  auto const keep = [](SafeTensorsWriter& to, Tensor const& tensor) { to.add(tensor); };

  SUBCASE("another number of layers") {
    CHECK(from({.layers = 3}) == wanted + "'wkv7, 3 layers, 32 channels, 11 tokens'");
  }
  SUBCASE("another width") { CHECK(from({.heads = 3}) == wanted + "'wkv7, 2 layers, 48 channels, 11 tokens'"); }
  SUBCASE("another vocabulary") { CHECK(from({.vocab = 5}) == wanted + "'wkv7, 2 layers, 32 channels, 5 tokens'"); }
  SUBCASE("other heads") {
    CHECK(from({.heads = 4, .head_size = 8}) ==
          "tensor 'blocks.0.att_s': expected 2 heads, found 4; expected 16 keys, found 8; expected 16 values, found 8");
  }
  SUBCASE("another generation") {
    CHECK(from({.version = test::Version::v6}) == wanted + "'wkv6, 2 layers, 32 channels, 11 tokens'");
    CHECK(from({.version = test::Version::v4}) == wanted + "'wkv4, 2 layers, 32 channels, 11 tokens'");
  }
  SUBCASE("another memory than the file says") {
    rewrite(path, bad, keep,
            [](SafeTensorsWriter& to) { to.set_metadata("aviary.states.blocks.1.att_s.rule", "wkv6"); });
    CHECK(complaint() == "tensor 'blocks.1.att_s': expected states of rule 'wkv7', found 'wkv6'");
  }
  SUBCASE("other weights of the same shapes") {
    auto weights = test::random_rwkv({.layers = 2, .heads = 2, .head_size = 16});
    weights.tensors.at("head.weight").numbers.back() += 0x1p-20f;  // one number of all
    auto const other = test::reader_of(models::load_any<float>(weights.file()));
    other.model->step(4);
    other.model->save_state(bad);
    auto const fingerprint = [](std::filesystem::path const& file) {
      return SafeTensors(file).metadata().at("aviary.weights");
    };
    CHECK(complaint() == "comes from other weights of the same shapes: expected those of fingerprint " +
                             fingerprint(path) + ", found '" + fingerprint(bad) + "'");
  }
  SUBCASE("a flipped bit") {
    std::string text = test::content_of(path);
    for (std::size_t i = 0; i < text.size(); i += 41) {
      text[i] ^= 4;
      folder.file("bad.safetensors", text);
      complaint();
      text[i] ^= 4;
    }
  }
  SUBCASE("states of no model") {
    StateWriter writer;
    writer.write(bad);
    CHECK(complaint() == wanted + "none");
  }
  SUBCASE("a checkpoint") {
    test::random_rwkv({}).write(bad);
    CHECK(complaint() == "holds no states: the file's metadata lack 'aviary.states'");
  }
  SUBCASE("a tensor missing") {
    rewrite(path, bad, [](SafeTensorsWriter& to, Tensor const& tensor) {
      if (tensor.name != "blocks.1.ffn_x") to.add(tensor);
    });
    CHECK(complaint() == "has no tensor 'blocks.1.ffn_x' among its 6");
  }
  SUBCASE("a tensor of another shape") {
    std::vector<float> const numbers(31);
    rewrite(
        path, bad,
        [](SafeTensorsWriter& to, Tensor const& tensor) {
          if (tensor.name != "blocks.1.att_x") to.add(tensor);
        },
        [&](SafeTensorsWriter& to) { to.add("blocks.1.att_x", {31}, numbers); });
    CHECK(complaint() == "tensor 'blocks.1.att_x': expected shape [32], found [31]");
  }
  SUBCASE("a tensor of whole numbers") {
    std::vector<std::int64_t> const numbers(11);
    rewrite(
        path, bad,
        [](SafeTensorsWriter& to, Tensor const& tensor) {
          if (tensor.name != "logits") to.add(tensor);
        },
        [&](SafeTensorsWriter& to) { to.add("logits", {11}, numbers); });
    CHECK(complaint() == "tensor 'logits': expected dtype f64, f32, f16, bf16, found i64");
  }
  SUBCASE("a file cut anywhere") {
    std::string const text = test::content_of(path);
    for (std::size_t size = 0; size < text.size(); size += 97) {
      folder.file("bad.safetensors", text.substr(0, size));
      complaint();
    }
  }
  SUBCASE("no file") {
    std::filesystem::remove(bad);
    CHECK(complaint() == "cannot open: No such file or directory");
  }
}

TEST_CASE("context file: a failed write leaves the old file") {
  TemporaryFolder const folder;
  auto const loaded = load({});
  auto const nowhere = folder / "none" / "s.safetensors";
  CHECK(message_of([&] { loaded.model->save_state(nowhere); }) ==
        nowhere.string() + ": cannot create: No such file or directory");
  CHECK(folder.files() == 0);
}
