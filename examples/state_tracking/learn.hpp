#pragma once
/// What `state_tracking --learn` does: every model learns every task, from several seeds.
#include <aviary/core/config.hpp>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

namespace state_tracking {

struct LearnRequest {
  std::vector<std::string> tasks, models;  ///< none: all
  aviary::Index length = 32;  ///< symbols of a word that is learned from; words of 16 times as many are read
  aviary::Index steps = 2000, seeds = 5, threads = 1;
  std::uint64_t seed = 1;  ///< the first
};

std::vector<std::string> task_names();
std::vector<std::string> model_names();

/// Prints a table on standard output, and a line of JSON for each run.
/// @param json  may be a stream that nobody opened
void learn(LearnRequest const& request, std::ostream& json);

}  // namespace state_tracking
