/// Many contexts with one model: each as if it were alone.
#include "models/batch.hpp"

#include <doctest/doctest.h>

#include "models/any.hpp"
#include "models/conversation.hpp"
#include "support/allocation_counter.hpp"
#include "support/checkpoint_case.hpp"
#include "support/generations.hpp"
#include "support/reader.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using models::Batch;
using models::Context;
using models::Model;
using models::ReplyOptions;
using models::Turn;
using test::message_of;
using test::Version;

namespace {

using Ids = std::vector<TokenId>;

constexpr Version versions[] = {Version::v4, Version::v5_1, Version::v5_2,
                                Version::v6, Version::v7,   Version::goldfinch};

std::shared_ptr<Model const> load(Version version, models::LoadOptions const& options = {}, Index vocab = 11) {
  return models::load_any<float>(test::random_rwkv({.version = version, .vocab = vocab}).file(), options).model;
}

std::vector<float> copy(std::span<float const> x) { return {x.begin(), x.end()}; }

Ids tokens_for(Index n, std::uint64_t seed, Index vocab = 11) {
  test::Random random(seed);
  Ids tokens;
  for (Index i = 0; i < n; ++i) tokens.push_back(static_cast<TokenId>(random.below(vocab)));
  return tokens;
}

}  // namespace

TEST_CASE("batch: contexts of one call have the bits that they have alone") {
  // Some read prompts, longer than a stretch, while others decode; some want no logits; the number changes from call to call.
  std::vector<std::vector<Index>> const calls{{1, 250, 7, 30}, {3, 1, 1}, {490, 1, 12, 13, 1}, {1, 1, 1, 1, 1}};
  for (Version const version : versions)
    for (Index const threads : {1, 2}) {
      CAPTURE(test::name(version));
      auto const model = load(version, {.threads = models::Threads(threads)});
      std::vector<Context> together(5, model->empty_context()), alone = together;
      auto const workspace = model->make_workspace(2), own = model->make_workspace();
      std::uint64_t seed = 1;
      for (auto const& lengths : calls) {
        std::vector<Ids> tokens;
        for (Index const length : lengths) tokens.push_back(tokens_for(length, seed++));
        std::vector<Turn> turns;
        for (std::size_t i = 0; i < lengths.size(); ++i) turns.push_back({&together[i], tokens[i], i != 2});
        model->advance(turns, *workspace);
        for (std::size_t i = 0; i < lengths.size(); ++i) {
          model->advance({{&alone[i], tokens[i], i != 2}}, *own);
          CHECK(together[i].logits().empty() == (i == 2));
          CHECK(copy(together[i].logits()) == copy(alone[i].logits()));
        }
      }
      Ids const last{3};
      for (std::size_t i = 0; i < 5; ++i) {
        model->advance({{&together[i], last}}, *own);
        model->advance({{&alone[i], last}}, *own);
        CHECK(copy(together[i].logits()) == copy(alone[i].logits()));
      }
    }
}

TEST_CASE("batch: a context is a value") {
  for (Version const version : versions) {
    CAPTURE(test::name(version));
    auto const model = load(version);
    auto const workspace = model->make_workspace();
    Ids const prompt{1, 2, 3}, one{4}, other{5};
    Context context = model->empty_context();
    model->advance({{&context, prompt}}, *workspace);
    Context fork = context, moved = std::move(fork);
    CHECK(copy(moved.logits()) == copy(context.logits()));
    model->advance({{&context, one}}, *workspace);
    model->advance({{&moved, other}}, *workspace);
    auto const expected = copy(context.logits());
    CHECK(copy(moved.logits()) != expected);
    context = model->empty_context();
    CHECK(context.logits().empty());
    model->reset(moved);
    for (Context* const again : {&context, &moved}) {
      model->advance({{again, Ids{1, 2, 3, 4}, false}}, *workspace);
      CHECK(again->logits().empty());
      model->reset(*again);
      model->advance({{again, prompt}}, *workspace);
      model->advance({{again, one}}, *workspace);
      CHECK(copy(again->logits()) == expected);
    }
  }
}

TEST_CASE("batch: wrong calls are refused before anything is read") {
  for (Version const version : {Version::v7, Version::goldfinch}) {
    auto const model = load(version), other = load(Version::v6);
    auto const workspace = model->make_workspace(), foreign = other->make_workspace();
    Context context = model->empty_context(), second = context, stranger = other->empty_context();
    Ids const good{1, 2}, beyond{1, 11}, none;
    model->advance({{&context, good}}, *workspace);
    auto const expected = copy(context.logits());
    auto const refused = [&](std::initializer_list<Turn> turns, models::Workspace& with) {
      return message_of<std::invalid_argument>([&] { model->advance(turns, with); });
    };
    CHECK(refused({{&context, good}, {&second, beyond}}, *workspace) == "expected token ids from 0 to 10, found 11");
    CHECK(refused({{&context, good}, {&second, none}}, *workspace) == "expected at least one token, found none");
    CHECK(refused({{&context, good}, {&second, good}, {&context, good}}, *workspace) ==
          "a context has two turns, expected one of each");
    CHECK(refused({{&second, good}, {&stranger, good}}, *workspace) == "this context belongs to another model");
    CHECK(refused({{&second, good}}, *foreign) == "this workspace belongs to another model");
    CHECK(copy(context.logits()) == expected);
    CHECK(second.logits().empty());
    CHECK_FALSE(model->owns(stranger));
    CHECK(model->owns(context));
    model->advance(std::span<Turn const>(), *workspace);
  }
}

TEST_CASE("batch: a call allocates nothing once its workspace is made") {
  for (Version const version : test::Generations::versions) {
    auto const model = load(version);
    std::vector<Context> contexts(5, model->empty_context());
    auto const workspace = model->make_workspace(5);
    Ids const tokens = tokens_for(70, 3);
    std::vector<Turn> turns;
    for (Context& context : contexts) turns.push_back({&context, tokens});
    test::AllocationCounter const allocations;
    model->advance(turns, *workspace);
    CHECK(allocations.count() == 0);
  }
}

TEST_CASE("batch: replies are those that prompts have alone") {
  std::vector<Ids> prompts{{}, {'a'}, tokens_for(300, 5, 256), {'x', 'y'}, tokens_for(17, 6, 256), {'q'}, {0}};
  for (Version const version : versions) {
    CAPTURE(test::name(version));
    auto const model = load(version, {}, 256);
    for (ReplyOptions options : {ReplyOptions{}, ReplyOptions{.sampling = {.temperature = 0}}}) {
      options.penalties = {.presence = 0.3, .frequency = 0.2};
      options.stop_texts = {"e"};
      options.stop_tokens = {7, 200};
      std::vector<Batch::Result> expected;
      for (Ids const& prompt : prompts) {
        models::Reader reader(model);
        models::Conversation talk(reader, models::Text(256), options);
        talk.read(prompt, [](Index, Index) {});
        Batch::Result one;
        talk.reply(12, [&](std::string_view text) { one.text += text; });
        expected.push_back(one);
      }
      for (Index const contexts : {1, 3, 20}) {
        Batch batch(model, models::Text(256), options, 12, contexts, model->empty_context());
        std::size_t next = 0, done = 0;
        while (done < prompts.size()) {
          for (; !batch.is_full() && next < prompts.size(); ++next) batch.add(static_cast<Index>(next), prompts[next]);
          batch.advance([&](Index number, Batch::Result const& result) {
            ++done;
            CHECK(result.text == expected[to_size(number)].text);
            CHECK(result.error.empty());
            CHECK(result.tokens.size() <= 12);
            CHECK((result.stopped || result.tokens.size() == 12));
          });
        }
        CHECK(batch.is_empty());
      }
    }
  }
}

TEST_CASE("batch: prompts go on from a context, and a token out of range is refused alone") {
  auto const model = load(Version::v7, {}, 256);
  models::Reader reader(model);
  Ids const before{'o', 'n'}, prompt{'c', 'e'};
  reader.prefill(before);
  Batch batch(model, models::Text(256), {}, 5, 2, reader.save());
  CHECK(message_of<std::invalid_argument>([&] { batch.add(0, {256}); }) ==
        "expected token ids from 0 to 255, found '256'");
  CHECK(batch.is_empty());
  batch.add(0, prompt);
  batch.add(1, {});
  CHECK(batch.is_full());
  std::vector<std::string> texts(2);
  while (!batch.is_empty())
    batch.advance([&](Index i, Batch::Result const& result) { texts[to_size(i)] = result.text; });
  for (bool const with_prompt : {true, false}) {
    models::Reader alone(model);
    alone.restore(reader.save());
    models::Conversation talk(alone, models::Text(256), {});
    talk.read(with_prompt ? prompt : Ids(), [](Index, Index) {});
    std::string text;
    talk.reply(5, [&](std::string_view piece) { text += piece; });
    CHECK(texts[with_prompt ? 0 : 1] == text);
  }
}
