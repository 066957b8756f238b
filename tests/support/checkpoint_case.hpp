#pragma once
/// Small random checkpoints, so that models can be tested without a trained one.
#include <cmath>
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

  /// What models are loaded from. Its numbers are those of this object, which must outlive it.
  TensorFile file(std::string name = "FILE") const {
    std::vector<Tensor> all;
    for (auto const& [key, entry] : tensors)
      all.push_back({.name = key,
                     .dtype = NumberFormat::f32,
                     .shape = entry.shape,
                     .bytes = std::as_bytes(std::span(entry.numbers))});
    return TensorFile(all, std::move(name));
  }
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

/// The generations of RWKV, and GoldFinch.
enum class Version { v4, v5_0, v5_1, v5_2, v6, v7, goldfinch };

inline std::string name(Version version) {
  constexpr char const* names[] = {"4", "5.0", "5.1", "5.2", "6", "7", "GoldFinch"};
  return names[static_cast<int>(version)];
}

struct RwkvShape {
  Version version = Version::v7;
  Index layers = 2, vocab = 11, heads = 2, head_size = 16, inner = 40;
  Index rank_w = 5, rank_a = 6, rank_v = 3, rank_g = 17, rank_mix = 4;
  Index attention_layers = 1, compressed = 3;  ///< GoldFinch: the last of the layers; numbers of a key in the cache
  Index more_channels = 0;                     ///< around the heads than within
  bool values_in_first_layer = false;          ///< RWKV-7: v0, v1, v2 where they have no use
  bool bonus_as_logarithm = true;              ///< RWKV-5.0 and 5.1: time_first instead of time_faaaa
  bool first_state = false;                    ///< RWKV-6: a trained state

  Index inner_channels() const { return heads * head_size; }
  Index channels() const { return inner_channels() + more_channels; }
};

/// Makes checkpoints with the names and shapes of released files, and weights that keep activations near 1.
class RandomCheckpoint {
 public:
  RandomCheckpoint(RwkvShape const& shape, std::uint64_t seed) : shape_(shape), random_(seed) {}

  CheckpointCase make() {
    matrix("emb.weight", shape_.vocab, c_, 1);
    norm("blocks.0.ln0", c_);
    norm("ln_out", c_);
    matrix("head.weight", shape_.vocab, c_, c_);
    for (Index layer = 0; layer < shape_.layers; ++layer) {
      std::string const block = "blocks." + std::to_string(layer) + ".";
      norm(block + "ln1", c_);
      norm(block + "ln2", c_);
      time_mix(block + "att.", layer);
      channel_mix(block + "ffn.");
    }
    if (shape_.version == Version::goldfinch) {
      matrix("w_kv_cache_a.weight", shape_.compressed, c_, c_);
      matrix("w_kv_cache_b.weight", c_, c_ + shape_.compressed, c_);
    }
    return made_;
  }

 private:
  void near(std::string const& name, std::vector<std::int64_t> sizes, double mean, double spread) {
    Index n = 1;
    for (std::int64_t const size : sizes) n *= size;
    std::vector<float> numbers;
    for (double const x : random_.normals<double>(n, spread)) numbers.push_back(static_cast<float>(mean + x));
    made_.add(name, std::move(sizes), std::move(numbers));
  }
  void matrix(std::string const& name, Index rows, Index columns, Index inputs) {
    near(name, {rows, columns}, 0, 1 / std::sqrt(static_cast<double>(inputs)));
  }
  void norm(std::string const& name, Index size) {
    near(name + ".weight", {size}, 1, 0.2);
    near(name + ".bias", {size}, 0, 0.2);
  }
  void factors(std::string const& name, Index rank, Index out) {
    matrix(name + "1", c_, rank, c_);
    matrix(name + "2", rank, out, rank);
  }
  void lora(std::string const& name, Index rank) {
    near(name + "0", {1, 1, a_}, 0, 1);
    factors(name, rank, a_);
  }
  /// The factors of n token shifts in one.
  void shift_factors(std::string const& name, Index n) {
    matrix(name + "1", c_, n * shape_.rank_mix, c_);
    near(name + "2", {n, shape_.rank_mix, c_}, 0, 0.3);
  }
  void shares(std::string const& prefix, std::string const& letters) {
    for (char const letter : letters) near(prefix + letter, {1, 1, c_}, 0.5, 0.3);
  }
  void projections(std::string const& att) {
    for (char const* name : {"receptance", "key", "value"}) matrix(att + name + ".weight", a_, c_, c_);
    matrix(att + "output.weight", c_, a_, a_);
  }

  void time_mix(std::string const& att, Index layer) {
    switch (shape_.version) {
      case Version::v4:
        return time_mix4(att);
      case Version::v6:
        return time_mix6(att);
      case Version::v7:
        return time_mix7(att, layer);
      case Version::goldfinch:
        return layer < shape_.layers - shape_.attention_layers ? time_mix_c2(att) : gold(att);
      default:
        return time_mix5(att);
    }
  }
  void time_mix4(std::string const& att) {
    shares(att + "time_mix_", "rkv");
    projections(att);
    near(att + "time_decay", {a_}, -1, 1.5);
    near(att + "time_first", {a_}, 0, 1);
  }
  void time_mix5(std::string const& att) {
    bool const per_head = shape_.version != Version::v5_2;
    std::vector<std::int64_t> constants{shape_.heads};
    if (!per_head) constants.push_back(shape_.head_size);
    norm(att + "ln_x", a_);
    shares(att + "time_mix_", "rkv");
    projections(att);
    near(att + "time_decay", constants, -1, 1.5);
    near(att + (per_head && shape_.bonus_as_logarithm ? "time_first" : "time_faaaa"), constants, 0, 0.5);
    if (shape_.version == Version::v5_0) return;
    shares(att + "time_mix_", "g");
    matrix(att + "gate.weight", a_, c_, c_);
  }
  void time_mix6(std::string const& att) {
    norm(att + "ln_x", a_);
    shares(att + "time_maa_", "xwkvrg");
    shift_factors(att + "time_maa_w", 5);
    projections(att);
    matrix(att + "gate.weight", a_, c_, c_);
    decay6(att);
    if (shape_.first_state) near(att + "time_state", {shape_.heads, shape_.head_size, shape_.head_size}, 0, 1);
  }
  void decay6(std::string const& att) {
    near(att + "time_decay", {1, 1, a_}, -1, 1.5);
    factors(att + "time_decay_w", shape_.rank_w, a_);
    near(att + "time_faaaa", {shape_.heads, shape_.head_size}, 0, 0.5);
  }
  void time_mix_c2(std::string const& att) {
    norm(att + "ln_x", a_);
    shares(att + "time_maa_", "xwkvr");
    shares(att + "time_maa_v", "2");
    shift_factors(att + "time_maa_w", 5);
    projections(att);
    decay6(att);
    factors(att + "time_value2_w", shape_.rank_v, a_);
  }
  void gold(std::string const& att) {
    for (char const* name : {"ln_q", "ln_k", "ln_v", "ln_x"}) norm(att + name, c_);
    shares(att + "time_maa_", "xqkv");
    near(att + "time_maa_v_cache", {1, 1, c_}, 0.5, 0.3);
    factors(att + "time_maa_q_w", shape_.rank_mix, c_);
    shift_factors(att + "time_maa_kv_w", 2);
    factors(att + "time_key_w", shape_.rank_a, c_);
    factors(att + "time_value_w", shape_.rank_a, c_);
    for (char const* name : {"query.weight", "output.weight"}) matrix(att + name, c_, c_, c_);
  }
  void time_mix7(std::string const& att, Index layer) {
    norm(att + "ln_x", a_);
    shares(att + "x_", "rwkvag");
    projections(att);
    lora(att + "w", shape_.rank_w);
    lora(att + "a", shape_.rank_a);
    if (layer > 0 || shape_.values_in_first_layer) lora(att + "v", shape_.rank_v);
    factors(att + "g", shape_.rank_g, a_);
    near(att + "k_k", {1, 1, a_}, 0.8, 0.2);
    near(att + "k_a", {1, 1, a_}, 1, 0.2);
    near(att + "r_k", {shape_.heads, shape_.head_size}, 0, 0.3);
  }

  void channel_mix(std::string const& ffn) {
    if (shape_.version == Version::v7) {
      shares(ffn + "x_", "k");
    } else {
      bool const is_maa = shape_.version == Version::v6 || shape_.version == Version::goldfinch;
      shares(ffn + (is_maa ? "time_maa_" : "time_mix_"), "kr");
      matrix(ffn + "receptance.weight", c_, c_, c_);
    }
    matrix(ffn + "key.weight", shape_.inner, c_, c_);
    matrix(ffn + "value.weight", c_, shape_.inner, shape_.inner);
  }

  RwkvShape shape_;
  Random random_;
  Index c_ = shape_.channels(), a_ = shape_.inner_channels();
  CheckpointCase made_;
};

inline CheckpointCase random_rwkv(RwkvShape const& shape, std::uint64_t seed = 1) {
  return RandomCheckpoint(shape, seed).make();
}
/// GoldFinch with two blocks of each kind, unless the shape says otherwise.
inline CheckpointCase random_goldfinch(RwkvShape shape = {.layers = 4, .attention_layers = 2}, std::uint64_t seed = 1) {
  shape.version = Version::goldfinch;
  return RandomCheckpoint(shape, seed).make();
}

}  // namespace aviary::test
