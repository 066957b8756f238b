/// Checkpoints in several files.
#include "aviary/io/checkpoint_file.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "aviary/io/safetensors.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::content_of;
using test::message_of;
using test::TemporaryFolder;

namespace {

/// A folder with two shards of a number each, and an index.
struct Shards {
  TemporaryFolder folder;
  std::filesystem::path index = folder / "model.safetensors.index.json";

  Shards() {
    shard("a.safetensors", {"x", "y"});
    shard("b.safetensors", {"z"});
    write(R"({"metadata": {"total_size": 12, "deep": [[1, {"weight_map": null}]]},
              "weight_map": {"x": "a.safetensors", "z": "b.safetensors"}})");
  }
  void shard(char const* name, std::vector<std::string> const& tensors) const {
    static std::vector<float> const numbers{1.5f};
    SafeTensorsWriter writer;
    for (std::string const& tensor : tensors) writer.add(tensor, {1}, numbers);
    writer.set_metadata("name", name).write(folder / name);
  }
  void write(std::string const& json) const { folder.file("model.safetensors.index.json", json); }
  /// What is wrong, after the index's path.
  std::string complaint() const {
    std::string const message = message_of([&] { open_checkpoint(index); });
    CHECK(message.starts_with(index.string() + ": "));
    return message.substr(std::min(message.size(), index.string().size() + 2));
  }
};

}  // namespace

TEST_CASE("checkpoint file: shards are one file, whether their index or their folder is named") {
  Shards const shards;
  for (std::filesystem::path const& path : {shards.index, shards.folder.path()}) {
    TensorFile const file = open_checkpoint(path);
    TensorFile const moved = [&] {
      TensorFile opened = open_checkpoint(path);
      return opened;
    }();
    for (TensorFile const* const one : {&file, &moved}) {
      CHECK(one->names() == std::vector<std::string_view>{"x", "z"});  // 'y' is not in the index
      CHECK(one->tensor("x").read<float>() == std::vector{1.5f});
      CHECK(one->tensor("z").file == shards.index.string());
      CHECK(one->metadata() == Metadata{{"name", "a.safetensors"}});
      one->verify();
    }
    auto const files = checkpoint_files(path);
    CHECK(files == std::vector{shards.index, shards.folder / "a.safetensors", shards.folder / "b.safetensors"});
  }
}

TEST_CASE("checkpoint file: a folder has one of some files") {
  TemporaryFolder const folder;
  std::string const path = folder.path().string();
  std::string const none = path +
                           ": is a folder, expected one with a file of model.safetensors.index.json, "
                           "model.safetensors, pytorch_model.bin.index.json, pytorch_model.bin, found none";
  CHECK(message_of([&] { open_checkpoint(folder.path()); }) == none);
  CHECK(message_of([&] { checkpoint_files(folder.path()); }) == none);
  std::vector<float> const numbers{2};
  SafeTensorsWriter().add("only", {1}, numbers).write(folder / "model.safetensors");
  CHECK(open_checkpoint(folder.path()).contains("only"));
  CHECK(checkpoint_files(folder.path()) == std::vector{folder / "model.safetensors"});
}

TEST_CASE("checkpoint file: an index that does not fit its shards is refused") {
  Shards const shards;
  shards.write(R"({"weight_map": {"x": "b.safetensors"}})");
  CHECK(message_of([&] { open_checkpoint(shards.index); }) == (shards.folder / "b.safetensors").string() +
                                                                  ": has no tensor 'x', which " +
                                                                  shards.index.string() + " expects there");
  shards.write(R"({"weight_map": {"x": "c.safetensors"}})");
  CHECK(message_of([&] { open_checkpoint(shards.index); }) ==
        (shards.folder / "c.safetensors").string() + ": cannot open: No such file or directory");
  shards.folder.file("c.safetensors", content_of(shards.folder / "a.safetensors").substr(0, 30));
  CHECK(message_of([&] { open_checkpoint(shards.index); }).starts_with((shards.folder / "c.safetensors").string()));
  shards.write(R"({"weight_map": {"x": "model.safetensors.index.json"}})");  // itself
  CHECK(shards.complaint().starts_with("expected a header of at most 100000000 bytes"));
}

TEST_CASE("checkpoint file: an index names files of its own folder alone") {
  Shards const shards;
  for (std::string const name :
       {"../a.safetensors", "/etc/passwd", "d/a.safetensors", "..", ".", "", "C:a", "d\\\\a"}) {
    CAPTURE(name);
    shards.write(R"({"weight_map": {"x": ")" + name + R"("}})");
    CHECK(shards.complaint().starts_with("tensor 'x': expected the name of a file beside the index, found '"));
  }
}

TEST_CASE("checkpoint file: an index that is none is refused") {
  Shards const shards;
  for (auto const& [json, message] : std::vector<std::pair<std::string, std::string>>{
           {"{}", "the index has no 'weight_map' of tensors to files"},
           {R"({"metadata": {"weight_map": {"x": "a"}}})", "the index has no 'weight_map' of tensors to files"},
           {R"({"weight_map": {}})", "the index names no tensors"},
           {R"({"weight_map": "x"})", "expected an object for 'weight_map', found string"},
           {R"({"weight_map": ["x"]})", "expected an object for 'weight_map', found array"},
           {R"({"weight_map": {"x": 1}})", "tensor 'x': expected the name of a file, found number"},
           {R"({"weight_map": {"x": ["a"]}})", "tensor 'x': expected the name of a file, found array"},
           {R"({"weight_map": {"x": {"a": 1}}})", "tensor 'x': expected the name of a file, found object"},
           {R"({"weight_map": {"x": "a", "x": "a"}})", "tensor 'x' is given twice"},
           {R"({"weight_map": {"x": "a"}, "weight_map": {}})", "'weight_map' is given twice"},
           {R"({"deep": )" + std::string(100, '['), "the index is nested too deeply"}}) {
    std::string const content = json;
    CAPTURE(content);
    shards.write(json);
    CHECK(shards.complaint() == message);
  }
  shards.write(R"({"weight_map": )");
  CHECK(shards.complaint().starts_with("the index is not valid JSON: "));
}
