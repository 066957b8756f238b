#include "state_tracking/learn.hpp"

#include <algorithm>
#include <aviary/training/schedule.hpp>
#include <cmath>
#include <cstdio>
#include <ostream>
#include <string_view>

#include "models/timing.hpp"
#include "state_tracking/learner.hpp"
#include "state_tracking/models.hpp"
#include "state_tracking/tasks.hpp"

namespace state_tracking {
namespace {

constexpr Index longest = 16;     // times the trained length
constexpr Index read_words = 32;  // so long, to count what is right

/// What a model has learned.
struct Result {
  double loss;                   ///< of the last words learned from, in nats a symbol
  std::vector<double> accuracy;  ///< of symbols 1 ... L, L + 1 ... 2 L, 2 L + 1 ... 4 L, and so on
};

/// The last symbol of each group of places.
std::vector<Index> ends_of_groups(Index length) {
  std::vector<Index> ends;
  for (Index end = length; end <= longest * length; end *= 2) ends.push_back(end);
  return ends;
}

template <class Model> std::vector<double> accuracy(Learner<Model>& learner, Words const& words, Index length) {
  std::vector<Index> const guesses = learner.guess(words);
  std::vector<double> parts;
  Index begin = 0;
  for (Index const end : ends_of_groups(length)) {
    Index right = 0;
    for (Index word = 0; word < words.count; ++word)
      for (Index t = word * words.length + begin; t < word * words.length + end; ++t)
        right += guesses[to_size(t)] == words.products[to_size(t)];
    parts.push_back(static_cast<double>(right) / static_cast<double>(words.count * (end - begin)));
    begin = end;
  }
  return parts;
}

/// Words grow from 2 symbols to the full length in the first half of the steps: a model finds the group in short words. Each
/// step sees about as many symbols, all of them new.
template <class Model> Result run(LearnRequest const& r, Task const& task, std::uint64_t seed) {
  constexpr Index words_at_once = 32;  // of the full length
  aviary::Schedule const rate{.peak = 0.01, .steps = r.steps, .floor = 1e-4, .warm_up = r.steps / 20};
  Learner<Model> learner(task, seed, models::Threads(r.threads));
  aviary::SplitMix64 random(seed, "words");
  Result result{};
  for (Index step = 1; step <= r.steps; ++step) {
    Index const length = std::min(r.length, 2 + 2 * (r.length - 2) * step / r.steps);
    Words const words = random_words(task, words_at_once * r.length / length, length, random);
    result.loss = learner.pull(words);
    learner.weights().update({.step = step, .learning_rate = rate(step - 1), .loss = result.loss, .largest_norm = 1});
  }
  result.accuracy = accuracy(learner, random_words(task, read_words, longest * r.length, random), r.length);
  return result;
}

void write(std::ostream& to, LearnRequest const& r, Task const& task, char const* model, std::uint64_t seed,
           Result const& result) {
  auto const list = [&](char const* name, auto const& numbers) {
    to << ", \"" << name << "\": [";
    for (std::size_t i = 0; i < numbers.size(); ++i) to << (i > 0 ? ", " : "") << numbers[i];
    to << ']';
  };
  to << "{\"task\": \"" << task.name << "\", \"model\": \"" << model << "\", \"seed\": " << seed
     << ", \"length\": " << r.length << ", \"steps\": " << r.steps << ", \"elements\": " << task.order
     << ", \"loss\": ";
  if (std::isfinite(result.loss))
    to << result.loss;
  else
    to << "null";
  list("symbols", ends_of_groups(r.length));
  list("accuracy", result.accuracy);
  to << "}\n" << std::flush;
}

void print_head(LearnRequest const& r) {
  std::printf(
      "Percent of products that are right, median and best of %td seeds, by the place of the symbol.\n"
      "Learned from words of up to %td symbols in %td steps.\n\n%-9s %-14s",
      r.seeds, r.length, r.steps, "task", "model");
  Index begin = 1;
  for (Index const end : ends_of_groups(r.length)) {
    std::printf(" %12s", (std::to_string(begin) + "-" + std::to_string(end)).c_str());
    begin = end + 1;
  }
  std::printf("\n");
}

void print_row(Task const& task, char const* model, std::vector<Result> const& results) {
  std::printf("%-9s %-14s", task.name.c_str(), model);
  for (std::size_t group = 0; group < results.front().accuracy.size(); ++group) {
    std::vector<double> of_seeds;
    for (Result const& result : results) of_seeds.push_back(100 * result.accuracy[group]);
    std::printf("  %5.1f %5.1f", models::median(of_seeds), *std::max_element(of_seeds.begin(), of_seeds.end()));
  }
  std::printf("\n");
  std::fflush(stdout);
}

bool wanted(std::vector<std::string> const& names, std::string_view name) {
  return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::vector<std::string> task_names() {
  std::vector<std::string> names;
  for (Task const& task : all_tasks()) names.push_back(task.name);
  return names;
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for_each_model<float>([&](auto model) { names.push_back(model.name); });
  return names;
}

void learn(LearnRequest const& request, std::ostream& json) {
  print_head(request);
  for (Task const& task : all_tasks()) {
    if (!wanted(request.tasks, task.name)) continue;
    for_each_model<float>([&]<class Model>(Model) {
      if (!wanted(request.models, Model::name)) return;
      std::vector<Result> results;
      for (Index i = 0; i < request.seeds; ++i) {
        std::uint64_t const seed = request.seed + static_cast<std::uint64_t>(i);
        results.push_back(run<Model>(request, task, seed));
        write(json, request, task, Model::name, seed, results.back());
      }
      print_row(task, Model::name, results);
    });
  }
}

}  // namespace state_tracking
