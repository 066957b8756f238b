#pragma once
/// What the command line of train says.
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "models/any.hpp"
#include "models/command_line.hpp"
#include "models/learner.hpp"
#include "models/ranks.hpp"

namespace train {

using aviary::Index;
using aviary::TokenId;
using models::UsageError;

/// The arguments as they are written. Numbers are parsed later, so that every message says what was expected and found.
struct Arguments {
  std::vector<std::string> data;
  std::string vocab, new_model, layers, channels, head_size = "64", model, out;
  std::string steps = "1000", minutes, batch = "8", context = "256", accumulate = "1", stretches = "1";
  std::string rate, final_rate, warm_up = "10", weight_decay = "0.001", clip = "1", beta1 = "0.9", beta2 = "0.99";
  std::string seed = "0", threads, parts = "8", group_norm_eps = "64e-5";
  std::string held_out, held_out_data, evaluate_every, low_rank, alpha, save_every = "100", metrics, format = "f32";
  bool carry = false, state = false, merge = false, resume = false, stats = false;
  std::vector<std::string> given;  ///< the options that were there, if with an empty text as well: "--rate"
};

/// What learns.
enum class Learns { weights, states, low_rank };

/// What the arguments say, checked as far as that goes without a file.
struct Request {
  std::vector<std::filesystem::path> data;
  std::optional<std::filesystem::path> vocab, model, held_out_data, metrics;
  models::Generation generation;  ///< of a new model
  Index layers, channels, head_size;
  std::filesystem::path out;
  Index steps, batch, context, accumulate, stretches, warm_up, save_every, evaluate_every, parts;  // batch: of a rank
  std::optional<double> minutes;
  double rate, final_rate, weight_decay, clip, beta1, beta2, held_out, group_norm_eps;
  std::uint64_t seed;
  models::Threads threads;
  Learns learns;
  Index rank;
  double alpha;
  bool merge, carry, resume, stats;
  aviary::NumberFormat format;

  /// What a run goes on from: this file alone says where it is.
  std::filesystem::path training_file() const { return out.string() + ".training"; }
};

/// The request of a command line. Throws UsageError.
Request request_of(Arguments const& a);

/// Does what a request asks for, a share of every step in each rank. Throws models::Interrupted, models::FailedElsewhere,
/// UsageError, or another exception for files.
void run(Request const& request, models::Ranks const& ranks);

}  // namespace train
