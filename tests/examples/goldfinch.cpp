#include "models/goldfinch.hpp"

#include <doctest/doctest.h>

#include <map>

#include "support/checkpoint_case.hpp"
#include "support/compare.hpp"
#include "support/golden.hpp"
#include "support/reader.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using models::LoadOptions;
using test::CheckpointCase;
using test::max_error;
using test::message_of;

namespace {

using Ids = std::vector<TokenId>;

/// max|x - ref| / max|ref| of logits.
template <class T> constexpr double bound = std::is_same_v<T, float> ? 5e-5 : 1e-12;

constexpr NumberFormat rounding[] = {NumberFormat::bf16, NumberFormat::f16, NumberFormat::q8};

/// Heads of 64 numbers in float have a compile-time size.
template <class T> test::LoadedReader load_file(TensorFile const& file, LoadOptions const& options) {
  if constexpr (std::is_same_v<T, float>)
    return test::reader_of(models::load_goldfinch<float>(file, options));
  else
    return test::reader_of(models::load_goldfinch_with<models::GoldFinch<T, dynamic>>(file, options));
}
template <class T = float> test::LoadedReader load(CheckpointCase const& weights, LoadOptions const& options = {}) {
  return load_file<T>(weights.file(), options);
}

/// Logits in the model's own number type.
template <class T> auto exact(models::Reader& model, std::span<TokenId const> tokens) {
  return test::exact_logits<models::LanguageModel<models::GoldFinchBody<T, dynamic>>>(model, tokens);
}

std::vector<float> copy(std::span<float const> x) { return {x.begin(), x.end()}; }

/// Any tokens, always the same.
Ids tokens_for(Index vocab, Index n) {
  test::Random random(11);
  Ids tokens;
  for (Index i = 0; i < n; ++i) tokens.push_back(static_cast<TokenId>(random.below(vocab)));
  return tokens;
}

/// The logits after each token, one token after another.
std::vector<std::vector<float>> steps(models::Reader& model, std::span<TokenId const> tokens) {
  std::vector<std::vector<float>> logits;
  for (TokenId const token : tokens) logits.push_back(copy(model.step(token)));
  return logits;
}

/// What loading a checkpoint complains of, after the file's name.
std::string complaint(CheckpointCase const& weights, LoadOptions const& options = {}) {
  std::string const message = message_of([&] { load(weights, options); });
  CHECK(message.starts_with("FILE: "));
  return message.substr(std::min<std::size_t>(message.size(), 6));
}

/// Checkpoint and logits of the published code, if the folder of further tests has them.
std::optional<test::GoldenFile> published() {
  std::filesystem::path const folder = AVIARY_TEST_DATA_DIR;
  auto const path = folder / "golden" / "goldfinch_model_l6_d32_v64_t20.safetensors";
  if (folder.empty() || !exists(path)) {
    MESSAGE("not run: AVIARY_TEST_DATA_DIR has no golden/" << path.filename().string());
    return {};
  }
  return test::GoldenFile(path);
}

}  // namespace

TEST_CASE_TEMPLATE("goldfinch: logits of the published code, token by token and at once", T, float, double) {
  auto const file = published();
  if (!file) return;
  Ids const tokens = file->ids("tokens");
  auto const expected = file->numbers("logits");
  auto const loaded = load_file<T>(file->tensors(), {});
  models::Reader& model = *loaded.model;
  std::vector<T> got;
  for (TokenId const token : tokens) {
    auto const logits = exact<T>(model, {&token, 1});
    got.insert(got.end(), logits.begin(), logits.end());
  }
  CHECK(max_error(got, expected) <= bound<T>);
  model.reset();
  auto const last = exact<T>(model, tokens);
  CHECK(max_error(last, std::vector<double>(expected.end() - model.vocab_size(), expected.end())) <= bound<T>);
}

TEST_CASE("goldfinch: rounded caches move the published logits by less than they round") {
  auto const file = published();
  if (!file) return;
  auto const error = [&](NumberFormat format) {
    auto const loaded = load_file<float>(file->tensors(), {.cache = format});
    std::vector<float> got;
    for (auto const& logits : steps(*loaded.model, file->ids("tokens")))
      got.insert(got.end(), logits.begin(), logits.end());
    return max_error(got, file->numbers("logits"));
  };
  for (auto const& [format, measured] :
       {std::pair{NumberFormat::bf16, 2.5e-4}, {NumberFormat::f16, 2.3e-5}, {NumberFormat::q8, 3.8e-4}}) {
    CHECK(error(format) <= 1.1 * measured);  // as token_cache.hpp says
    CHECK(error(format) > 0.5 * measured);
  }
}

TEST_CASE("goldfinch: every split of a prompt agrees with single tokens") {
  Ids const tokens = tokens_for(11, 22);
  std::span<TokenId const> const all(tokens);
  for (test::RwkvShape const& shape : {test::RwkvShape{.layers = 4, .attention_layers = 2}, {.head_size = 9}}) {
    auto const loaded = load(test::random_goldfinch(shape));
    models::Reader& model = *loaded.model;
    CHECK(loaded.unused.empty());
    auto const expected = steps(model, all);
    for (std::size_t first = 1; first <= tokens.size(); ++first)
      for (std::size_t second = 0; first + second <= tokens.size(); ++second) {
        CAPTURE(first);
        CAPTURE(second);
        model.reset();
        CHECK(max_error(model.prefill(all.first(first)), expected[first - 1]) <= bound<float>);
        if (second > 0)
          CHECK(max_error(model.prefill(all.subspan(first, second)), expected[first + second - 1]) <= bound<float>);
        auto const rest = steps(model, all.subspan(first + second));
        for (std::size_t t = 0; t < rest.size(); ++t)
          CHECK(max_error(rest[t], expected[first + second + t]) <= bound<float>);
      }
  }
}

TEST_CASE("goldfinch: float agrees with double, whatever the shape") {
  for (test::RwkvShape shape :
       {test::RwkvShape{},
        {.layers = 4, .attention_layers = 3},
        {.heads = 1, .head_size = 64},
        {.layers = 3, .head_size = 8, .rank_a = 1, .rank_v = 9, .rank_mix = 1, .compressed = 1, .more_channels = 24},
        {.vocab = 1, .heads = 3, .head_size = 17, .inner = 1, .compressed = 60, .more_channels = -17}}) {
    CAPTURE(shape.head_size);
    auto const weights = test::random_goldfinch(shape);
    for (std::optional<double> const base : {std::optional<double>(), std::optional(100.0)}) {
      if (base && shape.head_size % 2 != 0) continue;
      auto const loaded = load(weights, {.rotary_base = base}), wide = load<double>(weights, {.rotary_base = base});
      for (TokenId const token : tokens_for(shape.vocab, 9)) {
        auto const expected = exact<double>(*wide.model, {&token, 1});
        CHECK(max_error(loaded.model->step(token), expected) <= bound<float>);
      }
    }
  }
}

TEST_CASE("goldfinch: a rotary embedding is what it is told") {
  auto const weights = test::random_goldfinch();
  Ids const tokens = tokens_for(11, 7);
  auto const without = load(weights), base = load(weights, {.rotary_base = 10000}),
             other = load(weights, {.rotary_base = 50});
  auto const logits = copy(base.model->prefill(tokens));
  CHECK(logits != copy(without.model->prefill(tokens)));
  CHECK(logits != copy(other.model->prefill(tokens)));
}

TEST_CASE(
    "goldfinch: kept keys and threads make no difference, beyond a stretch of the prompt and a block of the cache") {
  constexpr Index stretch = models::Model::stretch;
  Ids const tokens = tokens_for(11, 2 * stretch + 20);
  std::span<TokenId const> const all(tokens);
  auto const weights = test::random_goldfinch({.layers = 3, .head_size = 64});
  auto const loaded = load(weights);
  auto const expected = steps(*loaded.model, all);
  std::map<Index, std::vector<float>> of_cut;
  for (Index const threads : {1, 2})
    for (bool const keep : {false, true}) {
      CAPTURE(threads);
      CAPTURE(keep);
      auto const same = load(weights, {.threads = models::Threads(threads), .keep_keys = keep});
      for (Index const cut : {Index{1}, Index{128}, stretch - 1, stretch, stretch + 1, 2 * stretch + 19}) {
        same.model->reset();
        CHECK(max_error(same.model->prefill(all.first(to_size(cut))), expected[to_size(cut - 1)]) <= bound<float>);
        auto const last = copy(same.model->prefill(all.subspan(to_size(cut))));
        CHECK(max_error(last, expected.back()) <= bound<float>);
        auto const [known, is_first] = of_cut.try_emplace(cut, last);
        CHECK((is_first || last == known->second));  // the same bits whatever the threads and the keys
      }
      same.model->reset();
      CHECK(steps(*same.model, all.first(200)).back() == expected[199]);
    }
}

TEST_CASE("goldfinch: rounded caches move logits by less than they round, and by as much however they are read") {
  auto const weights = test::random_goldfinch();
  Ids const tokens = tokens_for(11, 40);
  auto const full = load(weights);
  auto const expected = steps(*full.model, tokens);
  for (NumberFormat const format : rounding) {
    CAPTURE(std::string(name_of(format)));
    double const rounds = format == NumberFormat::f16 ? 0x1p-11 : 0x1p-8;
    auto const loaded = load(weights, {.cache = format}), kept = load(weights, {.cache = format, .keep_keys = true});
    auto const logits = steps(*loaded.model, tokens);
    for (std::size_t t = 0; t < tokens.size(); ++t) CHECK(max_error(logits[t], expected[t]) <= rounds);
    CHECK(logits.back() != expected.back());
    CHECK(max_error(kept.model->prefill(tokens), logits.back()) <= rounds);
    CHECK(steps(*load(weights, {.cache = format, .keep_keys = true}).model, tokens) == logits);
  }
}

TEST_CASE("goldfinch: a saved state is a value, in memory and in a file") {
  test::TemporaryFolder const folder;
  auto const weights = test::random_goldfinch();
  Ids const before = tokens_for(11, 9), after{7, 2, 0, 10, 4, 4, 1};
  for (NumberFormat const format : models::kept_formats)
    for (bool const keep : {false, true}) {
      CAPTURE(std::string(name_of(format)));
      CAPTURE(keep);
      auto const loaded = load(weights, {.cache = format, .keep_keys = keep});
      models::Reader& model = *loaded.model;
      models::Context const empty = model.save();
      auto const logits = copy(model.prefill(before));
      models::Context const kept = model.save();
      model.save_state(folder / "s");
      auto const expected = steps(model, after);
      for (int i = 0; i < 2; ++i) {
        model.restore(kept);
        CHECK(copy(model.logits()) == logits);
        CHECK(steps(model, after) == expected);
      }
      model.load_state(folder / "s");  // into a longer context
      CHECK(copy(model.logits()) == logits);
      CHECK(steps(model, after) == expected);
      for (bool const other_keeps : {false, true}) {
        auto const other = load(weights, {.cache = format, .keep_keys = other_keeps});
        other.model->load_state(folder / "s");
        CHECK(copy(other.model->logits()) == logits);
        CHECK(steps(*other.model, after) == expected);
      }
      model.restore(empty);
      CHECK(model.logits().empty());
      CHECK(copy(model.prefill(before)) == logits);
      model.reset();
      CHECK(copy(model.prefill(before)) == logits);
    }
}

TEST_CASE("goldfinch: states that older programs saved with a cache of q8, which they called int8") {
  test::TemporaryFolder const folder;
  auto const weights = test::random_goldfinch();
  auto const loaded = load(weights, {.cache = NumberFormat::q8});
  models::Reader& model = *loaded.model;
  model.prefill(tokens_for(11, 9));
  model.save_state(folder / "new");
  auto const expected = copy(model.step(3));
  SafeTensors const file(folder / "new");
  SafeTensorsWriter older;
  for (std::string_view const name : file.names()) older.add(file.tensor(name));
  for (auto const& [key, text] : file.metadata()) older.set_metadata(key, text);
  older.set_metadata("aviary.context", "finch_c2, 2 layers, 32 channels, 2 of attention, cache of int8, 11 tokens");
  older.set_metadata("aviary.token_cache.cache.storage", "I8").write(folder / "old");
  model.load_state(folder / "old");
  CHECK(copy(model.step(3)) == expected);
}

TEST_CASE("goldfinch: a cache has one of its formats") {
  CHECK(message_of<std::invalid_argument>([] { load(test::random_goldfinch(), {.cache = NumberFormat::f64}); }) ==
        "expected a cache of f32, bf16, f16 or q8, found f64");
}

TEST_CASE("goldfinch: states of another cache or other shapes are refused, and change nothing") {
  test::TemporaryFolder const folder;
  auto const weights = test::random_goldfinch();
  Ids const tokens = tokens_for(11, 9);
  std::string const path = (folder / "s").string();
  auto const loaded = load(weights);
  models::Reader& model = *loaded.model;
  model.prefill(tokens);
  auto const logits = copy(model.logits());
  auto const check = [&](test::LoadedReader const& other, std::string const& found) {
    CAPTURE(found);
    other.model->prefill(tokens);
    other.model->save_state(path);
    CHECK(message_of([&] { model.load_state(path); }) ==
          path +
              ": expected the context of a model of finch_c2, 2 layers, 32 channels, 2 of attention, cache of full "
              "numbers, 11 tokens, found '" +
              found + "'");
    CHECK(message_of<std::invalid_argument>([&] { model.restore(other.model->save()); }) ==
          "this state belongs to another model");
    CHECK(copy(model.logits()) == logits);
  };
  for (NumberFormat const format : rounding)
    check(load(weights, {.cache = format}),
          "finch_c2, 2 layers, 32 channels, 2 of attention, cache of " + std::string(name_of(format)) + ", 11 tokens");
  check(load(test::random_goldfinch({.layers = 3})),
        "finch_c2, 2 layers, 32 channels, 1 of attention, cache of full numbers, 11 tokens");
  check(load(test::random_goldfinch({.layers = 5, .attention_layers = 2})),
        "finch_c2, 3 layers, 32 channels, 2 of attention, cache of full numbers, 11 tokens");

  // A key of another width is no part of the description.
  auto const wide = load(test::random_goldfinch({.layers = 4, .attention_layers = 2, .compressed = 4}));
  wide.model->prefill(tokens);
  wide.model->save_state(path);
  CHECK(message_of([&] { model.load_state(path); }) ==
        path + ": tensor 'cache.keys': expected shape [9, 3], found [9, 4]");
  CHECK(message_of<std::invalid_argument>([&] { model.restore(wide.model->save()); }) ==
        "this state belongs to another model");
  CHECK(copy(model.logits()) == logits);
  auto const reference = load(weights);
  reference.model->prefill(tokens);
  CHECK(copy(model.step(3)) == copy(reference.model->step(3)));
}

TEST_CASE("goldfinch: a state with more waiting rows than tokens is refused when it is loaded") {
  test::TemporaryFolder const folder;
  auto const loaded = load(test::random_goldfinch());
  models::Reader& model = *loaded.model;
  auto const first = copy(model.step(1));
  model.reset();
  model.read_on(Ids{1, 2, 3});
  model.save_state(folder / "whole");
  SafeTensors const file(folder / "whole");
  REQUIRE(file.tensor("waiting").size() == 3 * 32);
  auto const ids = file.tensor("cache.ids").read<std::int32_t>();
  auto const keys = file.tensor("cache.keys").read<float>();
  for (Index const tokens : {0, 2, 3}) {
    SafeTensorsWriter writer;
    for (std::string_view const name : file.names())
      if (name != "cache.ids" && name != "cache.keys") writer.add(file.tensor(name));
    for (auto const& [key, text] : file.metadata()) writer.set_metadata(key, text);
    writer.add("cache.ids", {tokens}, std::span(ids).first(to_size(tokens)));
    writer.add("cache.keys", {tokens, 3}, std::span(keys).first(to_size(3 * tokens)));
    std::string const path = (folder / "s").string();
    writer.write(path);
    model.reset();
    if (tokens == 3) {
      model.load_state(path);
      continue;
    }
    CHECK(message_of([&] { model.load_state(path); }) == path + ": tensor 'waiting': expected at most " +
                                                             std::to_string(tokens) +
                                                             " rows, one for each token of the cache, found 3");
    CHECK(copy(model.step(1)) == first);
  }
}

TEST_CASE("goldfinch: bad tokens change nothing") {
  auto const weights = test::random_goldfinch();
  auto const loaded = load(weights, {.keep_keys = true}), same = load(weights);
  models::Reader& model = *loaded.model;
  model.prefill(Ids{3, 1});
  same.model->prefill(Ids{3, 1});
  CHECK(message_of<std::invalid_argument>([&] { model.prefill({}); }) == "expected at least one token, found none");
  CHECK(message_of<std::invalid_argument>([&] {
          model.prefill(Ids{1, 2, 11});
        }) == "expected token ids from 0 to 10, found 11");
  CHECK(copy(model.step(7)) == copy(same.model->step(7)));
}

TEST_CASE("goldfinch: every tensor is needed, with its shape") {
  auto const weights = test::random_goldfinch({.layers = 3});
  for (auto const& entry : weights.tensors) {
    std::string const& name = entry.first;
    CAPTURE(name);
    if (name == "blocks.1.att.time_faaaa") continue;  // that of block 0 says how many heads there are, none is used
    CheckpointCase without = weights;
    without.tensors.erase(name);
    CHECK(complaint(without) == "has no tensor '" + name + "' among its " + std::to_string(without.tensors.size()));
    CheckpointCase wrong = weights;
    wrong.tensors.at(name).shape.push_back(1);  // as many numbers, one dimension more
    CHECK(complaint(wrong).starts_with("tensor '"));
  }
}

TEST_CASE("goldfinch: messages name the tensor, what was expected and found") {
  auto const with = [](char const* name, std::vector<std::int64_t> shape) {
    CheckpointCase broken = test::random_goldfinch({.layers = 3});
    std::int64_t n = 1;
    for (std::int64_t const size : shape) n *= size;
    broken.add(name, std::move(shape), std::vector<float>(to_size(n)));
    return complaint(broken);
  };
  CHECK(with("w_kv_cache_a.weight", {3, 31}) ==
        "tensor 'w_kv_cache_a.weight': expected shape [any, 32], found [3, 31]");
  CHECK(with("w_kv_cache_a.weight", {4, 32}) ==
        "tensor 'w_kv_cache_b.weight': expected shape [32, 36], found [32, 35]");
  CHECK(with("w_kv_cache_a.weight", {0, 32}) ==
        "tensor 'w_kv_cache_a.weight': expected sizes above 0, found shape [0, 32]");
  CHECK(with("blocks.0.att.time_faaaa", {2, 0}).find("expected") != std::string::npos);
  CHECK(with("blocks.0.att.time_faaaa", {1, 2000}) ==
        "tensor 'blocks.0.att.time_faaaa': expected a head size of at most 1024, found 2000");
  CHECK(with("blocks.2.att.time_maa_kv_w2", {1, 4, 32}) ==
        "tensor 'blocks.2.att.time_maa_kv_w2': expected shape [2, any, 32], found [1, 4, 32]");
  CHECK(with("blocks.2.att.time_maa_q_w1", {32, 5}) ==
        "tensor 'blocks.2.att.time_maa_q_w1': expected shape [32, 4], found [32, 5]");
  CHECK(with("blocks.2.att.query.weight", {32, 16}) ==
        "tensor 'blocks.2.att.query.weight': expected shape [32, 32], found [32, 16]");

  CHECK(complaint(test::random_goldfinch({.more_channels = 1})) ==
        "tensor 'blocks.0.att.time_faaaa': expected a head size that divides the 33 channels of attention, found 16");
  CHECK(complaint(test::random_goldfinch({.head_size = 17}), {.rotary_base = 10000}) ==
        "tensor 'blocks.0.att.time_faaaa': expected an even head size for a rotary embedding, found 17");
}

TEST_CASE("goldfinch: a model has blocks of both kinds") {
  auto const missing = [](test::RwkvShape const& shape) { return complaint(test::random_goldfinch(shape)); };
  CHECK(missing({.layers = 2, .attention_layers = 0}).starts_with("has no tensor 'blocks.1.att.time_key_w1' among"));
  CHECK(missing({.layers = 1, .attention_layers = 0}).starts_with("has no tensor 'blocks.1.att.time_key_w1' among"));
  CHECK(missing({.layers = 2, .attention_layers = 2}).starts_with("has no tensor 'blocks.0.att.time_faaaa' among"));
}
