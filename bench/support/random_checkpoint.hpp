#pragma once
/// RWKV-7 checkpoints of any size with random numbers, made in memory: for speed, what the numbers are does not matter.
#include <cstdint>
#include <initializer_list>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "aviary/io/tensor.hpp"

namespace aviary::bench {

/// Sizes of an RWKV-7 model. The default is that of the released model of 0.19 billion weights ("0.1B").
struct Rwkv7Sizes {
  Index layers = 12, channels = 768, head_size = 64, vocab = 65536;
  Index rank_w = 64, rank_a = 64, rank_v = 32, rank_g = 128;

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

/// Tensors of bf16 numbers by name, with the interface of a checkpoint file.
class RandomCheckpoint {
 public:
  explicit RandomCheckpoint(Rwkv7Sizes const& n) {
    Index const c = n.channels;
    add("emb.weight", {n.vocab, c});
    add("head.weight", {n.vocab, c});
    norm("blocks.0.ln0", c);
    norm("ln_out", c);
    for (Index layer = 0; layer < n.layers; ++layer) {
      std::string const block = "blocks." + std::to_string(layer) + ".", att = block + "att.", ffn = block + "ffn.";
      for (char const* name : {"ln1", "ln2"}) norm(block + name, c);
      norm(att + "ln_x", c);
      for (char const* name : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "k_k", "k_a"}) add(att + name, {1, 1, c});
      for (char const* name : {"receptance", "key", "value", "output"}) add(att + name + ".weight", {c, c});
      for (auto const& [name, rank] : {std::pair{"w", n.rank_w}, {"a", n.rank_a}, {"v", n.rank_v}, {"g", n.rank_g}}) {
        add(att + name + "0", {1, 1, c});
        add(att + name + "1", {c, rank});
        add(att + name + "2", {rank, c});
      }
      add(att + "r_k", {c / n.head_size, n.head_size});
      add(ffn + "x_k", {1, 1, c});
      add(ffn + "key.weight", {n.inner(), c});
      add(ffn + "value.weight", {c, n.inner()});
    }
  }

  bool contains(std::string_view name) const { return tensors_.contains(std::string(name)); }
  std::vector<std::string_view> names() const {
    std::vector<std::string_view> all;
    for (auto const& [name, tensor] : tensors_) all.push_back(name);
    return all;
  }
  Tensor tensor(std::string_view name) const {
    auto const found = tensors_.find(std::string(name));
    if (found == tensors_.end()) throw std::runtime_error("random checkpoint: no tensor " + std::string(name));
    auto const& [shape, numbers] = found->second;
    return {.name = found->first, .dtype = DType::bf16, .shape = shape, .bytes = std::as_bytes(std::span(numbers))};
  }
  Tensor tensor(std::string_view name, std::initializer_list<std::int64_t> shape) const {
    return tensor(name).expect_shape(shape);
  }

 private:
  struct Entry {
    std::vector<std::int64_t> shape;
    std::vector<bf16> numbers;
  };

  /// Uniform numbers of the size that keeps activations near 1: about 1 / sqrt(last axis).
  void add(std::string const& name, std::vector<std::int64_t> shape) {
    std::int64_t size = 1;
    for (std::int64_t const n : shape) size *= n;
    float const scale = shape.size() == 2 ? 1.7f / std::sqrt(static_cast<float>(shape.back())) : 1;
    Entry& entry = tensors_[name];
    entry.shape = std::move(shape);
    entry.numbers.resize(to_size(size));
    for (bf16& x : entry.numbers) {
      random_ = random_ * 6364136223846793005u + 1442695040888963407u;
      x = narrow<bf16>(scale * (static_cast<float>(random_ >> 40) * 0x1p-23f - 1));
    }
  }
  void norm(std::string const& name, Index size) {
    add(name + ".weight", {size});
    add(name + ".bias", {size});
  }

  std::map<std::string, Entry> tensors_;
  std::uint64_t random_ = 1;
};

}  // namespace aviary::bench
