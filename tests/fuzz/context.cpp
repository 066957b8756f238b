/// Reads any bytes as a context of some models, with a checksum that fits, and goes on from what is not refused.
#include <fstream>
#include <random>

#include "fuzz/rewritten.hpp"
#include "fuzz/target.hpp"
#include "models/any.hpp"
#include "models/reader.hpp"
#include "support/checkpoint_case.hpp"

namespace {

using namespace aviary;

/// A model, and what it says in an empty context.
struct Case {
  models::Reader model;
  std::vector<float> first;

  explicit Case(test::RwkvShape const& shape) : model(models::load_any<float>(test::random_rwkv(shape).file()).model) {
    auto const logits = model.step(1);
    first.assign(logits.begin(), logits.end());
  }

  /// Goes on from the file. One that is refused leaves an empty context empty.
  void read(std::filesystem::path const& path) {
    model.reset();
    try {
      model.load_state(path);
    } catch (std::runtime_error const&) {
      auto const logits = model.step(1);
      fuzz::require(std::ranges::equal(logits, first), "a refused file changes nothing");
      return;
    }
    TokenId const tokens[] = {1, 4, 2};
    model.read_on(tokens);
    model.prefill(tokens);
  }
};

std::vector<Case>& cases() {
  static std::vector<Case> all = [] {
    std::vector<Case> made;
    for (test::Version const version : {test::Version::v7, test::Version::v4, test::Version::goldfinch})
      made.emplace_back(test::RwkvShape{.version = version,
                                        .layers = version == test::Version::goldfinch ? 2 : 1,
                                        .vocab = 5,
                                        .heads = 1,
                                        .head_size = 4,
                                        .inner = 3,
                                        .attention_layers = 1,
                                        .compressed = 1});
    return made;
  }();
  return all;
}

/// A file of this program's own, removed at its end.
struct OwnFile {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("aviary-fuzz-" + std::to_string(std::random_device()()));
  ~OwnFile() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
};

}  // namespace

int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  static OwnFile const file;
  fuzz::may_refuse([&] {
    std::string const bytes = fuzz::rewritten(std::as_bytes(std::span(data, size)));
    std::ofstream(file.path, std::ios::binary | std::ios::trunc) << bytes;
    for (Case& one : cases()) one.read(file.path);
  });
  return 0;
}
