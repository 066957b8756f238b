#pragma once
/// RWKV-7 "Goose" from a checkpoint with the tensor names of the released files.
#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "aviary/layers/time_mix7.hpp"
#include "models/block_model.hpp"
#include "models/checkpoint.hpp"

namespace models {

/// Heads of Size numbers, or with Size = aviary::dynamic of as many as the file says.
template <class T, Index Size> using Rwkv7Block = aviary::Block<aviary::TimeMix<aviary::Wkv7<T, Size>>>;
template <class T, Index Size> using Rwkv7 = BlockModel<Rwkv7Block<T, Size>>;

inline std::string r_k_name(Index layer) { return "blocks." + std::to_string(layer) + ".att.r_k"; }

/// Layer `layer`, of c channels. The first one has no use for v0, v1, v2, which some files give it.
template <class T, Index Size, class File>
Rwkv7Block<T, Size> read_rwkv7_block(WeightReader<T, File>& read, Index layer, Index c, LoadOptions const& options) {
  using aviary::dynamic;
  using TimeMix = aviary::TimeMix<aviary::Wkv7<T, Size>>;
  using ChannelMix = aviary::ChannelMix<T>;
  std::string const block = "blocks." + std::to_string(layer) + ".", att = block + "att.", ffn = block + "ffn.";
  auto const r_k = read.table(r_k_name(layer), dynamic, Size);
  Index const a = r_k.rows() * r_k.columns();

  auto const vector = [&](char const* name, Index size) { return read.vector(att + name, size); };
  auto const matrix = [&](char const* name, Index rows, Index columns) {
    return read.matrix(att + name, rows, columns);
  };
  auto const lora = [&](std::string const& name) {  // the rank is what the file says
    auto const first = read.matrix(att + name + "1", c, dynamic);
    return std::array{first, read.matrix(att + name + "2", first.columns(), a)};
  };
  auto const w12 = lora("w"), a12 = lora("a"), g12 = lora("g");
  typename TimeMix::Weights w{.x_r = vector("x_r", c),
                              .x_w = vector("x_w", c),
                              .x_k = vector("x_k", c),
                              .x_v = vector("x_v", c),
                              .x_a = vector("x_a", c),
                              .x_g = vector("x_g", c),
                              .receptance = matrix("receptance.weight", a, c),
                              .key = matrix("key.weight", a, c),
                              .value = matrix("value.weight", a, c),
                              .output = matrix("output.weight", c, a),
                              .w0 = vector("w0", a),
                              .w1 = w12[0],
                              .w2 = w12[1],
                              .a0 = vector("a0", a),
                              .a1 = a12[0],
                              .a2 = a12[1],
                              .g1 = g12[0],
                              .g2 = g12[1],
                              .k_k = vector("k_k", a),
                              .k_a = vector("k_a", a),
                              .r_k = r_k,
                              .ln_x_weight = vector("ln_x.weight", a),
                              .ln_x_bias = vector("ln_x.bias", a),
                              .group_norm_eps = static_cast<T>(options.group_norm_eps),
                              .format = options.format};
  if (layer > 0) {
    auto const v12 = lora("v");
    w.v0 = vector("v0", a);
    w.v1 = v12[0];
    w.v2 = v12[1];
  } else {
    for (char const* name : {"v0", "v1", "v2"}) read.skip(att + name);
  }
  auto const key = read.matrix(ffn + "key.weight", dynamic, c);
  typename ChannelMix::Weights const f{.x_k = read.vector(ffn + "x_k", c),
                                       .key = key,
                                       .value = read.matrix(ffn + "value.weight", c, key.rows()),
                                       .format = options.format};
  Rwkv7Block<T, Size> made(read.layer_norm(block + "ln1", c), TimeMix(w), read.layer_norm(block + "ln2", c),
                           ChannelMix(f));
  read.forget();
  return made;
}

/// The whole model. Throws std::runtime_error with file, tensor, expected and found, or returns all of it.
template <class T, Index Size, class File> Loaded load_rwkv7(File const& file, LoadOptions const& options) {
  WeightReader<T, File> read(file);
  aviary::Embedding<T> embedding(read.matrix("emb.weight", aviary::dynamic, aviary::dynamic), options.format);
  Index const c = embedding.channels();
  auto ln0 = read.layer_norm("blocks.0.ln0", c);
  std::vector<Rwkv7Block<T, Size>> blocks;
  for (Index layer = 0; layer < count_layers(file); ++layer) {
    if (layer > 0)  // layers share their values, so all have the same heads
      file.tensor(r_k_name(layer), {blocks[0].time_mix().heads(), blocks[0].time_mix().head_size()});
    blocks.push_back(read_rwkv7_block<T, Size>(read, layer, c, options));
  }
  auto ln_out = read.layer_norm("ln_out", c);
  aviary::Linear<T> head(read.matrix("head.weight", embedding.vocab_size(), c), options.format);
  auto model = std::make_unique<Rwkv7<T, Size>>(
      typename Rwkv7<T, Size>::Weights{std::move(embedding), std::move(ln0), std::move(blocks), std::move(ln_out),
                                       std::move(head)},
      options.threads);
  return {std::move(model), read.unused()};
}

/// The same with the head size of the file: 64, which all released models have, as a compile-time size.
template <class T, class File> Loaded load_rwkv7(File const& file, LoadOptions const& options = {}) {
  constexpr Index most = 1024;  // of the kernels
  aviary::Tensor const r_k = file.tensor(r_k_name(0), {aviary::dynamic, aviary::dynamic});
  Index const size = r_k.shape[1];
  if (size > most)
    throw std::runtime_error(
        r_k.message("expected a head size of at most " + std::to_string(most) + ", found " + std::to_string(size)));
  return size == 64 ? load_rwkv7<T, 64>(file, options) : load_rwkv7<T, aviary::dynamic>(file, options);
}

}  // namespace models
