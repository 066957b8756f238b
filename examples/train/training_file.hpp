#pragma once
/// The file that a run goes on from, and the file that it makes.
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "aviary/core/number_format.hpp"
#include "models/learner.hpp"
#include "models/optimizer.hpp"

namespace train {

using aviary::Index;
using models::Optimizer;

/// What must be the same for a run to go on: by the words of messages, "--batch" or "the text".
using Setup = std::map<std::string, std::string>;

/// Where a run is. Numbers are not copied: views of what goes on.
struct Progress {
  Index step = 0;                            ///< steps that are done
  Optimizer* optimizer;                      ///< weights and moments
  models::Carried<float>* states = nullptr;  ///< with --carry
  std::span<std::int64_t> places = {};       ///< of streams, with --carry
};

/// Writes all of it into one file, which replaces an older one when it is whole. Throws std::runtime_error.
void save(std::filesystem::path const& path, Setup const& setup, Progress const& progress);
/// Reads what save() wrote into the same places. Throws std::runtime_error with file, tensor, expected and found for a file of
/// another setup or of other shapes, and if it is damaged.
void load(std::filesystem::path const& path, Setup const& setup, Progress& progress);

/// A tensor that is to be written.
struct Written {
  std::string name;
  std::vector<std::int64_t> shape;
  aviary::VecView<float const> values;
};
/// Writes a file of tensors in a number format, f32 or bf16, with some texts.
void write_tensors(std::filesystem::path const& path, std::span<Written const> tensors, aviary::NumberFormat format,
                   std::map<std::string, std::string> const& texts);

/// Of numbers that are to be the same in another run.
std::string fingerprint_of(std::span<aviary::TokenId const> tokens);
/// The same of the weights that do not learn.
std::string fingerprint_of_frozen(models::WeightStore<float> const& weights);

}  // namespace train
