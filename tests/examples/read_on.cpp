/// Prompts that are read in pieces, of which only the last one makes logits.
#include <doctest/doctest.h>

#include <utility>

#include "aviary/io/safetensors.hpp"
#include "models/any.hpp"
#include "models/random_checkpoint.hpp"
#include "support/compare.hpp"
#include "support/reader.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::message_of;

namespace {

using Ids = std::vector<TokenId>;

constexpr models::GoldFinchSizes goldfinch{.layers = 4, .channels = 32, .head_size = 16, .vocab = 50};  // 2 attend
constexpr models::Rwkv7Sizes rwkv7{.layers = 2, .channels = 32, .head_size = 16, .vocab = 50, .rank_w = 8, .rank_g = 8};

std::unique_ptr<models::Reader> make(models::GoldFinchSizes const& sizes, models::LoadOptions const& options = {}) {
  return test::reader_of(models::load_goldfinch<float>(models::random_checkpoint(sizes).file(), options)).model;
}
std::unique_ptr<models::Reader> make(models::Rwkv7Sizes const& sizes) {
  return test::reader_of(models::load_rwkv7<float>(models::random_checkpoint(sizes).file())).model;
}

Ids some_tokens(Index n) {
  Ids tokens;
  for (Index t = 0; t < n; ++t) tokens.push_back(static_cast<TokenId>(t * t % 47));
  return tokens;
}
std::vector<float> copy(std::span<float const> x) { return {x.begin(), x.end()}; }

/// The logits after `tokens` and after one more, read with pieces of these sizes and the rest at the end.
std::pair<std::vector<float>, std::vector<float>> logits(models::Reader& model, std::span<TokenId const> tokens,
                                                         std::initializer_list<std::size_t> pieces) {
  for (std::size_t const n : pieces) {
    model.read_on(tokens.first(n));
    CHECK(model.logits().empty());
    tokens = tokens.subspan(n);
  }
  auto const first = copy(model.prefill(tokens));
  return {first, copy(model.step(3))};
}

/// Pieces make the logits of the whole, within a bound relative to the largest.
template <class Make> void check_pieces(double bound, Index length, Make&& make) {
  Ids const tokens = some_tokens(length);
  auto const model = make();
  auto const expected = logits(*model, tokens, {});
  std::size_t const n = to_size(length);
  for (auto const& pieces : {std::initializer_list<std::size_t>{1}, {n - 1}, {n - 3}, {n - 7}, {1, 1, 2}, {4, n - 5}}) {
    model->reset();
    auto const found = logits(*model, tokens, pieces);
    CHECK(test::max_error(found.first, expected.first) <= bound);
    CHECK(test::max_error(found.second, expected.second) <= bound);
  }
}

}  // namespace

TEST_CASE("read_on: a prompt in pieces has the logits of the whole") {
  for (Index const length : {8, 20, 300}) {
    CAPTURE(length);
    check_pieces(5e-5, length, [] { return make(goldfinch); });
    check_pieces(5e-5, length, [] { return make(goldfinch, {.keep_keys = true}); });
    check_pieces(0x1p-8, length, [] { return make(goldfinch, {.cache = NumberFormat::q8}); });  // what q8 rounds
    check_pieces(2e-5, length, [] { return make(rwkv7); });
  }
}

TEST_CASE("read_on: a context may be saved before the rest is read") {
  Ids const tokens = some_tokens(30);
  std::span<TokenId const> const all(tokens);
  auto const model = make(goldfinch), other = make(goldfinch);
  auto const expected = logits(*model, tokens, {});
  test::TemporaryFolder const folder;
  for (std::size_t const n : {2u, 5u, 20u}) {
    CAPTURE(n);
    model->reset();
    model->read_on(all.first(n));
    models::Context const saved = model->save();
    model->save_state(folder / "context");
    model->step(1);
    model->restore(saved);
    auto const found = logits(*model, all.subspan(n), {});
    CHECK(test::max_error(found.first, expected.first) <= 5e-5);
    CHECK(test::max_error(found.second, expected.second) <= 5e-5);
    other->step(1);
    other->load_state(folder / "context");
    CHECK(other->logits().empty());
    CHECK(logits(*other, all.subspan(n), {}) == found);
  }
}

TEST_CASE("read_on: bad tokens change nothing") {
  auto const model = make(goldfinch);
  auto const before = copy(model->step(1));
  CHECK(message_of<std::invalid_argument>([&] { model->read_on({}); }) == "expected at least one token, found none");
  CHECK(message_of<std::invalid_argument>([&] {
          model->read_on(Ids{1, 50});
        }) == "expected token ids from 0 to 49, found 50");
  CHECK(copy(model->logits()) == before);
}

TEST_CASE("read_on: files whose waiting rows do not fit are refused, and the context stays") {
  auto const model = make(goldfinch);
  test::TemporaryFolder const folder;
  std::filesystem::path const path = folder / "context";
  model->read_on(some_tokens(20));
  model->save_state(path);
  SafeTensors const good(path);
  for (auto const& shape : std::initializer_list<std::vector<std::int64_t>>{{0}, {31}, {6 * 32}, {2, 32}}) {
    SafeTensorsWriter writer;
    for (auto const& [key, value] : good.metadata()) writer.set_metadata(key, value);
    for (std::string_view const name : good.names())
      if (name != "waiting") writer.add(good.tensor(name));
    std::int64_t size = 1;
    for (std::int64_t const n : shape) size *= n;
    std::vector<float> const numbers(to_size(size));
    writer.add("waiting", shape, numbers);
    writer.write(folder / "bad");
    auto const before = copy(model->step(1));
    std::string const message = message_of([&] { model->load_state(folder / "bad"); });
    CHECK(message.find("tensor 'waiting': expected 1 to 5 rows of 32 numbers, found shape") != std::string::npos);
    CHECK(copy(model->logits()) == before);
  }
}
