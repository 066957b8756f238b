#include <algorithm>
#include <array>
#include <cmath>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "train/arguments.hpp"

namespace train {
namespace {

using models::number;
using models::refuse;

struct Named {
  models::Generation generation;
  std::string_view name;
};
constexpr std::string_view name_of(Named const& named) { return named.name; }
constexpr std::array generations{Named{models::Generation::rwkv4, "4"},
                                 Named{models::Generation::rwkv5_0, "5.0"},
                                 Named{models::Generation::rwkv5_1, "5.1"},
                                 Named{models::Generation::rwkv5_2, "5.2"},
                                 Named{models::Generation::rwkv6, "6"},
                                 Named{models::Generation::rwkv7, "7"},
                                 Named{models::Generation::goldfinch, "goldfinch"}};
constexpr std::array formats{aviary::NumberFormat::f32, aviary::NumberFormat::bf16};

// Whether products of a few such numbers fit an Index is checked where they are made.
constexpr Index most = Index{1} << 40;

Index at_least(Index least, std::string const& option, std::string_view text) {
  return number<Index>(option, "a whole number from " + std::to_string(least) + " on", text,
                       [least](Index n) { return n >= least && n <= most; });
}
double from_zero(std::string const& option, std::string_view text) {
  return number<double>(option, "a number from 0 on", text, [](double x) { return std::isfinite(x) && x >= 0; });
}
double above_zero(std::string const& option, std::string_view text) {
  return number<double>(option, "a number above 0", text, [](double x) { return std::isfinite(x) && x > 0; });
}
double below_one(std::string const& option, std::string_view text) {
  return number<double>(option, "a number from 0 on and below 1", text, [](double x) { return x >= 0 && x < 1; });
}

models::Threads threads(Arguments const& a) {
  if (!a.threads.empty()) return models::threads(a.threads);
#if defined(_OPENMP)
  return models::Threads(std::clamp(omp_get_num_procs(), 1, 1024));  // those that mpirun or taskset lends
#else
  return models::Threads(1);
#endif
}

/// Which options want others, or stand in their way.
void check_company(Arguments const& a) {
  auto const given = [&](char const* option) { return std::ranges::find(a.given, option) != a.given.end(); };
  auto const together = [&](char const* first, char const* second) {
    if (given(first) && given(second))
      throw UsageError(std::string("expected ") + first + " or " + second + ", found both");
  };
  auto const wants = [&](char const* option, std::initializer_list<char const*> others) {
    std::string names;
    for (char const* const other : others) {
      if (!given(option) || given(other)) return;
      names += (names.empty() ? "" : " or ") + std::string(other);
    }
    throw UsageError(std::string(option) + ": expected " + names + " with it, found none");
  };
  if (!given("--data")) throw UsageError("--data: expected a text to learn from, found none");
  if (!given("--new") && !given("--model"))
    throw UsageError("expected --new or --model, found neither: a generation, or a checkpoint");
  if (!given("--out")) throw UsageError("--out: expected a file to write, found none");
  together("--new", "--model");
  together("--state", "--low-rank");
  together("--held-out", "--held-out-data");
  for (char const* const option : {"--layers", "--channels", "--head-size"}) wants(option, {"--new"});
  for (char const* const option : {"--state", "--low-rank"}) wants(option, {"--model"});
  for (char const* const option : {"--merge", "--alpha"}) wants(option, {"--low-rank"});
  wants("--evaluate-every", {"--held-out", "--held-out-data"});
  for (char const* const option : {"--layers", "--channels"})
    if (given("--new") && !given(option))
      throw UsageError(std::string(option) + ": expected a number for --new, found none");
}

}  // namespace

Request request_of(Arguments const& a) {
  check_company(a);
  auto const given = [&](char const* option) { return std::ranges::find(a.given, option) != a.given.end(); };
  auto const path = [&](char const* option, std::string const& text) -> std::optional<std::filesystem::path> {
    if (!given(option)) return std::nullopt;
    if (text.empty()) refuse(option, "a file", text);
    return text;
  };
  Learns const learns = a.state ? Learns::states : given("--low-rank") ? Learns::low_rank : Learns::weights;
  constexpr std::array usual_rates{6e-4, 1e-2, 1e-3};  // of weights, states and low-rank additions
  double const rate = given("--rate") ? above_zero("--rate", a.rate) : usual_rates[static_cast<std::size_t>(learns)];
  Index const rank = learns == Learns::low_rank ? at_least(1, "--low-rank", a.low_rank) : 0;
  bool const is_new = given("--new");
  Request r{
      .data = {},
      .vocab = path("--vocab", a.vocab),
      .model = path("--model", a.model),
      .held_out_data = path("--held-out-data", a.held_out_data),
      .metrics = path("--metrics", a.metrics),
      .generation =
          is_new ? models::one_of(generations, "--new", "4, 5.0, 5.1, 5.2, 6, 7 or goldfinch", a.new_model).generation
                 : models::Generation::unknown,
      .layers = is_new ? at_least(1, "--layers", a.layers) : 0,
      .channels = is_new ? at_least(1, "--channels", a.channels) : 0,
      .head_size = at_least(1, "--head-size", a.head_size),
      .out = a.out,
      .steps = at_least(1, "--steps", a.steps),
      .batch = at_least(1, "--batch", a.batch),
      .context = at_least(1, "--context", a.context),
      .accumulate = at_least(1, "--accumulate", a.accumulate),
      .stretches = at_least(1, "--stretches", a.stretches),
      .warm_up = at_least(0, "--warm-up", a.warm_up),
      .save_every = at_least(1, "--save-every", a.save_every),
      .evaluate_every = given("--evaluate-every") ? at_least(1, "--evaluate-every", a.evaluate_every) : 0,
      .parts = at_least(1, "--parts", a.parts),
      .minutes = {},
      .rate = rate,
      .final_rate = given("--final-rate") ? from_zero("--final-rate", a.final_rate) : rate / 10,
      .weight_decay = from_zero("--weight-decay", a.weight_decay),
      .clip = above_zero("--clip", a.clip),
      .beta1 = below_one("--beta1", a.beta1),
      .beta2 = below_one("--beta2", a.beta2),
      .held_out = given("--held-out") ? number<double>("--held-out", "a share above 0 and below 1", a.held_out,
                                                       [](double x) { return x > 0 && x < 1; })
                                      : 0,
      .group_norm_eps = above_zero("--group-norm-eps", a.group_norm_eps),
      .seed = models::natural<std::uint64_t>("--seed", "a whole number from 0 to 2^64 - 1", a.seed),
      .threads = threads(a),
      .learns = learns,
      .rank = rank,
      .alpha = given("--alpha") ? above_zero("--alpha", a.alpha) : static_cast<double>(rank),
      .merge = a.merge,
      .carry = a.carry,
      .resume = a.resume,
      .stats = a.stats,
      .format = models::one_of(formats, "--format", "f32 or bf16", a.format)};
  for (std::string const& file : a.data) {
    if (file.empty()) refuse("--data", "a file", file);
    r.data.emplace_back(file);
  }
  if (r.out.extension() != ".safetensors") refuse("--out", "a file that ends in .safetensors", a.out);
  if (r.context % r.stretches != 0)
    refuse("--stretches", "a divisor of the context of " + std::to_string(r.context) + " tokens", a.stretches);
  constexpr Index most_tokens = Index{1} << 31;
  if (r.batch > most_tokens / r.context) refuse("--batch", "fewer than 2^31 tokens of all its contexts", a.batch);
  if (given("--minutes")) r.minutes = above_zero("--minutes", a.minutes);
  return r;
}

}  // namespace train
