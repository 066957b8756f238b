#pragma once
/// Checkpoints of any size with random numbers, made in memory: for speed and memory, what the numbers are does not matter.
#include <cmath>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "aviary/core/convert.hpp"
#include "aviary/io/tensor_file.hpp"
#include "models/new_model.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// Tensors of bf16 numbers by name.
class RandomCheckpoint {
 public:
  explicit RandomCheckpoint(std::vector<NamedShape> const& shapes) {
    for (NamedShape const& tensor : shapes) add(tensor);
  }

  /// What models are loaded from. Its numbers are those of this object, which must outlive it.
  aviary::TensorFile file() const {
    std::vector<aviary::Tensor> tensors;
    for (auto const& [name, entry] : tensors_)
      tensors.push_back({.name = name,
                         .dtype = aviary::NumberFormat::bf16,
                         .shape = entry.shape,
                         .bytes = std::as_bytes(std::span(entry.numbers))});
    return aviary::TensorFile(tensors, "random checkpoint");
  }

 private:
  struct Entry {
    std::vector<std::int64_t> shape;
    std::vector<aviary::bf16> numbers;
  };

  /// Adds uniform numbers of the size that keeps activations near 1: about 1 / sqrt(last axis) for matrices.
  void add(NamedShape const& tensor) {
    float const scale = tensor.shape.size() == 2 ? 1.7f / std::sqrt(static_cast<float>(tensor.shape.back())) : 1;
    Entry& entry = tensors_[tensor.name];
    entry.shape = tensor.shape;
    entry.numbers.resize(aviary::to_size(tensor.size()));
    for (aviary::bf16& x : entry.numbers) {
      random_ = random_ * 6364136223846793005u + 1442695040888963407u;
      x = aviary::narrow<aviary::bf16>(scale * (static_cast<float>(random_ >> 40) * 0x1p-23f - 1));
    }
  }

  std::map<std::string, Entry> tensors_;
  std::uint64_t random_ = 1;
};

/// A checkpoint of these sizes, or of those below. Throws as completed() does.
inline RandomCheckpoint random_checkpoint(NewModel const& model) { return RandomCheckpoint(shapes_of(model)); }

/// Sizes of an RWKV-7 model. The default is that of the released model of 0.19 billion weights ("0.1B").
struct Rwkv7Sizes {
  Index layers = 12, channels = 768, head_size = 64, vocab = 65536;
  Index rank_w = 64, rank_a = 64, rank_v = 32, rank_g = 128;

  operator NewModel() const {
    return {.generation = Generation::rwkv7,
            .layers = layers,
            .channels = channels,
            .vocab = vocab,
            .head_size = head_size,
            .inner = inner(),
            .rank_w = rank_w,
            .rank_a = rank_a,
            .rank_v = rank_v,
            .rank_g = rank_g};
  }

  Index inner() const { return 4 * channels; }
  /// Weights of all matrices that one token is multiplied with.
  Index multiplied() const {
    Index const loras = 2 * channels * (rank_w + rank_a + rank_g);
    Index const layer = 4 * channels * channels + 2 * channels * inner() + loras;
    return layers * layer + (layers - 1) * 2 * channels * rank_v + vocab * channels;
  }
  /// Those of the layers alone: the head is read for the last token of a prompt only.
  Index multiplied_per_prompt_token() const { return multiplied() - vocab * channels; }
};

/// Sizes of a GoldFinch model, whose other sizes follow from these as in released ones: a third of the layers attend, and
/// the cache holds C/16 numbers a token. Channels are a multiple of the head size.
struct GoldFinchSizes {
  Index layers = 6, channels = 128, head_size = 64, vocab = 4096;
  Index rank_mix = 32, rank_decay = 64;

  operator NewModel() const {
    return {.generation = Generation::goldfinch,
            .layers = layers,
            .channels = channels,
            .vocab = vocab,
            .head_size = head_size,
            .rank_w = rank_decay,
            .rank_mix = rank_mix};
  }

  Index recurrent_layers() const { return models::recurrent_layers(layers); }
  Index attention_layers() const { return layers - recurrent_layers(); }
  Index width() const { return completed(*this).compressed; }
  Index rank_keys() const { return completed(*this).rank_keys; }
  /// Bytes of the keys and values in 16 bits that a transformer with as many layers and channels keeps for so many tokens.
  Index transformer_bytes(Index tokens) const { return 2 * layers * channels * tokens * Index{sizeof(aviary::bf16)}; }
};

}  // namespace AVIARY_ISA
}  // namespace models
