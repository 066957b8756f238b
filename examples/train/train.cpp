/// train: makes a model from text, or teaches one that there is.
///   train --data book.txt --new 7 --layers 4 --channels 128 --out model.safetensors
/// Here is the command line; run.cpp does the work.
#include <CLI/CLI.hpp>
#include <csignal>
#include <exception>
#include <optional>

#include "models/command_line.hpp"
#include "models/interruption.hpp"
#include "models/parse.hpp"
#include "train/arguments.hpp"

namespace {

using train::Arguments;

constexpr char const* description =
    "Trains an RWKV or GoldFinch model on text: from nothing, or from a checkpoint; all weights, the initial states "
    "alone,\nor low-rank additions. What it says goes to standard error.";

constexpr char const* footer =
    "Each step learns from --batch x --accumulate windows of --context tokens at random places of the text; with "
    "--carry from\n"
    "the next tokens of --batch streams, whose states go on. With --stretches the gradient goes through contexts that "
    "would\n"
    "not fit memory at once. AdamW: matrices decay, gradients are shortened to --clip, and the rate rises for "
    "--warm-up\n"
    "steps, then falls along a cosine to --final-rate at --steps.\n"
    "Bits depend on neither --threads nor on stops: every --save-every steps, at the end and at a first Ctrl-C or "
    "SIGTERM all\n"
    "goes into OUT.training, then the model into OUT; the same command with --resume goes on from there exactly.\n"
    "--steps, --minutes, rates, and --format may then be others.\n"
    "With mpirun -n N all N processes make each step together, with --batch sequences each.\n"
    "--held-out SHARE keeps the end of every text for measuring; bits per byte of it are printed every "
    "--evaluate-every steps\n"
    "and at the end: in windows of --context tokens, or with --carry with states that go on.\n"
    "What the file --out has, and how to use it:\n"
    "  all weights       a checkpoint:                generate --model OUT\n"
    "  --state           blocks.i.att.time_state:     generate --model MODEL --initial-state OUT\n"
    "  --low-rank        NAME.lora_A [rank, in] and NAME.lora_B [out, rank] of every matrix of blocks, W + B A alpha / "
    "rank:\n"
    "                    the same command with --resume --merge makes a checkpoint of them\n"
    "  --low-rank with --merge   a checkpoint\n"
    "Lines of --metrics: {\"step\": 1, \"loss\": 5.5, \"bits_per_byte\": 8.0, \"rate\": 6e-06, \"norm\": 1.3, "
    "\"seconds\": 0.2,\n"
    "\"tokens_per_second\": 9000}, with \"held_out_bits_per_byte\" where it was measured; bench/plots/training.py "
    "draws "
    "them.\n"
    "Exit status: 0, 2 for wrong arguments, that of the signal that ended it, 1 for anything else.";

void add_options(CLI::App& app, Arguments& a) {
  auto const option = [&](char const* name, auto& value, char const* text) {
    return app.add_option(name, value, text)->allow_extra_args(false);
  };
  option("--data", a.data, "text to learn from; may be repeated: each file is a document of its own");
  option("--vocab", a.vocab, "World vocabulary file; without it that of a .gguf file; else tokens are bytes");
  option("--new", a.new_model, "make a model of this generation: 4, 5.0, 5.1, 5.2, 6, 7 or goldfinch");
  option("--layers", a.layers, "its layers");
  option("--channels", a.channels, "its channels");
  option("--head-size", a.head_size, "channels of one of its heads")->capture_default_str();
  option("--model", a.model, "begin with this checkpoint: .safetensors, .pth, .gguf, or a folder");
  option("--out", a.out, "file to write, .safetensors; OUT.training beside it has what --resume needs");
  option("--steps", a.steps, "updates of the weights, from the very beginning on")->capture_default_str();
  option("--minutes", a.minutes, "stop after so many, with all saved");
  option("--batch", a.batch, "windows, or streams, at a time")->capture_default_str();
  option("--context", a.context, "tokens of each")->capture_default_str();
  option("--accumulate", a.accumulate, "batches to an update")->capture_default_str();
  option("--rate", a.rate, "highest learning rate; without it 6e-4, with --state 1e-2, with --low-rank 1e-3");
  option("--final-rate", a.final_rate, "learning rate at the end; without it a tenth");
  option("--warm-up", a.warm_up, "steps until the highest rate")->capture_default_str();
  option("--weight-decay", a.weight_decay, "what matrices lose in a step, in learning rates")->capture_default_str();
  option("--clip", a.clip, "longest gradient")->capture_default_str();
  option("--beta1", a.beta1, "what the mean of gradients keeps in a step")->capture_default_str();
  option("--beta2", a.beta2, "what the mean of their squares keeps")->capture_default_str();
  option("--seed", a.seed, "equal seeds make equal models")->capture_default_str();
  option("--threads", a.threads, "threads to use; without it one for each core that it may use");
  option("--parts", a.parts, "parts of a batch that learn side by side; bits and memory depend on it")
      ->capture_default_str();
  app.add_flag("--carry", a.carry, "states go on from one batch to the next, through the texts in their order");
  option("--stretches", a.stretches, "learn a context in so many stretches, the last first")->capture_default_str();
  option("--held-out", a.held_out, "share of every text, at its end, that is measured and not learned");
  option("--held-out-data", a.held_out_data, "text that is measured instead");
  option("--evaluate-every", a.evaluate_every, "steps from one measurement to the next; without it one at the end");
  app.add_flag("--state", a.state, "only the initial states of RWKV-5, 6 or 7 learn");
  option("--low-rank", a.low_rank, "only additions of this rank to the matrices of blocks learn");
  option("--alpha", a.alpha, "additions are multiplied by alpha / rank; without it by 1");
  app.add_flag("--merge", a.merge, "write matrices with their additions, instead of these alone");
  app.add_flag("--resume", a.resume, "go on from OUT.training");
  option("--save-every", a.save_every, "steps from one save to the next")->capture_default_str();
  option("--metrics", a.metrics, "file for a line of JSON a step");
  option("--format", a.format, "numbers of --out: f32 or bf16")->capture_default_str();
  option("--group-norm-eps", a.group_norm_eps, "eps of the norm per head; no file stores it")->capture_default_str();
  app.add_flag("--stats", a.stats, "print at the end where time and memory went");
}

/// Prints the help and returns false, if that is asked for. Throws CLI::ParseError.
bool parse(int argc, char const* const* argv, Arguments& a) {
  CLI::App app(description, "train");
  app.footer(footer);
  add_options(app, a);
  return models::parse(app, argc, argv, a.given);
}

/// Complains; returns the status.
int fail(std::exception const& error, int status) {
  models::complain("train", error.what());
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  std::optional<models::Ranks> ranks;  // all of them wait at its end: what went wrong is said before
  try {
    ranks.emplace();
    std::optional<train::Request> request;
    ranks->together([&] {
      Arguments arguments;
      if (parse(argc, argv, arguments)) request = train::request_of(arguments);
      return 0;
    });
    if (request) train::run(*request, *ranks);
    return 0;
  } catch (models::Interrupted const& by) {
    std::raise(by.signal);  // as it would have ended without a model to save
    return 128 + by.signal;
  } catch (models::FailedElsewhere const&) {
    return 1;
  } catch (CLI::ParseError const& error) {
    return fail(error, 2);
  } catch (models::UsageError const& error) {
    return fail(error, 2);
  } catch (std::exception const& error) {
    return fail(error, 1);
  }
}
