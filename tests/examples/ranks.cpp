/// Programs as several processes of one machine, where the build found MPI.
#if defined(AVIARY_TEST_MPIRUN)
#include <doctest/doctest.h>

#include <csignal>
#include <cstdlib>
#include <thread>

#include "aviary/io/safetensors.hpp"
#include "support/check.hpp"
#include "support/metrics.hpp"
#include "support/process.hpp"

using namespace aviary;
using test::content_of;
using test::Finished;

namespace {

using Arguments = std::vector<std::string>;

/// Of Open MPI: root may run programs, and more than there are cores; who waits lets others work. What it leaves in memory is no leak of ours.
void allow_ranks() {
  for (char const* name :
       {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "PRTE_ALLOW_RUN_AS_ROOT",
        "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe", "OMPI_MCA_mpi_yield_when_idle"})
    ::setenv(name, "1", 1);
  ::setenv("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe", 1);
  char const* const options = std::getenv("ASAN_OPTIONS");
  ::setenv("ASAN_OPTIONS", ((options ? options + std::string(":") : "") + "detect_leaks=0").c_str(), 1);
}

Arguments in_two(std::string const& program, Arguments arguments) {
  allow_ranks();
  Arguments const first{"-n", "2", std::string(AVIARY_PROGRAM_DIR) + "/" + program};
  arguments.insert(arguments.begin(), first.begin(), first.end());
  return arguments;
}
Finished run_in_two(std::string const& program, Arguments const& arguments) {
  return test::run_program(AVIARY_TEST_MPIRUN, in_two(program, arguments));
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
  Arguments learn(std::string const& out, std::string const& batch, Arguments const& more) const {
    Arguments all{"--data",      text,
                  "--new",       "7",
                  "--layers",    "2",
                  "--channels",  "32",
                  "--head-size", "16",
                  "--context",   "32",
                  "--rate",      "1e-3",
                  "--threads",   "1",
                  "--batch",     batch,
                  "--out",       path(out),
                  "--metrics",   path(out + ".jsonl")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

bool says(std::string const& text, std::string const& line) { return text.find(line + "\n") != std::string::npos; }

}  // namespace

TEST_CASE("ranks: two learn as one with the doubled batch") {
  Case const c;
  for (Arguments const& how : {Arguments{}, Arguments{"--accumulate", "2", "--stretches", "2"}}) {
    std::string const name = std::to_string(how.size());
    Arguments more{"--steps", "5"};
    more.insert(more.end(), how.begin(), how.end());
    REQUIRE(test::run_program("train", c.learn(name + "one.safetensors", "4", more)).status == 0);
    REQUIRE(run_in_two("train", c.learn(name + "two.safetensors", "2", more)).status == 0);
    auto const losses = [&](std::string const& ranks) {
      return test::numbers_called("loss", c.path(name + ranks + ".safetensors.jsonl"));
    };
    REQUIRE(losses("one").size() == 5);
    test::check_close(losses("two"), losses("one"), 1e-5);
    SafeTensors const one(c.path(name + "one.safetensors")), two(c.path(name + "two.safetensors"));
    REQUIRE(one.size() == two.size());
    for (std::string_view const tensor : one.names()) {
      test::Note const note("tensor", std::string(tensor));
      test::check_l2(two.tensor(tensor).read<float>(), one.tensor(tensor).read<float>(), 1e-5);
    }
  }
}

TEST_CASE("ranks: a signal to all is saved, and they go on with the same bits") {
  Case const c;
  Arguments const more{"--steps", "40", "--save-every", "5"};
  REQUIRE(run_in_two("train", c.learn("all.safetensors", "2", more)).status == 0);
  Arguments const part = c.learn("part.safetensors", "2", more);
  test::Running running(AVIARY_TEST_MPIRUN, in_two("train", part));
  std::string const training = c.path("part.safetensors.training");
  for (int wait = 0; wait < 60000 && !std::filesystem::exists(training); ++wait)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  running.signal(SIGTERM);
  running.ending_signal();
  REQUIRE(std::filesystem::exists(training));
  Arguments resumed = part;
  resumed.push_back("--resume");
  REQUIRE(run_in_two("train", resumed).status == 0);
  CHECK((content_of(training) == content_of(c.path("all.safetensors.training"))));
  CHECK(test::numbers_called("step", c.path("part.safetensors.jsonl")).size() == 40);
}

TEST_CASE("ranks: what fails in one ends all, and is said once") {
  Case const c;
  auto const fails = [&](std::string const& message, std::string const& out, Arguments const& more) {
    Finished const run = run_in_two("train", c.learn(out, "2", more));
    CAPTURE(message);
    CHECK(run.status != 0);
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
  CHECK(run_in_two("parallel_prefill", {"--gradients"}).status != 0);
}

#endif
