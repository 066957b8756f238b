/// Failures of memory, one after another, while models are loaded, and contexts saved and loaded: a model goes on as if
/// nothing had happened.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "models/any.hpp"
#include "support/checkpoint_case.hpp"
#include "support/failing_memory.hpp"
#include "support/reader.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::fail_each;
using test::TemporaryFolder;

namespace {

std::vector<float> copy(std::span<float const> x) { return {x.begin(), x.end()}; }

test::CheckpointCase weights_of(test::Version version) {
  return test::random_rwkv({.version = version, .layers = 2, .heads = 1, .head_size = 8, .inner = 5});
}

constexpr test::Version versions[] = {test::Version::v4, test::Version::v7, test::Version::goldfinch};

}  // namespace

TEST_CASE("failures: memory, while a model is loaded") {
  for (test::Version const version : versions) {
    auto const weights = weights_of(version);
    models::Loaded loaded;
    auto const load = [&] { loaded = models::load_any<float>(weights.file()); };
    auto const check = [&] { REQUIRE(loaded.model == nullptr); };
    CHECK(fail_each([] {}, load, check, [&] { loaded = {}; }) > 100);
    CHECK(models::Reader(loaded.model).step(1).size() == 11);
  }
}

TEST_CASE("failures: memory, while a context is saved: the old file stays, or the new one is whole") {
  TemporaryFolder const folder;
  auto const path = folder / "s";
  for (test::Version const version : versions) {
    auto const weights = weights_of(version);
    auto const model = test::reader_of(models::load_any<float>(weights.file())).model;
    auto const logits = copy(model->step(1));
    auto const check = [&] {
      REQUIRE(folder.files() == 1);
      if (test::content_of(path) == "old") return;
      auto const other = test::reader_of(models::load_any<float>(weights.file())).model;
      other->load_state(path);
      REQUIRE(copy(other->logits()) == logits);
    };
    CHECK(fail_each([&] { folder.file("s", "old"); }, [&] { model->save_state(path); }, check) > 20);
  }
}

TEST_CASE("failures: memory, while a context is loaded or restored: the model goes on as before") {
  TemporaryFolder const folder;
  auto const path = folder / "s";
  for (test::Version const version : versions)
    for (bool const keep : {false, true}) {
      auto const weights = weights_of(version);
      auto const load = [&] {
        return test::reader_of(models::load_any<float>(weights.file(), {.keep_keys = keep})).model;
      };
      auto const first = load();
      first->prefill(std::vector<TokenId>(300, 3));  // more than the memory of a new model holds
      first->save_state(path);
      models::Context const saved = first->save();
      auto const after = copy(first->step(5));
      std::unique_ptr<models::Reader> model;
      auto const prepare = [&] {
        model = load();
        model->step(1);
      };
      auto const release = [&] { model.reset(); };
      prepare();
      auto const before = copy(model->step(2));
      auto const check = [&] { REQUIRE(copy(model->step(2)) == before); };
      CHECK(fail_each(
                prepare, [&] { model->load_state(path); }, check, release) > 20);
      CHECK(copy(model->step(5)) == after);
      release();
      // A state is copied into the memory of the old one, but for what grows with the tokens.
      bool const grows = version == test::Version::goldfinch;
      CHECK((fail_each(
                 prepare, [&] { model->restore(saved); }, check, release) > 0) == grows);
      CHECK(copy(model->step(5)) == after);
    }
}
