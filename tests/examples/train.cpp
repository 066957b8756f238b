/// The program `train`, run as its users run it: small models, and texts of a few words.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "aviary/io/safetensors.hpp"
#include "models/threads.hpp"
#include "support/metrics.hpp"
#include "support/process.hpp"
#include "support/temporary_folder.hpp"
#include "support/terminal.hpp"

using namespace aviary;
using test::Arguments;
using test::content_of;
using test::Finished;
using test::numbers_called;
using test::TemporaryFolder;
using test::operator+;

namespace {

Finished train(Arguments const& arguments) { return test::run_program("train", arguments); }

std::string repeated(std::string const& words, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += words;
  return text;
}

/// Files of one test, and the arguments of a run over them that takes a moment.
struct Case {
  TemporaryFolder folder;
  std::string text = folder.file("text.txt", repeated("the quick brown fox jumps over the lazy dog. ", 20)).string();
  std::string other = folder.file("other.txt", repeated("PACK MY BOX WITH FIVE DOZEN JUGS! ", 20)).string();

  std::string path(std::string const& name) const { return (folder / name).string(); }
  /// What is not given is small, and uses one thread.
  Arguments learn(Arguments arguments, std::string const& out) const {
    for (auto const& [option, value] : {std::pair<std::string, std::string>{"--data", text},
                                        {"--batch", "2"},
                                        {"--context", "16"},
                                        {"--rate", "1e-2"},
                                        {"--threads", "1"},
                                        {"--out", path(out)}})
      if (std::ranges::find(arguments, option) == arguments.end()) arguments = arguments + Arguments{option, value};
    return arguments;
  }
  Arguments make(std::string const& out, Arguments const& more = {}, std::string const& channels = "32") const {
    return learn(more + Arguments{"--new", "7", "--layers", "1", "--channels", channels, "--head-size", "16"}, out);
  }
};

/// Fails with status and one line, and writes nothing else.
void check_failure(Arguments const& arguments, int status, std::string const& message) {
  Finished const run = train(arguments);
  CAPTURE(message);
  CHECK(run.status == status);
  CHECK(run.out == "");
  CHECK(run.err == "train: " + message + "\n");
}

double mean(std::span<double const> numbers) {
  double sum = 0;
  for (double const x : numbers) sum += x;
  return sum / static_cast<double>(numbers.size());
}

std::string logits(std::string const& model, Arguments const& more = {}) {
  Finished const run = test::run_program("generate", Arguments{"--model", model, "--prompt", "fox", "--logits"} + more);
  CHECK(run.status == 0);
  CHECK(run.err == "");
  return run.out;
}

}  // namespace

TEST_CASE("train: help says what it does") {
  Finished const run = train({"--help"});
  CHECK(run.status == 0);
  CHECK(run.err == "");
  for (char const* option :
       {"--data",       "--vocab",    "--new",           "--layers",         "--channels",     "--head-size",
        "--model",      "--out",      "--steps",         "--minutes",        "--batch",        "--context",
        "--accumulate", "--rate",     "--final-rate",    "--warm-up",        "--weight-decay", "--clip",
        "--beta1",      "--beta2",    "--seed",          "--threads",        "--parts",        "--carry",
        "--stretches",  "--held-out", "--held-out-data", "--evaluate-every", "--state",        "--low-rank",
        "--alpha",      "--merge",    "--resume",        "--save-every",     "--metrics",      "--format",
        "--stats",      "lora_A",     "--initial-state"})
    CHECK(run.out.find(option) != std::string::npos);
}

TEST_CASE("train: wrong arguments are status 2 and say what was expected and found") {
  Case const c;
  std::string const out = c.path("m.safetensors");
  check_failure({"--new", "7", "--out", out}, 2, "--data: expected a text to learn from, found none");
  check_failure({"--data", c.text, "--out", out}, 2,
                "expected --new or --model, found neither: a generation, or a checkpoint");
  check_failure({"--data", c.text, "--new", "7", "--layers", "1", "--channels", "32"}, 2,
                "--out: expected a file to write, found none");
  check_failure({"--data", c.text, "--new", "7", "--layers", "1", "--out", out}, 2,
                "--channels: expected a number for --new, found none");
  auto const check = [&](Arguments const& more, std::string const& message) {
    check_failure(c.make("m.safetensors", more), 2, message);
  };
  for (char const* option : {"--steps", "--accumulate", "--evaluate-every", "--save-every", "--parts"})
    for (std::string const n : {"0", "-1", "1.5", "many", "", "99999999999999999999"})
      check({"--held-out", "0.1", option, n},
            std::string(option) + ": expected a whole number from 1 on, found '" + n + "'");
  for (std::string const x : {"0", "nan", "-1", "inf", "fast"})
    for (char const* option : {"--clip", "--minutes"})
      check({option, x}, std::string(option) + ": expected a number above 0, found '" + x + "'");
  for (std::string const x : {"-0.1", "1", "nan"})
    for (char const* option : {"--beta1", "--beta2"})
      check({option, x}, std::string(option) + ": expected a number from 0 on and below 1, found '" + x + "'");
  for (std::string const x : {"0", "1", "half"})
    check({"--held-out", x}, "--held-out: expected a share above 0 and below 1, found '" + x + "'");
  check({"--stretches", "3"}, "--stretches: expected a divisor of the context of 16 tokens, found '3'");
  check({"--format", "f16"}, "--format: expected f32 or bf16, found 'f16'");
  check({"--seed", "-1"}, "--seed: expected a whole number from 0 to 2^64 - 1, found '-1'");
  check({"--model", "m"}, "expected --new or --model, found both");
  check({"--state", "--low-rank", "2"}, "expected --state or --low-rank, found both");
  check({"--low-rank", "2"}, "--low-rank: expected --model with it, found none");
  check({"--merge"}, "--merge: expected --low-rank with it, found none");
  check({"--evaluate-every", "2"}, "--evaluate-every: expected --held-out or --held-out-data with it, found none");
  check_failure({"--data", c.text, "--model", "m", "--layers", "2", "--out", out}, 2,
                "--layers: expected --new with it, found none");
  check_failure({"--data", c.text, "--new", "8", "--layers", "1", "--channels", "32", "--out", out}, 2,
                "--new: expected 4, 5.0, 5.1, 5.2, 6, 7 or goldfinch, found '8'");
  check_failure({"--data", c.text, "--new", "7", "--layers", "1", "--channels", "32", "--out", c.path("m.pth")}, 2,
                "--out: expected a file that ends in .safetensors, found '" + c.path("m.pth") + "'");
  Finished const sizes = train({"--data", c.text, "--new", "7", "--layers", "1", "--channels", "33", "--out", out});
  CHECK(sizes.status == 2);
  CHECK(sizes.err.starts_with("train: --new: RWKV-7: expected "));
  CHECK(c.folder.files() == 2);
}

TEST_CASE("train: one of several processes that know of no other is refused") {
  Arguments const program{std::string(AVIARY_PROGRAM_DIR) + "/train"};
  for (char const* size : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    Case const c;
    Finished const run =
        test::run_program("/usr/bin/env", Arguments{std::string(size) + "=2"} + program + c.make("m.safetensors"));
    CHECK(run.status == 1);
    CHECK(run.err ==
          "train: expected a build with the MPI whose mpirun started it, found one of 2 processes that know of "
          "no other\n");
    CHECK(c.folder.files() == 2);
  }
}

TEST_CASE("train: the loss falls, and what was learned is text") {
  Case const c;
  std::string const model = c.path("m.safetensors"), metrics = c.path("m.jsonl");
  Finished const run = train(c.make("m.safetensors", {"--steps", "120", "--metrics", metrics, "--stats", "--held-out",
                                                      "0.1", "--evaluate-every", "10"}));
  CHECK(run.status == 0);
  CHECK(run.out == "");
  CHECK(run.err.find("step 120/120  loss ") != std::string::npos);
  CHECK(run.err.find("\nshares: embedding ") != std::string::npos);
  auto const losses = numbers_called("loss", metrics);
  REQUIRE(losses.size() == 120);
  CHECK(std::abs(losses.front() - std::log(256.)) < 0.5);  // it knows nothing yet
  CHECK(losses.back() < 0.5 * losses.front());
  auto const held_out = numbers_called("held_out_bits_per_byte", metrics);
  REQUIRE(held_out.size() == 12);
  CHECK(held_out.back() < 0.5 * held_out.front());
  CHECK(test::run_program("generate", {"--model", model, "--prompt", "the q", "--length", "2", "--temperature", "0"})
            .out == "ui");
}

TEST_CASE("train: progress on a terminal is one line, which ends where something else is said") {
  Case const c;
  test::Terminal const terminal;
  if (!terminal.is_open()) return;
  Arguments const arguments = c.make("m.safetensors", {"--steps", "4", "--held-out", "0.1", "--evaluate-every", "3"});
  CHECK(test::run_program("train", arguments, {.err = terminal.path()}).status == 0);
  std::string const text = terminal.text();
  std::size_t at = 0;
  for (char const* piece :
       {" weights, of which ", "\r\n", "\rstep 1/4  loss ", " bits/byte  ", " tokens/s  ", " left", "\rstep 3/4  loss ",
        "\r\nstep 3: ", " bits/byte of ", " bytes held out\r\n", "\rstep 4/4  loss ", " 0:00 left", "\r\nstep 4: "}) {
    CAPTURE(piece);
    at = text.find(piece, at);
    REQUIRE(at != std::string::npos);
  }
}

TEST_CASE("train: every generation learns, in either format, and generate reads it") {
  Case const c;
  for (std::string const generation : {"4", "5.0", "5.1", "5.2", "6", "7", "goldfinch"}) {
    CAPTURE(generation);
    std::string const name = generation + ".safetensors", metrics = c.path(generation + ".jsonl");
    Arguments const sizes{"--new", generation, "--layers", "2", "--channels", "32", "--head-size", "16"};
    Finished const run =
        train(c.learn(sizes + Arguments{"--steps", "12", "--format", "bf16", "--metrics", metrics}, name));
    CHECK(run.status == 0);
    auto const losses = numbers_called("loss", metrics);
    REQUIRE(losses.size() == 12);
    CHECK(losses.back() < losses.front());
    SafeTensors const file(c.path(name));
    CHECK(file.tensor("head.weight").dtype == NumberFormat::bf16);

    Arguments const taught{"--model", c.path(name), "--steps", "2"};
    CHECK(train(c.learn(taught + Arguments{"--low-rank", "2", "--merge"}, "l" + name)).status == 0);
    CHECK(logits(c.path("l" + name)) != logits(c.path(name)));
    if (generation == "4" || generation == "goldfinch") continue;  // these have no initial states to train
    CHECK(train(c.learn(taught + Arguments{"--state"}, "s" + name)).status == 0);
    CHECK(SafeTensors(c.path("s" + name)).size() == 2);
    CHECK(logits(c.path(name), {"--initial-state", c.path("s" + name)}) != logits(c.path(name)));
  }
}

TEST_CASE("train: what no gradient reaches stays as the file has it, to the bit") {
  Case const c;
  auto const read = [&](char const* file, std::string const& name) {
    return SafeTensors(c.path(file)).tensor("blocks.0.att." + name).read<float>();
  };
  REQUIRE(
      train(c.learn({"--new", "goldfinch", "--layers", "2", "--channels", "32", "--head-size", "16", "--steps", "1"},
                    "m.safetensors"))
          .status == 0);
  REQUIRE(train(c.learn({"--model", c.path("m.safetensors"), "--weight-decay", "10", "--steps", "3"}, "n.safetensors"))
              .status == 0);
  CHECK(read("n.safetensors", "key.weight") != read("m.safetensors", "key.weight"));
  // A GoldFinch has no bonus: its file tells by it how large heads are.
  auto const before = read("m.safetensors", "time_faaaa"), after = read("n.safetensors", "time_faaaa");
  CHECK(std::ranges::any_of(before, [](float x) { return x != 0; }));
  CHECK(after == before);
}

TEST_CASE("train: threads change no bit") {
  if (!models::has_threads) return;
  Case const c;
  for (Arguments const& more : {Arguments{}, Arguments{"--carry", "--stretches", "2"}}) {
    auto const content = [&](std::string const& threads) {
      std::string const out = threads + (more.empty() ? "w" : "s") + ".safetensors";
      CHECK(train(c.make(out, Arguments{"--steps", "5", "--threads", threads} + more)).status == 0);
      return content_of(c.path(out + ".training"));
    };
    std::string const one = content("1");
    CHECK(!one.empty());
    CHECK((one == content("2")));
  }
}

TEST_CASE("train: killed or interrupted at any moment, it goes on with the same bits") {
  Case const c;
  int number = 0;
  for (Arguments const& more : {Arguments{"--accumulate", "2"}, Arguments{"--carry"}})
    for (int const kind : {SIGKILL, SIGINT, SIGTERM}) {
      CAPTURE(kind);
      std::string const all = std::to_string(number) + "all.safetensors",
                        part = std::to_string(number) + ".safetensors";
      ++number;
      Arguments const run = Arguments{"--steps", "100", "--save-every", "7", "--metrics", c.path("m.jsonl")} + more;
      CHECK(train(c.make(all, run)).status == 0);
      std::string const training = c.path(part + ".training");
      test::Running running("train", c.make(part, run));
      for (int wait = 0; wait < 60000 && !std::filesystem::exists(training); ++wait)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      running.signal(kind);
      CHECK(running.ending_signal() == kind);
      REQUIRE(std::filesystem::exists(training));
      CHECK((content_of(training) != content_of(c.path(all + ".training"))));  // it was not at the end
      CHECK(train(c.make(part, run + Arguments{"--resume"})).status == 0);
      CHECK((content_of(training) == content_of(c.path(all + ".training"))));
      CHECK((content_of(c.path(part)) == content_of(c.path(all))));
      auto const steps = numbers_called("step", c.path("m.jsonl"));
      REQUIRE(steps.size() == 100);
      for (std::size_t i = 0; i < steps.size(); ++i) REQUIRE(steps[i] == static_cast<double>(i + 1));
    }
}

TEST_CASE("train: a full disk is one line, and what was saved stays") {
  Case const c;
  std::string const model = c.path("m.safetensors"), training = model + ".training";
  REQUIRE(train(c.make("m.safetensors", {"--steps", "4"})).status == 0);
  std::string const before = content_of(training), made = content_of(model);
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
  auto const handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit const small{20000, limit.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  Finished const run = train(c.make("m.safetensors", {"--steps", "9", "--resume"}));
  ::setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, handler);
  CHECK(run.status == 1);
  CHECK(run.err.ends_with("train: " + training + ": cannot write: File too large\n"));
  CHECK((content_of(training) == before));
  CHECK((content_of(model) == made));
  CHECK(c.folder.files() == 4);
}

TEST_CASE("train: texts that cannot be learned are status 1") {
  Case const c;
  auto const check = [&](std::string const& text, std::string const& message) {
    check_failure(c.make("m.safetensors", {"--data", text}), 1, text + ": " + message);
  };
  check(c.path("none.txt"), "cannot open: No such file or directory");
  check(c.folder.path().string(), "is a directory");
  check(c.folder.file("empty.txt", "").string(), "expected more than 16 tokens to learn from, found 0");
  check(c.folder.file("short.txt", "0123456789abcdef").string(),
        "expected more than 16 tokens to learn from, found 16");
  check_failure(c.make("m.safetensors", {"--held-out-data", c.path("empty.txt")}), 1,
                c.path("empty.txt") + ": expected more than 1 tokens to measure, found 0");
  std::string const vocab = c.folder.file("vocab.txt", "1 'a' 1\n2 'b' 1\n").string();
  check_failure(c.make("m.safetensors", {"--vocab", vocab}), 1,
                c.text + ": no token begins with byte 116 at position 0 of the text");
}

TEST_CASE("train: a vocabulary makes a model of its size") {
  Case const c;
  std::string const vocab = c.folder.file("vocab.txt", "1 'ab' 2\n2 'a' 1\n3 'b' 1\n").string(),
                    text = c.folder.file("ab.txt", repeated("abb", 100)).string();
  CHECK(
      train(c.make("m.safetensors", {"--data", text, "--vocab", vocab, "--steps", "3", "--metrics", c.path("m.jsonl")}))
          .status == 0);
  CHECK(SafeTensors(c.path("m.safetensors")).tensor("emb.weight").shape[0] == 4);
  // Two tokens for three bytes.
  auto const losses = numbers_called("loss", c.path("m.jsonl")),
             bits = numbers_called("bits_per_byte", c.path("m.jsonl"));
  REQUIRE(losses.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK(bits[i] == doctest::Approx(losses[i] / std::log(2.) * 2 / 3).epsilon(1e-7));
}

TEST_CASE("train: never writes over what it reads, nor over what it can go on from") {
  Case const c;
  std::string const model = c.path("m.safetensors"), text = c.path("text.safetensors");
  REQUIRE(train(c.make("m.safetensors", {"--steps", "2"})).status == 0);
  check_failure(
      c.make("m.safetensors", {"--steps", "2"}), 1,
      model + ".training: is there already: expected --resume to go on from it, another --out, or no such file");
  check_failure(c.learn({"--model", model}, "m.safetensors"), 1,
                model + ": is the file of --model, expected another file to write");
  std::filesystem::create_hard_link(c.text, text);
  check_failure(c.make("text.safetensors"), 1, text + ": is the file of --data, expected another file to write");
  check_failure(c.make("n.safetensors", {"--metrics", c.other, "--held-out-data", c.other}), 1,
                c.other + ": is the file of --held-out-data, expected another file for metrics");
  std::string const made = c.path("n.safetensors");
  check_failure(c.make("n.safetensors", {"--metrics", made}), 1,
                made + ": is the file of --out, expected another file for metrics");
  check_failure(c.make("n.safetensors", {"--metrics", made + ".training"}), 1,
                made + ".training: is the file to go on from, expected another file for metrics");
  CHECK(content_of(text) == content_of(c.text));
}

TEST_CASE("train: it goes on only with the run that was saved") {
  Case const c;
  std::string const training = c.path("m.safetensors.training");
  check_failure(c.make("m.safetensors", {"--resume"}), 1, training + ": cannot open: No such file or directory");
  REQUIRE(train(c.make("m.safetensors", {"--steps", "2"})).status == 0);
  std::string const before = content_of(training);
  auto const check = [&](Arguments const& arguments, std::string const& message) {
    check_failure(arguments + Arguments{"--resume"}, 1, training + ": " + message);
    CHECK((content_of(training) == before));
  };
  Finished const run = train(c.make("m.safetensors", {"--resume"}, "64"));
  CHECK(run.status == 1);
  CHECK(run.err.starts_with("train: " + training + ": tensor 'blocks.0.att."));
  CHECK(run.err.find(": expected shape [") != std::string::npos);
  CHECK((content_of(training) == before));
  check(c.make("m.safetensors", {"--accumulate", "3", "--seed", "5"}),
        "expected --accumulate 3, found '1'; expected --seed 5, found '0'");
  check(c.make("m.safetensors", {"--carry"}), "expected --carry or not: carry, found 'not'");
  c.folder.file("m.safetensors.training", content_of(c.path("m.safetensors")));
  check_failure(c.make("m.safetensors", {"--resume"}), 1,
                training + ": is no file to resume from: the file's metadata lack 'aviary.training'");
  std::string damaged = before;
  damaged[damaged.size() - 5] = static_cast<char>(damaged[damaged.size() - 5] ^ 1);
  c.folder.file("m.safetensors.training", damaged);
  check_failure(c.make("m.safetensors", {"--resume"}), 1,
                training + ": its content does not fit its checksum: it is damaged");
}

TEST_CASE("train: a loss that is not finite names the last good checkpoint") {
  Case const c;
  std::string const training = c.path("m.safetensors.training");
  REQUIRE(train(c.make("m.safetensors", {"--steps", "2"})).status == 0);
  std::string const before = content_of(training);
  Finished const run =
      train(c.make("m.safetensors", {"--steps", "20", "--rate", "1e38", "--warm-up", "0", "--resume"}));
  CHECK(run.status == 1);
  CHECK(run.err.find(", not a finite number; the last good checkpoint is that of step 2, " + training + "\n") !=
        std::string::npos);
  CHECK((content_of(training) == before));
}

TEST_CASE("train: a context in stretches has the gradient of the whole") {
  Case const c;
  REQUIRE(train(c.make("m.safetensors", {"--steps", "20"})).status == 0);
  for (Arguments const& more : {Arguments{}, Arguments{"--state"}, Arguments{"--state", "--carry"}}) {
    auto const first = [&](char const* stretches) {
      std::string const name = std::to_string(more.size()) + stretches, metrics = c.path(name + ".jsonl");
      Arguments const options{"--model", c.path("m.safetensors"), "--steps", "1", "--metrics",
                              metrics,   "--stretches",           stretches};
      CHECK(train(c.learn(options + more, name + ".safetensors")).status == 0);
      return std::pair{numbers_called("loss", metrics).at(0), numbers_called("norm", metrics).at(0)};
    };
    auto const [loss, norm] = first("1");
    auto const [loss_of_stretches, norm_of_stretches] = first("4");
    CAPTURE(more.size());
    CHECK(norm > 0);
    CHECK(loss_of_stretches == doctest::Approx(loss).epsilon(1e-6));
    CHECK(norm_of_stretches == doctest::Approx(norm).epsilon(1e-4));
  }
}

TEST_CASE("train: initial states alone lower the loss on another text, and generate begins with them") {
  Case const c;
  std::string const model = c.path("m.safetensors"), state = c.path("s.safetensors"), metrics = c.path("s.jsonl");
  REQUIRE(train(c.make("m.safetensors", {"--steps", "60"})).status == 0);
  Arguments const arguments = c.learn({"--data", c.other, "--model", model, "--state", "--rate", "0.3", "--warm-up",
                                       "0", "--steps", "40", "--metrics", metrics},
                                      "s.safetensors");
  CHECK(train(arguments).status == 0);
  auto const losses = numbers_called("loss", metrics);
  REQUIRE(losses.size() == 40);
  CHECK(mean(std::span(losses).last(5)) < mean(std::span(losses).first(5)));
  SafeTensors const file(state);
  REQUIRE(file.size() == 1);
  CHECK(std::ranges::equal(file.tensor("blocks.0.att.time_state").shape, std::vector<std::int64_t>{2, 16, 16}));
  CHECK(logits(model, {"--initial-state", state}) != logits(model));

  // A model of RWKV-4 has none.
  std::string const four = c.path("4.safetensors");
  REQUIRE(train(c.learn({"--new", "4", "--layers", "1", "--channels", "32", "--steps", "1"}, "4.safetensors")).status ==
          0);
  check_failure(c.learn({"--model", four, "--state"}, "n.safetensors"), 1,
                four + ": expected a model of RWKV-5, 6 or 7, which may have trained initial states, found RWKV-4");
}

TEST_CASE("train: with states that go on, the initial ones learn where a document begins") {
  Case const c;
  std::string const model = c.path("m.safetensors"), metrics = c.path("s.jsonl");
  REQUIRE(train(c.make("m.safetensors", {"--steps", "20"})).status == 0);
  Arguments const states{"--model", model, "--state", "--carry", "--batch", "1", "--metrics", metrics};
  auto const norms = [&](std::string const& name, std::string const& steps, Arguments const& more) {
    CHECK(train(c.learn(states + Arguments{"--steps", steps} + more, name)).status == 0);
    return numbers_called("norm", metrics);
  };
  // Two windows of 16 tokens and one of 7, each with one more to guess; then the same document again.
  std::string const one = c.folder.file("one.txt", repeated("0123456789", 4)).string();
  auto const of_one = norms("one.safetensors", "6", {"--data", one});
  REQUIRE(of_one.size() == 6);
  for (std::size_t i = 0; i < 6; ++i) {
    CAPTURE(i);
    CHECK((of_one[i] > 0) == (i % 3 == 0));
  }
  // Documents that are shorter than a context: all of them begin in every step.
  std::string const two = c.folder.file("two.txt", "fox").string(), three = c.folder.file("three.txt", "dog!").string();
  auto const of_short = norms("short.safetensors", "4", {"--data", two, "--data", three});
  REQUIRE(of_short.size() == 4);
  for (double const norm : of_short) CHECK(norm > 0);
}

TEST_CASE("train: a GoldFinch has no states that go on") {
  Case const c;
  Arguments const sizes{"--new", "goldfinch", "--layers", "2", "--channels", "32", "--head-size", "16"};
  auto const check = [&](Arguments const& model, Arguments const& option) {
    check_failure(c.learn(model + option, "n.safetensors"), 2,
                  option.front() + ": expected an RWKV, whose states go on, found GoldFinch");
  };
  check(sizes, {"--carry"});
  REQUIRE(train(c.learn(sizes + Arguments{"--steps", "1"}, "m.safetensors")).status == 0);
  check({"--model", c.path("m.safetensors")}, {"--stretches", "2"});
  CHECK(c.folder.files() == 4);
}

TEST_CASE("train: low-rank additions, alone or in the matrices") {
  Case const c;
  std::string const model = c.path("m.safetensors"), metrics = c.path("l.jsonl");
  REQUIRE(train(c.make("m.safetensors", {"--steps", "60"})).status == 0);
  Arguments const arguments = c.learn(
      {"--data", c.other, "--model", model, "--low-rank", "2", "--alpha", "4", "--steps", "40", "--metrics", metrics},
      "l.safetensors");
  CHECK(train(arguments).status == 0);
  auto const losses = numbers_called("loss", metrics);
  REQUIRE(losses.size() == 40);
  CHECK(mean(std::span(losses).last(5)) < mean(std::span(losses).first(5)));
  struct Matrix {
    std::vector<float> numbers;
    std::size_t columns;
  };
  auto const read = [](SafeTensors const& file, std::string const& name) {
    Tensor const tensor = file.tensor(name);
    return Matrix{tensor.read<float>(), static_cast<std::size_t>(tensor.shape.back())};
  };
  std::string const key = "blocks.0.att.key.weight";
  Matrix a, b;
  {
    SafeTensors const file(c.path("l.safetensors"));
    for (std::string_view const name : file.names()) CHECK((name.ends_with(".lora_A") || name.ends_with(".lora_B")));
    a = read(file, key + ".lora_A"), b = read(file, key + ".lora_B");
    CHECK(file.metadata().at("alpha") == "4");
  }
  REQUIRE(train(arguments + Arguments{"--resume", "--merge"}).status == 0);
  CHECK(logits(c.path("l.safetensors")) != logits(model));
  SafeTensors const base(model), merged(c.path("l.safetensors"));
  CHECK(read(base, "emb.weight").numbers == read(merged, "emb.weight").numbers);
  Matrix const before = read(base, key), after = read(merged, key);
  double error = 0, largest = 0, change = 0;
  for (std::size_t i = 0; i < before.numbers.size(); ++i) {
    std::size_t const row = i / before.columns, column = i % before.columns;
    double expected = double{before.numbers[i]};
    for (std::size_t n = 0; n < 2; ++n)
      expected += 2. * double{b.numbers[2 * row + n]} * double{a.numbers[n * a.columns + column]};
    error = std::max(error, std::abs(double{after.numbers[i]} - expected));
    largest = std::max(largest, std::abs(expected));
    change = std::max(change, std::abs(expected - double{before.numbers[i]}));
  }
  CHECK(change > 1e-3);
  CHECK(error <= 4 * 0x1p-23 * largest);
}
