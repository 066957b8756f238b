#pragma once
/// What the command line asks for: text in, checked values out.
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "generate/arguments.hpp"
#include "models/any.hpp"
#include "models/command_line.hpp"
#include "models/reply.hpp"

namespace generate {
inline namespace AVIARY_ISA {

using aviary::Index;
using aviary::TokenId;

using models::UsageError;

/// What the arguments say, checked as far as that goes without the model.
struct Request {
  std::filesystem::path model;
  std::optional<std::filesystem::path> vocab, initial_state, prompt_file, load_state, save_state;
  std::optional<std::string> prompt;
  std::vector<TokenId> tokens;
  Index length;
  models::ReplyOptions reply;
  models::LoadOptions load;
  bool logits, stats, interactive;
  std::optional<std::filesystem::path> prompts;  ///< a file of many
  Index batch;                                   ///< how many of them at a time
};

/// The request of a command line. Throws UsageError.
Request request_of(Arguments const& a);

}  // namespace AVIARY_ISA
}  // namespace generate
