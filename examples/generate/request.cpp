#include "generate/request.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>

#include "models/command_line.hpp"
#include "models/text.hpp"

namespace generate {
inline namespace AVIARY_ISA {
namespace {

using models::natural;
using models::number;
using models::one_of;
using models::refuse;

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

aviary::WeightFormat weight_format(std::string_view text, std::string_view arithmetic) {
  aviary::WeightFormat const format =
      text == "exact" ? aviary::WeightFormat::exact
                      : one_of(models::weight_formats, "--weights", "exact, f32, bf16, f16, q8 or q4", text);
  return format.with(one_of(aviary::all_arithmetics, "--arithmetic", "full, bits16 or bits8", arithmetic));
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

}  // namespace

Request request_of(Arguments const& a) {
  auto const given = [&](char const* option) { return std::ranges::find(a.given, option) != a.given.end(); };
  if (a.model.empty())
    throw UsageError("--model: expected a checkpoint, found none; small ones are at https://huggingface.co/BlinkDL");
  char const* prompt = nullptr;
  for (char const* option : {"--prompt", "--prompt-file", "--tokens", "--prompts"})
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
            .initial_state = path("--initial-state", a.initial_state),
            .prompt_file = path("--prompt-file", a.prompt_file),
            .load_state = path("--load-state", a.load_state),
            .save_state = path("--save-state", a.save_state),
            .prompt = std::nullopt,
            .tokens = {},
            .length = natural<Index>("--length", "a whole number from 0 on", a.length),
            .reply = reply_options(a),
            .load = {.format = weight_format(a.weights, a.arithmetic),
                     .threads = models::threads(a.threads),
                     .cache = one_of(models::kept_formats, "--cache", "f32, bf16, f16 or q8", a.cache),
                     .keep_keys = a.keep_keys},
            .logits = a.logits,
            .stats = a.stats,
            .interactive = a.interactive,
            .prompts = path("--prompts", a.prompts),
            .batch = number<Index>("--batch", "a whole number from 1 to 4096", a.batch,
                                   [](Index n) { return n >= 1 && n <= 4096; })};
  if (given("--batch") && !r.prompts) throw UsageError("--batch: expected --prompts with it, found none");
  for (char const* option : {"--interactive", "--logits", "--save-state"})
    if (r.prompts && given(option)) throw UsageError(std::string("expected --prompts or ") + option + ", found both");
  r.load.group_norm_eps = number<double>("--group-norm-eps", "a number above 0", a.group_norm_eps,
                                         [](double x) { return fits_float(x) && static_cast<float>(x) > 0; });
  if (given("--rotary-base"))
    r.load.rotary_base = number<double>("--rotary-base", "a number above 0", a.rotary_base,
                                        [](double x) { return std::isfinite(x) && x > 0; });
  if (given("--prompt")) r.prompt = a.prompt;
  if (given("--tokens")) r.tokens = token_list("--tokens", a.tokens);
  return r;
}

}  // namespace AVIARY_ISA
}  // namespace generate
