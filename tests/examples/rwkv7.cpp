#include "models/rwkv7.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "support/allocation_counter.hpp"
#include "support/compare.hpp"
#include "support/plain_rwkv7.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::CheckpointCase;
using test::max_error;
using test::message_of;
using test::Rwkv7Shape;

namespace {

/// max|x - ref| / max|ref| of the logits of a small model.
constexpr double float_bound = 2e-5, double_bound = 1e-12;

/// Any tokens, always the same.
std::vector<TokenId> tokens_for(Index vocab, Index n) {
  test::Random random(11);
  std::vector<TokenId> tokens;
  for (Index i = 0; i < n; ++i) tokens.push_back(static_cast<TokenId>(random.below(vocab)));
  return tokens;
}

/// What loading the checkpoint complains of, after the file's name.
std::string complaint(CheckpointCase const& weights) {
  std::string const text = weights.text();
  SafeTensors const file(test::bytes_of(text), "FILE");
  std::string const message = message_of([&] { models::load_rwkv7<float>(file); });
  CHECK(message.starts_with("FILE: tensor '"));
  return message.substr(std::min<std::size_t>(message.size(), 6));
}

/// The model and sidecar of a trained checkpoint, if the folder of further tests has it.
struct Trained {
  SafeTensors file;
  nlohmann::json expected;

  static std::unique_ptr<Trained> find(std::string const& name) {
    std::filesystem::path const folder = std::filesystem::path(AVIARY_TEST_DATA_DIR) / "models";
    if (std::string_view(AVIARY_TEST_DATA_DIR).empty() || !exists(folder / (name + ".json"))) {
      MESSAGE("not run: AVIARY_TEST_DATA_DIR has no models/" << name << ".json");
      return nullptr;
    }
    std::ifstream json(folder / (name + ".json"));
    return std::make_unique<Trained>(
        Trained{SafeTensors(folder / (name + ".safetensors")), nlohmann::json::parse(json)});
  }
  std::vector<TokenId> tokens(char const* key) const { return expected.at(key).get<std::vector<TokenId>>(); }
  std::vector<double> numbers(char const* key) const { return expected.at(key).get<std::vector<double>>(); }
};

double max_difference(std::span<float const> x, std::vector<double> const& ref) {
  REQUIRE(x.size() == ref.size());
  double most = 0;
  for (std::size_t i = 0; i < ref.size(); ++i) most = std::max(most, std::abs(static_cast<double>(x[i]) - ref[i]));
  return most;
}

}  // namespace

TEST_CASE("rwkv7: logits of the equations, for all sizes of heads, ranks and layers") {
  for (Rwkv7Shape const& shape : {Rwkv7Shape{}, Rwkv7Shape{.layers = 1, .heads = 1, .head_size = 8, .rank_w = 1},
                                  Rwkv7Shape{.layers = 3, .heads = 3, .head_size = 64, .rank_v = 20},
                                  Rwkv7Shape{.head_size = 17, .inner = 1, .values_in_first_layer = true},
                                  Rwkv7Shape{.layers = 2, .vocab = 1, .heads = 1, .head_size = 130}}) {
    CAPTURE(shape.head_size);
    auto const weights = test::random_rwkv7(shape);
    std::string const text = weights.text();
    SafeTensors const file(test::bytes_of(text));
    auto const in_float = models::load_rwkv7<float>(file);
    auto const in_double = models::load_model<models::Rwkv7<double, dynamic>>(file);
    auto& exact = dynamic_cast<models::BlockModel<models::Rwkv7<double, dynamic>::Block>&>(*in_double.model);
    test::PlainRwkv7 plain(weights);
    for (TokenId const token : tokens_for(shape.vocab, 9)) {
      auto const expected = plain.step(token);
      CHECK(max_error(in_float.model->step(token), expected) <= float_bound);
      CHECK(max_error(exact.read({&token, 1}), expected) <= double_bound);
    }
    CHECK(in_float.unused.empty());
    CHECK(in_float.model->vocab_size() == shape.vocab);
  }
}

TEST_CASE("rwkv7: the eps of the group norm is what it is told") {
  auto const weights = test::random_rwkv7({});
  std::string const text = weights.text();
  SafeTensors const file(test::bytes_of(text));
  auto const loaded = models::load_rwkv7<float>(file, {.group_norm_eps = 0.5});
  test::PlainRwkv7 plain(weights, 0.5), other(weights);
  CHECK(max_error(loaded.model->step(3), plain.step(3)) <= float_bound);
  CHECK(max_error(loaded.model->step(3), other.step(3)) > float_bound);
}

TEST_CASE("rwkv7: a prompt at once, token by token, and split anywhere") {
  auto const weights = test::random_rwkv7({.layers = 3, .heads = 2, .head_size = 64});
  std::string const text = weights.text();
  SafeTensors const file(test::bytes_of(text));
  auto const tokens = tokens_for(11, 150);  // more than two stretches
  test::PlainRwkv7 plain(weights);
  std::vector<double> expected;
  for (TokenId const token : tokens) expected = plain.step(token);
  for (Index const threads : {1, 3}) {
    auto const loaded = models::load_rwkv7<float>(file, {.threads = models::Threads(threads)});
    models::Model& model = *loaded.model;
    std::span<TokenId const> const all(tokens);
    CHECK(max_error(model.prefill(all), expected) <= float_bound);
    for (std::size_t const cut : {1u, 63u, 64u, 65u, 128u, 149u}) {
      model.reset();
      model.prefill(all.first(cut));
      CHECK(max_error(model.prefill(all.subspan(cut)), expected) <= float_bound);
    }
    model.reset();
    std::span<float const> logits;
    for (TokenId const token : tokens) logits = model.step(token);
    CHECK(max_error(logits, expected) <= float_bound);
  }
}

TEST_CASE("rwkv7: a saved state is a value") {
  std::string const text = test::random_rwkv7({}).text(), other_text = test::random_rwkv7({.layers = 3}).text();
  SafeTensors const file(test::bytes_of(text)), other_file(test::bytes_of(other_text));
  auto const loaded = models::load_rwkv7<float>(file), other = models::load_rwkv7<float>(other_file);
  models::Model& model = *loaded.model;
  auto const copy = [](std::span<float const> x) { return std::vector<float>(x.begin(), x.end()); };
  std::any const empty = model.save();
  auto const first = copy(model.step(4));
  std::any const kept = model.save();
  auto const second = copy(model.step(5));
  CHECK(second != first);
  model.step(6);
  model.restore(kept);
  CHECK(copy(model.step(5)) == second);
  model.restore(kept);
  CHECK(copy(model.step(5)) == second);
  model.restore(empty);
  CHECK(copy(model.step(4)) == first);
  model.reset();
  CHECK(copy(model.step(4)) == first);
  for (std::any const& wrong : {other.model->save(), std::any(3), std::any()})
    CHECK(message_of<std::invalid_argument>([&] { model.restore(wrong); }) == "this state belongs to another model");
}

TEST_CASE("rwkv7: reading tokens allocates nothing, and bad tokens change nothing") {
  std::string const text = test::random_rwkv7({.head_size = 64}).text();
  SafeTensors const file(test::bytes_of(text));
  auto const loaded = models::load_rwkv7<float>(file);
  models::Model& model = *loaded.model;
  auto const tokens = tokens_for(11, 150);
  {
    test::AllocationCounter const allocations;
    model.prefill(tokens);
    model.step(1);
    CHECK(allocations.count() == 0);
  }
  std::any const state = model.save();
  auto const expected = model.step(7)[0];
  model.restore(state);
  CHECK(message_of<std::invalid_argument>([&] { model.prefill({}); }) == "expected at least one token, found none");
  CHECK(message_of<std::invalid_argument>([&] {
          model.prefill(std::vector<TokenId>{1, 2, 11});
        }) == "expected token ids from 0 to 10, found 11");
  CHECK(message_of<std::invalid_argument>([&] { model.step(-1); }) == "expected token ids from 0 to 10, found -1");
  CHECK(model.step(7)[0] == expected);
}

TEST_CASE("rwkv7: every tensor is needed, with its shape") {
  auto const weights = test::random_rwkv7({});
  for (auto const& entry : weights.tensors) {
    std::string const& name = entry.first;
    CAPTURE(name);
    CheckpointCase without = weights;
    without.tensors.erase(name);
    std::string const text = without.text();
    SafeTensors const file(test::bytes_of(text), "FILE");
    CHECK(message_of([&] { models::load_rwkv7<float>(file); }) ==
          "FILE: has no tensor '" + name + "' among its " + std::to_string(without.tensors.size()));
    CheckpointCase wrong = weights;
    wrong.tensors.at(name).shape.push_back(1);  // as many numbers, one dimension more
    CHECK(complaint(wrong).starts_with("tensor '" + name + "': expected shape ["));
  }
}

TEST_CASE("rwkv7: messages name the tensor, what was expected and found") {
  auto const weights = test::random_rwkv7({});
  auto const with = [&](char const* name, std::vector<std::int64_t> shape) {
    CheckpointCase broken = weights;
    std::int64_t n = 1;
    for (std::int64_t const size : shape) n *= size;
    broken.add(name, std::move(shape), std::vector<float>(to_size(n)));
    return complaint(broken);
  };
  CHECK(with("blocks.1.att.key.weight", {31, 32}) ==
        "tensor 'blocks.1.att.key.weight': expected shape [32, 32], found [31, 32]");
  CHECK(with("blocks.0.att.w2", {6, 32}) == "tensor 'blocks.0.att.w2': expected shape [5, 32], found [6, 32]");
  CHECK(with("blocks.0.att.x_r", {1, 1, 31}) ==
        "tensor 'blocks.0.att.x_r': expected shape [1, 1, 32], found [1, 1, 31]");
  CHECK(with("blocks.1.ln2.bias", {33}) == "tensor 'blocks.1.ln2.bias': expected shape [32], found [33]");
  CHECK(with("head.weight", {12, 32}) == "tensor 'head.weight': expected shape [11, 32], found [12, 32]");
  CHECK(with("blocks.1.att.r_k", {4, 8}) == "tensor 'blocks.1.att.r_k': expected shape [2, 16], found [4, 8]");
  CHECK(with("blocks.1.att.r_k", {3, 16}) == "tensor 'blocks.1.att.r_k': expected shape [2, 16], found [3, 16]");
  CHECK(with("emb.weight", {0, 32}) == "tensor 'emb.weight': expected sizes above 0, found shape [0, 32]");
  CHECK(with("blocks.0.att.r_k", {1, 2000}) ==
        "tensor 'blocks.0.att.r_k': expected a head size of at most 1024, found 2000");

  std::vector<std::int64_t> const integers(32);
  SafeTensorsWriter writer;
  for (auto const& [name, entry] : weights.tensors)
    if (name != "ln_out.bias") writer.add(name, entry.shape, entry.numbers);
  writer.add("ln_out.bias", {32}, integers);
  std::ostringstream out;
  writer.write(out);
  std::string const text = out.str();
  SafeTensors const file(test::bytes_of(text), "FILE");
  CHECK(message_of([&] { models::load_rwkv7<float>(file); }) ==
        "FILE: tensor 'ln_out.bias': expected dtype F64, F32, F16, BF16, found I64");
}

TEST_CASE("rwkv7: unknown tensors are mentioned, vectors may be stored flat") {
  auto weights = test::random_rwkv7({.values_in_first_layer = true});
  std::string const text = weights.text();
  weights.add("optimizer.step", {1}, {3});
  weights.add("blocks.x.att", {1}, {3});
  for (auto& [name, entry] : weights.tensors)
    if (entry.shape.size() == 3) entry.shape = {entry.shape[2]};
  std::string const flat_text = weights.text();
  SafeTensors const file(test::bytes_of(text)), flat(test::bytes_of(flat_text));
  auto const a = models::load_rwkv7<float>(file), b = models::load_rwkv7<float>(flat);
  CHECK(b.unused == std::vector<std::string>{"blocks.x.att", "optimizer.step"});
  auto const x = a.model->step(2), y = b.model->step(2);
  CHECK(std::equal(x.begin(), x.end(), y.begin(), y.end()));
}

TEST_CASE("rwkv7: generations are told apart by names") {
  auto const generation = [](std::vector<char const*> const& names) {
    CheckpointCase weights;
    for (char const* const name : names) weights.add(name, {1}, {0});
    std::string const text = weights.text();
    return models::generation_of(SafeTensors(test::bytes_of(text)));
  };
  using models::Generation;
  CHECK(generation({"blocks.0.att.r_k"}) == Generation::rwkv7);
  CHECK(generation({"blocks.0.att.time_maa_x", "blocks.0.att.time_decay"}) == Generation::rwkv6);
  CHECK(generation({"blocks.0.att.time_decay", "blocks.0.att.ln_x.weight"}) == Generation::rwkv5_0);
  CHECK(generation({"blocks.0.att.time_decay"}) == Generation::rwkv4);
  CHECK(generation({"emb.weight"}) == Generation::unknown);
}

TEST_CASE("rwkv7: a trained model, whole, token by token and split anywhere") {
  auto const trained = Trained::find("tiny-rwkv-7v0");
  if (!trained) return;
  auto const loaded = models::load_rwkv7<float>(trained->file, {.group_norm_eps = trained->expected["group_norm_eps"]});
  models::Model& model = *loaded.model;
  CHECK(loaded.unused.empty());
  for (auto const& [prompt, logits] : {std::pair{"prompt", "logits"}, {"extra_prompt", "extra_prompt_logits"}}) {
    auto const tokens = trained->tokens(prompt);
    auto const expected = trained->numbers(logits);
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

TEST_CASE("rwkv7: a trained model in double, any head size") {
  auto const trained = Trained::find("tiny-rwkv-7v0");
  if (!trained) return;
  auto const check = [&](auto loaded) {
    // The reference rounds exp(-1/2) to 0.606531; logits are rounded to float here.
    CHECK(max_difference(loaded.model->prefill(trained->tokens("prompt")), trained->numbers("logits")) <= 2e-6);
  };
  check(models::load_model<models::Rwkv7<double, 64>>(trained->file));
  check(models::load_model<models::Rwkv7<double, dynamic>>(trained->file));
  check(models::load_model<models::Rwkv7<float, dynamic>>(trained->file));
}

TEST_CASE("rwkv7: a trained model goes on as the published one does") {
  auto const trained = Trained::find("tiny-rwkv-7v0");
  if (!trained) return;
  auto const loaded = models::load_rwkv7<float>(trained->file);
  auto logits = loaded.model->prefill(trained->tokens("prompt"));
  for (TokenId const expected : trained->tokens("greedy")) {
    auto const best = static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    CHECK(best == expected);
    logits = loaded.model->step(best);
  }
}
