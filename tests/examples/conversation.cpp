#include "models/conversation.hpp"

#include <doctest/doctest.h>

#include "models/any.hpp"
#include "support/allocation_counter.hpp"
#include "support/checkpoint_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using models::Conversation;
using models::ReplyOptions;
using models::Text;
using test::message_of;

namespace {

using Ids = std::vector<TokenId>;

using Next = std::vector<float> (*)(Ids const& read);

/// A model whose next token follows from the tokens read, in a way that a test can know: the logits are what it is told.
class ScriptModel final : public models::Model {
 public:
  ScriptModel(Index vocab_size, Next next) : vocab_size_(vocab_size), next_(next) {}

  struct Held final : models::HeldContext {
    Ids tokens;                        ///< that were read
    std::vector<std::size_t> prompts;  ///< how many at a time
    std::vector<float> next;

    std::unique_ptr<HeldContext> copy() const override { return std::make_unique<Held>(*this); }
    bool assign(HeldContext const& other) override {
      *this = dynamic_cast<Held const&>(other);
      return true;
    }
    std::span<float const> logits() const noexcept override { return next; }
    Index cache_bytes() const noexcept override { return 0; }
  };
  static Held const& held(models::Context const& context) { return dynamic_cast<Held const&>(context.held()); }

  Index vocab_size() const noexcept override { return vocab_size_; }
  models::Context empty_context() const override { return models::Context(std::make_unique<Held>()); }
  void reset(models::Context& context) const override { dynamic_cast<Held&>(context.held()) = {}; }
  std::unique_ptr<models::Workspace> make_workspace(Index) const override {
    return std::make_unique<models::Workspace>();
  }
  void advance(std::span<models::Turn const> turns, models::Workspace&) const override {
    for (auto const& turn : turns) {
      auto& context = dynamic_cast<Held&>(turn.context->held());
      context.prompts.push_back(turn.tokens.size());
      context.tokens.insert(context.tokens.end(), turn.tokens.begin(), turn.tokens.end());
      context.next = next_(context.tokens);
    }
  }
  void check(std::span<TokenId const>) const override {}
  bool owns(models::Context const&) const noexcept override { return true; }
  void save(models::Context const&, std::filesystem::path const&) const override {}
  void load(models::Context& context, std::filesystem::path const&) const override {
    reset(context);
    models::Workspace none;
    Ids const one{1};
    advance(std::vector{models::Turn{&context, one}}, none);
  }

 private:
  Index vocab_size_;
  Next next_;
};

/// A reader of such a model.
struct Script : models::Reader {
  Script(Index vocab_size, Next next) : Reader(std::make_shared<ScriptModel>(vocab_size, next)) {}
  Ids const& tokens() const { return ScriptModel::held(context()).tokens; }
  auto const& prompts() const { return ScriptModel::held(context()).prompts; }
};

/// The most likely byte is always the one after the last, "a" after "z".
std::vector<float> alphabet(Ids const& read) {
  std::vector<float> logits(256);
  logits[read.back() == 'z' ? 'a' : to_size(read.back() + 1)] = 9;
  return logits;
}
/// All bytes but 0 are equally likely.
std::vector<float> any_byte(Ids const&) {
  std::vector<float> logits(256, 1);
  logits[0] = -100;
  return logits;
}

ReplyOptions greedy() { return {.sampling = {.temperature = 0}}; }

std::string reply(Conversation& conversation, Index length) {
  std::string text;
  conversation.reply(length, [&](std::string_view piece) { text += piece; });
  return text;
}
auto const quiet = [](Index, Index) {};

}  // namespace

TEST_CASE("conversation: replies go on from the prompt and are read, too") {
  Script model(256, alphabet);
  Conversation talk(model, Text(256), greedy());
  talk.read(Ids{'x', 'a'}, quiet);
  CHECK(reply(talk, 3) == "bcd");
  CHECK(model.tokens() == Ids{'x', 'a', 'b', 'c', 'd'});
  CHECK(reply(talk, 2) == "ef");
  talk.read(Ids{'p'}, quiet);
  CHECK(reply(talk, 1) == "q");
  CHECK(reply(talk, 0) == "");
  CHECK(model.tokens() == Ids{'x', 'a', 'b', 'c', 'd', 'e', 'f', 'p', 'q'});
}

TEST_CASE("conversation: an empty context begins with token 0, another one with nothing") {
  Script model(256, alphabet);
  Conversation talk(model, Text(256), greedy());
  talk.read({}, quiet);
  CHECK(model.tokens() == Ids{0});
  talk.read({}, quiet);
  CHECK(model.tokens() == Ids{0});
}

TEST_CASE("conversation: prompts are read in blocks, with progress") {
  Script model(256, alphabet);
  Conversation talk(model, Text(256), greedy());
  Index const block = Conversation::block;
  std::vector<std::pair<Index, Index>> told;
  Ids const prompt(to_size(2 * block + 1), 'a');
  talk.read(prompt, [&](Index done, Index all) { told.emplace_back(done, all); });
  Index const all = 2 * block + 1;
  CHECK(told == std::vector<std::pair<Index, Index>>{{0, all}, {block, all}, {2 * block, all}, {all, all}});
  CHECK(model.prompts() == std::vector<std::size_t>{to_size(block), to_size(block), 1});
  CHECK(model.tokens() == prompt);
}

TEST_CASE("conversation: stop tokens and the end of the text are neither shown nor read") {
  Script model(256, alphabet);
  ReplyOptions options = greedy();
  options.stop_tokens = {'d', 'q'};
  Conversation talk(model, Text(256), options);
  talk.read(Ids{'a'}, quiet);
  CHECK(reply(talk, 10) == "bc");
  CHECK(model.tokens() == Ids{'a', 'b', 'c'});
  CHECK(reply(talk, 10) == "");
  talk.read(Ids{'n'}, quiet);
  CHECK(reply(talk, 10) == "op");

  Script ending(8, [](Ids const& read) {
    std::vector<float> logits(8);
    logits[read.size() < 4 ? 2 : 0] = 9;
    return logits;
  });
  Conversation words(ending, Text(8, Vocabulary::parse_world("1 'ab' 2\n2 'a' 1\n")), greedy());
  words.read(Ids{1}, quiet);
  CHECK(reply(words, 10) == "aaa");
  CHECK(ending.tokens() == Ids{1, 2, 2, 2});
}

TEST_CASE("conversation: stop texts are read but not shown") {
  Script model(256, alphabet);
  ReplyOptions options = greedy();
  options.stop_texts = {"ef", "zab"};
  Conversation talk(model, Text(256), options);
  talk.read(Ids{'a'}, quiet);
  CHECK(reply(talk, 10) == "bcd");
  CHECK(model.tokens().back() == 'f');
  CHECK(reply(talk, 3) == "ghi");
  talk.read(Ids{'x'}, quiet);
  CHECK(reply(talk, 3) == "yza");  // the beginning of one that did not come
  CHECK(reply(talk, 9) == "bcd");
}

TEST_CASE("conversation: lists of ids") {
  Script model(1000, [](Ids const& read) {
    std::vector<float> logits(1000);
    logits[to_size(read.back() * 2)] = 9;
    return logits;
  });
  Conversation talk(model, Text(1000), greedy());
  talk.read(Ids{7}, quiet);
  CHECK(reply(talk, 3) == "14,28,56");
  CHECK(reply(talk, 1) == "112");
}

TEST_CASE("conversation: penalties keep tokens from coming again, in one reply") {
  Script model(256, any_byte);
  ReplyOptions options = greedy();
  options.penalties = {.presence = 1, .frequency = 0.001, .decay = 1};
  Conversation talk(model, Text(256), options);
  talk.read(Ids{1}, quiet);
  std::string const first = reply(talk, 255), second = reply(talk, 255);
  for (std::string text : {first, second}) {
    CHECK(text.size() == 255);
    std::ranges::sort(text);
    CHECK(std::ranges::adjacent_find(text) == text.end());  // each once, in both replies
  }
}

TEST_CASE("conversation: digits have a penalty of presence, but none of frequency") {
  Script model(256, [](Ids const&) {
    std::vector<float> logits(256);
    logits['7'] = 5;
    logits['x'] = 3;
    return logits;
  });
  auto const text = [&](double presence, double frequency) {
    ReplyOptions options = greedy();
    options.penalties = {.presence = presence, .frequency = frequency, .decay = 1};
    Conversation talk(model, Text(256), options);
    talk.read(Ids{1}, quiet);
    return reply(talk, 4);
  };
  CHECK(text(1, 0) == "7777");
  CHECK(text(2.5, 0) == "7x77");
  CHECK(text(0, 2.5) == "7777");
}

TEST_CASE("conversation: equal seeds and prompts make equal replies, again and again") {
  Script model(256, any_byte);
  auto const with_seed = [](std::uint64_t seed) {
    ReplyOptions options;
    options.seed = seed;
    return options;
  };
  Conversation talk(model, Text(256), with_seed(3)), same(model, Text(256), with_seed(3)),
      other(model, Text(256), with_seed(4));
  talk.read(Ids{1}, quiet);
  std::string const first = reply(talk, 50), second = reply(talk, 50);
  CHECK(first != second);
  CHECK(reply(same, 50) == first);
  CHECK(reply(other, 50) != first);
  talk.reset();
  CHECK(model.tokens().empty());
  talk.read(Ids{1}, quiet);
  CHECK(reply(talk, 50) == first);
  talk.load("");
  CHECK(reply(talk, 50) == first);
}

TEST_CASE("conversation: nothing is allocated per token") {
  auto const weights = test::random_rwkv({.vocab = 256, .heads = 1, .head_size = 64});
  auto const loaded = models::load_rwkv7<float>(weights.file());
  for (ReplyOptions options : {ReplyOptions{}, greedy()}) {
    options.sampling.top_p = 0.9;
    options.penalties = {.presence = 0.3, .frequency = 0.2};
    options.stop_tokens = {};
    options.stop_texts = {"a text that does not come up", "another one"};
    models::Reader model(loaded.model);
    Conversation talk(model, Text(256), options);
    Ids const prompt(to_size(Conversation::block + 9), 'p');
    talk.read(prompt, quiet);
    reply(talk, 1);
    test::AllocationCounter const allocations;
    talk.read(prompt, quiet);
    std::size_t bytes = 0;
    CHECK(talk.reply(200, [&](std::string_view text) { bytes += text.size(); }) == 200);
    CHECK(bytes == 200);
    CHECK(allocations.count() == 0);
  }
}

TEST_CASE("conversation: goes on from a file as if it had not stopped") {
  test::TemporaryFolder const folder;
  auto const weights = test::random_rwkv({.vocab = 256, .heads = 1, .head_size = 64});
  models::Reader model(models::load_rwkv7<float>(weights.file()).model);
  models::Reader fresh(models::load_rwkv7<float>(weights.file()).model);
  Conversation talk(model, Text(256), greedy()), later(fresh, Text(256), greedy());
  talk.read(Ids{'h', 'i'}, quiet);
  reply(talk, 5);
  talk.save(folder / "s");
  std::string const rest = reply(talk, 20);
  later.load(folder / "s");
  later.read({}, quiet);  // nothing: the logits are in the file
  CHECK(reply(later, 20) == rest);
}

TEST_CASE("conversation: options out of range are refused") {
  Script model(256, alphabet);
  auto const refused = [&](ReplyOptions const& options) {
    return message_of<std::invalid_argument>([&] { Conversation(model, Text(256), options); });
  };
  CHECK(refused({.sampling = {.top_p = 2}}) == "expected top-p above 0 and at most 1, found 2.000000");
  CHECK(refused({.penalties = {.decay = 2}}) == "expected a decay of penalties from 0 to 1, found 2.000000");
  CHECK(refused({.stop_tokens = {256}}) == "expected token ids from 0 to 255, found '256'");
  CHECK(refused({.stop_texts = {""}}) == "expected a text to stop at, found an empty one");
}
