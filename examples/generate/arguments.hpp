#pragma once
/// What main() and the code for each instruction set have in common: no type of the library, no function.
#include <string>
#include <vector>

namespace generate {

/// The arguments as they are written. Numbers are parsed later, so that every message says what was expected and found.
struct Arguments {
  std::string model, vocab, initial_state, prompt, prompt_file, tokens, load_state, save_state;
  std::string length = "100", temperature = "1", top_p = "0.85", top_k = "0", seed = "0";
  std::string presence = "0", frequency = "0", penalty_decay = "0.996";
  std::vector<std::string> stop, stop_text;
  std::string group_norm_eps = "64e-5", weights = "exact", arithmetic = "full", threads = "1";
  std::string cache = "f32", rotary_base, prompts, batch = "8";
  bool keep_keys = false, logits = false, stats = false, interactive = false;
  std::vector<std::string> given;  ///< the options that were there, if with an empty text as well: "--prompt"
};

/// The program for one instruction set.
struct Program {
  /// Does what the arguments ask for; returns the exit status.
  int (*run)(Arguments const&);
};

}  // namespace generate
