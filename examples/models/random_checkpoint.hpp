#pragma once
/// Checkpoints of any size with random numbers, made in memory: for speed and memory, what the numbers are does not matter.
#include <cmath>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "aviary/core/convert.hpp"
#include "aviary/io/tensor_file.hpp"

namespace models {
inline namespace AVIARY_ISA {

using aviary::Index;

/// Tensors of bf16 numbers by name.
class RandomCheckpoint {
 public:
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

  /// Adds uniform numbers of the size that keeps activations near 1: about 1 / sqrt(last axis) for matrices.
  void add(std::string const& name, std::vector<std::int64_t> shape) {
    std::int64_t size = 1;
    for (std::int64_t const n : shape) size *= n;
    float const scale = shape.size() == 2 ? 1.7f / std::sqrt(static_cast<float>(shape.back())) : 1;
    Entry& entry = tensors_[name];
    entry.shape = std::move(shape);
    entry.numbers.resize(aviary::to_size(size));
    for (aviary::bf16& x : entry.numbers) {
      random_ = random_ * 6364136223846793005u + 1442695040888963407u;
      x = aviary::narrow<aviary::bf16>(scale * (static_cast<float>(random_ >> 40) * 0x1p-23f - 1));
    }
  }
  /// Weight and bias of a norm.
  void norm(std::string const& name, Index size) {
    add(name + ".weight", {size});
    add(name + ".bias", {size});
  }
  /// The factors of a low-rank map.
  void factors(std::string const& name, Index in, Index rank, Index out) {
    add(name + "1", {in, rank});
    add(name + "2", {rank, out});
  }
  /// What is around the blocks of every generation.
  void frame(Index vocab, Index channels) {
    add("emb.weight", {vocab, channels});
    add("head.weight", {vocab, channels});
    norm("blocks.0.ln0", channels);
    norm("ln_out", channels);
  }

 private:
  struct Entry {
    std::vector<std::int64_t> shape;
    std::vector<aviary::bf16> numbers;
  };

  std::map<std::string, Entry> tensors_;
  std::uint64_t random_ = 1;
};

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

inline RandomCheckpoint random_checkpoint(Rwkv7Sizes const& n) {
  Index const c = n.channels;
  RandomCheckpoint made;
  made.frame(n.vocab, c);
  for (Index layer = 0; layer < n.layers; ++layer) {
    std::string const block = "blocks." + std::to_string(layer) + ".", att = block + "att.", ffn = block + "ffn.";
    for (char const* name : {"ln1", "ln2"}) made.norm(block + name, c);
    made.norm(att + "ln_x", c);
    for (char const* name : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "k_k", "k_a"}) made.add(att + name, {1, 1, c});
    for (char const* name : {"receptance", "key", "value", "output"}) made.add(att + name + ".weight", {c, c});
    for (auto const& [name, rank] : {std::pair{"w", n.rank_w}, {"a", n.rank_a}, {"v", n.rank_v}, {"g", n.rank_g}}) {
      made.add(att + name + "0", {1, 1, c});
      made.factors(att + name, c, rank, c);
    }
    made.add(att + "r_k", {c / n.head_size, n.head_size});
    made.add(ffn + "x_k", {1, 1, c});
    made.add(ffn + "key.weight", {n.inner(), c});
    made.add(ffn + "value.weight", {c, n.inner()});
  }
  return made;
}

/// Sizes of a GoldFinch model, whose other sizes follow from these as in released ones: a third of the layers attend, and
/// the cache holds C/16 numbers a token. Channels are a multiple of the head size.
struct GoldFinchSizes {
  Index layers = 6, channels = 128, head_size = 64, vocab = 4096;
  Index rank_mix = 32, rank_decay = 64;

  Index recurrent_layers() const { return layers * 2 / 3; }
  Index attention_layers() const { return layers - recurrent_layers(); }
  Index heads() const { return channels / head_size; }
  Index inner() const { return channels * 7 / 2 / 32 * 32; }
  Index width() const { return channels / 16; }
  Index rank_keys() const { return width() < 64 ? 64 : width(); }
  /// Bytes of the keys and values in 16 bits that a transformer with as many layers and channels keeps for so many tokens.
  Index transformer_bytes(Index tokens) const { return 2 * layers * channels * tokens * Index{sizeof(aviary::bf16)}; }
};

namespace detail {

inline void add_time_mix(RandomCheckpoint& to, GoldFinchSizes const& n, std::string const& att) {
  Index const c = n.channels;
  to.norm(att + "ln_x", c);
  for (char const* name : {"x", "r", "k", "v", "w", "v2"}) to.add(att + "time_maa_" + name, {1, 1, c});
  to.add(att + "time_maa_w1", {c, 5 * n.rank_mix});
  to.add(att + "time_maa_w2", {5, n.rank_mix, c});
  for (char const* name : {"receptance", "key", "value", "output"}) to.add(att + name + ".weight", {c, c});
  to.add(att + "time_decay", {1, 1, c});
  to.add(att + "time_faaaa", {n.heads(), n.head_size});
  to.factors(att + "time_decay_w", c, n.rank_decay, c);
  to.factors(att + "time_value2_w", c, n.rank_keys(), c);
}

inline void add_attention(RandomCheckpoint& to, GoldFinchSizes const& n, std::string const& att) {
  Index const c = n.channels;
  for (char const* name : {"ln_q", "ln_k", "ln_v", "ln_x"}) to.norm(att + name, c);
  for (char const* name : {"x", "q", "v_cache", "k", "v"}) to.add(att + "time_maa_" + name, {1, 1, c});
  to.factors(att + "time_maa_q_w", c, n.rank_mix, c);
  to.add(att + "time_maa_kv_w1", {c, 2 * n.rank_mix});
  to.add(att + "time_maa_kv_w2", {2, n.rank_mix, c});
  to.factors(att + "time_key_w", c, n.rank_keys(), c);
  to.factors(att + "time_value_w", c, n.rank_keys(), c);
  for (char const* name : {"query", "output"}) to.add(att + name + ".weight", {c, c});
}

}  // namespace detail

inline RandomCheckpoint random_checkpoint(GoldFinchSizes const& n) {
  Index const c = n.channels;
  RandomCheckpoint made;
  made.frame(n.vocab, c);
  made.add("w_kv_cache_a.weight", {n.width(), c});
  made.add("w_kv_cache_b.weight", {c, c + n.width()});
  for (Index layer = 0; layer < n.layers; ++layer) {
    std::string const block = "blocks." + std::to_string(layer) + ".", ffn = block + "ffn.";
    for (char const* name : {"ln1", "ln2"}) made.norm(block + name, c);
    auto const add = layer < n.recurrent_layers() ? detail::add_time_mix : detail::add_attention;
    add(made, n, block + "att.");
    for (char const* name : {"k", "r"}) made.add(ffn + "time_maa_" + name, {1, 1, c});
    made.add(ffn + "receptance.weight", {c, c});
    made.add(ffn + "key.weight", {n.inner(), c});
    made.add(ffn + "value.weight", {c, n.inner()});
  }
  return made;
}

}  // namespace AVIARY_ISA
}  // namespace models
