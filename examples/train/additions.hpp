#pragma once
/// Low-rank additions to the weights of a model.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "aviary/core/aligned.hpp"
#include "models/optimizer.hpp"
#include "models/threads.hpp"
#include "models/weight_store.hpp"

namespace train {

using aviary::Index;
using models::Learned;
using Weights = models::WeightStore<float>;

/// Low-rank additions to the matrices of blocks: W + B A alpha / rank, with A (rank, in) random and B (out, rank) zero at
/// first. The store has these sums, and gradients of them; A and B are what learns.
///   Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021. Names as PEFT has them: NAME.lora_A, NAME.lora_B.
class Additions {
 public:
  /// Adds to all matrices of the store that learn, which must outlive it.
  Additions(Weights const& weights, Index rank, double alpha, std::uint64_t seed);

  std::vector<Learned> learned() const;
  /// Makes the gradients of A and B of those of the matrices. Bits do not depend on the threads.
  void pull(models::Threads threads);
  /// Makes the matrices of the store from A and B, likewise.
  void push(models::Threads threads);
  /// Of A, B, their gradients, and the matrices without additions.
  std::size_t bytes() const noexcept { return numbers_.size() * sizeof(float); }

 private:
  struct Addition {
    Weights::Entry const* matrix;
    aviary::MatView<float> base, a, b, da, db;
  };

  Index rank_;
  float factor_;
  aviary::AlignedVector<float> numbers_;
  std::vector<Addition> additions_;
};

/// Whether a tensor of a file is a matrix of a block, to which something of low rank can be added.
bool is_block_matrix(std::string_view name, std::span<std::int64_t const> shape);

}  // namespace train
