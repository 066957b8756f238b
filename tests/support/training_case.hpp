#pragma once
/// Tiny models whose first steps of training torch has computed: tests/golden/training_losses.json, which
/// tests/golden/README.md describes. Weights and data follow from rules and a seed, and so are not in the file.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "aviary/io/vocabulary.hpp"
#include "aviary/training/adamw.hpp"
#include "aviary/training/random.hpp"
#include "support/checkpoint_case.hpp"

namespace aviary::test {

/// Packed sequences of one step.
struct TrainingBatch {
  std::vector<TokenId> inputs, targets;  ///< the target of a token is the one that follows it
  std::vector<Index> offsets;            ///< of the sequences, one more than there are
};

/// One generation's model. Members throw nlohmann::json::exception where the file lacks what they are asked for.
class TrainingCase {
 public:
  TrainingCase(std::filesystem::path const& golden_folder, Version version) {
    std::ifstream file(golden_folder / "training_losses.json");
    all_ = nlohmann::json::parse(file);
    model_ = all_.at("models").at(name(version));
  }

  /// What torch found in double: the mean loss of each step in nats, before its update.
  std::vector<double> losses() const { return model_.at("losses"); }
  /// The norm of all gradients of each step, before they are shortened.
  std::vector<double> norms() const { return model_.at("norms"); }
  /// The norm of a tensor's gradient in the first step, before it is shortened.
  double norm(std::string const& tensor) const { return model_.at("tensors").at(tensor).at("norm"); }

  double weight_decay() const { return all_.at("weight_decay"); }
  AdamW optimizer() const {
    return {.beta1 = all_.at("beta1"), .beta2 = all_.at("beta2"), .epsilon = model_.at("epsilon")};
  }
  /// An update, 1 for the first, by gradients of the mean loss.
  UpdateCall update(Index step) const {
    return {.step = step, .learning_rate = all_.at("learning_rate"), .largest_norm = all_.at("largest_norm")};
  }

  /// The weights before training, under the names of released files.
  CheckpointCase weights() const {
    CheckpointCase made;
    for (auto const& [tensor, entry] : model_.at("tensors").items()) {
      std::vector<std::int64_t> const shape = entry.at("shape");
      std::int64_t size = 1;
      for (std::int64_t const n : shape) size *= n;
      made.add(tensor, shape, numbers(tensor, size));
    }
    return made;
  }
  /// One batch for each step. Ids with fewer bits are more frequent, so that there is something to learn.
  std::vector<TrainingBatch> batches() const {
    Index const sequences = all_.at("sequences"), tokens = all_.at("tokens");
    SplitMix64 random(all_.at("seed").get<std::uint64_t>(), "data");
    std::vector<TrainingBatch> made(losses().size());
    for (TrainingBatch& batch : made) {
      batch.offsets = {0};
      for (Index s = 0; s < sequences; ++s) {
        std::vector<TokenId> ids;
        for (Index t = 0; t <= tokens; ++t) ids.push_back(static_cast<TokenId>((random.next() & random.next()) >> 58));
        batch.inputs.insert(batch.inputs.end(), ids.begin(), ids.end() - 1);
        batch.targets.insert(batch.targets.end(), ids.begin() + 1, ids.end());
        batch.offsets.push_back(batch.offsets.back() + tokens);
      }
    }
    return made;
  }

 private:
  /// Numbers from base - scale to base + scale, as the first rule has them whose part the name has. A scale is a power of
  /// two: its product is exact, and a sum has the same bits whether or not the compiler fuses the two.
  std::vector<float> numbers(std::string const& tensor, std::int64_t size) const {
    for (auto const& rule : all_.at("weights")) {
      if (tensor.find(rule.at("part").get<std::string>()) == tensor.npos) continue;
      double const base = rule.at("base"), scale = rule.at("scale");
      SplitMix64 random(all_.at("seed").get<std::uint64_t>(), tensor);
      std::vector<float> made;
      for (std::int64_t n = 0; n < size; ++n) made.push_back(static_cast<float>(base + random.uniform(scale)));
      return made;
    }
    throw std::runtime_error("training_losses.json: no rule for the weights of " + tensor);
  }

  nlohmann::json all_, model_;
};

}  // namespace aviary::test
