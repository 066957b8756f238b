/// Programs as several processes of one machine, where the build found MPI.
#if defined(AVIARY_TEST_MPIRUN)
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <thread>

#include "aviary/io/safetensors.hpp"
#include "support/check.hpp"
#include "support/metrics.hpp"
#include "support/process.hpp"

using namespace aviary;
using test::Arguments;
using test::content_of;
using test::Finished;
using test::operator+;

namespace {

constexpr char const* environment = "/usr/bin/env";

/// What runs two processes of a command: Open MPI may be started by root, and with more processes than there are cores, where
/// who waits lets others work. What it leaves in memory is no leak of ours. A run that hangs ends after five minutes.
Arguments in_two(Arguments const& command) {
  char const* const options = std::getenv("ASAN_OPTIONS");
  Arguments const all{"OMPI_ALLOW_RUN_AS_ROOT=1",
                      "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                      "OMPI_MCA_rmaps_base_oversubscribe=1",
                      "OMPI_MCA_mpi_yield_when_idle=1",
                      "PRTE_ALLOW_RUN_AS_ROOT=1",
                      "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                      "PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe",
                      "MPIEXEC_TIMEOUT=300",
                      "ASAN_OPTIONS=" + (options ? options + std::string(":") : "") + "detect_leaks=0",
                      AVIARY_TEST_MPIRUN,
                      "-n",
                      "2"};
  return all + command;
}
Arguments command_of(std::string const& program, Arguments const& arguments) {
  return Arguments{std::string(AVIARY_PROGRAM_DIR) + "/" + program} + arguments;
}
Finished run_in_two(std::string const& program, Arguments const& arguments) {
  return test::run_program(environment, in_two(command_of(program, arguments)));
}

/// A text, and the arguments of runs over it.
struct Case {
  test::TemporaryFolder folder;
  std::string text;

  Case() {
    for (int i = 0; i < 100; ++i) text += "the quick brown fox jumps over dog " + std::to_string(i) + ". ";
    text = folder.file("text.txt", text).string();
  }
  std::string path(std::string const& name) const { return (folder / name).string(); }
  /// Of a new model, unless there is a --model.
  Arguments learn(std::string const& out, std::string const& batch, Arguments const& more) const {
    Arguments all{"--data", text,      "--context", "32",    "--rate",  "1e-3",      "--threads",
                  "1",      "--batch", batch,       "--out", path(out), "--metrics", path(out + ".jsonl")};
    if (std::ranges::find(more, "--model") == more.end())
      all = all + Arguments{"--new", "7", "--layers", "2", "--channels", "32", "--head-size", "16"};
    return all + more;
  }
};

bool says(std::string const& text, std::string const& line) { return text.find(line + "\n") != std::string::npos; }

/// Until there is a file, or for a minute.
void wait_for(std::filesystem::path const& file) {
  for (int wait = 0; wait < 60000 && !std::filesystem::exists(file); ++wait)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

}  // namespace

TEST_CASE("ranks: two learn as one with the doubled batch") {
  Case const c;
  std::string const model = c.path("model.safetensors");
  REQUIRE(test::run_program("train", c.learn("model.safetensors", "4", {"--steps", "20"})).status == 0);
  int number = 0;
  for (Arguments const& way :
       {Arguments{}, Arguments{"--accumulate", "2", "--stretches", "2"}, Arguments{"--model", model, "--state"},
        Arguments{"--model", model, "--low-rank", "2"}}) {
    test::Note const which("way", number);
    std::string const alone = std::to_string(number) + "one.safetensors",
                      together = std::to_string(number) + "two.safetensors";
    ++number;
    REQUIRE(test::run_program("train", c.learn(alone, "4", way + Arguments{"--steps", "5"})).status == 0);
    REQUIRE(run_in_two("train", c.learn(together, "2", way + Arguments{"--steps", "5"})).status == 0);
    auto const losses = test::numbers_called("loss", c.path(alone + ".jsonl"));
    REQUIRE(losses.size() == 5);
    test::check_close(test::numbers_called("loss", c.path(together + ".jsonl")), losses, 1e-5);
    SafeTensors const one(c.path(alone)), two(c.path(together));
    REQUIRE(one.size() == two.size());
    for (std::string_view const tensor : one.names()) {
      test::Note const note("tensor", std::string(tensor));
      test::check_l2(two.tensor(tensor).read<float>(), one.tensor(tensor).read<float>(), 1e-5);
    }
  }
}

TEST_CASE("ranks: a signal to all or to one is saved, one may be killed, and they go on with the same bits") {
  Case const c;
  struct Signal {
    int kind;
    bool is_to_one;
  };
  int number = 0;
  for (Signal const signal : {Signal{SIGTERM, false}, Signal{SIGTERM, true}, Signal{SIGKILL, true}}) {
    CAPTURE(number);
    std::string const name = std::to_string(number++), part = name + "part.safetensors", all = name + "all.safetensors";
    auto const steps = [](std::size_t count) {  // the rate is the same, however many
      return Arguments{"--steps", std::to_string(count), "--final-rate", "1e-3", "--save-every", "7"};
    };
    // Each process leaves its number in a file, which is called after its rank.
    std::string const say = "echo $$ >\"$0.${OMPI_COMM_WORLD_RANK-$PMI_RANK}\"; exec \"$@\"", said = c.path(name);
    Arguments const endless = command_of("train", c.learn(part, "2", steps(1000000)));
    test::Running running(environment, in_two(Arguments{"sh", "-c", say, said} + endless));
    wait_for(c.path(part + ".training"));
    if (signal.is_to_one)
      ::kill(std::stoi(content_of(said + ".1")), signal.kind);
    else
      running.signal(signal.kind);
    CHECK(running.ending_status() != 0);
    REQUIRE(std::filesystem::exists(c.path(part + ".training")));

    std::size_t const done = test::numbers_called("step", c.path(part + ".jsonl")).size(), end = done + 5;
    if (signal.kind == SIGTERM && signal.is_to_one)  // to all, it is mpirun that says for how long they may save
      CHECK(SafeTensors(c.path(part + ".training")).metadata().at("aviary.step") == std::to_string(done));
    REQUIRE(run_in_two("train", c.learn(part, "2", steps(end) + Arguments{"--resume"})).status == 0);
    REQUIRE(run_in_two("train", c.learn(all, "2", steps(end))).status == 0);
    CHECK((content_of(c.path(part)) == content_of(c.path(all))));
    CHECK((content_of(c.path(part + ".training")) == content_of(c.path(all + ".training"))));
    CHECK(test::numbers_called("step", c.path(part + ".jsonl")).size() == end);
  }
}

TEST_CASE("ranks: what fails in one ends all, and is said once") {
  Case const c;
  auto const fails = [&](std::string const& message, std::string const& out, Arguments const& more) {
    Finished const run = run_in_two("train", c.learn(out, "2", more));
    CAPTURE(message);
    CHECK((run.status >= 1 && run.status <= 3));  // of whoever ended first, or the bits of all: none hung
    CHECK(says(run.err, "train: " + message));
    CHECK(run.err.find("train: ") == run.err.rfind("train: "));
  };
  fails("--carry: expected one process, found 2", "m.safetensors", {"--carry"});
  fails(c.path("none.txt") + ": cannot open: No such file or directory", "m.safetensors",
        {"--data", c.path("none.txt")});
  fails("--steps: expected a whole number from 1 on, found '0'", "m.safetensors", {"--steps", "0"});
  REQUIRE(run_in_two("train", c.learn("m.safetensors", "2", {"--steps", "1"})).status == 0);
  std::string const training = c.path("m.safetensors.training");
  fails(training + ": is there already: expected --resume to go on from it, another --out, or no such file",
        "m.safetensors", {"--steps", "1"});
  // The first cannot save: the folder is gone.
  std::filesystem::create_directory(c.path("made"));
  auto run = std::async(std::launch::async, [&] {
    return run_in_two("train", c.learn("made/m.safetensors", "2", {"--steps", "1000000", "--save-every", "7"}));
  });
  wait_for(c.path("made/m.safetensors.training"));
  std::filesystem::rename(c.path("made"), c.path("gone"));
  Finished const without = run.get();
  CHECK(without.status == 1);
  CHECK(without.err.find("train: " + c.path("made/m.safetensors")) != std::string::npos);
  CHECK(without.err.find("train: ") == without.err.rfind("train: "));
  // The batch of all processes is that of the run.
  Finished const alone = test::run_program("train", c.learn("m.safetensors", "2", {"--steps", "2", "--resume"}));
  CHECK(alone.err == "train: " + training + ": expected --batch 2, found '4'\n");
}

TEST_CASE("ranks: a scan over processes gives the outputs and states of the sequence") {
  Finished const run = run_in_two("parallel_prefill", {"--tokens", "301", "--heads", "2", "--threads", "1"});
  CHECK(run.status == 0);
  for (char const* line : {"process 0, outputs", "process 1, outputs", "process 1, states after the last piece"})
    CHECK(run.out.find(line) != std::string::npos);
  CHECK(run.out.find("processes 2\n") != std::string::npos);
  for (auto const& [wrong, message] :
       {std::pair{Arguments{"--gradients"}, "--gradients: expected one process, found 2"},
        std::pair{Arguments{"--tokens", "1"}, "--tokens: expected one for each of 2 processes or more, found 1"}}) {
    Finished const refused = run_in_two("parallel_prefill", wrong);
    CHECK(refused.status == 2);
    CHECK(says(refused.err, std::string("parallel_prefill: ") + message));
    CHECK(refused.err.find("parallel_prefill: ") == refused.err.rfind("parallel_prefill: "));
  }
}

#endif
