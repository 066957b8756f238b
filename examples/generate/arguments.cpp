#include "generate/arguments.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>

#include "aviary/io/message.hpp"
#include "models/text.hpp"

namespace generate {
namespace {

[[noreturn]] void refuse(std::string const& option, std::string const& expected, std::string_view found) {
  throw UsageError(option + ": expected " + expected + ", found " + aviary::in_quotes(found));
}

/// The arguments as they are written. Numbers are parsed later, so that every message says what was expected and found.
struct Arguments {
  std::string model, vocab, prompt, prompt_file, tokens, load_state, save_state;
  std::string length = "100", temperature = "1", top_p = "0.85", top_k = "0", seed = "0";
  std::string presence = "0", frequency = "0", penalty_decay = "0.996";
  std::vector<std::string> stop, stop_text;
  std::string group_norm_eps = "64e-5", weights = "exact", threads = "1";
  std::string cache = "f32", rotary_base;
  bool keep_keys = false, logits = false, stats = false, interactive = false;
};

constexpr char const* description =
    "Continues a text with an RWKV or GoldFinch model. The text goes to standard output as it is made, all else to "
    "standard error.";

constexpr char const* footer =
    "With --interactive every line of standard input is a prompt (an empty one: go on), every reply ends with a line "
    "end\n"
    "of its own, and the model remembers all of it. --prompt, --prompt-file or --tokens come first, without a reply.\n"
    "These lines are commands, and two slashes begin a prompt with one:\n"
    "  /reset      forget everything, and draw as at the beginning\n"
    "  /save FILE  write the context into a file\n"
    "  /load FILE  go on from that file, and draw as at the beginning\n"
    "With --save-state, a first Ctrl-C, SIGTERM or SIGHUP, a pipe that nobody reads any more and a full disk under\n"
    "standard output end the text; the context up to there is saved.\n"
    "Exit status: 0, 2 for wrong arguments, that of the signal that ended it, 1 for anything else.";

void add_options(CLI::App& app, Arguments& a) {
  auto const option = [&](char const* name, auto& value, char const* text) {
    return app.add_option(name, value, text)->allow_extra_args(false);
  };
  option("--model", a.model, "checkpoint of RWKV-4, 5.0, 5.1, 5.2, 6 or 7 or of GoldFinch, .safetensors or .pth");
  option("--vocab", a.vocab, "World vocabulary file; without it a vocabulary of 256 is bytes, others are ids");
  option("--prompt", a.prompt, "text to continue");
  option("--prompt-file", a.prompt_file, "file with the text to continue, every byte of it; -: standard input");
  option("--tokens", a.tokens, "token ids to continue, such as 1,2,3; without any prompt: token 0");
  option("--length", a.length, "how many tokens to make, at most")->capture_default_str();
  option("--temperature", a.temperature, "0: always the most likely token")->capture_default_str();
  option("--top-p", a.top_p, "leave out what is less likely than this share")->capture_default_str();
  option("--top-k", a.top_k, "keep so many of the most likely tokens; 0: all")->capture_default_str();
  option("--presence", a.presence, "what a logit loses if its token was made before")->capture_default_str();
  option("--frequency", a.frequency, "what it loses for each time")->capture_default_str();
  option("--penalty-decay", a.penalty_decay, "what is left of a time after each token")->capture_default_str();
  option("--seed", a.seed, "equal seeds make equal texts")->capture_default_str();
  option("--stop", a.stop, "token ids that end the text, such as 1,2,3; neither printed nor read; may be repeated");
  option("--stop-text", a.stop_text, "text that ends the text, read but not printed; may be repeated");
  app.add_flag("--interactive", a.interactive, "read prompts from standard input, see below");
  option("--load-state", a.load_state, "go on from a saved context");
  option("--save-state", a.save_state, "save the context at the end; the seed and penalties are no part of it");
  app.add_flag("--logits", a.logits, "print the logits after the prompt, one per line, and stop");
  option("--group-norm-eps", a.group_norm_eps, "eps of the norm per head; no file stores it")->capture_default_str();
  option("--weights", a.weights, "matrices in memory: exact (the smallest that loses nothing), f32, bf16, f16 or q8")
      ->capture_default_str();
  option("--cache", a.cache, "GoldFinch: numbers of its token cache: f32, bf16, f16 or q8")->capture_default_str();
  app.add_flag("--keep-keys", a.keep_keys,
               "GoldFinch: keep rebuilt keys and values: faster, for memory; the same text");
  option("--rotary-base", a.rotary_base, "GoldFinch: base of a rotary embedding, if it was trained with one");
  option("--threads", a.threads, "threads to use")->capture_default_str();
  app.add_flag("--stats", a.stats, "print tokens per second");
}

/// The number of an option, if it is one and `good`.
template <class N, class Good>
N number(std::string const& option, std::string const& expected, std::string_view text, Good&& good) {
  N value{};
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !good(value)) refuse(option, expected, text);
  return value;
}

template <class N> N natural(std::string const& option, std::string const& expected, std::string_view text) {
  return number<N>(option, expected, text, [](N n) { return n >= 0; });
}
/// Whether a float can be as large.
bool fits_float(double x) { return std::abs(x) <= static_cast<double>(std::numeric_limits<float>::max()); }
double penalty(std::string const& option, std::string_view text) {
  return number<double>(option, "a number", text, fits_float);
}

std::vector<TokenId> token_list(std::string const& option, std::string_view text) {
  auto const ids = models::ids_in(text);
  if (!ids) refuse(option, "token ids from 0 on, separated by commas", text);
  return *ids;
}

/// One of models::kept_formats, or with `others` before them something else.
aviary::NumberFormat number_format(std::string const& option, std::string const& others, std::string_view text) {
  auto const found = std::ranges::find(models::kept_formats, text, aviary::name_of);
  if (found == models::kept_formats.end()) refuse(option, others + "f32, bf16, f16 or q8", text);
  return *found;
}

aviary::WeightFormat weight_format(std::string_view text) {
  return text == "exact" ? aviary::WeightFormat::exact : number_format("--weights", "exact, ", text);
}

models::Threads threads(std::string_view text) {
  Index const n = number<Index>("--threads", "a whole number from 1 to 1024", text,
                                [](Index threads) { return threads >= 1 && threads <= 1024; });
  if (n > 1 && !models::has_threads) refuse("--threads", "1, as this program was built without OpenMP", text);
  return models::Threads(n);
}

models::ReplyOptions reply_options(Arguments const& a) {
  models::ReplyOptions r;
  r.sampling.temperature = number<double>("--temperature", "a number from 0 on", a.temperature,
                                          [](double x) { return std::isfinite(x) && x >= 0; });
  r.sampling.top_p =
      number<double>("--top-p", "a number above 0 and at most 1", a.top_p, [](double x) { return x > 0 && x <= 1; });
  r.sampling.top_k = natural<Index>("--top-k", "a whole number from 0 on", a.top_k);
  r.penalties.presence = penalty("--presence", a.presence);
  r.penalties.frequency = penalty("--frequency", a.frequency);
  r.penalties.decay = number<double>("--penalty-decay", "a number from 0 to 1", a.penalty_decay,
                                     [](double x) { return x >= 0 && x <= 1; });
  r.seed = natural<std::uint64_t>("--seed", "a whole number from 0 to 2^64 - 1", a.seed);
  for (std::string const& ids : a.stop)
    for (TokenId const id : token_list("--stop", ids)) r.stop_tokens.push_back(id);
  for (std::string const& text : a.stop_text)
    if (text.empty()) refuse("--stop-text", "a text", text);
  r.stop_texts = a.stop_text;
  return r;
}

/// `given` tells whether an option was there, if empty as well.
template <class Given> Request check(Arguments const& a, Given&& given) {
  if (a.model.empty())
    throw UsageError("--model: expected a checkpoint, found none; small ones are at https://huggingface.co/BlinkDL");
  char const* prompt = nullptr;
  for (char const* option : {"--prompt", "--prompt-file", "--tokens"})
    if (given(option)) {
      if (prompt) throw UsageError(std::string("expected ") + prompt + " or " + option + ", found both");
      prompt = option;
    }
  if (a.interactive && a.logits) throw UsageError("expected --interactive or --logits, found both");
  if (a.interactive && a.prompt_file == "-")
    refuse("--prompt-file", "a file, as --interactive reads standard input", a.prompt_file);
  auto const path = [&](char const* option, std::string const& text) -> std::optional<std::filesystem::path> {
    if (!given(option)) return std::nullopt;
    if (text.empty()) refuse(option, "a file", text);
    return text;
  };
  Request r{.model = a.model,
            .vocab = path("--vocab", a.vocab),
            .prompt_file = path("--prompt-file", a.prompt_file),
            .load_state = path("--load-state", a.load_state),
            .save_state = path("--save-state", a.save_state),
            .prompt = std::nullopt,
            .tokens = {},
            .length = natural<Index>("--length", "a whole number from 0 on", a.length),
            .reply = reply_options(a),
            .load = {.format = weight_format(a.weights),
                     .threads = threads(a.threads),
                     .cache = number_format("--cache", "", a.cache),
                     .keep_keys = a.keep_keys},
            .logits = a.logits,
            .stats = a.stats,
            .interactive = a.interactive};
  r.load.group_norm_eps = number<double>("--group-norm-eps", "a number above 0", a.group_norm_eps,
                                         [](double x) { return fits_float(x) && static_cast<float>(x) > 0; });
  if (given("--rotary-base"))
    r.load.rotary_base = number<double>("--rotary-base", "a number above 0", a.rotary_base,
                                        [](double x) { return std::isfinite(x) && x > 0; });
  if (given("--prompt")) r.prompt = a.prompt;
  if (given("--tokens")) r.tokens = token_list("--tokens", a.tokens);
  return r;
}

}  // namespace

std::optional<Request> parse(int argc, char const* const* argv) {
  Arguments a;
  CLI::App app(description, "generate");
  app.footer(footer);
  add_options(app, a);
  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& error) {
    if (error.get_exit_code() != 0) throw UsageError(error.what());
    app.exit(error);
    return std::nullopt;
  }
  return check(a, [&](char const* option) { return app.count(option) > 0; });
}

}  // namespace generate
