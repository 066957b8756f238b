/// Token caches written and read again: every bit comes back, and what does not fit is refused by name.
#include "aviary/io/token_cache_file.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <limits>

#include "support/layer_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Matrix;
using test::message_of;
using test::Random;
using test::TemporaryFolder;

namespace {

template <class S> TokenCache<S> random_cache(Index tokens, Index width = 5, Index vocab = 50, std::uint64_t seed = 1) {
  Random random(seed);
  TokenCache<S> cache(width, vocab);
  Matrix<float> const keys(tokens, width, random);
  std::vector<std::int32_t> ids;
  for (Index t = 0; t < tokens; ++t) ids.push_back(static_cast<std::int32_t>(random.below(vocab)));
  cache.append(std::span<std::int32_t const>(ids), keys.view());
  return cache;
}

/// What a file of such tensors and texts is refused with, without the path; and that the cache keeps all it held.
std::string refusal(std::function<void(SafeTensorsWriter&)> const& change) {
  TemporaryFolder const folder;
  std::filesystem::path const path = folder / "cache";
  SafeTensorsWriter writer;
  writer.set_metadata("aviary.token_cache.cache", "1");
  writer.set_metadata("aviary.token_cache.cache.storage", "Q8");
  writer.set_metadata("aviary.token_cache.cache.vocab_size", "50");
  change(writer);
  writer.write(path);
  auto cache = random_cache<q8>(7);
  auto const before = cache;
  std::string const text = message_of([&] { load_token_cache(path, cache); });
  CHECK(cache == before);
  std::string const prefix = path.string() + ": ";
  CHECK(text.substr(0, prefix.size()) == prefix);
  return text.substr(std::min(text.size(), prefix.size()));
}

std::vector<std::int32_t> const ids{1, 2, 3}, bad_ids{1, -2, 3}, big_ids{1, 2, 50};
std::vector<std::int64_t> const long_ids{1, 2, 3};
std::vector<std::uint8_t> const keys(15);
std::vector<float> const float_keys(15);
std::vector<bf16> const scales(3);

}  // namespace

TEST_CASE_TEMPLATE("token cache file: every bit comes back, and what was held before is gone", S, float, double, bf16,
                   f16, q8) {
  TemporaryFolder const folder;
  for (Index const tokens : {0, 1, 100}) {
    auto const cache = random_cache<S>(tokens);
    save_token_cache(folder / "cache", cache);
    auto back = random_cache<S>(30, 5, 50, 2);
    load_token_cache(folder / "cache", back);
    CHECK(back == cache);
    back = TokenCache<S>(5, 50);
    load_token_cache(folder / "cache", back);
    CHECK(back == cache);
  }
}

TEST_CASE("token cache file: is a safetensors file that others can read") {
  TemporaryFolder const folder;
  auto const cache = random_cache<q8>(3);
  save_token_cache(folder / "cache", cache);
  SafeTensors const file(folder / "cache");
  CHECK(file.metadata() == Metadata{{"aviary.checksum", file.metadata().at("aviary.checksum")},
                                    {"aviary.token_cache.cache", "2"},
                                    {"aviary.token_cache.cache.storage", "Q8"},
                                    {"aviary.token_cache.cache.vocab_size", "50"}});
  auto const numbers = file.tensor("cache.keys", {3, 5}).read<std::uint8_t>();
  auto const steps = file.tensor("cache.scales", {3}).read<float>();
  CHECK(file.tensor("cache.ids", {3}).read<std::int32_t>()[2] == cache.ids()[2]);
  Matrix<float> expected(3, 5);
  cache.read(0, expected.view());
  for (std::size_t i = 0; i < 15; ++i)
    CHECK(static_cast<float>(static_cast<std::int8_t>(numbers[i])) * steps[i / 5] == expected.numbers[i]);
}

TEST_CASE("token cache file: files that call q8 by its older name are read") {
  TemporaryFolder const folder;
  auto const cache = random_cache<q8>(3);
  SafeTensorsWriter writer;
  add_token_cache(writer, "cache", cache);
  writer.set_metadata("aviary.token_cache.cache.storage", "I8").write(folder / "cache");
  TokenCache<q8> back(5, 50);
  load_token_cache(folder / "cache", back);
  CHECK(back == cache);
}

TEST_CASE("token cache file: stands beside other caches and tensors") {
  TemporaryFolder const folder;
  auto const a = random_cache<bf16>(9), b = random_cache<bf16>(4, 5, 50, 3);
  std::vector<float> const shift(16, 0.5f);
  SafeTensorsWriter writer;
  add_token_cache(writer, "a", a);
  add_token_cache(writer, "b", b);
  CHECK(message_of<std::invalid_argument>([&] { add_token_cache(writer, "a", b); }) ==
        "cannot write tensor 'a.ids': it is given twice");
  writer.add("shift", {16}, shift).write(folder / "context");
  SafeTensors const file(folder / "context");
  TokenCache<bf16> back(5, 50);
  read_token_cache(file, "b", back);
  CHECK(back == b);
  read_token_cache(file, "a", back);
  CHECK(back == a);
}

TEST_CASE("token cache file: numbers on no boundary of theirs are read all the same") {
  TemporaryFolder const folder;
  auto const cache = random_cache<f16>(5);
  save_token_cache(folder / "cache", cache);
  std::string const text = " " + test::content_of(folder / "cache");
  TokenCache<f16> back(5, 50);
  read_token_cache(SafeTensors(test::bytes_of(text).subspan(1)), "cache", back);
  CHECK(back == cache);
}

TEST_CASE("token cache file: a failed load names what is wrong, and leaves the cache as it was") {
  using Writer = SafeTensorsWriter;
  CHECK(refusal([](Writer&) {}) == "has no tensor 'cache.ids' among its 0");
  CHECK(refusal([](Writer& w) { w.add("cache.ids", {3}, ids); }) == "has no tensor 'cache.keys' among its 1");
  CHECK(refusal([](Writer& w) {
          w.add("cache.ids", {3}, ids).add("cache.keys", {3, 5}, keys);
        }) == "has no tensor 'cache.scales' among its 2");
  CHECK(refusal([](Writer& w) {
          w.add("cache.ids", {3}, ids).add("cache.keys", {5, 3}, keys);
        }) == "tensor 'cache.keys': expected shape [3, 5], found [5, 3]");
  CHECK(refusal([](Writer& w) {
          w.add("cache.ids", {3}, long_ids).add("cache.keys", {3, 5}, keys);
        }) == "tensor 'cache.ids': expected dtype i32, found i64");
  CHECK(refusal([](Writer& w) {
          w.add("cache.ids", {3}, ids).add("cache.keys", {3, 5}, float_keys);
        }) == "tensor 'cache.keys': expected dtype u8, found f32");
  CHECK(refusal([](Writer& w) {
          w.add("cache.ids", {3}, bad_ids).add("cache.keys", {3, 5}, keys).add("cache.scales", {3}, scales);
        }) == "tensor 'cache.ids': token 1 has id -2, expected 0 to 49");
  CHECK(refusal([](Writer& w) {
          w.add("cache.ids", {3}, big_ids).add("cache.keys", {3, 5}, keys).add("cache.scales", {3}, scales);
        }) == "tensor 'cache.ids': token 2 has id 50, expected 0 to 49");
  CHECK(refusal([](Writer& w) {
          w.add("cache.ids", {3}, ids).add("cache.keys", {3, 5}, keys).add("cache.scales", {1, 3}, scales);
        }) == "tensor 'cache.scales': expected shape [3], found [1, 3]");
  CHECK(refusal([](Writer& w) {
          w.add("cache.ids", {3}, ids).add("cache.keys", {3, 5}, keys).set_metadata("aviary.token_cache.cache", "3");
          w.set_metadata("aviary.token_cache.cache.storage", "BF16");
          w.set_metadata("aviary.token_cache.cache.vocab_size", "60");
        }) ==
        "tensor 'cache.ids': expected a token cache of version 1 or 2, found '3'; expected keys stored as Q8, found "
        "'BF16'; expected ids of a vocabulary of 50, found '60'");
}

TEST_CASE("token cache file: a flipped bit is found, wherever it is") {
  TemporaryFolder const folder;
  save_token_cache(folder / "cache", random_cache<q8>(4));
  std::string file = test::content_of(folder / "cache");
  auto cache = random_cache<q8>(7);
  auto const before = cache;
  for (char& byte : file) {
    auto const flip = static_cast<char>(1 << (&byte - file.data()) % 8);
    byte = static_cast<char>(byte ^ flip);
    folder.file("cache", file);
    REQUIRE_THROWS_AS(load_token_cache(folder / "cache", cache), std::runtime_error);
    byte = static_cast<char>(byte ^ flip);
  }
  CHECK(cache == before);
}

TEST_CASE("token cache file: keys that other weights made are refused by name") {
  TemporaryFolder const folder;
  std::vector<float> numbers{1, 2, 3};
  auto const fingerprint = [&] {
    std::int64_t const shape[] = {3};
    Fingerprint made;
    made.add({.name = "w", .dtype = NumberFormat::f32, .shape = shape, .bytes = std::as_bytes(std::span(numbers))});
    return made;
  };
  Fingerprint const weights = fingerprint();
  numbers[2] = 4;
  Fingerprint const others = fingerprint();
  auto const made = random_cache<float>(4);
  std::string const path = (folder / "cache").string();
  save_token_cache(path, made, weights);
  auto cache = random_cache<float>(7);
  auto const before = cache;
  CHECK(message_of([&] { load_token_cache(path, cache, others); }) ==
        path + ": comes from other weights of the same shapes: expected those of fingerprint " + others.text() +
            ", found '" + weights.text() + "'");
  CHECK(cache == before);
  load_token_cache(path, cache, weights);
  CHECK(cache == made);
  load_token_cache(path, cache);  // nobody asks
  save_token_cache(path, made);   // nobody knows
  load_token_cache(path, cache, others);
  CHECK(cache == made);
}

TEST_CASE("token cache file: tensors that say nothing of a cache, and damaged files, are refused") {
  TemporaryFolder const folder;
  SafeTensorsWriter().add("cache.ids", {3}, ids).add("cache.keys", {3, 5}, float_keys).write(folder / "plain");
  auto cache = random_cache<float>(7);
  auto const before = cache;
  CHECK(message_of([&] { load_token_cache(folder / "plain", cache); }) ==
        (folder / "plain").string() +
            ": tensor 'cache.ids': belongs to no token cache: the file's metadata lack 'aviary.token_cache.cache'");
  save_token_cache(folder / "whole", cache);
  std::string const whole = test::content_of(folder / "whole");
  for (std::size_t length = 0; length < whole.size(); length += 7) {
    auto const cut = folder.file("cut", whole.substr(0, length));
    CHECK_THROWS_AS(load_token_cache(cut, cache), std::runtime_error);
    CHECK(cache == before);
  }
  CHECK_THROWS_AS(save_token_cache(folder / "missing" / "cache", cache), std::runtime_error);
}
