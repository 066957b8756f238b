/// The program `reverse`: what its model learns from, and what it finds.
#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "reverse/numbers.hpp"
#include "support/process.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Finished;
using test::TemporaryFolder;

namespace {

using Arguments = std::vector<std::string>;
using Ids = std::vector<models::TokenId>;

Finished reverse_with(Arguments const& arguments) { return test::run_program("reverse", arguments); }

/// What a run left behind: its files results.json and model.safetensors.
struct Learned {
  Finished run;
  std::string json, model;
};

Learned learn(TemporaryFolder const& folder, Arguments arguments) {
  auto const json = folder / "results.json", model = folder / "model.safetensors";
  arguments.insert(arguments.end(), {"--json", json.string(), "--out", model.string()});
  Finished run = reverse_with(arguments);
  CHECK(run.status == 0);
  return {std::move(run), test::content_of(json), test::content_of(model)};
}

void check_refused(Arguments const& arguments, int status) {
  Finished const run = reverse_with(arguments);
  CAPTURE(arguments.front());
  CAPTURE(run.err);
  CHECK(run.status == status);
  CHECK(run.out == "");
  CHECK(run.err.starts_with("reverse: "));
  CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
}

}  // namespace

TEST_CASE("reverse: the loss counts answers alone") {
  reverse::Examples examples;
  examples.add(Ids{7, 8, reverse::comma});
  examples.clear();
  examples.add(Ids{1, 2, 3, reverse::comma});
  examples.add(Ids{5, reverse::comma});
  models::Batch const batch = examples.batch();
  CHECK(Ids(batch.tokens.begin(), batch.tokens.end()) == Ids{1, 2, 3, 10, 3, 2, 1, 5, 10, 5});
  CHECK(Ids(batch.targets.begin(), batch.targets.end()) == Ids{-1, -1, -1, 3, 2, 1, 11, -1, 5, 11});
  CHECK(std::vector<Index>(batch.offsets.begin(), batch.offsets.end()) == std::vector<Index>{0, 7, 10});
}

TEST_CASE("reverse: learns short numbers at once, into a model that others read") {
  TemporaryFolder const folder;
  std::string const model = (folder / "model.safetensors").string();
  Learned const learned = learn(folder, {"--digits", "2", "--steps", "100", "--batch", "32", "--seed", "3"});
  CHECK(learned.run.out.find("\n  1-2    ") != std::string::npos);
  CHECK(learned.run.err.find("step 100/100") != std::string::npos);
  auto const found = nlohmann::json::parse(learned.json);
  CHECK(found.at("seed") == 3);
  CHECK(found.at("loss").get<double>() < 0.2);  // a model that knows nothing has ln 12
  for (char const* list : {"right_digits", "right_answers"}) {
    CHECK(found.at(list).size() == 2);
    for (auto const& right : found.at(list)) CHECK(right.get<double>() > 0.9);
  }
  Finished const asked =
      test::run_program("generate", {"--model", model, "--tokens", "4,7,10", "--length", "3", "--temperature", "0"});
  CHECK(asked.status == 0);
  CHECK(asked.out == "7,4,11\n");
}

TEST_CASE("reverse: has the same bits on any number of threads") {
  TemporaryFolder const folder;
  Arguments arguments{"--digits", "5", "--steps", "4", "--batch", "10", "--tests", "7", "--threads", "1"};
  Learned const one = learn(folder, arguments);
  arguments.back() = "2";
  Learned const two = learn(folder, arguments);
  CHECK(one.run.out == two.run.out);
  CHECK(one.json == two.json);
  CHECK(one.model == two.model);
}

TEST_CASE("reverse: one line for arguments that are none, and for files that cannot be written") {
  check_refused({"--digits", "0"}, 2);
  check_refused({"--rate", "-1"}, 2);
  check_refused({"--steps", "many"}, 2);
  check_refused({"--no-such-option"}, 2);
  check_refused({"--json", "/no/such/folder/file"}, 1);
  check_refused({"--out", "/no/such/folder/file"}, 1);
}
