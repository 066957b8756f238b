/// generate: continues a text with an RWKV or GoldFinch model.
///   generate --prompt "And the king said" --length 200
///   generate --model rwkv7.safetensors --vocab rwkv_vocab_v20230424.txt --prompt "The Eiffel tower is in" --length 20
/// Text goes to standard output as it is made, everything else to standard error. Here is the command line; run.cpp does the
/// work, and is compiled for each instruction set of the program.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <filesystem>
#include <iostream>

#include "aviary/simd/dispatch.hpp"
#include "generate/arguments.hpp"
#include "generate/console.hpp"
#include "models/parse.hpp"

namespace {

using generate::Arguments;

constexpr char const* description =
    "Continues a text with an RWKV or GoldFinch model. The text goes to standard output as it is made, all else to "
    "standard error.";

/// The model that comes with the project: bytes, no vocabulary.
constexpr char const* shipped = AVIARY_EXAMPLES_DIR "/weights/king_james.safetensors";

constexpr char const* footer =
    "With --interactive every line of standard input is a prompt (an empty one: go on), every reply ends with a line "
    "end\n"
    "of its own, and the model remembers all of it. --prompt, --prompt-file or --tokens come first, without a reply.\n"
    "These lines are commands, and two slashes begin a prompt with one:\n"
    "  /reset      forget everything, and draw as at the beginning\n"
    "  /save FILE  write the context into a file\n"
    "  /load FILE  go on from that file, and draw as at the beginning\n"
    "With --prompts every prompt gets the reply that it has alone, in the order of the file:\n"
    "  {\"index\": 0, \"text\": \" Paris\", \"tokens\": [36684], \"end\": \"length\"}     or \"end\": \"stop\"\n"
    "A line of JSON is a string or an object with \"prompt\" or \"tokens\", and an \"id\", which its reply has as "
    "well. What is\n"
    "wrong with one prompt is an \"error\" in its line; the others go on, and the exit status is 1.\n"
    "With --save-state, a first Ctrl-C, SIGTERM or SIGHUP, a pipe that nobody reads any more and a full disk under\n"
    "standard output end the text; the context up to there is saved.\n"
    "A build that chooses no processor has code for several instruction sets, and takes the best that runs here.\n"
    "AVIARY_INSTRUCTION_SET=baseline, =avx2, =avx512, =vnni or =amx in the environment forces one.\n"
    "Exit status: 0, 2 for wrong arguments, that of the signal that ended it, 1 for anything else.";

void add_options(CLI::App& app, Arguments& a) {
  auto const option = [&](char const* name, auto& value, char const* text) {
    return app.add_option(name, value, text)->allow_extra_args(false);
  };
  option(
      "--model", a.model,
      "checkpoint of RWKV-4, 5.0, 5.1, 5.2, 6 or 7 or of GoldFinch: .safetensors, .pth, .gguf, or a folder; without it "
      "a small one that comes with the project");
  option("--vocab", a.vocab,
         "World vocabulary file; without it that of a .gguf file; else a vocabulary of 256 is bytes, others are ids");
  option("--initial-state", a.initial_state,
         "file of trained first states, which train --state makes: texts begin with them");
  option("--prompt", a.prompt, "text to continue");
  option("--prompt-file", a.prompt_file, "file with the text to continue, every byte of it; -: standard input");
  option("--tokens", a.tokens, "token ids to continue, such as 1,2,3; without any prompt: token 0");
  option("--prompts", a.prompts,
         "file of prompts, one a line; .jsonl: lines of JSON; -: standard input. Replies are lines of JSON, see below");
  option("--batch", a.batch, "with --prompts: how many to reply to at a time")->capture_default_str();
  option("--length", a.length, "how many tokens to make, at most")->capture_default_str();
  option("--temperature", a.temperature, "0: always the most likely token")->capture_default_str();
  option("--top-p", a.top_p, "leave out what is less likely than this share")->capture_default_str();
  option("--top-k", a.top_k, "keep so many of the most likely tokens; 0: all")->capture_default_str();
  option("--presence", a.presence, "what a logit loses if its token was made before")->capture_default_str();
  option("--frequency", a.frequency, "what it loses for each time")->capture_default_str();
  option("--penalty-decay", a.penalty_decay, "what is left of a time after each token")->capture_default_str();
  option("--seed", a.seed, "equal seeds make equal texts")->capture_default_str();
  option("--stop", a.stop, "token ids that end the text, such as 1,2,3; neither printed nor read; may be repeated");
  option("--stop-text", a.stop_text, "text that ends the text, read but not printed; may be repeated");
  app.add_flag("--interactive", a.interactive, "read prompts from standard input, see below");
  option("--load-state", a.load_state, "go on from a saved context");
  option("--save-state", a.save_state, "save the context at the end; the seed and penalties are no part of it");
  app.add_flag("--logits", a.logits, "print the logits after the prompt, one per line, and stop");
  option("--group-norm-eps", a.group_norm_eps, "eps of the norm per head; no file stores it")->capture_default_str();
  option("--weights", a.weights,
         "matrices in memory: exact (the smallest that loses nothing), f32, bf16, f16, q8 or q4")
      ->capture_default_str();
  option("--arithmetic", a.arithmetic, "bits of a number that is multiplied by them: full, bits16 or bits8")
      ->capture_default_str();
  option("--cache", a.cache, "GoldFinch: numbers of its token cache: f32, bf16, f16 or q8")->capture_default_str();
  app.add_flag("--keep-keys", a.keep_keys,
               "GoldFinch: keep rebuilt keys and values: faster, for memory; the same text");
  option("--rotary-base", a.rotary_base, "GoldFinch: base of a rotary embedding, if it was trained with one");
  option("--threads", a.threads, "threads to use")->capture_default_str();
  app.add_flag("--stats", a.stats, "print tokens per second, and the instruction set");
}

/// Prints the help and returns false, if that is asked for. Throws CLI::ParseError.
bool parse(int argc, char const* const* argv, Arguments& a) {
  CLI::App app(description, "generate");
  app.footer(footer);
  add_options(app, a);
  if (!models::parse(app, argc, argv, a.given)) return false;
  if (std::ranges::find(a.given, "--model") == a.given.end() && std::filesystem::exists(shipped)) a.model = shipped;
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    Arguments arguments;
    if (!parse(argc, argv, arguments)) return 0;
    auto const program = aviary::simd::choose<generate::Program>();
    if (arguments.stats) std::cerr << "instruction set: " << program.name() << '\n';
    return program->run(arguments);
  } catch (std::exception const& error) {
    generate::complain(error.what());
    return 2;
  }
}
