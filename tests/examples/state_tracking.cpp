/// The parts of `state_tracking --learn`: its tasks, the gradients of its models, and the program itself.
#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "state_tracking/learner.hpp"
#include "state_tracking/models.hpp"
#include "state_tracking/tasks.hpp"
#include "support/check.hpp"
#include "support/process.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Arguments;
using test::check_equal;
using test::check_l2;
using test::check_that;
using test::Finished;
using test::TemporaryFolder;

namespace {

Finished state_tracking_with(Arguments const& arguments) { return test::run_program("state_tracking", arguments); }

void check_refused(Arguments const& arguments) {
  Finished const run = state_tracking_with(arguments);
  CAPTURE(arguments.front());
  CAPTURE(run.err);
  CHECK(run.status == 2);
  CHECK(run.out == "");
  CHECK(run.err.starts_with("state_tracking: "));
  CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
}

/// The gradients of some weights, and central differences of the loss.
template <class Model> void check_gradients_of(Model) {
  auto const task = state_tracking::permutations<3>("s3");
  SplitMix64 random(5);
  auto const words = state_tracking::random_words(task, 3, 6, random);
  state_tracking::Learner<Model> learner(task, 3, models::Threads(1));
  learner.pull(words);
  VecView<double> const values = learner.weights().values(), gradients = learner.weights().gradients();
  std::vector<Index> chosen;  // every 7th, and of the last weights, the head's and the norm's, all
  for (Index i = 0; i < values.size(); i += i < values.size() - 100 ? 7 : 1) chosen.push_back(i);
  std::vector<double> found, expected;
  for (Index const i : chosen) found.push_back(gradients[i]);
  for (Index const i : chosen) {
    constexpr double h = 1e-4;  // its square and 1e-16 over it are the errors of a difference, relative to the loss
    double const value = values[i];
    values[i] = value + h;
    double const above = learner.pull(words);
    values[i] = value - h;
    expected.push_back((above - learner.pull(words)) / (2 * h));
    values[i] = value;
  }
  CAPTURE(Model::name);
  check_l2(found, expected, 1e-6);
}

/// Weights after some updates, whatever the threads.
template <class Model> std::vector<double> weights_after_updates(Index threads) {
  auto const task = state_tracking::permutations<3>("s3");
  SplitMix64 random(6);
  state_tracking::Learner<Model> learner(task, 4, models::Threads(threads));
  for (Index step = 1; step <= 2; ++step) {
    learner.pull(state_tracking::random_words(task, 32, 16, random));
    learner.weights().update({.step = step, .learning_rate = 0.01});
  }
  VecView<double> const values = learner.weights().values();
  return {values.begin(), values.end()};
}

}  // namespace

TEST_CASE("state_tracking: tasks are word problems of groups") {
  std::vector<Index> sizes;
  for (state_tracking::Task const& task : state_tracking::all_tasks()) {
    CAPTURE(task.name);
    sizes.insert(sizes.end(), {task.order, task.symbols});
    for (Index s = 0; s < task.symbols; ++s) {  // each symbol permutes the elements, and only one does nothing
      std::set<Index> reached;
      for (Index e = 0; e < task.order; ++e) reached.insert(task.after(e, s));
      check_that(static_cast<Index>(reached.size()) == task.order, "a symbol takes elements to different ones");
      check_that((task.after(0, s) == 0) == (s == 0), "the first symbol alone is neutral");
    }
  }
  check_that(sizes == std::vector<Index>{2, 2, 6, 6, 120, 11, 120, 120}, "elements and symbols of each task");
  state_tracking::Task const s3 = state_tracking::permutations<3>("s3");
  for (Index a = 0; a < 6; ++a)
    for (Index b = 0; b < 6; ++b)
      for (Index c = 0; c < 6; ++c)
        check_that(s3.after(s3.after(a, b), c) == s3.after(a, s3.after(b, c)), "products are associative");
}

TEST_CASE("state_tracking: gradients of all weights agree with central differences") {
  state_tracking::for_each_model<double>([](auto model) { check_gradients_of(model); });
}

TEST_CASE("state_tracking: learning has the same bits on any number of threads") {
  state_tracking::for_each_model<double>([]<class Model>(Model) {
    CAPTURE(Model::name);
    check_equal(weights_after_updates<Model>(3), weights_after_updates<Model>(1));
  });
}

TEST_CASE("state_tracking: --learn writes a table, and a line of JSON for each run") {
  TemporaryFolder const folder;
  std::string const file = (folder / "runs.jsonl").string();
  Finished const run =
      state_tracking_with({"--learn", "--task", "s3", "--model", "rwkv6,delta-net", "--length", "3", "--steps", "2",
                           "--seeds", "2", "--seed", "7", "--threads", "2", "--json", file});
  CHECK(run.status == 0);
  CHECK(run.err == "");
  CHECK(run.out.find("s3        delta-net") != std::string::npos);
  CHECK(run.out.find("25-48") != std::string::npos);
  std::istringstream lines(test::content_of(file));
  std::vector<std::string> models;
  for (std::string line; std::getline(lines, line);) {
    auto const one = nlohmann::json::parse(line);
    models.push_back(one.at("model").get<std::string>() + " " + std::to_string(one.at("seed").get<int>()));
    CHECK(one.at("task") == "s3");
    CHECK(one.at("symbols") == std::vector<int>{3, 6, 12, 24, 48});
    CHECK(one.at("accuracy").size() == 5);
    CHECK(one.at("loss").get<double>() > 0);
  }
  CHECK(models == std::vector<std::string>{"rwkv6 7", "rwkv6 8", "delta-net 7", "delta-net 8"});
}

TEST_CASE("state_tracking: one line for arguments that are none, and for a file that cannot be written") {
  check_refused({"--learn", "--task", "s4"});
  check_refused({"--learn", "--model", "rwkv9"});
  check_refused({"--learn", "--length", "1"});
  check_refused({"--learn", "--symbols", "10"});
  check_refused({"--steps", "10"});
  Finished const run = state_tracking_with({"--learn", "--steps", "1", "--json", "/no/such/folder/file"});
  CHECK(run.status == 1);
  CHECK(run.err == "state_tracking: cannot write /no/such/folder/file\n");
}
