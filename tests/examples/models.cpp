/// Models of all generations, as load_any makes them from a file.
#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "aviary/io/safetensors.hpp"
#include "models/any.hpp"
#include "support/allocation_counter.hpp"
#include "support/compare.hpp"
#include "support/generations.hpp"
#include "support/plain_rwkv.hpp"
#include "support/reader.hpp"
#include "support/temporary_folder.hpp"
#include "support/worst.hpp"

using namespace aviary;
using test::CheckpointCase;
using test::max_error;
using test::message_of;
using test::RwkvShape;
using test::Version;

namespace {

/// max|x - ref| / max|ref| of the logits of a small model in float.
constexpr double bound = 2e-5;

/// Tokens that a model reads at once.
constexpr Index stretch = models::Model::stretch;

/// Any tokens, always the same.
std::vector<TokenId> tokens_for(Index vocab, Index n) {
  test::Random random(11);
  std::vector<TokenId> tokens;
  for (Index i = 0; i < n; ++i) tokens.push_back(static_cast<TokenId>(random.below(vocab)));
  return tokens;
}

test::LoadedReader load(CheckpointCase const& weights, models::LoadOptions const& options = {}) {
  return test::reader_of(models::load_any<float>(weights.file(), options));
}

std::vector<float> copy(std::span<float const> x) { return {x.begin(), x.end()}; }

/// What loading the checkpoint complains of, after the file's name.
std::string complaint(CheckpointCase const& weights) {
  std::string const message = message_of([&] { load(weights); });
  CHECK(message.starts_with("FILE: tensor '"));
  return message.substr(std::min<std::size_t>(message.size(), 6));
}

/// The model and sidecar of a trained checkpoint, if the folder of further tests has it.
struct Trained {
  std::string name;
  SafeTensors file;
  nlohmann::json expected;

  /// Those that the folder has.
  static std::vector<Trained> all() {
    std::filesystem::path const folder = std::filesystem::path(AVIARY_TEST_DATA_DIR) / "models";
    std::vector<Trained> found;
    test::Generations::for_each([&]<class G>() {
      std::string const model = G::trained;
      if (model.empty()) return;
      if (std::string_view(AVIARY_TEST_DATA_DIR).empty() || !exists(folder / (model + ".json"))) {
        MESSAGE("not run: AVIARY_TEST_DATA_DIR has no models/" << model << ".json");
        return;
      }
      std::ifstream json(folder / (model + ".json"));
      found.push_back({model, SafeTensors(folder / (model + ".safetensors")), nlohmann::json::parse(json)});
    });
    return found;
  }
  std::vector<TokenId> tokens(char const* key) const { return expected.at(key).get<std::vector<TokenId>>(); }
  std::vector<double> numbers(char const* key) const { return expected.at(key).get<std::vector<double>>(); }
  test::LoadedReader load(Index threads) const {
    auto const& eps = expected.at("group_norm_eps");
    models::LoadOptions options{.threads = models::Threads(threads)};
    if (eps.is_number()) options.group_norm_eps = eps;
    return test::reader_of(models::load_any<float>(file, options));
  }
};

double max_difference(std::span<float const> x, std::vector<double> const& ref) {
  REQUIRE(x.size() == ref.size());
  test::Worst worst;
  for (std::size_t i = 0; i < ref.size(); ++i) worst.add(std::abs(static_cast<double>(x[i]) - ref[i]));
  return worst;
}

}  // namespace

TEST_CASE("models: logits of the equations, for all generations, sizes of heads, ranks and layers") {
  for (Version const version : test::Generations::versions)
    for (RwkvShape shape :
         {RwkvShape{}, RwkvShape{.layers = 1, .heads = 1, .head_size = 8, .rank_w = 1, .rank_mix = 1},
          RwkvShape{.layers = 3, .heads = 3, .head_size = 64, .rank_v = 20, .more_channels = -7},
          RwkvShape{.vocab = 1, .head_size = 17, .inner = 1, .more_channels = 5, .values_in_first_layer = true},
          RwkvShape{.vocab = 5, .heads = 1, .head_size = 130, .rank_mix = 33}}) {
      shape.version = version;
      CAPTURE(test::name(version));
      CAPTURE(shape.head_size);
      auto const weights = test::random_rwkv(shape);
      auto const loaded = load(weights);
      test::PlainRwkv plain(weights);
      for (TokenId const token : tokens_for(shape.vocab, 9))
        CHECK(max_error(loaded.model->step(token), plain.step(token)) <= bound);
      CHECK(loaded.unused.empty());
      CHECK(loaded.model->vocab_size() == shape.vocab);
    }
}

TEST_CASE("models: the eps of the group norm is what it is told") {
  for (Version const version : {Version::v5_0, Version::v5_2, Version::v6, Version::v7}) {
    auto const weights = test::random_rwkv({.version = version});
    auto const loaded = load(weights, {.group_norm_eps = 0.5});
    test::PlainRwkv plain(weights, 0.5), other(weights);
    CHECK(max_error(loaded.model->step(3), plain.step(3)) <= bound);
    CHECK(max_error(loaded.model->step(3), other.step(3)) > bound);
  }
}

TEST_CASE("models: the bonus of early RWKV-5 is a logarithm if its name says so") {
  for (Version const version : {Version::v5_0, Version::v5_1}) {
    auto const weights = test::random_rwkv({.version = version, .bonus_as_logarithm = false});
    REQUIRE(weights.tensors.contains("blocks.0.att.time_faaaa"));
    auto const loaded = load(weights);
    test::PlainRwkv plain(weights);
    for (TokenId const token : tokens_for(11, 5))
      CHECK(max_error(loaded.model->step(token), plain.step(token)) <= bound);
  }
}

TEST_CASE("models: a trained state of RWKV-6 is the empty context") {
  auto const weights = test::random_rwkv({.version = Version::v6, .first_state = true});
  auto without = weights;
  for (char const* const name : {"blocks.0.att.time_state", "blocks.1.att.time_state"}) without.tensors.erase(name);
  auto const loaded = load(weights), other = load(without);
  test::PlainRwkv plain(weights);
  auto const expected = plain.step(3);
  for (int i = 0; i < 2; ++i, loaded.model->reset()) {
    CHECK(max_error(loaded.model->step(3), expected) <= bound);
    loaded.model->step(4);
  }
  CHECK(loaded.unused.empty());
  CHECK(max_error(other.model->step(3), expected) > bound);
}

TEST_CASE("models: a prompt at once, token by token, and split anywhere") {
  for (Version const version : test::Generations::versions) {
    CAPTURE(test::name(version));
    auto const weights = test::random_rwkv({.version = version, .layers = 2, .heads = 1, .head_size = 64});
    auto const tokens = tokens_for(11, 2 * stretch + 20);
    test::PlainRwkv plain(weights);
    std::vector<double> expected;
    for (TokenId const token : tokens) expected = plain.step(token);
    for (Index const threads : {1, 3}) {
      auto const loaded = load(weights, {.threads = models::Threads(threads)});
      models::Reader& model = *loaded.model;
      std::span<TokenId const> const all(tokens);
      CHECK(max_error(model.prefill(all), expected) <= bound);
      for (Index const cut : {Index{1}, stretch - 1, stretch, stretch + 1, 2 * stretch, 2 * stretch + 19}) {
        model.reset();
        model.prefill(all.first(to_size(cut)));
        CHECK(max_error(model.prefill(all.subspan(to_size(cut))), expected) <= bound);
      }
      model.reset();
      std::span<float const> logits;
      for (TokenId const token : tokens) logits = model.step(token);
      CHECK(max_error(logits, expected) <= bound);
    }
  }
}

TEST_CASE("models: a saved state is a value, in memory and in a file") {
  test::TemporaryFolder const folder;
  auto const other = load(test::random_rwkv({.layers = 3}));
  for (Version const version : test::Generations::versions) {
    CAPTURE(test::name(version));
    auto const loaded = load(test::random_rwkv({.version = version}));
    models::Reader& model = *loaded.model;
    models::Context const empty = model.save();
    auto const first = copy(model.step(4));
    models::Context const kept = model.save();
    model.save_state(folder / "state");
    auto const second = copy(model.step(5));
    CHECK(second != first);
    model.step(6);
    for (int i = 0; i < 2; ++i) {
      model.restore(kept);
      CHECK(copy(model.step(5)) == second);
    }
    model.load_state(folder / "state");
    CHECK(copy(model.step(5)) == second);
    model.restore(empty);
    CHECK(copy(model.step(4)) == first);
    model.reset();
    CHECK(copy(model.step(4)) == first);
    CHECK(message_of<std::invalid_argument>([&] { model.restore(other.model->save()); }) ==
          "this state belongs to another model");
  }
}

TEST_CASE("models: reading tokens allocates nothing, and bad tokens change nothing") {
  auto const tokens = tokens_for(11, stretch + 10);
  for (Version const version : test::Generations::versions) {
    CAPTURE(test::name(version));
    auto const loaded = load(test::random_rwkv({.version = version, .head_size = 64}));
    models::Reader& model = *loaded.model;
    {
      test::AllocationCounter const allocations;
      model.prefill(tokens);
      model.step(1);
      CHECK(allocations.count() == 0);
    }
    models::Context const state = model.save();
    auto const expected = copy(model.step(7));
    model.restore(state);
    CHECK(message_of<std::invalid_argument>([&] { model.prefill({}); }) == "expected at least one token, found none");
    CHECK(message_of<std::invalid_argument>([&] {
            model.prefill(std::vector<TokenId>{1, 2, 11});
          }) == "expected token ids from 0 to 10, found 11");
    CHECK(message_of<std::invalid_argument>([&] { model.step(-1); }) == "expected token ids from 0 to 10, found -1");
    CHECK(copy(model.step(7)) == expected);
  }
}

TEST_CASE("models: every tensor is needed, with its shape") {
  for (Version const version : test::Generations::versions) {
    CAPTURE(test::name(version));
    auto const weights = test::random_rwkv({.version = version});
    for (auto const& entry : weights.tensors) {
      std::string const& name = entry.first;
      CAPTURE(name);
      CheckpointCase without = weights;
      without.tensors.erase(name);
      bool const has_two_names = name.ends_with(".time_first") && version != Version::v4;
      std::string const missing = has_two_names ? name.substr(0, name.size() - 5) + "faaaa" : name;
      CHECK(message_of([&] { load(without); }) ==
            "FILE: has no tensor '" + missing + "' among its " + std::to_string(without.tensors.size()));
      CheckpointCase wrong = weights;
      wrong.tensors.at(name).shape.push_back(1);  // as many numbers, one dimension more
      CHECK(complaint(wrong).find("expected ") != std::string::npos);
    }
  }
}

TEST_CASE("models: messages name the tensor, what was expected and found") {
  auto const with = [](Version version, char const* name, std::vector<std::int64_t> shape) {
    CheckpointCase broken = test::random_rwkv({.version = version});
    std::int64_t n = 1;
    for (std::int64_t const size : shape) n *= size;
    broken.add(name, std::move(shape), std::vector<float>(to_size(n)));
    return complaint(broken);
  };
  auto const with7 = [&](auto... x) { return with(Version::v7, x...); };
  using Shape = std::vector<std::int64_t>;
  CHECK(with7("blocks.1.att.key.weight", Shape{31, 32}) ==
        "tensor 'blocks.1.att.key.weight': expected shape [32, 32], found [31, 32]");
  CHECK(with7("blocks.0.att.w2", Shape{6, 32}) == "tensor 'blocks.0.att.w2': expected shape [5, 32], found [6, 32]");
  CHECK(with7("blocks.0.att.x_r", Shape{1, 1, 31}) ==
        "tensor 'blocks.0.att.x_r': expected shape [1, 1, 32], found [1, 1, 31]");
  CHECK(with7("blocks.1.ln2.bias", Shape{33}) == "tensor 'blocks.1.ln2.bias': expected shape [32], found [33]");
  CHECK(with7("head.weight", Shape{12, 32}) == "tensor 'head.weight': expected shape [11, 32], found [12, 32]");
  CHECK(with7("blocks.1.att.r_k", Shape{4, 8}) == "tensor 'blocks.1.att.r_k': expected shape [2, 16], found [4, 8]");
  CHECK(with7("blocks.1.att.r_k", Shape{3, 16}) == "tensor 'blocks.1.att.r_k': expected shape [2, 16], found [3, 16]");
  CHECK(with7("emb.weight", Shape{0, 32}) == "tensor 'emb.weight': expected sizes above 0, found shape [0, 32]");
  CHECK(with7("blocks.0.att.r_k", Shape{1, 2000}) ==
        "tensor 'blocks.0.att.r_k': expected a head size of at most 1024, found 2000");
  CHECK(with7("blocks.0.att.r_k", Shape{0, 16}) ==
        "tensor 'blocks.0.att.r_k': expected sizes above 0, found shape [0, 16]");
  CHECK(with(Version::v6, "blocks.0.att.time_maa_w2", {4, 4, 32}) ==
        "tensor 'blocks.0.att.time_maa_w2': expected shape [5, any, 32], found [4, 4, 32]");
  CHECK(with(Version::v6, "blocks.0.att.time_maa_w1", {32, 24}) ==
        "tensor 'blocks.0.att.time_maa_w1': expected shape [32, 20], found [32, 24]");
  CHECK(with(Version::v6, "blocks.1.att.time_state", {2, 16, 8}) ==
        "tensor 'blocks.1.att.time_state': expected shape [2, 16, 16], found [2, 16, 8]");
  CHECK(with(Version::v5_2, "blocks.0.att.time_decay", {3, 16}) ==
        "tensor 'blocks.0.att.key.weight': expected rows for the 3 heads of time_decay, found 32");
  CHECK(with(Version::v5_2, "blocks.1.att.time_faaaa", {2, 15}) ==
        "tensor 'blocks.1.att.time_faaaa': expected shape [2, 16], found [2, 15]");
  CHECK(with(Version::v5_1, "blocks.1.att.time_decay", {3}) ==
        "tensor 'blocks.1.att.time_decay': expected shape [2], found [3]");
  CHECK(with(Version::v4, "blocks.0.att.time_decay", {31}) ==
        "tensor 'blocks.0.att.time_decay': expected shape [32], found [31]");

  std::vector<std::int64_t> const integers(32);
  SafeTensorsWriter writer;
  auto const weights = test::random_rwkv({});
  for (auto const& [name, entry] : weights.tensors)
    if (name != "ln_out.bias") writer.add(name, entry.shape, entry.numbers);
  writer.add("ln_out.bias", {32}, integers);
  std::ostringstream out;
  writer.write(out);
  std::string const text = out.str();
  SafeTensors const file(test::bytes_of(text), "FILE");
  CHECK(message_of([&] { models::load_any<float>(file); }) ==
        "FILE: tensor 'ln_out.bias': expected dtype f64, f32, f16, bf16, found i64");
}

TEST_CASE("models: unknown tensors are mentioned, vectors may be stored flat") {
  for (Version const version : {Version::v4, Version::v6, Version::v7}) {
    auto weights = test::random_rwkv({.version = version, .values_in_first_layer = true});
    auto const a = load(weights);
    weights.add("optimizer.step", {1}, {3});
    weights.add("blocks.x.att", {1}, {3});
    for (auto& [name, entry] : weights.tensors)
      if (entry.shape.size() == 3 && entry.shape[1] == 1) entry.shape = {entry.shape[2]};
    auto const b = load(weights);
    CHECK(b.unused == std::vector<std::string>{"blocks.x.att", "optimizer.step"});
    CHECK(copy(a.model->step(2)) == copy(b.model->step(2)));
  }
}

TEST_CASE("models: generations are told apart by names and shapes") {
  using models::Generation;
  auto const generation = [](CheckpointCase const& weights) { return models::generation_of(weights.file()); };
  test::Generations::for_each([&]<class G>() {
    CHECK(generation(test::random_rwkv({.version = G::version})) == G::generation);
    CHECK(name_of(G::generation) == std::string("RWKV-") + test::name(G::version));
  });

  CheckpointCase unknown;
  CHECK(message_of([&] { load(unknown); }) == "FILE: has no tensor 'emb.weight' among its 0");
  unknown.add("emb.weight", {1, 1}, {0});
  CHECK(generation(unknown) == Generation::unknown);
  CHECK(complaint(unknown) ==
        "tensor 'emb.weight': expected tensors of RWKV-4, 5, 6, 7 or GoldFinch beside it, found those of no known "
        "generation");
  unknown.add("w_kv_cache_a.weight", {1, 1}, {0});
  CHECK(generation(unknown) == Generation::goldfinch);
  CHECK(message_of([&] { load(unknown); }) == "FILE: has no tensor 'blocks.0.att.time_faaaa' among its 2");
  CheckpointCase no_blocks = test::random_rwkv({.version = Version::v4, .layers = 1});
  std::erase_if(no_blocks.tensors, [](auto const& entry) {
    return entry.first.starts_with("blocks.0.") && !entry.first.starts_with("blocks.0.ln0");
  });
  no_blocks.add("other.att.time_decay", {1}, {0});
  CHECK(message_of([&] { load(no_blocks); }) == "FILE: has no tensor 'blocks.0.att.key.weight' among its 7");
}

TEST_CASE("models: trained models, whole, token by token and split anywhere, by one thread and two") {
  for (Trained const& trained : Trained::all())
    for (Index const threads : {1, 2}) {
      CAPTURE(trained.name);
      auto const loaded = trained.load(threads);
      models::Reader& model = *loaded.model;
      CHECK(loaded.unused.empty());
      for (auto const& [prompt, logits] : {std::pair{"prompt", "logits"}, {"extra_prompt", "extra_prompt_logits"}}) {
        auto const tokens = trained.tokens(prompt);
        auto const expected = trained.numbers(logits);
        std::span<TokenId const> const all(tokens);
        model.reset();
        CHECK(max_difference(model.prefill(all), expected) <= 2e-5);
        for (std::size_t cut = 1; cut < tokens.size(); ++cut) {
          model.reset();
          model.prefill(all.first(cut));
          CHECK(max_difference(model.prefill(all.subspan(cut)), expected) <= 2e-5);
        }
        model.reset();
        std::span<float const> last;
        for (TokenId const token : tokens) last = model.step(token);
        CHECK(max_difference(last, expected) <= 2e-5);
      }
    }
}

TEST_CASE("models: trained models go on as the published ones do") {
  for (Trained const& trained : Trained::all())
    for (Index const threads : {1, 2}) {
      CAPTURE(trained.name);
      auto const loaded = trained.load(threads);
      auto logits = loaded.model->prefill(trained.tokens("prompt"));
      for (TokenId const expected : trained.tokens("greedy")) {
        auto const best = static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
        CHECK(best == expected);
        logits = loaded.model->step(best);
      }
    }
}
