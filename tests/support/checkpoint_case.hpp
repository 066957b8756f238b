#pragma once
/// Small random checkpoints, so that models can be tested without a trained one.
#include <cstdint>
#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "aviary/io/safetensors.hpp"
#include "support/random.hpp"

namespace aviary::test {

/// Float tensors by name.
class CheckpointCase {
 public:
  struct Entry {
    std::vector<std::int64_t> shape;
    std::vector<float> numbers;
  };

  std::map<std::string, Entry> tensors;

  void add(std::string const& name, std::vector<std::int64_t> shape, std::vector<float> numbers) {
    tensors[name] = {std::move(shape), std::move(numbers)};
  }
  /// The numbers of a tensor; throws std::out_of_range if there is none.
  std::vector<float> const& operator[](std::string const& name) const { return tensors.at(name).numbers; }
  std::int64_t size(std::string const& name, std::size_t axis) const { return tensors.at(name).shape.at(axis); }

  std::filesystem::path write(std::filesystem::path const& path) const {
    writer().write(path);
    return path;
  }
  /// The file's bytes.
  std::string text() const {
    std::ostringstream out;
    writer().write(out);
    return out.str();
  }

 private:
  SafeTensorsWriter writer() const {
    SafeTensorsWriter writer;
    for (auto const& [name, entry] : tensors) writer.add(name, entry.shape, entry.numbers);
    return writer;
  }
};

struct Rwkv7Shape {
  Index layers = 2, vocab = 11, heads = 2, head_size = 16, inner = 40;
  Index rank_w = 5, rank_a = 6, rank_v = 3, rank_g = 17;
  bool values_in_first_layer = false;  ///< v0, v1, v2 where they have no use

  Index channels() const { return heads * head_size; }
};

/// An RWKV-7 checkpoint with the names and shapes of released files, and weights that keep activations near 1.
inline CheckpointCase random_rwkv7(Rwkv7Shape const& shape, std::uint64_t seed = 1) {
  Random random(seed);
  CheckpointCase made;
  Index const c = shape.channels();
  auto const near = [&](std::string const& name, std::vector<std::int64_t> sizes, double mean, double spread) {
    Index n = 1;
    for (std::int64_t const size : sizes) n *= size;
    std::vector<float> numbers;
    for (double const x : random.normals<double>(n, spread)) numbers.push_back(static_cast<float>(mean + x));
    made.add(name, std::move(sizes), std::move(numbers));
  };
  auto const matrix = [&](std::string const& name, Index rows, Index columns, Index inputs) {
    near(name, {rows, columns}, 0, 1 / std::sqrt(static_cast<double>(inputs)));
  };
  auto const norm = [&](std::string const& name) {
    near(name + ".weight", {c}, 1, 0.2);
    near(name + ".bias", {c}, 0, 0.2);
  };
  auto const lora = [&](std::string const& name, Index rank) {
    near(name + "0", {1, 1, c}, 0, 1);
    matrix(name + "1", c, rank, c);
    matrix(name + "2", rank, c, rank);
  };

  matrix("emb.weight", shape.vocab, c, 1);
  norm("blocks.0.ln0");
  norm("ln_out");
  matrix("head.weight", shape.vocab, c, c);
  for (Index layer = 0; layer < shape.layers; ++layer) {
    std::string const block = "blocks." + std::to_string(layer) + ".", att = block + "att.", ffn = block + "ffn.";
    norm(block + "ln1");
    norm(block + "ln2");
    norm(att + "ln_x");
    for (char const* name : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g"}) near(att + name, {1, 1, c}, 0.5, 0.3);
    for (char const* name : {"receptance", "key", "value", "output"}) matrix(att + name + ".weight", c, c, c);
    lora(att + "w", shape.rank_w);
    lora(att + "a", shape.rank_a);
    if (layer > 0 || shape.values_in_first_layer) lora(att + "v", shape.rank_v);
    matrix(att + "g1", c, shape.rank_g, c);
    matrix(att + "g2", shape.rank_g, c, shape.rank_g);
    near(att + "k_k", {1, 1, c}, 0.8, 0.2);
    near(att + "k_a", {1, 1, c}, 1, 0.2);
    near(att + "r_k", {shape.heads, shape.head_size}, 0, 0.3);
    near(ffn + "x_k", {1, 1, c}, 0.5, 0.3);
    matrix(ffn + "key.weight", shape.inner, c, c);
    matrix(ffn + "value.weight", c, shape.inner, shape.inner);
  }
  return made;
}

}  // namespace aviary::test
