/// Failures of memory and of the disk, one after another, while files are written and read: nothing is half-loaded, nothing
/// lost, and nothing leaks.
#include <doctest/doctest.h>

#include <sstream>
#include <string>
#include <vector>

#include "aviary/io/checkpoint_file.hpp"
#include "aviary/io/state_file.hpp"
#include "aviary/io/token_cache_file.hpp"
#include "aviary/io/tokenizer.hpp"
#include "aviary/wkv7.hpp"
#include "support/failing_memory.hpp"
#include "support/temporary_folder.hpp"
#include "support/zip_case.hpp"

#if AVIARY_IO_MAPS_FILES
#include <sys/resource.h>

#include <csignal>
#endif

using namespace aviary;
using namespace aviary::test;

namespace {

using M = Wkv7<float, 4>;

std::vector<M::State> some_states(float first) {
  std::vector<M::State> states(3);
  for (auto& state : states) state.s[1][2] = first++;
  return states;
}
bool same_numbers(std::vector<M::State> const& a, std::vector<M::State> const& b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i].s[1][2] != b[i].s[1][2]) return false;
  return a.size() == b.size();
}
TokenCache<q8> some_cache(Index tokens) {
  TokenCache<q8> cache(3, 10);
  std::vector<float> const key{1, 2, 3};
  for (Index t = 0; t < tokens; ++t)
    cache.append(static_cast<std::int32_t>(t % 10), VecView<float const>(key.data(), 3));
  return cache;
}

}  // namespace

TEST_CASE("failures: memory, while states are saved: the old file stays, or the new one is whole") {
  TemporaryFolder const folder;
  auto const path = folder.file("s", "old");
  std::vector<float> const shift(5);
  auto const states = some_states(1);
  long const failures = fail_each([&] { folder.file("s", "old"); },
                                  [&] {
                                    StateWriter writer;
                                    writer.add<M>("blocks.0", states, 3);
                                    writer.tensors().add("shift", {5}, shift);
                                    writer.write(path);
                                  },
                                  [&] {
                                    REQUIRE(folder.files() == 1);
                                    if (content_of(path) == "old") return;
                                    auto back = some_states(7);
                                    StateFile(path).read<M>("blocks.0", back, 3);
                                    REQUIRE(same_numbers(back, states));
                                  });
  CHECK(failures > 20);
}

TEST_CASE("failures: memory, while states are loaded: none is touched") {
  TemporaryFolder const folder;
  auto const path = folder / "s";
  StateWriter().add<M>("blocks.0", some_states(1), 3).write(path);
  auto const before = some_states(7);
  auto states = before;
  long const failures = fail_each([&] { states = before; }, [&] { StateFile(path).read<M>("blocks.0", states, 3); },
                                  [&] { REQUIRE(same_numbers(states, before)); });
  CHECK(failures > 20);
  CHECK(same_numbers(states, some_states(1)));
}

TEST_CASE("failures: memory, while a token cache is saved and loaded") {
  TemporaryFolder const folder;
  auto const path = folder / "c";
  auto const saved = some_cache(40), before = some_cache(2);
  CHECK(fail_each([] {}, [&] { save_token_cache(path, saved, Fingerprint()); }, [&] { REQUIRE(folder.files() == 1); }) >
        20);
  auto cache = before;
  long const failures = fail_each(
      [&] {
        cache = TokenCache<q8>(3, 10);  // without memory for more
        cache.append_stored(before.ids(), before.stored_keys(), before.scales());
      },
      [&] { load_token_cache(path, cache, Fingerprint()); }, [&] { REQUIRE(cache == before); });
  CHECK(failures > 20);
  CHECK(cache == saved);
}

TEST_CASE("failures: memory, while checkpoints are read") {
  using namespace pickled;
  std::string const six = storage("FloatStorage", "0", 6);
  std::string const torch = torch_of(
      dict({text("x"), pickled::tensor(six, 0, {2, 3}, {3, 1}), text("y"), pickled::tensor(six, 0, {3, 2}, {1, 3})}),
      {{"0", le(0.0f, 1.0f, 2.0f, 3.0f, 4.0f, 5.0f)}});
  std::ostringstream out;
  SafeTensorsWriter writer;
  {
    TorchCheckpoint const file(bytes_of(torch));
    for (std::string_view const name : file.names()) writer.add(file.tensor(name));
    writer.set_metadata("k", "v").add_checksum().write(out);
  }
  std::string const safetensors = out.str();
  for (std::string const& content : {torch, safetensors}) {
    std::vector<float> numbers;
    long const failures = fail_each([] {},
                                    [&] {
                                      TensorFile const file = open_checkpoint(bytes_of(content));
                                      file.verify();
                                      numbers = file.tensor("y").read<float>();
                                    },
                                    [&] { REQUIRE(numbers.empty()); }, [&] { std::vector<float>().swap(numbers); });
    CHECK(failures > 10);
    CHECK(numbers == std::vector<float>{0, 3, 1, 4, 2, 5});
  }
}

TEST_CASE("failures: memory, while a vocabulary is read and text is encoded") {
  std::string const words = "1 'a' 1\n2 'ab' 2\n3 'abab' 4\n4 'b' 1\n";
  std::vector<TokenId> ids;
  long const failures = fail_each([] {},
                                  [&] {
                                    WorldTokenizer const tokenizer(Vocabulary::parse_world(words));
                                    ids = tokenizer.encode("ababaabbabab");
                                  },
                                  [&] { REQUIRE(ids.empty()); }, [&] { std::vector<TokenId>().swap(ids); });
  CHECK(failures > 5);
  CHECK(ids == std::vector<TokenId>{3, 1, 2, 4, 3});
}

#if AVIARY_IO_MAPS_FILES
TEST_CASE("failures: the disk, at any byte of a state and of a token cache: the old file stays") {
  TemporaryFolder const folder;
  auto const path = folder / "f";
  auto const states = some_states(1);
  StateWriter writer;
  writer.add<M>("blocks.0", states, 3);
  auto const cache = some_cache(40);
  add_token_cache(writer.tensors(), "cache", cache);
  writer.write(path);
  auto const size = static_cast<rlim_t>(std::filesystem::file_size(path));
  folder.file("f", "old");
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  auto const handler = std::signal(SIGXFSZ, SIG_IGN);
  long const live = test::allocated;
  for (rlim_t most = 0; most < size; most += 61) {
    rlimit const small{most, before.rlim_max};
    std::string message;
    ::setrlimit(RLIMIT_FSIZE, &small);
    try {
      writer.write(path);
    } catch (std::runtime_error const& error) {
      message = error.what();
    }
    ::setrlimit(RLIMIT_FSIZE, &before);
    REQUIRE(message == path.string() + ": cannot write: File too large");
    REQUIRE(content_of(path) == "old");
    REQUIRE(folder.files() == 1);
  }
  std::signal(SIGXFSZ, handler);
  CHECK(test::allocated == live);
  writer.write(path);
  CHECK(StateFile(path).names().size() == 1);
}
#endif
