/// generate: continues a text with an RWKV model.
///   generate --model rwkv7.safetensors --vocab rwkv_vocab_v20230424.txt --prompt "The Eiffel tower is in" --length 20
/// Text goes to standard output as it is made, everything else to standard error.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aviary/io/safetensors.hpp"
#include "aviary/io/tokenizer.hpp"
#include "models/rwkv7.hpp"
#include "models/sampling.hpp"

namespace {

using aviary::Index;
using aviary::TokenId;
using Clock = std::chrono::steady_clock;

/// What is wrong with the command line: exit status 2. Every other exception is status 1.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Arguments {
  std::string model, vocab, prompt, tokens;
  std::string length = "100", temperature = "1", top_p = "0.85", seed = "0", group_norm_eps = "64e-5", threads = "1";
  bool has_prompt = false, has_tokens = false, logits = false, stats = false;
};

/// What the arguments say, checked.
struct Request {
  std::filesystem::path model;
  std::optional<std::filesystem::path> vocab;
  std::optional<std::string> prompt;
  std::vector<TokenId> tokens;
  Index length;
  models::SamplingOptions sampling;
  std::uint64_t seed;
  models::LoadOptions load;
  bool logits, stats;
};

[[noreturn]] void refuse(std::string const& option, std::string const& expected, std::string_view found) {
  throw UsageError(option + ": expected " + expected + ", found " + aviary::detail::in_quotes(found));
}

template <class N> std::optional<N> parse(std::string_view text) {
  N number{};
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// The number of an option, if it is one and `good`.
template <class N, class Good>
N number(std::string const& option, std::string const& expected, std::string_view text, Good&& good) {
  std::optional<N> const value = parse<N>(text);
  if (!value || !good(*value)) refuse(option, expected, text);
  return *value;
}

std::vector<TokenId> token_list(std::string_view text) {
  std::vector<TokenId> ids;
  for (std::string_view rest = text;;) {
    std::size_t const comma = rest.find(',');
    std::optional<TokenId> const id = parse<TokenId>(rest.substr(0, comma));
    if (!id || *id < 0) refuse("--tokens", "token ids from 0 on, separated by commas", text);
    ids.push_back(*id);
    if (comma == rest.npos) return ids;
    rest.remove_prefix(comma + 1);
  }
}

Request check(Arguments const& a) {
  if (a.model.empty())
    throw UsageError(
        "--model: expected a checkpoint, found none; small ones are at https://huggingface.co/BlinkDL (as "
        ".safetensors)");
  if (a.has_prompt && a.has_tokens) throw UsageError("expected --prompt or --tokens, found both");
  auto const natural = [](auto n) { return n >= 0; };
  Request r{.model = a.model,
            .vocab = std::nullopt,
            .prompt = std::nullopt,
            .tokens = {},
            .length = number<Index>("--length", "a whole number from 0 on", a.length, natural),
            .sampling = {},
            .seed = number<std::uint64_t>("--seed", "a whole number from 0 to 2^64 - 1", a.seed, natural),
            .load = {},
            .logits = a.logits,
            .stats = a.stats};
  r.sampling.temperature = number<double>("--temperature", "a number from 0 on", a.temperature,
                                          [](double x) { return std::isfinite(x) && x >= 0; });
  r.sampling.top_p =
      number<double>("--top-p", "a number above 0 and at most 1", a.top_p, [](double x) { return x > 0 && x <= 1; });
  r.load.group_norm_eps = number<double>("--group-norm-eps", "a number above 0", a.group_norm_eps,
                                         [](double x) { return std::isfinite(x) && static_cast<float>(x) > 0; });
  Index const threads = number<Index>("--threads", "a whole number from 1 to 1024", a.threads,
                                      [](Index n) { return n >= 1 && n <= 1024; });
  if (threads > 1 && !models::has_threads)
    refuse("--threads", "1, as this program was built without OpenMP", a.threads);
  r.load.threads = models::Threads(threads);
  if (!a.vocab.empty()) r.vocab = a.vocab;
  if (a.has_prompt) r.prompt = a.prompt;
  if (a.has_tokens) r.tokens = token_list(a.tokens);
  return r;
}

models::Loaded load(Request const& r) {
  if (r.model.extension() == ".pth")
    throw std::runtime_error(r.model.string() +
                             ": expected a .safetensors file, found .pth, which is not supported yet:" +
                             " convert it with the safetensors package of Python");
  aviary::SafeTensors const file(r.model);
  models::Generation const generation = models::generation_of(file);
  if (generation != models::Generation::rwkv7)
    throw std::runtime_error(r.model.string() + ": expected an RWKV-7 checkpoint, found " +
                             (generation == models::Generation::unknown
                                  ? "no tensor of a known generation"
                                  : std::string(name_of(generation)) + ", which is not supported yet"));
  return models::load_rwkv7<float>(file, r.load);
}

/// Turns a prompt into ids and ids into what is printed: text where there is a tokenizer, else ids.
class Text {
 public:
  Text(Request const& r, Index vocab_size) : vocab_size_(vocab_size) {
    if (r.vocab)
      tokenizer_ = std::make_unique<aviary::WorldTokenizer>(aviary::Vocabulary::read_world(*r.vocab));
    else if (vocab_size == 256)
      tokenizer_ = std::make_unique<aviary::ByteTokenizer>();
    if (tokenizer_ && tokenizer_->size() > vocab_size)
      throw std::runtime_error(r.vocab->string() + ": expected at most the model's " + std::to_string(vocab_size) +
                               " tokens, found ids up to " + std::to_string(tokenizer_->size() - 1));
  }

  /// Without any prompt the model starts from token 0: the end of the text before.
  std::vector<TokenId> prompt(Request const& r) const {
    if (!r.prompt) return r.tokens.empty() ? std::vector<TokenId>{0} : checked(r.tokens);
    if (!tokenizer_)
      throw UsageError("--prompt: expected --vocab or --tokens, as the model's vocabulary has " +
                       std::to_string(vocab_size_) + " tokens and not 256 bytes");
    try {
      std::vector<TokenId> ids = tokenizer_->encode(*r.prompt);
      return ids.empty() ? std::vector<TokenId>{0} : ids;
    } catch (std::invalid_argument const& error) {
      throw UsageError(std::string("--prompt: ") + error.what());
    }
  }

  bool ends(TokenId id) const { return tokenizer_ && tokenizer_->end_of_text() == id; }

  void print(TokenId id) {
    if (tokenizer_)
      write(bytes(id));
    else
      write((std::exchange(begun_, true) ? "," : "") + std::to_string(id));
  }
  void finish() {
    if (!tokenizer_ && begun_) write("\n");
  }

 private:
  /// None for the ids that pad a vocabulary to a round number.
  std::string_view bytes(TokenId id) const {
    try {
      return tokenizer_->decode(id);
    } catch (std::invalid_argument const&) {
      return {};
    }
  }
  std::vector<TokenId> const& checked(std::vector<TokenId> const& ids) const {
    for (TokenId const id : ids)
      if (id >= vocab_size_)
        refuse("--tokens", "token ids from 0 to " + std::to_string(vocab_size_ - 1), std::to_string(id));
    return ids;
  }
  static void write(std::string_view text) {
    if (!std::cout.write(text.data(), static_cast<std::streamsize>(text.size())).flush())
      throw std::runtime_error("cannot write to standard output");
  }

  Index vocab_size_;
  std::unique_ptr<aviary::Tokenizer> tokenizer_;
  bool begun_ = false;
};

/// What the program says about speed.
class Stopwatch {
 public:
  /// Prints the rate of what happened since the last call, or since the beginning.
  void lap(char const* what, Index tokens) {
    double const seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    std::fprintf(stderr, "%s: %td tokens, %.4g s, %.4g tokens/s\n", what, tokens, seconds,
                 seconds > 0 ? static_cast<double>(tokens) / seconds : 0);
    begin_ = Clock::now();
  }

 private:
  Clock::time_point begin_ = Clock::now();
};

void mention_unused(std::vector<std::string> const& names) {
  if (names.empty()) return;
  std::cerr << "generate: note: " << names.size() << " tensors of the file are not used, the first is "
            << aviary::detail::in_quotes(names.front()) << '\n';
}

void print_logits(std::span<float const> logits) {
  for (float const logit : logits) std::printf("%.9g\n", static_cast<double>(logit));
  if (std::fflush(stdout) != 0) throw std::runtime_error("cannot write to standard output");
}

void run(Request const& r) {
  models::Loaded const loaded = load(r);
  mention_unused(loaded.unused);
  models::Model& model = *loaded.model;
  Text text(r, model.vocab_size());
  std::vector<TokenId> const prompt = text.prompt(r);
  models::Sampler sample(r.sampling, r.seed);

  Stopwatch time;
  std::span<float const> logits = model.prefill(prompt);
  if (r.stats) time.lap("prefill", static_cast<Index>(prompt.size()));
  if (r.logits) return print_logits(logits);
  Index made = 0;
  for (; made < r.length; ++made) {
    TokenId const id = sample(logits);
    if (text.ends(id)) break;
    text.print(id);
    logits = model.step(id);
  }
  text.finish();
  if (r.stats) time.lap("decode", made);
}

/// Adds the options to the parser. Numbers are parsed later, so that every message says what was expected and found.
void add_options(CLI::App& app, Arguments& a) {
  app.add_option("--model", a.model, "checkpoint of an RWKV-7 model, .safetensors");
  app.add_option("--vocab", a.vocab, "World vocabulary file; without it a vocabulary of 256 is bytes, others are ids");
  app.add_option("--prompt", a.prompt, "text to continue");
  app.add_option("--tokens", a.tokens, "token ids to continue, such as 1,2,3; without any prompt: token 0");
  app.add_option("--length", a.length, "how many tokens to make")->capture_default_str();
  app.add_option("--temperature", a.temperature, "0: always the most likely token")->capture_default_str();
  app.add_option("--top-p", a.top_p, "leave out what is less likely than this share")->capture_default_str();
  app.add_option("--seed", a.seed, "equal seeds make equal texts")->capture_default_str();
  app.add_flag("--logits", a.logits, "print the logits after the prompt, one per line, and stop");
  app.add_option("--group-norm-eps", a.group_norm_eps, "eps of the norm per head; no file stores it")
      ->capture_default_str();
  app.add_option("--threads", a.threads, "threads to use")->capture_default_str();
  app.add_flag("--stats", a.stats, "print tokens per second");
}

/// Prints one line on standard error, whatever the text; returns the status.
int fail(std::string text, int status) {
  std::ranges::replace(text, '\n', ' ');
  std::cerr << "generate: " << text << '\n';
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments a;
  CLI::App app("Continues a text with an RWKV model. The text goes to standard output as it is made.", "generate");
  add_options(app, a);
  try {
    app.parse(argc, argv);
    a.has_prompt = app.count("--prompt") > 0;
    a.has_tokens = app.count("--tokens") > 0;
    run(check(a));
    return 0;
  } catch (CLI::ParseError const& error) {
    return error.get_exit_code() == 0 ? app.exit(error) : fail(error.what(), 2);
  } catch (UsageError const& error) {
    return fail(error.what(), 2);
  } catch (std::exception const& error) {
    return fail(error.what(), 1);
  }
}
