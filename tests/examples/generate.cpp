/// The program `generate`, run as its users run it.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <cstring>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "models/threads.hpp"
#include "support/compare.hpp"
#include "support/container_case.hpp"
#include "support/generations.hpp"
#include "support/plain_rwkv.hpp"
#include "support/process.hpp"
#include "support/terminal.hpp"
#include "support/zip_case.hpp"

using namespace aviary;
using test::Arguments;
using test::CheckpointCase;
using test::Finished;
using test::max_error;
using test::TemporaryFolder;
using test::operator+;

namespace {

Finished generate(Arguments const& arguments, test::Streams const& streams = {}) {
  return test::run_program("generate", arguments, streams);
}

/// Where the program can have them: it is built as this one.
std::string const two_threads = models::has_threads ? "2" : "1";

/// Joins two lists of arguments.
/// A checkpoint whose tokens are bytes.
CheckpointCase byte_model() { return test::random_rwkv({.vocab = 256, .heads = 1, .head_size = 64}); }

/// The same, but the most likely token is always `token`, with all others equal.
CheckpointCase always(CheckpointCase weights, Index token) {
  auto const fill = [&](char const* name, float x) {
    auto& numbers = weights.tensors.at(name).numbers;
    numbers.assign(numbers.size(), x);
  };
  fill("ln_out.weight", 0);
  fill("ln_out.bias", 1);
  fill("head.weight", 0);
  for (Index i = 0; i < 64; ++i) weights.tensors.at("head.weight").numbers[to_size(token * 64 + i)] = 1;
  return weights;
}

std::vector<double> numbers_in(std::string const& text) {
  std::istringstream in(text);
  std::vector<double> numbers;
  for (double x = 0; in >> x;) numbers.push_back(x);
  return numbers;
}

/// Fails with status and one line, and prints nothing on standard output.
void check_failure(Arguments const& arguments, int status, std::string const& message) {
  Finished const run = generate(arguments);
  CAPTURE(message);
  CHECK(run.status == status);
  CHECK(run.out == "");
  CHECK(run.err == "generate: " + message + "\n");
}

/// The checkpoint as torch writes it.
std::string torch_file(CheckpointCase const& weights) {
  using namespace test::pickled;
  std::vector<std::string> tensors;
  std::vector<std::pair<std::string, std::string>> storages;
  for (auto const& [name, entry] : weights.tensors) {
    std::string const key = std::to_string(storages.size());
    auto const bytes = std::as_bytes(std::span(entry.numbers));
    storages.emplace_back(key, std::string(reinterpret_cast<char const*>(bytes.data()), bytes.size()));
    std::vector<std::int64_t> strides(entry.shape.size(), 1);
    for (std::size_t i = strides.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * entry.shape[i];
    tensors.push_back(text(name));
    tensors.push_back(
        tensor(storage("FloatStorage", key, static_cast<std::int64_t>(entry.numbers.size())), 0, entry.shape, strides));
  }
  return test::torch_of(dict(tensors), storages);
}

/// A checkpoint file in pieces that can be damaged.
struct Pieces {
  nlohmann::json header;
  std::string data;

  explicit Pieces(std::string const& file) {
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), sizeof(length));
    header = nlohmann::json::parse(file.substr(8, length));
    data = file.substr(8 + length);
  }
  std::string file() const {
    std::string const text = header.dump();
    std::uint64_t const length = text.size();
    std::string bytes(sizeof(length), '\0');
    std::memcpy(bytes.data(), &length, sizeof(length));
    return bytes + text + data;
  }
};

}  // namespace

TEST_CASE("generate: logits of the equations, from text and from ids") {
  TemporaryFolder const folder;
  auto const weights = byte_model();
  std::string const model = weights.write(folder / "m.safetensors").string();
  test::PlainRwkv plain(weights);
  std::vector<double> expected;
  for (Index const token : {72, 105, 255}) expected = plain.step(token);
  for (Arguments const& prompt : {Arguments{"--prompt", "Hi\xff"}, Arguments{"--tokens", "72,105,255"}}) {
    Finished const run = generate({"--model", model, prompt[0], prompt[1], "--logits"});
    CHECK(run.status == 0);
    CHECK(run.err == "");
    CHECK(std::count(run.out.begin(), run.out.end(), '\n') == 256);
    CHECK(max_error(numbers_in(run.out), expected) <= 2e-5);
  }
  // Without a prompt, or with an empty one, the model starts from token 0.
  test::PlainRwkv fresh(weights);
  expected = fresh.step(0);
  CHECK(max_error(numbers_in(generate({"--model", model, "--logits"}).out), expected) <= 2e-5);
  CHECK(max_error(numbers_in(generate({"--model", model, "--logits", "--prompt", ""}).out), expected) <= 2e-5);
}

TEST_CASE("generate: the most likely tokens, streamed as bytes or as ids") {
  TemporaryFolder const folder;
  for (Index const vocab : {256, 40}) {
    auto const weights = test::random_rwkv({.layers = 3, .vocab = vocab, .heads = 2, .head_size = 24});
    std::string const model = weights.write(folder / "m.safetensors").string();
    test::PlainRwkv plain(weights);
    auto logits = plain.step(7);
    std::string bytes, ids;
    for (int i = 0; i < 20; ++i) {
      Index const best = std::max_element(logits.begin(), logits.end()) - logits.begin();
      bytes += static_cast<char>(best);
      ids += (i > 0 ? "," : "") + std::to_string(best);
      logits = plain.step(best);
    }
    Arguments const arguments{"--model", model, "--tokens", "7", "--length", "20", "--temperature", "0"};
    Finished const run = generate(arguments);
    CHECK(run.status == 0);
    CHECK(run.err == "");
    CHECK(run.out == (vocab == 256 ? bytes : ids + "\n"));
    Finished const with_stats = generate(arguments + Arguments{"--threads", two_threads, "--stats"});
    CHECK(with_stats.out == run.out);
    CHECK(with_stats.err.starts_with("instruction set: "));
    CHECK(with_stats.err.find("\nprefill: 1 tokens, ") != std::string::npos);
    CHECK(with_stats.err.find("decode: 20 tokens, ") != std::string::npos);
  }
}

TEST_CASE("generate: equal seeds make equal texts") {
  TemporaryFolder const folder;
  std::string const model = byte_model().write(folder / "m.safetensors").string();
  auto const text = [&](std::string const& seed) {
    return generate({"--model", model, "--prompt", "a", "--length", "50", "--top-p", "1", "--seed", seed}).out;
  };
  CHECK(text("1").size() == 50);
  CHECK(text("1") == text("1"));
  CHECK(text("1") != text("18446744073709551615"));
  CHECK(generate({"--model", model, "--length", "0"}).out == "");
}

TEST_CASE("generate: a vocabulary turns ids into text and ends at its end") {
  TemporaryFolder const folder;
  std::string const vocab = folder.file("vocab.txt", "1 'ab' 2\n2 'a' 1\n3 'b' 1\n4 '\\n' 1\n").string();
  auto const base = test::random_rwkv({.vocab = 8, .heads = 1, .head_size = 64});
  auto const run = [&](Index token) {
    std::string const model = always(base, token).write(folder / "m.safetensors").string();
    return generate({"--model", model, "--vocab", vocab, "--prompt", "aab", "--length", "3", "--temperature", "0"});
  };
  CHECK(run(1).out == "ababab");
  CHECK(run(4).out == "\n\n\n");
  CHECK(run(0).out == "");  // the end of the text
  CHECK(run(7).out == "");  // a padded id stands for nothing
  CHECK(run(7).status == 0);

  std::string const model = base.write(folder / "m.safetensors").string();
  auto const logits = [&](std::string const& option, std::string const& prompt) {
    return generate({"--model", model, "--vocab", vocab, option, prompt, "--logits"}).out;
  };
  CHECK(logits("--prompt", "aab") == logits("--tokens", "2,1"));
  CHECK(logits("--prompt", "aab") != logits("--tokens", "2,2,3"));
}

TEST_CASE("generate: tensors without a use are mentioned") {
  TemporaryFolder const folder;
  auto weights = byte_model();
  weights.add("optimizer\n.step", {1}, {3});
  std::string const model = weights.write(folder / "m.safetensors").string();
  Finished const run = generate({"--model", model, "--length", "1"});
  CHECK(run.status == 0);
  CHECK(run.err == "generate: note: 1 tensors of the file are not used, the first is 'optimizer\\x0a.step'\n");
}

TEST_CASE("generate: help says what it does") {
  Finished const run = generate({"--help"});
  CHECK(run.status == 0);
  CHECK(run.err == "");
  CHECK(run.out.find("Continues a text with an RWKV or GoldFinch model") != std::string::npos);
  for (char const* option :
       {"--model",       "--vocab",          "--prompt",      "--prompt-file", "--tokens",     "--length",
        "--temperature", "--top-p",          "--top-k",       "--presence",    "--frequency",  "--penalty-decay",
        "--seed",        "--stop",           "--stop-text",   "--interactive", "--load-state", "--save-state",
        "--logits",      "--group-norm-eps", "--weights",     "--threads",     "--stats",      "/reset",
        "--cache",       "--keep-keys",      "--rotary-base", "/save FILE",    "/load FILE",   "--initial-state"})
    CHECK(run.out.find(option) != std::string::npos);
}

TEST_CASE("generate: files that are no checkpoint are status 1") {
  TemporaryFolder const folder;
  auto const weights = byte_model();
  std::string const text = weights.text(), path = (folder / "m.safetensors").string();
  auto const check = [&](std::string const& content, std::string const& message) {
    folder.file("m.safetensors", content);
    check_failure({"--model", path}, 1, path + ": " + message);
  };

  SUBCASE("missing") { check_failure({"--model", path}, 1, path + ": cannot open: No such file or directory"); }
  SUBCASE("empty") { check("", "expected 8 bytes of header length, found a file of 0 bytes"); }
  SUBCASE("truncated") {
    folder.file("m.safetensors", text.substr(0, text.size() - 100));
    Finished const run = generate({"--model", path});
    CHECK(run.status == 1);
    CHECK(run.out == "");
    CHECK(run.err.starts_with("generate: " + path + ": tensor '"));
    CHECK(run.err.ends_with("the file is damaged or cut short\n"));
    CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
  }
  SUBCASE("header longer than the file") {
    std::string longer = text;
    longer[3] = 1;  // 2^24 more
    std::uint64_t length = 0;
    std::memcpy(&length, longer.data(), sizeof(length));
    check(longer, "expected a header of " + std::to_string(length) + " bytes, found " +
                      std::to_string(text.size() - 8) + " left in the file");
  }
  SUBCASE("header not JSON") {
    std::string broken = text;
    broken[8] = 'x';
    check(broken, "the header does not begin with '{'");
  }
  SUBCASE("overlapping offsets") {
    Pieces pieces(text);
    auto& offsets = pieces.header["ln_out.weight"]["data_offsets"];
    offsets = pieces.header["ln_out.bias"]["data_offsets"];
    Finished const run = (folder.file("m.safetensors", pieces.file()), generate({"--model", path}));
    CHECK(run.status == 1);
    CHECK(run.out == "");
    CHECK(run.err.starts_with("generate: " + path + ": tensors 'ln_out.bias' and 'ln_out.weight' overlap: "));
  }
  SUBCASE("offsets out of range") {
    Pieces pieces(text);
    auto const n = pieces.data.size();
    pieces.header["ln_out.weight"]["data_offsets"] = {n, n + 256};
    check(pieces.file(), "tensor 'ln_out.weight': data_offsets [" + std::to_string(n) + ", " + std::to_string(n + 256) +
                             "] reach beyond the " + std::to_string(n) +
                             " bytes of data: the file is damaged or cut short");
  }
  SUBCASE("a tensor missing") {
    auto broken = weights;
    broken.tensors.erase("blocks.1.att.k_k");
    check(broken.text(), "has no tensor 'blocks.1.att.k_k' among its " + std::to_string(broken.tensors.size()));
  }
  SUBCASE("a tensor of a wrong shape") {
    auto broken = weights;
    broken.add("blocks.0.ffn.value.weight", {64, 41}, std::vector<float>(64 * 41));
    check(broken.text(), "tensor 'blocks.0.ffn.value.weight': expected shape [64, 40], found [64, 41]");
  }
  SUBCASE("a tensor of a wrong dtype") {
    Pieces pieces(text);
    pieces.header["ln_out.weight"]["dtype"] = "I32";
    check(pieces.file(), "tensor 'ln_out.weight': expected dtype f64, f32, f16, bf16, found i32");
  }
  SUBCASE("no model at all") {
    CheckpointCase other;
    other.add("weight", {1}, {0});
    check(other.text(), "has no tensor 'emb.weight' among its 1");
  }
  SUBCASE("no model that it knows") {
    CheckpointCase other;
    other.add("emb.weight", {1}, {0});
    check(other.text(),
          "tensor 'emb.weight': expected tensors of RWKV-4, 5, 6, 7 or GoldFinch beside it, found those of no known "
          "generation");
  }
}

TEST_CASE("generate: vocabularies that do not fit are status 1") {
  TemporaryFolder const folder;
  std::string const model = byte_model().write(folder / "m.safetensors").string();
  std::string const missing = (folder / "none.txt").string();
  check_failure({"--model", model, "--vocab", missing}, 1, missing + ": cannot open: No such file or directory");
  std::string const large = folder.file("large.txt", "256 'a' 1\n").string();
  check_failure({"--model", model, "--vocab", large}, 1,
                large + ": expected at most the model's 256 tokens, found ids up to 256");
}

TEST_CASE("generate: wrong arguments are status 2 and say what was expected and found") {
  TemporaryFolder const folder;
  std::string const model = byte_model().write(folder / "m.safetensors").string();
  auto const check = [&](Arguments arguments, std::string const& message) {
    arguments.insert(arguments.begin(), {"--model", model});
    check_failure(arguments, 2, message);
  };
  for (char const* n : {"-1", "1.5", "many", "", "99999999999999999999"})
    check({"--length", n}, "--length: expected a whole number from 0 on, found '" + std::string(n) + "'");
  for (char const* x : {"nan", "-1", "inf", "hot", "1e999"})
    check({"--temperature", x}, "--temperature: expected a number from 0 on, found '" + std::string(x) + "'");
  for (char const* x : {"0", "1.01", "nan", "-0.5", "0,5"})
    check({"--top-p", x}, "--top-p: expected a number above 0 and at most 1, found '" + std::string(x) + "'");
  for (char const* x : {"0", "-1e-5", "nan", "inf", "1e-300", "1e39"})
    check({"--group-norm-eps", x}, "--group-norm-eps: expected a number above 0, found '" + std::string(x) + "'");
  for (char const* n : {"0", "-2", "two", "1025"})
    check({"--threads", n}, "--threads: expected a whole number from 1 to 1024, found '" + std::string(n) + "'");
  for (char const* n : {"0", "-2", "two", "4097"})
    check({"--prompts", "p", "--batch", n},
          "--batch: expected a whole number from 1 to 4096, found '" + std::string(n) + "'");
  check({"--batch", "3"}, "--batch: expected --prompts with it, found none");
  check({"--prompts", ""}, "--prompts: expected a file, found ''");
  check({"--prompts", "p", "--prompt", "x"}, "expected --prompt or --prompts, found both");
  for (Arguments const& other : {Arguments{"--interactive"}, {"--logits"}, {"--save-state", "s"}})
    check(Arguments{"--prompts", "p"} + other, "expected --prompts or " + other.front() + ", found both");
  for (char const* n : {"-1", "x", "18446744073709551616"})
    check({"--seed", n}, "--seed: expected a whole number from 0 to 2^64 - 1, found '" + std::string(n) + "'");
  for (char const* n : {"-1", "0.5", "all"})
    check({"--top-k", n}, "--top-k: expected a whole number from 0 on, found '" + std::string(n) + "'");
  for (char const* option : {"--presence", "--frequency"})
    for (char const* x : {"nan", "inf", "1e39", "some", ""})
      check({option, x}, std::string(option) + ": expected a number, found '" + x + "'");
  for (char const* x : {"-0.1", "1.1", "nan", "x"})
    check({"--penalty-decay", x}, "--penalty-decay: expected a number from 0 to 1, found '" + std::string(x) + "'");
  for (char const* x : {"fp16", "", "F32", "4"})
    check({"--weights", x}, "--weights: expected exact, f32, bf16, f16, q8 or q4, found '" + std::string(x) + "'");
  for (char const* x : {"", "fast", "bits4"})
    check({"--arithmetic", x}, "--arithmetic: expected full, bits16 or bits8, found '" + std::string(x) + "'");
  for (char const* x : {"full", "exact", "int8", "i32", "", "bf16 ", "8", "q4"})
    check({"--cache", x}, "--cache: expected f32, bf16, f16 or q8, found '" + std::string(x) + "'");
  for (char const* x : {"0", "-1", "nan", "inf", "1e999", ""})
    check({"--rotary-base", x}, "--rotary-base: expected a number above 0, found '" + std::string(x) + "'");
  for (char const* option : {"--tokens", "--stop"}) {
    for (char const* ids : {"", "1,,2", "1, 2", "a", "1,", "-1", "99999999999"})
      check({option, ids},
            std::string(option) + ": expected token ids from 0 on, separated by commas, found '" + ids + "'");
    check({option, "1\n2"},
          std::string(option) + ": expected token ids from 0 on, separated by commas, found '1\\x0a2'");
    check({option,
           "1\xc2\x9b"
           "2\x9b"},
          std::string(option) +
              ": expected token ids from 0 on, separated by commas, found '1\\xc2\\x9b"
              "2\\x9b'");
    check({option, "3,256"}, std::string(option) + ": expected token ids from 0 to 255, found '256'");
  }
  check({"--stop", "1", "--stop", "x"}, "--stop: expected token ids from 0 on, separated by commas, found 'x'");
  check({"--stop-text", "a", "--stop-text", ""}, "--stop-text: expected a text, found ''");
  for (char const* option : {"--vocab", "--prompt-file", "--load-state", "--save-state"})
    check({option, ""}, std::string(option) + ": expected a file, found ''");
  check({"--tokens", "1", "--prompt", "a"}, "expected --prompt or --tokens, found both");
  check({"--prompt-file", "a", "--prompt", ""}, "expected --prompt or --prompt-file, found both");
  check({"--prompt-file", "a", "--tokens", "1"}, "expected --prompt-file or --tokens, found both");
  check({"--interactive", "--logits"}, "expected --interactive or --logits, found both");
  check({"--interactive", "--prompt-file", "-"},
        "--prompt-file: expected a file, as --interactive reads standard input, found '-'");
  for (Arguments const& arguments : {Arguments{"--longest", "1"}, {"--length"}, {"extra"}}) {
    Finished const run = generate(arguments);  // the parser's own messages
    CHECK(run.status == 2);
    CHECK(run.out == "");
    CHECK(run.err.starts_with("generate: "));
    CHECK(run.err.find(arguments[0]) != std::string::npos);
    CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
  }

  Finished const nothing = generate({"--model", ""});
  CHECK(nothing.status == 2);
  CHECK(nothing.out == "");
  CHECK(nothing.err.starts_with("generate: --model: expected a checkpoint, found none; "));
  CHECK(std::count(nothing.err.begin(), nothing.err.end(), '\n') == 1);
}

TEST_CASE("generate: without a model it writes with the one that comes with the project") {
  Finished const run = generate({"--prompt", "And the LORD said unto Moses, ", "--length", "40", "--temperature", "0"});
  CHECK(run.status == 0);
  CHECK(run.err == "");
  CHECK(run.out.size() >= 40);
  // Words of the text that it learned, and nothing else but letters, spaces and marks.
  CHECK(std::ranges::all_of(run.out, [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); }));
  CHECK(run.out.find(" the ") != std::string::npos);
}

TEST_CASE("generate: prompts that the vocabulary cannot encode are status 2") {
  TemporaryFolder const folder;
  auto const small = test::random_rwkv({.vocab = 8, .heads = 1, .head_size = 64});
  std::string const model = small.write(folder / "m.safetensors").string();
  std::string const vocab = folder.file("vocab.txt", "1 'ab' 2\n2 'a' 1\n").string();
  check_failure({"--model", model, "--vocab", vocab, "--prompt", "aab\xc3"}, 2,
                "--prompt: no token begins with byte 195 at position 3 of the text");
  for (char const* option : {"--prompt", "--prompt-file"})
    check_failure({"--model", model, option, "a"}, 2,
                  std::string(option) +
                      ": expected --vocab or --tokens, as the model's vocabulary has 8 tokens and not 256 bytes");
  check_failure({"--model", model, "--stop-text", "a"}, 2,
                "--stop-text: expected --vocab or --stop, as the model's vocabulary has 8 tokens and not 256 bytes");
}

TEST_CASE("generate: penalties of the equations, against the same in double") {
  TemporaryFolder const folder;
  auto const weights = byte_model();
  std::string const model = weights.write(folder / "m.safetensors").string();
  double const presence = 0.4, frequency = 0.3, decay = 0.9;
  test::PlainRwkv plain(weights);
  auto logits = plain.step('a');
  std::map<Index, double> counts;
  std::string expected;
  for (int i = 0; i < 60; ++i) {
    for (auto const& entry : counts) logits[to_size(entry.first)] -= presence + frequency * entry.second;
    Index const best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    for (auto& entry : counts) entry.second *= decay;
    bool const is_digit_or_blank = best == ' ' || best == '\t' || (best >= '0' && best <= '9');
    counts[best] += is_digit_or_blank ? 0 : 1;
    expected += static_cast<char>(best);
    logits = plain.step(best);
  }
  Arguments const arguments{"--model", model, "--prompt", "a", "--length", "60", "--temperature", "0"};
  CHECK(generate(arguments + Arguments{"--presence", "0.4", "--frequency", "0.3", "--penalty-decay", "0.9"}).out ==
        expected);
  CHECK(generate(arguments).out != expected);
}

TEST_CASE("generate: top-k 1 is greedy") {
  TemporaryFolder const folder;
  std::string const model = byte_model().write(folder / "m.safetensors").string();
  Arguments const arguments{"--model", model, "--prompt", "a", "--length", "30", "--top-p", "1"};
  std::string const greedy = generate(arguments + Arguments{"--temperature", "0"}).out;
  CHECK(generate(arguments + Arguments{"--top-k", "1"}).out == greedy);
  CHECK(generate(arguments).out != greedy);
}

TEST_CASE("generate: stops at tokens and texts") {
  TemporaryFolder const folder;
  std::string const model = byte_model().write(folder / "m.safetensors").string();
  Arguments const arguments{"--model", model, "--prompt", "a", "--length", "60", "--temperature", "0"};
  std::string const text = generate(arguments).out;
  REQUIRE(text.size() == 60);
  auto const stop_at = [&](std::size_t i) { return std::to_string(static_cast<unsigned char>(text[i])); };
  std::size_t const first = std::min(text.find(text[20]), text.find(text[30]));
  CHECK(generate(arguments + Arguments{"--stop", stop_at(20) + "," + stop_at(30)}).out == text.substr(0, first));
  CHECK(generate(arguments + Arguments{"--stop", stop_at(20), "--stop", stop_at(30)}).out == text.substr(0, first));
  std::string const three = text.substr(20, 3), four = text.substr(40, 4);
  CHECK(generate(arguments + Arguments{"--stop-text", four, "--stop-text", three}).out ==
        text.substr(0, std::min(text.find(three), text.find(four))));
  CHECK(generate(arguments + Arguments{"--stop-text", "[]"}).out == text.substr(0, text.find("[]")));
}

TEST_CASE("generate: a prompt from a file or from standard input") {
  TemporaryFolder const folder;
  std::string const model = byte_model().write(folder / "m.safetensors").string();
  std::string prompt;
  for (int i = 0; i < 3000; ++i) prompt += static_cast<char>(i * i % 251);  // more than a line, a block, a page
  std::string const file = folder.file("prompt", prompt).string();
  Arguments const arguments{"--model", model, "--length", "20", "--temperature", "0"};
  Finished const run = generate(arguments + Arguments{"--prompt-file", file});
  CHECK(run.status == 0);
  CHECK(run.out.size() == 20);
  CHECK(run.err == "");  // it is no terminal: no progress
  CHECK(generate(arguments + Arguments{"--prompt-file", "-"}, {.in = prompt}).out == run.out);
  CHECK(generate(arguments + Arguments{"--prompt-file", file, "--threads", two_threads}).out == run.out);
  std::string ids;
  for (char const c : prompt) ids += (ids.empty() ? "" : ",") + std::to_string(static_cast<unsigned char>(c));
  CHECK(generate(arguments + Arguments{"--tokens", ids}).out == run.out);

  check_failure(arguments + Arguments{"--prompt-file", file + "2"}, 1,
                file + "2: cannot open: No such file or directory");
  check_failure(arguments + Arguments{"--prompt-file", folder.path().string()}, 1,
                folder.path().string() + ": cannot read: Is a directory");
  std::string const small = test::random_rwkv({.vocab = 8, .heads = 1, .head_size = 64}).write(folder / "s").string();
  std::string const vocab = folder.file("vocab.txt", "1 'ab' 2\n2 'a' 1\n").string();
  std::string const bad = folder.file("bad", "aabx").string();
  check_failure({"--model", small, "--vocab", vocab, "--prompt-file", bad}, 1,
                bad + ": no token begins with byte 120 at position 3 of the text");
}

TEST_CASE("generate: many prompts have the replies that they have alone, in their order") {
  TemporaryFolder const folder;
  std::string const model = byte_model().write(folder / "m.safetensors").string();
  std::vector<std::string> const prompts{"one", "", "a longer one, which takes its time", "x", "yes", "\xc3\xa9"};
  std::string lines, json;
  for (std::string const& prompt : prompts) {
    lines += prompt + "\n";
    json += nlohmann::json{{"prompt", prompt}, {"id", prompt.size()}}.dump() + "\n";
  }
  Arguments const options{"--model", model, "--length", "9", "--seed", "3", "--threads", two_threads};
  std::string const text_file = folder.file("p.txt", lines).string(), json_file = folder.file("p.jsonl", json).string();
  for (std::string const& file : {text_file, json_file})
    for (char const* const batch : {"1", "2", "64"}) {
      Finished const run = generate(options + Arguments{"--prompts", file, "--batch", batch});
      CHECK(run.status == 0);
      CHECK(run.err == "");
      std::istringstream in(run.out);
      std::string line;
      for (std::size_t i = 0; i < prompts.size(); ++i) {
        REQUIRE(std::getline(in, line));
        auto const reply = nlohmann::json::parse(line);
        CHECK(reply.at("index") == i);
        CHECK(reply.contains("id") == (file == json_file));
        if (file == json_file) CHECK(reply.at("id") == prompts[i].size());
        std::string bytes;
        for (int const token : reply.at("tokens")) bytes += static_cast<char>(token);
        Finished const alone = generate(options + Arguments{"--prompt", prompts[i]});
        CHECK(bytes == alone.out);
        CHECK(reply.at("end") == (bytes.size() == 9 ? "length" : "stop"));
      }
      CHECK_FALSE(std::getline(in, line));
    }
  Finished const piped = generate(options + Arguments{"--prompts", "-", "--stats"}, {.in = "one\r\nno end"});
  CHECK(piped.status == 0);
  CHECK(piped.err.find("made: ") != std::string::npos);
  CHECK(std::count(piped.out.begin(), piped.out.end(), '\n') == 2);
}

TEST_CASE("generate: what is wrong with a prompt is said in its place, and the others go on") {
  TemporaryFolder const folder;
  std::string const model = byte_model().write(folder / "m.safetensors").string();
  std::string const file = folder
                               .file("p.jsonl",
                                     "\"a\"\n{\"tokens\": [1, 256], \"id\": \"b\"}\n{\"tokens\": [1, 2]}\nno JSON\n7\n"
                                     "{\"prompt\": \"a\", \"tokens\": []}\n{\"promt\": \"a\"}\n{\"tokens\": [-1]}\n"
                                     "{\"prompt\": 3}\n{\"tokens\": 3}\n\n\"z\"")
                               .string();
  Finished const run = generate({"--model", model, "--length", "2", "--prompts", file});
  CHECK(run.status == 1);
  CHECK(run.err == "generate: 9 of 12 prompts failed, see their lines\n");
  std::vector<nlohmann::json> replies;
  std::istringstream in(run.out);
  for (std::string line; std::getline(in, line);) replies.push_back(nlohmann::json::parse(line));
  REQUIRE(replies.size() == 12);
  std::map<std::size_t, std::string> const errors{{1, "expected token ids from 0 to 255, found '256'"},
                                                  {3, "expected a line of JSON, found none"},
                                                  {4, "expected a string or an object, found another kind of JSON"},
                                                  {5, "expected one of prompt and tokens"},
                                                  {6, "expected id, prompt and tokens, found another member"},
                                                  {7, "expected ids from 0 on as tokens, found -1"},
                                                  {8, "expected a string as prompt"},
                                                  {9, "expected a list of ids as tokens"},
                                                  {10, "expected a line of JSON, found none"}};
  for (std::size_t i = 0; i < replies.size(); ++i) {
    CHECK(replies[i].at("index") == i);
    auto const error = errors.find(i);
    CHECK(replies[i].contains("error") == (error != errors.end()));
    if (error != errors.end()) CHECK(replies[i].at("error") == error->second);
  }
  CHECK(replies[1].at("id") == "b");
  check_failure({"--model", model, "--prompts", folder / "none"}, 1,
                (folder / "none").string() + ": cannot open: No such file or directory");
}

TEST_CASE("generate: progress on a terminal, for long prompts alone") {
  TemporaryFolder const folder;
  test::Terminal const terminal;
  if (!terminal.is_open()) {
    MESSAGE("not run: the system has no pseudo-terminals");
    return;
  }
  std::string const model = byte_model().write(folder / "m.safetensors").string();
  auto const messages = [&](std::size_t length) {
    std::string const prompt = folder.file("prompt", std::string(length, 'p')).string();
    Finished const run =
        generate({"--model", model, "--prompt-file", prompt, "--length", "3", "--stats"}, {.err = terminal.path()});
    CHECK(run.status == 0);
    CHECK(run.out.size() == 3);
    std::string const text = terminal.text();
    return text.substr(text.find('\n') + 1);  // after the line about the instruction set
  };
  CHECK(messages(2047).starts_with("prefill: 2047 tokens, "));
  std::string const text = messages(4096);
  CHECK(text.starts_with("\rprefill: 0%\rprefill: 2%\rprefill: 4%"));
  CHECK(text.find("\rprefill: 98%\r             \rprefill: 4096 tokens, ") != std::string::npos);
}

TEST_CASE("generate: the environment names an instruction set") {
  TemporaryFolder const folder;
  auto const weights = byte_model();
  std::string const model = weights.write(folder / "m.safetensors").string();
  std::vector<double> const expected = test::PlainRwkv(weights).step('a');
  auto const with = [&](std::string const& set) {
    ::setenv("AVIARY_INSTRUCTION_SET", set.c_str(), 1);
    Finished run = generate({"--model", model, "--prompt", "a", "--logits", "--stats"});
    ::unsetenv("AVIARY_INSTRUCTION_SET");
    return run;
  };
  for (std::string const set : {"baseline", "avx2", "avx512", "vnni", "amx"}) {
    CAPTURE(set);
    Finished const run = with(set);
    if (set != "baseline" && run.status == 2) {
      CHECK(run.err.find("baseline, found '" + set + "', which this p") != std::string::npos);  // program or processor
      continue;
    }
    CHECK(run.status == 0);
    CHECK(run.err.starts_with("instruction set: " + set + "\n"));
    CHECK(max_error(numbers_in(run.out), expected) <= 2e-5);
  }
  Finished const run = with("avx3");
  CHECK(run.status == 2);
  CHECK(run.err.starts_with("generate: aviary: AVIARY_INSTRUCTION_SET: expected "));
  CHECK(run.err.ends_with("baseline, found 'avx3'\n"));
}

TEST_CASE("generate: how weights are kept") {
  TemporaryFolder const folder;
  std::string const model = byte_model().write(folder / "m.safetensors").string();
  auto const logits = [&](char const* weights) {
    Finished const run = generate({"--model", model, "--prompt", "a", "--logits", "--weights", weights});
    CHECK(run.status == 0);
    CHECK(run.err == "");
    CHECK(numbers_in(run.out).size() == 256);
    return run.out;
  };
  std::string const full = logits("f32");
  CHECK(logits("exact") == full);  // random floats have no exact 16-bit form
  for (char const* weights : {"bf16", "f16", "q8", "q4"}) CHECK(logits(weights) != full);
}

TEST_CASE("generate: GoldFinch, with its token cache in any form") {
  TemporaryFolder const folder;
  std::string const state = (folder / "s").string();
  auto const weights = test::random_goldfinch({.layers = 4, .vocab = 256, .attention_layers = 2});
  Arguments const arguments{"--model", weights.write(folder / "m.safetensors").string(), "--temperature", "0"};
  auto const logits = [&](Arguments const& more) {
    Finished const run = generate(arguments + Arguments{"--prompt", "Hello", "--logits"} + more);
    CHECK(run.status == 0);
    CHECK(run.err == "");
    CHECK(numbers_in(run.out).size() == 256);
    return run.out;
  };
  std::string const full = logits({});
  CHECK(logits({"--cache", "f32"}) == full);
  CHECK(logits({"--keep-keys"}) == full);
  CHECK(logits({"--threads", two_threads}) == full);
  for (char const* format : {"bf16", "f16", "q8"}) {
    CHECK(logits({"--cache", format}) != full);
    CHECK(max_error(numbers_in(logits({"--cache", format})), numbers_in(full)) <= 0x1p-8);
  }
  CHECK(logits({"--rotary-base", "10000"}) != full);
  CHECK(logits({"--rotary-base", "1e4"}) != logits({"--rotary-base", "50.5"}));

  std::string const whole = generate(arguments + Arguments{"--prompt", "Hello", "--length", "30"}).out;
  CHECK(whole.size() == 30);
  std::string const first =
      generate(arguments + Arguments{"--prompt", "Hello", "--length", "12", "--save-state", state}).out;
  Arguments const rest = arguments + Arguments{"--load-state", state, "--length", "18"};
  CHECK(first + generate(rest + Arguments{"--keep-keys"}).out == whole);
  check_failure(rest + Arguments{"--cache", "q8"}, 1,
                state +
                    ": expected the context of a model of finch_c2, 2 layers, 32 channels, 2 of attention, cache of "
                    "q8, 256 tokens, found 'finch_c2, 2 layers, 32 channels, 2 of attention, cache of full "
                    "numbers, 256 tokens'");
}

TEST_CASE("generate: a saved state goes on as if nothing had happened") {
  TemporaryFolder const folder;
  std::string const model = byte_model().write(folder / "m.safetensors").string(), state = (folder / "s").string();
  Arguments const greedy{"--model", model, "--temperature", "0"};
  std::string const whole = generate(greedy + Arguments{"--prompt", "Hello", "--length", "30"}).out;
  Finished const first = generate(greedy + Arguments{"--prompt", "Hello", "--length", "12", "--save-state", state});
  CHECK(first.status == 0);
  CHECK(first.err == "");
  Finished const rest = generate(greedy + Arguments{"--load-state", state, "--length", "18"});
  CHECK(rest.err == "");
  CHECK(first.out + rest.out == whole);

  // Logits are those after the last token; a prompt goes on from there. The same file may be read and written.
  std::string const logits = generate(greedy + Arguments{"--prompt", "Hello", "--logits", "--save-state", state}).out;
  CHECK(generate(greedy + Arguments{"--load-state", state, "--logits"}).out == logits);
  CHECK(generate(greedy + Arguments{"--load-state", state, "--save-state", state, "--tokens", "33", "--length", "0"})
            .out == "");
  CHECK(max_error(numbers_in(generate(greedy + Arguments{"--load-state", state, "--logits"}).out),
                  numbers_in(generate(greedy + Arguments{"--prompt", "Hello!", "--logits"}).out)) <= 2e-5);
}

TEST_CASE("generate: first states of another file are as if the model had them") {
  TemporaryFolder const folder;
  auto const weights = byte_model();
  CheckpointCase states;
  auto whole = weights;
  for (Index const layer : {0, 1}) {
    std::vector<float> numbers(64 * 64);
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = 1e-3f * static_cast<float>(i % 97);
    std::string const name = "blocks." + std::to_string(layer) + ".att.time_state";
    states.add(name, {1, 64, 64}, numbers);
    whole.add(name, {1, 64, 64}, numbers);
  }
  std::string const model = weights.write(folder / "m.safetensors").string(),
                    file = states.write(folder / "s.safetensors").string();
  auto const logits = [](Arguments const& arguments) {
    Finished const run = generate(arguments + Arguments{"--prompt", "Hi", "--logits"});
    CHECK(run.status == 0);
    CHECK(run.err == "");
    return run.out;
  };
  std::string const with = logits({"--model", model, "--initial-state", file});
  CHECK(with == logits({"--model", whole.write(folder / "w.safetensors").string()}));
  CHECK(with == logits({"--model", folder / "w.safetensors", "--initial-state", file}));
  CHECK(with != logits({"--model", model}));

  auto const check = [&](CheckpointCase const& other, std::string const& message) {
    std::string const path = other.write(folder / "o.safetensors").string();
    check_failure({"--model", model, "--initial-state", path}, 1, path + ": " + message);
  };
  check(weights, "tensor 'blocks.0.att.a0': expected blocks.i.att.time_state alone, which --state trains");
  auto further = states;
  further.add("blocks.2.att.time_state", {1, 64, 64}, std::vector<float>(64 * 64));
  check(further, "tensor 'blocks.2.att.time_state': the model has no such layer");
  auto smaller = states;
  smaller.add("blocks.0.att.time_state", {1, 32, 32}, std::vector<float>(32 * 32));
  check(smaller, "tensor 'blocks.0.att.time_state': expected shape [1, 64, 64], found [1, 32, 32]");
}

TEST_CASE("generate: states that do not fit are status 1") {
  TemporaryFolder const folder;
  std::string const model = byte_model().write(folder / "m.safetensors").string(), state = (folder / "s").string();
  std::string const deep =
      test::random_rwkv({.layers = 3, .vocab = 256, .heads = 1, .head_size = 64}).write(folder / "d").string();
  generate({"--model", deep, "--length", "1", "--save-state", state});
  check_failure({"--model", model, "--load-state", state}, 1,
                state +
                    ": expected the context of a model of wkv7, 2 layers, 64 channels, 256 tokens, found 'wkv7, 3 "
                    "layers, 64 channels, 256 tokens'");
  std::string const text = test::content_of(state);
  folder.file("s", text.substr(0, text.size() - 10));
  Finished const cut = generate({"--model", deep, "--load-state", state});
  CHECK(cut.status == 1);
  CHECK(cut.out == "");
  CHECK(cut.err.ends_with("the file is damaged or cut short\n"));
  check_failure({"--model", model, "--load-state", model}, 1,
                model + ": holds no states: the file's metadata lack 'aviary.states'");
  std::string const nowhere = (folder / "none" / "s").string();  // before any text is made
  check_failure({"--model", model, "--save-state", nowhere}, 1, nowhere + ": cannot create: No such file or directory");
}

TEST_CASE("generate: never writes over what it reads, under whatever name") {
  namespace fs = std::filesystem;
  TemporaryFolder const folder;
  auto const small = test::random_rwkv({.vocab = 8, .heads = 1, .head_size = 64});
  std::string const model = small.write(folder / "m.safetensors").string();
  std::string const vocab = folder.file("vocab.txt", "1 'ab' 2\n2 'a' 1\n").string();
  std::string const prompt = folder.file("prompt.txt", "aab").string();
  fs::create_directory(folder / "d");
  Arguments const arguments{"--model", model, "--vocab", vocab, "--prompt-file", prompt, "--length", "1"};
  for (auto const& [option, path] :
       {std::pair<std::string, fs::path>{"--model", model}, {"--vocab", vocab}, {"--prompt-file", prompt}}) {
    fs::path const link = folder / ("link-" + path.filename().string()),
                   hard = folder / ("hard-" + path.filename().string());
    fs::create_symlink(path, link);
    fs::create_hard_link(path, hard);
    std::string const before = test::content_of(path);
    for (fs::path const& target : {path, folder / "d" / ".." / path.filename(), link, hard}) {
      std::string const message =
          target.string() + ": is the file of " + option + ", expected another file to save the context in";
      check_failure(arguments + Arguments{"--save-state", target.string()}, 1, message);
      if (option == "--prompt-file") continue;
      Finished const run =
          generate({"--model", model, "--vocab", vocab, "--interactive"}, {.in = "/save " + target.string() + "\n"});
      CHECK(run.status == 0);
      CHECK(run.err == "generate: " + message + "\n");
    }
    CHECK(test::content_of(path) == before);
    CHECK(test::content_of(hard) == before);
  }
  std::string const state = (folder / "s").string();
  CHECK(generate(arguments + Arguments{"--save-state", state}).status == 0);
}

TEST_CASE("generate: a signal ends it after the context is saved, and its status is that of the signal") {
  TemporaryFolder const folder;
  std::string const model = byte_model().write(folder / "m.safetensors").string();
  std::string const state = (folder / "s").string(), expected = (folder / "expected").string();
  Arguments const greedy{"--model", model, "--temperature", "0"};
  for (int const kind : {SIGINT, SIGTERM, SIGHUP}) {
    test::Running run("generate", greedy + Arguments{"--prompt", "a", "--length", "1000000000", "--save-state", state});
    std::string text = run.text(10);
    run.signal(kind);
    text += run.text(SIZE_MAX);
    CHECK(run.ending_signal() == kind);
    REQUIRE(text.size() >= 10);
    CHECK(
        generate(greedy + Arguments{"--prompt", "a", "--length", std::to_string(text.size()), "--save-state", expected})
            .out == text);
    CHECK(test::content_of(state) == test::content_of(expected));
  }
  // While it waits for a line.
  test::Running talk("generate", greedy + Arguments{"--interactive", "--length", "9", "--save-state", state});
  talk.write("Hello\n");
  CHECK(talk.text(10).size() == 10);
  talk.signal(SIGINT);
  CHECK(talk.ending_signal() == SIGINT);
  generate(greedy + Arguments{"--prompt", "Hello", "--length", "9", "--save-state", expected});
  CHECK(test::content_of(state) == test::content_of(expected));
  CHECK(folder.files() == 3);
}

TEST_CASE("generate: saves the context when nobody takes its text any more") {
  TemporaryFolder const folder;
  std::string const model = byte_model().write(folder / "m.safetensors").string();
  std::string const state = (folder / "s").string(), expected = (folder / "expected").string();
  Arguments const arguments{"--model", model, "--prompt", "a", "--length", "1000000000", "--save-state", state};
  test::Running run("generate", arguments);
  CHECK(run.text(10).size() >= 10);
  run.close_output();
  CHECK(run.ending_signal() == SIGPIPE);
  CHECK(numbers_in(generate({"--model", model, "--load-state", state, "--logits"}).out).size() == 256);

  if (!std::filesystem::exists("/dev/full")) return;
  test::Running full("generate", arguments, "/dev/full");
  CHECK(full.ending_signal() == 0);
  generate({"--model", model, "--prompt", "a", "--length", "0", "--save-state", expected});
  CHECK(test::content_of(state) == test::content_of(expected));
}

TEST_CASE("generate: a prompt without end is refused") {
  TemporaryFolder const folder;
  std::string const model = byte_model().write(folder / "m.safetensors").string();
  if (std::filesystem::exists("/dev/zero"))
    check_failure({"--model", model, "--prompt-file", "/dev/zero"}, 1,
                  "/dev/zero: expected a prompt of at most 67108864 bytes, found more");
}

TEST_CASE("generate: messages have one line of characters that show") {
  TemporaryFolder const folder;
  std::string const name = (folder / "").string();
  Finished const run = generate({"--model", name + "\x1b[31m\xc2\x9b"
                                                   "1m\x9b\n\xc3\xa9"});
  CHECK(run.status == 1);
  CHECK(run.err == "generate: " + name +
                       "\\x1b[31m\\xc2\\x9b"
                       "1m\\x9b \xc3\xa9: cannot open: No such file or directory\n");
}

TEST_CASE("generate: a weight that is not finite has no form in q8 and q4, and its tensor is named") {
  TemporaryFolder const folder;
  auto weights = byte_model();
  for (char const* const name : {"head.weight", "blocks.1.att.w1", "emb.weight"}) {
    auto broken = weights;
    broken.tensors.at(name).numbers[1] = std::numeric_limits<float>::quiet_NaN();
    std::string const model = broken.write(folder / "m.safetensors").string();
    for (std::string const format : {"q8", "q4"})
      check_failure({"--model", model, "--weights", format}, 1,
                    model + ": tensor '" + name + "': row 0 holds nan, expected finite numbers for " + format);
  }
}

TEST_CASE("generate: a state of other weights of the same shapes is status 1") {
  TemporaryFolder const folder;
  std::string const state = (folder / "s").string(), model = byte_model().write(folder / "m").string();
  auto other = byte_model();
  other.tensors.at("emb.weight").numbers[5] += 1;
  std::string const others = other.write(folder / "o").string();
  CHECK(generate({"--model", model, "--length", "1", "--save-state", state}).status == 0);
  Finished const run = generate({"--model", others, "--load-state", state});
  CHECK(run.status == 1);
  CHECK(run.out == "");
  CHECK(
      run.err.starts_with("generate: " + state + ": comes from other weights of the same shapes: expected those of "));
  CHECK(generate({"--model", model, "--load-state", state, "--weights", "bf16", "--length", "1"}).status == 0);
}

TEST_CASE("generate: a prompt loop keeps the context between its lines") {
  TemporaryFolder const folder;
  std::string const model = byte_model().write(folder / "m.safetensors").string(), state = (folder / "s").string();
  Arguments const greedy{"--model", model, "--temperature", "0", "--length", "9"};
  auto const talk = [&](std::string const& lines, Arguments const& more = {}) {
    return generate(greedy + Arguments{"--interactive"} + more, {.in = lines});
  };
  // What the replies are, from programs that end after each.
  auto const turn = [&](Arguments const& from, std::string const& prompt) {
    return generate(greedy + from + Arguments{"--prompt", prompt, "--save-state", state}).out;
  };
  std::string const hello = turn({}, "Hello"), again = turn({"--load-state", state}, ""),
                    more = turn({"--load-state", state}, "/more");

  Finished const run = talk("Hello\n\n//more");  // the last line has no end
  CHECK(run.status == 0);
  CHECK(run.err == "");
  CHECK(run.out == hello + "\n" + again + "\n" + more + "\n");
  CHECK(talk("").out == "");
  CHECK(talk("\n", {"--prompt", "Hello"}).out == hello + "\n");  // which comes first, without a reply
  CHECK(talk("/more\n").out == "");

  std::string const kept = (folder / "kept").string();
  Finished const files = talk("Hello\n/save " + kept + "\n\n/load " + kept + "\n\n/reset\nHello\n");
  CHECK(files.err == "");
  CHECK(files.out == hello + "\n" + again + "\n" + again + "\n" + hello + "\n");
  CHECK(talk("\n", {"--load-state", kept}).out == again + "\n");
  CHECK(talk("Hello\n", {"--save-state", kept + "2"}).out == hello + "\n");
  CHECK(talk("\n", {"--load-state", kept + "2"}).out == again + "\n");
}

TEST_CASE("generate: the prompt loop draws as at the beginning after a reset") {
  TemporaryFolder const folder;
  std::string const model = byte_model().write(folder / "m.safetensors").string();
  Arguments const arguments{"--model", model, "--length", "20", "--top-p", "1", "--seed", "5"};
  // Bytes of a reply may be line ends: cut by length.
  std::string const text = generate(arguments + Arguments{"--interactive"}, {.in = "a\n/reset\na\na\n"}).out;
  REQUIRE(text.size() == 3 * 21);
  CHECK(text.substr(0, 21) == text.substr(21, 21));
  CHECK(text.substr(42, 21) != text.substr(0, 21));
  CHECK(text.substr(0, 20) == generate(arguments + Arguments{"--prompt", "a"}).out);
}

TEST_CASE("generate: the prompt loop says what is wrong with a line and goes on") {
  TemporaryFolder const folder;
  auto const small = always(test::random_rwkv({.vocab = 8, .heads = 1, .head_size = 64}), 1);
  std::string const model = small.write(folder / "m.safetensors").string();
  std::string const vocab = folder.file("vocab.txt", "1 'ab' 2\n2 'a' 1\n3 'm' 1\n").string();
  auto const talk = [&](std::string const& lines, Arguments const& more) {
    return generate(Arguments{"--model", model, "--length", "2", "--temperature", "0", "--interactive"} + more,
                    {.in = lines});
  };
  std::string const nowhere = (folder / "none" / "s").string();
  std::string const commands = "generate: expected /reset, /save FILE or /load FILE, found ";
  for (auto const& [line, message] :
       {std::pair<std::string, std::string>{"/leave", commands + "'/leave'"},
        {"/", commands + "'/'"},
        {"/save", commands + "'/save'"},
        {"/load ", commands + "'/load '"},
        {"/reset now", commands + "'/reset now'"},
        {"/load " + nowhere, "generate: " + nowhere + ": cannot open: No such file or directory"},
        {"/load " + model, "generate: " + model + ": holds no states: the file's metadata lack 'aviary.states'"},
        {"/save " + nowhere, "generate: " + nowhere + ": cannot create: No such file or directory"},
        {"axb", "generate: prompt: no token begins with byte 120 at position 1 of the text"}}) {
    Finished const run = talk("a\n" + line + "\na\n", {"--vocab", vocab});
    CHECK(run.status == 0);
    CHECK(run.out == "abab\nabab\n");
    CHECK(run.err == message + "\n");
  }
  Finished const ids = talk("2\n1,9\n1;2\n\n", {});  // without a vocabulary a line is a list of ids
  CHECK(ids.out == "1,1\n1,1\n");
  CHECK(ids.err ==
        "generate: prompt: expected token ids from 0 to 7, found '9'\n"
        "generate: prompt: expected token ids from 0 on, separated by commas, found '1;2'\n");
  CHECK(talk("a\na\n", {"--vocab", vocab, "--stop", "1"}).out == "\n\n");
  CHECK(talk("2\n2\n", {"--stop", "1"}).out == "\n\n");
  CHECK(talk("a\na\n", {"--vocab", vocab, "--stop-text", "bab"}).out == "a\na\n");
}

TEST_CASE("generate: all generations, from either file format") {
  TemporaryFolder const folder;
  for (test::Version const version : test::Generations::versions) {
    CAPTURE(test::name(version));
    auto const weights = test::random_rwkv({.version = version, .vocab = 256, .heads = 2, .head_size = 16});
    std::string const safetensors = weights.write(folder / "m.safetensors").string(),
                      torch = folder.file("m.pth", torch_file(weights)).string(), state = (folder / "s").string();
    test::PlainRwkv plain(weights);
    std::vector<double> expected;
    for (Index const token : {72, 105}) expected = plain.step(token);
    CHECK(max_error(numbers_in(generate({"--model", safetensors, "--prompt", "Hi", "--logits"}).out), expected) <=
          2e-5);
    Arguments const greedy{"--temperature", "0", "--length", "20"};
    std::string const text = generate(greedy + Arguments{"--model", safetensors, "--prompt", "Hi"}).out;
    Finished const first = generate(greedy + Arguments{"--model", torch, "--prompt", "Hi", "--save-state", state});
    CHECK(first.err == "");
    CHECK(first.out == text);
    std::string const whole =
        generate({"--model", safetensors, "--prompt", "Hi", "--temperature", "0", "--length", "40"}).out;
    CHECK(text + generate(greedy + Arguments{"--model", safetensors, "--load-state", state}).out == whole);
  }
}

TEST_CASE("generate: a damaged torch checkpoint is status 1") {
  TemporaryFolder const folder;
  std::string file = torch_file(byte_model());
  file[file.size() / 2] ^= 1;  // a weight
  std::string const path = folder.file("m.pth", file).string();
  Finished const run = generate({"--model", path});
  CHECK(run.status == 1);
  CHECK(run.out == "");
  CHECK(run.err.starts_with("generate: " + path + ": "));
  CHECK(run.err.find("checksum") != std::string::npos);
  CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
}

TEST_CASE("generate: trained models") {
  std::filesystem::path const folder = std::filesystem::path(AVIARY_TEST_DATA_DIR) / "models";
  for (std::string const name : {"tiny-rwkv-4v0", "tiny-rwkv-5v2", "tiny-rwkv-6v0", "tiny-rwkv-7v0"}) {
    if (std::string_view(AVIARY_TEST_DATA_DIR).empty() || !exists(folder / (name + ".json"))) {
      MESSAGE("not run: AVIARY_TEST_DATA_DIR has no models/" << name << ".json");
      continue;
    }
    CAPTURE(name);
    auto const expected = nlohmann::json::parse(test::content_of(folder / (name + ".json")));
    Arguments model{"--model", (folder / (name + ".safetensors")).string()};
    if (expected["group_norm_eps"].is_number())
      model = model + Arguments{"--group-norm-eps", expected["group_norm_eps"].dump()};
    for (auto const& [prompt, logits] : {std::pair{"prompt", "logits"}, {"extra_prompt", "extra_prompt_logits"}}) {
      std::string ids;
      for (int const id : expected[prompt]) ids += (ids.empty() ? "" : ",") + std::to_string(id);
      auto const found = numbers_in(generate(model + Arguments{"--tokens", ids, "--logits"}).out);
      auto const wanted = expected[logits].get<std::vector<double>>();
      REQUIRE(found.size() == wanted.size());
      for (std::size_t i = 0; i < found.size(); ++i) CHECK(std::abs(found[i] - wanted[i]) <= 2e-5);
    }
    std::string greedy, prompt;
    for (int const id : expected["greedy"]) greedy += static_cast<char>(id);
    for (int const id : expected["prompt"]) prompt += static_cast<char>(id);
    Finished const run = generate(
        model + Arguments{"--prompt", prompt, "--length", "32", "--temperature", "0", "--threads", two_threads});
    CHECK(run.status == 0);
    CHECK(run.out == greedy);
  }
}

TEST_CASE("generate: a model is a file or a folder of shards, and text is that of its own vocabulary") {
  namespace fs = std::filesystem;
  fs::path const samples = fs::path(AVIARY_TEST_GOLDEN_DIR).parent_path() / "io" / "containers";
  TemporaryFolder const folder;
  std::string const released = test::sample_model(test::Version::v7).write(folder / "m.safetensors").string();
  std::string const vocab = folder
                                .file("vocab.txt",
                                      "1 'a' 1\n2 'b' 1\n3 'ab' 2\n4 b'\\x80\\xff' 2\n5 ' the' 4\n"
                                      "6 '\\n\\t\\r\\\\' 4\n7 \"it's\" 4\n8 '\\'\"' 2\n9 '\u00e9' 2\n")
                                .string();
  Arguments const words{"--prompt", "abba the", "--length", "20", "--temperature", "1", "--seed", "7"};
  Finished const expected = generate(Arguments{"--model", released, "--vocab", vocab} + words);
  CHECK(expected.status == 0);
  CHECK(!expected.out.empty());
  Finished const gguf = generate(Arguments{"--model", (samples / "rwkv7.gguf").string()} + words);
  CHECK(gguf.status == 0);
  CHECK(gguf.err == "");
  CHECK(gguf.out == expected.out);
  std::string const other = folder.file("other.txt", "1 'x' 1\n3 'y' 1\n").string();
  CHECK(generate({"--model", (samples / "rwkv7.gguf").string(), "--vocab", other, "--prompt", "xyx", "--logits"}).out ==
        generate({"--model", released, "--tokens", "1,3,1", "--logits"}).out);
  for (char const* const path : {"fla", "fla/model.safetensors.index.json"})
    CHECK(generate(Arguments{"--model", (samples / path).string(), "--vocab", vocab} + words).out == expected.out);
}

TEST_CASE("generate: no shard of the model is written over") {
  namespace fs = std::filesystem;
  TemporaryFolder const folder;
  fs::path const samples = fs::path(AVIARY_TEST_GOLDEN_DIR).parent_path() / "io" / "containers";
  fs::copy(samples / "fla", folder / "fla");
  for (char const* const name :
       {"model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}) {
    fs::path const target = folder / "fla" / name;
    std::string const before = test::content_of(target);
    check_failure({"--model", (folder / "fla").string(), "--tokens", "1", "--save-state", target.string()}, 1,
                  target.string() + ": is the file of --model, expected another file to save the context in");
    CHECK(test::content_of(target) == before);
  }
}
