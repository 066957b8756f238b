/// Whole models that learn: gradients against central differences, and what they do not depend on.
#include "models/learners.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "aviary/training/random.hpp"
#include "models/new_model.hpp"
#include "models/reader.hpp"
#include "support/check.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using models::Generation;
using models::Learner;
using models::LearnerOptions;
using models::Threads;
using models::WeightStore;

namespace {

using Weights = WeightStore<double>;

/// Small weights of which none is 0, among them trained first states where a generation may have these. Two blocks of a
/// GoldFinch attend, after three others.
Weights make_weights(Generation generation, bool with_states = true) {
  models::NewModel const model{.generation = generation,
                               .layers = generation == Generation::goldfinch ? 5 : 2,
                               .channels = 32,
                               .vocab = 11,
                               .head_size = 16,
                               .inner = 40,
                               .rank_w = 4,
                               .rank_a = 4,
                               .rank_v = 4,
                               .rank_g = 4,
                               .rank_mix = 4,
                               .rank_keys = 4,
                               .compressed = 3};
  auto const made = models::new_weights<double>(model, 1);
  std::vector<Weights::Wanted> wanted;
  for (auto const& e : made.entries()) wanted.push_back({e.name, e.shape});
  if (with_states && generation != Generation::rwkv4)
    for (char const* layer : {"0", "1"})
      wanted.push_back({std::string("blocks.") + layer + ".att.time_state", {2, 16, 16}});
  Weights weights(std::move(wanted));
  for (auto const& e : weights.entries()) {
    if (made.contains(e.name)) std::ranges::copy(made[e.name].values, e.values.begin());
    SplitMix64 random(1, e.name);
    for (double& x : e.values) x += random.uniform(0.3);
  }
  return weights;
}

/// Random tokens in sequences of these lengths.
struct RandomBatch {
  std::vector<models::TokenId> tokens, targets;
  std::vector<Index> offsets{0};

  explicit RandomBatch(std::vector<Index> const& lengths) {
    SplitMix64 random(5);
    auto const token = [&] { return static_cast<models::TokenId>(random.next() % 11); };
    for (Index const length : lengths) {
      for (Index t = 0; t < length; ++t) tokens.push_back(token()), targets.push_back(token());
      offsets.push_back(offsets.back() + length);
    }
  }
  models::Batch view() const { return {tokens, targets, offsets}; }
  /// Some of its sequences, or some tokens of all, as a batch.
  RandomBatch part(Index first_sequence, Index sequences, Index first, Index count) const {
    RandomBatch made({});
    for (Index s = first_sequence; s < first_sequence + sequences; ++s) {
      Index const begin = offsets[to_size(s)] + first;
      made.tokens.insert(made.tokens.end(), tokens.begin() + begin, tokens.begin() + begin + count);
      made.targets.insert(made.targets.end(), targets.begin() + begin, targets.begin() + begin + count);
      made.offsets.push_back(made.offsets.back() + count);
    }
    return made;
  }
};

std::vector<double> gradients(Weights const& weights, std::string_view prefix = "") {
  auto const all = weights.gradients_of(prefix);
  return {all.begin(), all.end()};
}

/// Of the mean over tokens that a learner of these options finds.
std::vector<double> learned(Weights& weights, LearnerOptions const& options, models::Batch const& batch) {
  weights.clear_gradients();
  auto const learner = models::make_learner(weights, options);
  (void)learner->learn({.batch = batch, .scale = 1 / static_cast<double>(batch.tokens.size())});
  return gradients(weights);
}

void check_gradients(Generation generation, models::LoadOptions const& load = {}) {
  Weights weights = make_weights(generation);
  RandomBatch batch({4, 0, 6, 7});
  batch.targets[3] = -1;
  auto const learner = models::make_learner(weights, {.tokens = 17, .sequences = 4, .parts = 3, .load = load});
  Learner<double>::Call const call{.batch = batch.view(), .scale = 1 / 16.0};
  auto const loss_with = [&] {
    learner->refresh();
    return learner->evaluate(call).mean();
  };
  Loss const loss = learner->learn(call);
  CHECK(loss.tokens == 16);
  CHECK(loss.mean() == loss_with());

  double worst = 0;
  std::string where;
  for (auto const& e : weights.entries()) {
    constexpr double h = 1e-6;
    SplitMix64 random(2, e.name);
    std::vector<double> const values(e.values.begin(), e.values.end());
    std::vector<double> direction(values.size());  // in which all numbers have a part
    double expected = 0, length = 0, largest = 0;
    for (Index i = 0; i < e.values.size(); ++i) {
      double const x = direction[to_size(i)] = random.uniform(1);
      expected += x * e.gradients[i];
      length += x * x;
      largest = std::max(largest, std::abs(e.gradients[i]));
    }
    auto const moved = [&](double by) {
      for (Index i = 0; i < e.values.size(); ++i) e.values[i] = values[to_size(i)] + by * direction[to_size(i)];
      return loss_with();
    };
    double const found = (moved(h) - moved(-h)) / (2 * h);
    std::ranges::copy(values, e.values.begin());
    double const error = std::abs(found - expected) / (std::max(largest, 0.01) * std::sqrt(length));
    if (error > worst) worst = error, where = e.name;
  }
  CAPTURE(where);
  CHECK(worst < 1e-6);
}

void check_invariances(Generation generation) {
  Weights weights = make_weights(generation);
  RandomBatch const batch({5, 9, 3, 4});
  auto const one = learned(weights, {.tokens = 21, .sequences = 4, .parts = 4}, batch.view());
  CHECK(one == learned(weights, {.tokens = 40, .sequences = 6, .parts = 4, .threads = Threads(3)}, batch.view()));
  test::check_close(learned(weights, {.tokens = 21, .sequences = 4, .parts = 1, .threads = Threads(2)}, batch.view()),
                    one, 1e-12);
}

/// Two halves of a batch add up to the whole, to the bit for blocks and for what they share.
/// @param prefix  of the names of such weights
void check_halves(Generation generation, std::string_view prefix = "blocks.1.") {
  Weights weights = make_weights(generation);
  RandomBatch const batch({5, 5, 5, 5});
  (void)learned(weights, {.tokens = 20, .sequences = 4, .parts = 4}, batch.view());
  auto const whole = gradients(weights, prefix);
  weights.clear_gradients();
  auto const learner = models::make_learner(weights, {.tokens = 10, .sequences = 2, .parts = 2});
  for (Index const first : {0, 2}) {
    RandomBatch const half = batch.part(first, 2, 0, 5);
    (void)learner->learn({.batch = half.view(), .scale = 1 / 20.0});
  }
  CHECK_FALSE(whole.empty());
  CHECK(whole == gradients(weights, prefix));
}

/// A context in stretches, from the last to the first, with the gradient of the state handed back.
void check_stretches(Generation generation) {
  Weights weights = make_weights(generation);
  RandomBatch const batch({16, 16});
  auto const whole = learned(weights, {.tokens = 32, .sequences = 2}, batch.view());

  weights.clear_gradients();
  auto const learner = models::make_learner(weights, {.tokens = 8, .sequences = 2});
  std::vector<RandomBatch> stretches;
  for (Index first = 0; first < 16; first += 4) stretches.push_back(batch.part(0, 2, first, 4));
  std::vector<std::unique_ptr<models::Carried<double>>> before;
  auto const states = learner->make_states(2);
  for (RandomBatch const& stretch : stretches) {
    before.push_back(states->copy());
    (void)learner->evaluate({.batch = stretch.view(), .states = states.get()});
  }
  auto const dstates = learner->make_state_gradients(2);
  for (std::size_t i = stretches.size(); i-- > 0;)
    (void)learner->learn(
        {.batch = stretches[i].view(), .scale = 1 / 32.0, .states = before[i].get(), .state_gradients = dstates.get()});
  test::check_close(gradients(weights), whole, 1e-12);
}

void check_generation(Generation generation) {
  check_gradients(generation);
  check_invariances(generation);
  check_halves(generation);
  check_stretches(generation);
}

}  // namespace

TEST_CASE("learners: whole models of RWKV-4") { check_generation(Generation::rwkv4); }
TEST_CASE("learners: whole models of RWKV-5.0") { check_generation(Generation::rwkv5_0); }
TEST_CASE("learners: whole models of RWKV-5.1") { check_gradients(Generation::rwkv5_1); }
TEST_CASE("learners: whole models of RWKV-5.2") { check_generation(Generation::rwkv5_2); }
TEST_CASE("learners: whole models of RWKV-6") { check_generation(Generation::rwkv6); }
TEST_CASE("learners: whole models of RWKV-7") { check_generation(Generation::rwkv7); }

TEST_CASE("learners: whole GoldFinch models") {
  check_gradients(Generation::goldfinch);
  check_invariances(Generation::goldfinch);
  for (char const* prefix : {"blocks.1.", "blocks.3.", "blocks.4.", "w_kv_cache_"})
    check_halves(Generation::goldfinch, prefix);
}
TEST_CASE("learners: a GoldFinch with a rotary embedding") {
  check_gradients(Generation::goldfinch, {.rotary_base = 100});
}

TEST_CASE("learners: a GoldFinch carries no states") {
  Weights weights = make_weights(Generation::goldfinch);
  auto const learner = models::make_learner(weights, {.tokens = 8});
  constexpr char const* message =
      "GoldFinch carries no states from one batch to the next when it learns: its attention would need all tokens "
      "before";
  CHECK(test::message_of([&] { (void)learner->make_states(1); }) == message);
  CHECK(test::message_of([&] { (void)learner->make_state_gradients(1); }) == message);
}

TEST_CASE("learners: a GoldFinch that is read from a file predicts what the model of that file does") {
  Weights const exact = make_weights(Generation::goldfinch);
  auto weights = models::read_weights<float>(exact.file(), [](std::string_view) { return true; });
  REQUIRE(weights.entries().size() == exact.entries().size());
  RandomBatch const batch({140});  // more than a block of attention
  auto const learner = models::make_learner(weights, {.tokens = 140});
  double const found = learner->evaluate({.batch = batch.view()}).mean();

  models::Reader reader(models::load_goldfinch<float>(weights.file()).model);
  double sum = 0;
  for (std::size_t t = 0; t < batch.tokens.size(); ++t) {
    auto const logits = reader.step(batch.tokens[t]);
    double exponentials = 0;
    for (float const e : logits) exponentials += std::exp(static_cast<double>(e));
    sum += std::log(exponentials) - static_cast<double>(logits[to_size(batch.targets[t])]);
  }
  test::check_close(std::vector{found}, std::vector{sum / 140}, 2e-5);
}

TEST_CASE("learners: what does not learn has no gradient, and changes none") {
  Weights all = make_weights(Generation::rwkv7);
  RandomBatch const batch({6, 5});
  LearnerOptions const options{.tokens = 11, .sequences = 2};
  (void)learned(all, options, batch.view());
  std::vector<Weights::Wanted> wanted;
  for (auto const& e : all.entries()) wanted.push_back({e.name, e.shape, e.name.ends_with("att.time_state")});
  Weights states(std::move(wanted));
  for (auto const& e : all.entries()) std::ranges::copy(e.values, states[e.name].values.begin());
  (void)learned(states, options, batch.view());
  CHECK(states.learning() == 2 * 2 * 16 * 16);
  for (char const* name : {"blocks.0.att.time_state", "blocks.1.att.time_state"}) {
    auto const expected = all[name].gradients, found = states[name].gradients;
    CHECK(std::ranges::equal(expected, found));
    CHECK(std::ranges::any_of(found, [](double x) { return x != 0; }));
  }
  CHECK_FALSE(states["head.weight"].learns());
}

TEST_CASE("learners: batches that do not fit are refused by name") {
  Weights weights = make_weights(Generation::rwkv7, false);
  auto const learner = models::make_learner(weights, {.tokens = 8, .sequences = 2});
  auto const refusal = [&](RandomBatch const& batch) {
    return test::message_of<std::invalid_argument>([&] { (void)learner->learn({.batch = batch.view()}); });
  };
  CHECK(refusal(RandomBatch({5, 4})) == "batch: expected 1 to 8 tokens, found 9");
  CHECK(refusal(RandomBatch({2, 2, 2})) == "batch: expected 1 to 2 sequences, found 3");
  RandomBatch wrong({3});
  wrong.tokens[1] = 11;
  CHECK(refusal(wrong) == "batch: expected tokens from 0 to 10, found 11");
  wrong.tokens[1] = 1;
  wrong.targets.pop_back();
  CHECK(refusal(wrong) == "batch: expected 3 targets, found 2");
  auto const other = models::make_learner(weights, {.tokens = 8, .sequences = 2});
  auto const foreign = other->make_states(1);
  RandomBatch const batch({3});
  CHECK(test::message_of<std::invalid_argument>([&] {
          (void)learner->learn({.batch = batch.view(), .states = foreign.get()});
        }) == "these states belong to another learner");
}

TEST_CASE("learners: a tensor of another shape is refused by name") {
  for (Generation const generation : {Generation::rwkv4, Generation::rwkv5_0, Generation::rwkv5_1, Generation::rwkv5_2,
                                      Generation::rwkv6, Generation::rwkv7, Generation::goldfinch}) {
    Weights const all = make_weights(generation);
    auto const message_with = [&](std::string_view changed, bool is_first) {
      std::vector<Weights::Wanted> wanted;
      for (auto const& e : all.entries()) {
        auto& shape = wanted.emplace_back(Weights::Wanted{e.name, e.shape}).shape;
        if (e.name == changed) ++(is_first ? shape.front() : shape.back());
      }
      Weights const weights(std::move(wanted));
      return test::message_of(
          [&] { (void)models::read_weights<float>(weights.file("m.pth"), [](std::string_view) { return true; }); });
    };
    for (auto const& e : all.entries())
      for (bool const is_first : {false, true}) {
        CAPTURE(e.name);
        std::string const message = message_with(e.name, is_first);
        CHECK(message.starts_with("m.pth: tensor '"));
        CHECK(message.find("': expected ") != std::string::npos);
      }
  }
}

TEST_CASE("learners: heads that are too large for kernels are refused by name") {
  auto const check = [](std::vector<Weights::Wanted> tensors, std::string const& name) {
    Weights weights(std::move(tensors));
    CAPTURE(name);
    CHECK(test::message_of([&] { (void)models::make_learner(weights, {.tokens = 8}); }) ==
          "the model: tensor 'blocks.0.att." + name + "': expected a head size of at most 1024, found 2048");
  };
  check(
      {{"blocks.0.att.key.weight", {2048, 1}}, {"blocks.0.att.ln_x.weight", {2048}}, {"blocks.0.att.time_decay", {1}}},
      "key.weight");
  check({{"blocks.0.att.time_faaaa", {1, 2048}}, {"blocks.0.att.time_maa_x", {1}}}, "time_faaaa");
  check({{"blocks.0.att.r_k", {1, 2048}}}, "r_k");
  check({{"blocks.0.att.time_faaaa", {1, 2048}}, {"w_kv_cache_a.weight", {1}}}, "time_faaaa");
}

TEST_CASE("learners: weights of no known generation are refused") {
  Weights weights({{"emb.weight", {11, 32}}});
  CHECK(test::message_of([&] { (void)models::make_learner(weights, {.tokens = 8}); }) ==
        "the model: expected tensors of RWKV-4, 5, 6, 7 or GoldFinch, found those of no known generation");
}
