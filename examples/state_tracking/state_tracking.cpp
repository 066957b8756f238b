/// Follows parity and permutations with the states of recurrences: exactly, with inputs made for it, or as well as models learn
/// it.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>

#include "state_tracking/exact.hpp"
#include "state_tracking/learn.hpp"

namespace {

int track_exactly(int symbols, unsigned seed) {
  int const exact = state_tracking::track_all<float>(symbols, seed) + state_tracking::track_all<double>(symbols, seed);
  std::printf("state tracking: %d of 6 exact\n", exact);
  return exact == 6 ? 0 : 1;
}

int learn(state_tracking::LearnRequest const& request, std::string const& json_file) {
  std::ofstream json;
  if (!json_file.empty()) json.open(json_file);
  auto const failed = [&] {
    if (json_file.empty() || json) return false;
    std::cerr << "state_tracking: cannot write " << json_file << '\n';
    return true;
  };
  if (failed()) return 1;
  state_tracking::learn(request, json);
  if (json.is_open()) json.close();
  return failed() ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "state_tracking: follows parity and random permutations of 3 and of 5 objects with WKV-7 and checks every output "
      "for equality; exits with 1 when one is wrong. With --learn small models of several kinds learn these tasks from "
      "random weights, and a table says how many symbols they follow");
  int symbols = 20000;
  unsigned seed = 1;
  bool learns = false;
  std::string json;
  state_tracking::LearnRequest request;
  auto* const symbols_option =
      app.add_option("--symbols", symbols, "length of each word, default 20000")->check(CLI::Range(1, 1000000));
  app.add_option("--seed", seed, "of the random words; with --learn of the first run, default 1");
  auto* const learn_flag =
      app.add_flag("--learn", learns, "learn; all that follows goes with it")->excludes(symbols_option);
  auto const add = [&](char const* name, auto& value, char const* what) {
    return app.add_option(name, value, what)->needs(learn_flag);
  };
  add("--task", request.tasks, "what to learn, comma-separated, default all")
      ->delimiter(',')
      ->check(CLI::IsMember(state_tracking::task_names()));
  add("--model", request.models, "what learns, comma-separated, default all")
      ->delimiter(',')
      ->check(CLI::IsMember(state_tracking::model_names()));
  add("--length", request.length, "symbols of a word that is learned from, default 32")->check(CLI::Range(2, 1024));
  add("--steps", request.steps, "updates of the weights, default 2000")->check(CLI::Range(1, 1000000));
  add("--seeds", request.seeds, "runs of each model, default 5")->check(CLI::Range(1, 1000));
  add("--threads", request.threads, "default 1; the results are the same")->check(CLI::Range(1, 1024));
  add("--json", json, "a file for a line of JSON for each run");
  try {
    app.parse(argc, argv);
  } catch (CLI::CallForHelp const& help) {
    return app.exit(help);
  } catch (CLI::ParseError const& error) {
    std::cerr << "state_tracking: " << error.what() << '\n';
    return 2;
  }
  if (!learns) return track_exactly(symbols, seed);
  request.seed = seed;
  return learn(request, json);
}
