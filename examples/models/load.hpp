#pragma once
/// Whole models from checkpoints, whatever the generation. A generation is a struct like Rwkv7<float, 64>, with
///
///   T, Block                    the number type, and the blocks of which the model is made
///   parameters(BlockReader<>&)  which tensors are which of the Block's parameters: its weights, or their gradients
///   heads(file)                 the heads of its first block; not for RWKV-4, which has none
#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "models/block_model.hpp"
#include "models/checkpoint.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// Heads, and the tensor that tells how many numbers each has.
struct Heads {
  Index count, size;
  aviary::Tensor tensor;
};

/// The whole model. Throws std::runtime_error with file, tensor, expected and found, or returns all of it.
template <class Generation> Loaded load_model(aviary::TensorFile const& file, LoadOptions const& options = {}) {
  using T = typename Generation::T;
  using Made = BlockModel<typename Generation::Block>;
  WeightReader<T> read(file, options.format);
  aviary::Embedding<T> embedding(read.matrix("emb.weight", aviary::dynamic, aviary::dynamic), options.format);
  Index const c = embedding.channels(), layers = std::max(count_layers(file), Index{1});  // none: those of 0 are missed
  read.forget();
  // The largest matrices come first: what is read lies in memory twice until it is forgotten.
  aviary::Linear<T> head(read.matrix("head.weight", embedding.vocab_size(), c), format_of_head(options.format));
  read.forget();
  auto ln0 = read.layer_norm("blocks.0.ln0", c);
  std::vector<typename Generation::Block> blocks;
  for (Index layer = 0; layer < layers; ++layer) {
    BlockReader<WeightReader<T>> reader(file, read, layer, c, options);
    blocks.emplace_back(Generation::parameters(reader));
    read.forget();
  }
  auto ln_out = read.layer_norm("ln_out", c);
  auto model =
      std::make_unique<Made>(typename Made::Weights{std::move(embedding), std::move(ln0), BlockStack(std::move(blocks)),
                                                    std::move(ln_out), std::move(head), read.fingerprint()},
                             options.threads);
  return {std::move(model), read.unused()};
}

/// The size of the heads of a file, as far as the kernels go.
template <class Generation> Index head_size(aviary::TensorFile const& file) {
  constexpr Index most = 1024;
  Heads const heads = Generation::heads(file);
  if (heads.size > most)
    throw std::runtime_error(heads.tensor.message("expected a head size of at most " + std::to_string(most) +
                                                  ", found " + std::to_string(heads.size)));
  return heads.size;
}

/// The same with heads of as many numbers as the file says: 64, which nearly all released models have, as a compile-time
/// size.
template <template <class T, Index Size> class Generation, class T>
Loaded load_with_heads(aviary::TensorFile const& file, LoadOptions const& options) {
  return head_size<Generation<T, aviary::dynamic>>(file) == 64
             ? load_model<Generation<T, 64>>(file, options)
             : load_model<Generation<T, aviary::dynamic>>(file, options);
}

}  // namespace AVIARY_ISA
}  // namespace models
