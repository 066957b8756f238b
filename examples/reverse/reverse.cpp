/// reverse: an RWKV-7 of two layers and 40,992 weights learns to reverse numbers. It reads "123," and answers "321."; all that
/// it knows of the number then is in the states of its heads, 16 x 16 numbers each, of which a layer has two.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <optional>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "aviary/io/output_file.hpp"
#include "aviary/io/safetensors.hpp"
#include "aviary/training/schedule.hpp"
#include "models/any.hpp"
#include "models/command_line.hpp"
#include "models/learner.hpp"
#include "models/new_model.hpp"
#include "models/optimizer.hpp"
#include "models/status.hpp"
#include "models/timing.hpp"
#include "reverse/numbers.hpp"

namespace {

using namespace reverse;
using Weights = models::WeightStore<float>;

struct Request {
  Index digits = 40, steps = 5000, batch = 128, tests = 200, threads = 1;
  double rate = 0.005;
  std::uint64_t seed = 1;
  std::filesystem::path out, json;
};

Weights new_weights(std::uint64_t seed) {
  return models::new_weights<float>(
      {.generation = models::Generation::rwkv7, .layers = 2, .channels = 32, .vocab = vocab, .head_size = 16}, seed);
}

/// Numbers of 1 to `longest` digits, all lengths as often.
void draw(Examples& examples, Index count, Index longest, SplitMix64& random) {
  examples.clear();
  for (Index i = 0; i < count; ++i)
    examples.add(random_prompt(1 + static_cast<Index>(random.next() % static_cast<std::uint64_t>(longest)), random));
}

/// Returns the loss of the last numbers, in nats a token of their answers. The longest number grows from 2 digits to all in
/// the first half of the steps: the rule is found in short ones.
double learn(Weights& weights, Request const& r) {
  models::Threads const threads(r.threads);
  auto const learner =
      models::make_learner(weights, {.tokens = r.batch * (2 * r.digits + 1), .sequences = r.batch, .threads = threads});
  constexpr double weight_decay = 0.1;
  models::Optimizer const optimizer(models::learned(weights), {}, weight_decay);
  aviary::Schedule const rate{
      .peak = r.rate, .steps = r.steps, .floor = r.rate / 50, .warm_up = std::min(Index{100}, r.steps)};
  SplitMix64 random(r.seed, "numbers");
  Examples examples;
  models::Status status;
  double seconds = 0, loss = 0;
  for (Index step = 1; step <= r.steps; ++step) {
    seconds += models::seconds([&] {
      draw(examples, r.batch, std::min(r.digits, 2 + 2 * r.digits * step / r.steps), random);
      weights.clear_gradients();
      aviary::Loss const sum = learner->learn({.batch = examples.batch()});
      loss = sum.mean();
      if (!optimizer.update({.step = step,
                             .learning_rate = rate(step - 1),
                             .loss = loss,
                             .gradient_scale = 1 / static_cast<double>(sum.tokens),
                             .largest_norm = 1},
                            threads))
        throw std::runtime_error("step " + std::to_string(step) + ": the loss or its gradient is not finite");
      learner->refresh();
    });
    status.show(step == r.steps, [&] {
      double const left = seconds / static_cast<double>(step) * static_cast<double>(r.steps - step);
      return models::formatted("step %td/%td  loss %.5f  %s left", step, r.steps, loss,
                               models::clock_text(left).c_str());
    });
  }
  return loss;
}

/// The answers of a model, token by token: a context reads each prompt, then what the model itself thinks likeliest.
std::vector<std::vector<TokenId>> answers(models::Model const& model, std::span<std::vector<TokenId> const> prompts) {
  std::vector<models::Context> contexts(prompts.size(), model.empty_context());
  std::vector<std::vector<TokenId>> made(prompts.size());
  std::vector<models::Turn> turns;
  for (std::size_t i = 0; i < prompts.size(); ++i) turns.push_back({&contexts[i], prompts[i]});
  auto const workspace = model.make_workspace(static_cast<Index>(prompts.size()));
  for (std::size_t place = 0; place < prompts.front().size(); ++place) {
    model.advance(turns, *workspace);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      auto const logits = contexts[i].logits();
      made[i].push_back(static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin()));
      turns[i].tokens = {&made[i].back(), 1};
    }
  }
  return made;
}

/// Which part is right, by the length of the number: of digits, and of answers as a whole, with their stop.
struct Accuracy {
  std::vector<double> digits, answers;
};

/// Asks for numbers of other random bits than those that were learned from.
Accuracy measure(models::Model const& model, Request const& r) {
  SplitMix64 random(r.seed, "new numbers");
  Accuracy accuracy;
  for (Index digits = 1; digits <= r.digits; ++digits) {
    std::vector<std::vector<TokenId>> prompts;
    while (static_cast<Index>(prompts.size()) < r.tests) prompts.push_back(random_prompt(digits, random));
    auto const found = answers(model, prompts);
    double right_digits = 0, right_answers = 0;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      auto const right = answer_to(prompts[i]);
      right_answers += found[i] == right;
      for (std::size_t place = 0; place < to_size(digits); ++place) right_digits += found[i][place] == right[place];
    }
    auto const tests = static_cast<double>(r.tests);
    accuracy.digits.push_back(right_digits / (tests * static_cast<double>(digits)));
    accuracy.answers.push_back(right_answers / tests);
  }
  return accuracy;
}

/// A row for ten lengths.
void print(char const* what, std::vector<double> const& parts) {
  std::printf("\n%s, by the digits of the number:\n", what);
  for (std::size_t first = 0; first < parts.size(); first += 10) {
    std::size_t const end = std::min(first + 10, parts.size());
    std::printf("%3zu-%-3zu", first + 1, end);
    for (std::size_t i = first; i < end; ++i) std::printf(" %6.1f", 100 * parts[i]);
    std::printf("\n");
  }
}

std::string json(Request const& r, double loss, Accuracy const& accuracy) {
  std::ostringstream text;
  auto const list = [&](char const* name, std::vector<double> const& numbers) {
    text << ", \"" << name << "\": [";
    for (std::size_t i = 0; i < numbers.size(); ++i) text << (i > 0 ? ", " : "") << numbers[i];
    text << ']';
  };
  text << "{\"digits\": " << r.digits << ", \"steps\": " << r.steps << ", \"batch\": " << r.batch
       << ", \"rate\": " << r.rate << ", \"seed\": " << r.seed << ", \"tests\": " << r.tests << ", \"loss\": " << loss;
  list("right_digits", accuracy.digits);
  list("right_answers", accuracy.answers);
  text << "}\n";
  return text.str();
}

void run(Request const& r) {
  std::optional<aviary::OutputFile> json_file;  // whether files can be written shows before all the work
  if (!r.json.empty()) json_file.emplace(r.json);
  if (!r.out.empty()) aviary::OutputFile const writable(r.out);

  Weights weights = new_weights(r.seed);
  std::printf("RWKV-7, 2 layers, 32 channels, %td weights: %td steps of %td numbers of up to %td digits\n",
              weights.size(), r.steps, r.batch, r.digits);
  double const loss = learn(weights, r);
  auto const file = weights.file();
  if (!r.out.empty()) {
    aviary::SafeTensorsWriter writer;
    for (auto const& e : weights.entries()) writer.add(file.tensor(e.name));
    writer.write(r.out);
  }
  auto const model = models::load_rwkv7<float>(file, {.threads = models::Threads(r.threads)}).model;
  Accuracy const accuracy = measure(*model, r);
  print("Right digits, %", accuracy.digits);
  print("Right answers, %", accuracy.answers);
  if (json_file) {
    std::string const text = json(r, loss, accuracy);
    json_file->write(std::as_bytes(std::span(text)));
    json_file->commit();
  }
}

/// Complains; returns the status.
int fail(std::exception const& error, int status) {
  models::complain("reverse", error.what());
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "An RWKV-7 of two layers and 40,992 weights learns to reverse numbers. Then it is asked for new ones of every "
      "length, and a table says how many digits of its answers are right",
      "reverse");
  app.footer(
      "Tokens are the digits 0 to 9, the comma (10) and the stop (11): it reads \"123,\" and answers \"321.\". With\n"
      "--out reverse.safetensors the model can be asked by hand:\n"
      "  generate --model reverse.safetensors --tokens 1,2,3,10 --length 4 --temperature 0");
  Request r;
  auto const option = [&](char const* name, auto& value, char const* what) {
    return app.add_option(name, value, what)->capture_default_str();
  };
  option("--digits", r.digits, "of the longest number")->check(CLI::Range(1, 1000));
  option("--steps", r.steps, "updates of the weights")->check(CLI::Range(1, 1000000));
  option("--batch", r.batch, "numbers of a step")->check(CLI::Range(1, 10000));
  option("--rate", r.rate, "highest learning rate; it ends with a fiftieth")->check(CLI::Range(1e-9, 1.0));
  option("--tests", r.tests, "new numbers of each length")->check(CLI::Range(1, 10000));
  option("--seed", r.seed, "of weights and numbers");
  option("--threads", r.threads, "the results are the same")->check(CLI::Range(1, 1024));
  app.add_option("--json", r.json, "a file for the results");
  app.add_option("--out", r.out, "a file for the model, .safetensors");
  try {
    app.parse(argc, argv);
    run(r);
    return 0;
  } catch (CLI::CallForHelp const& help) {
    return app.exit(help);
  } catch (CLI::ParseError const& error) {
    return fail(error, 2);
  } catch (std::exception const& error) {
    return fail(error, 1);
  }
}
