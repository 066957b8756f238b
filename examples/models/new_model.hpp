#pragma once
/// Models from nothing: which tensors a model of given sizes has, and their first weights.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "aviary/training/initialize.hpp"
#include "models/any.hpp"
#include "models/weight_store.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// Sizes of a model. A 0 among those that have defaults stands for what the published training code chooses for C channels:
///
///               4, 5.0    5.1, 5.2, 6, GoldFinch             7
///   inner       4 C       3.5 C, down to a multiple of 32    4 C
///   rank_w                64 (6, GoldFinch)                  1.8 sqrt(C)
///   rank_a                                                   1.8 sqrt(C)
///   rank_v                64 (GoldFinch)                     1.3 sqrt(C)
///   rank_g                                                   0.6 C^0.8
///   rank_mix              32 (6, GoldFinch)
///   rank_keys             C/16, at least 64 (GoldFinch)
///   compressed            C/16 (GoldFinch)
///
/// The ranks of RWKV-7 are rounded to multiples of 32, and those and `inner` are at least 32. What a generation has no use
/// for is ignored.
///
/// Source: BlinkDL/RWKV-LM at 524481d (train.py and src/model.py of RWKV-v4neo: 4, 5.0, 5.1, and of RWKV-v5: 5.2, 6 and the
/// ranks of 7; its README has those of the released RWKV-7 of 1.5B) and recursal/GoldFinch-paper at 4fbc70c. Other published
/// code for RWKV-7 has larger ranks, RWKV-v7/train_temp/src/model.py; the released one of 0.4B has a rank_g of 128, not 160.
struct NewModel {
  Generation generation;
  Index layers, channels, vocab;
  Index head_size = 64;  ///< of all but RWKV-4
  Index inner = 0;       ///< of the channel mix
  /// Ranks of what makes the decay, the rate (a), the values, the gate, the token shifts of the time mix, and GOLD's keys
  /// and values.
  Index rank_w = 0, rank_a = 0, rank_v = 0, rank_g = 0, rank_mix = 0, rank_keys = 0;
  Index compressed = 0;  ///< numbers that GoldFinch's cache holds for a token
};

/// A tensor by its name.
struct NamedShape {
  std::string name;
  std::vector<std::int64_t> shape;

  Index size() const noexcept {
    Index product = 1;
    for (std::int64_t const n : shape) product *= n;
    return product;
  }
};

/// Of so many layers of a GoldFinch the first two thirds, rounded down; the others attend.
constexpr Index recurrent_layers(Index layers) noexcept { return layers * 2 / 3; }

namespace detail {

/// Throws std::invalid_argument.
[[noreturn]] inline void refuse(NewModel const& model, std::string const& what, Index found) {
  throw std::invalid_argument(std::string(name_of(model.generation)) + ": expected " + what + ", found " +
                              std::to_string(found));
}

/// Sizes have limits, within which no product of theirs overflows.
inline void check_size(NewModel const& model, char const* name, Index size, Index least = 1,
                       Index most = Index{1} << 22) {
  if (size < least || size > most)
    refuse(model, std::string(name) + " from " + std::to_string(least) + " to " + std::to_string(most), size);
}

}  // namespace detail

/// The model with all its sizes. Throws std::invalid_argument for an unknown generation; for sizes below 1 or too large:
/// layers above 4096, heads above 1024, channels above 2^20, others above 2^22; for channels that are no multiple of the head
/// size; for a GoldFinch of one layer; and for heads of one number in RWKV-5.2, whose files would pass for those of 5.1.
inline NewModel completed(NewModel model) {
  if (model.generation == Generation::unknown)
    throw std::invalid_argument("expected a known generation for a new model, found unknown");
  detail::check_size(model, "layers", model.layers, model.generation == Generation::goldfinch ? 2 : 1, 4096);
  detail::check_size(model, "channels", model.channels, 1, Index{1} << 20);
  detail::check_size(model, "vocab", model.vocab);
  if (model.generation != Generation::rwkv4) {
    detail::check_size(model, "head_size", model.head_size, model.generation == Generation::rwkv5_2 ? 2 : 1, 1024);
    if (model.channels % model.head_size != 0)
      detail::refuse(model, "channels that are a multiple of the head size " + std::to_string(model.head_size),
                     model.channels);
  }
  Index const c = model.channels;
  bool const is_7 = model.generation == Generation::rwkv7;
  bool const is_wide = is_7 || model.generation == Generation::rwkv4 || model.generation == Generation::rwkv5_0;
  auto const rounded = [c](double factor, double power) {
    return std::max(Index{32}, 32 * static_cast<Index>(std::lround(factor * std::pow(c, power) / 32)));
  };
  auto const complete = [&](char const* name, Index& size, Index otherwise) {
    if (size == 0) size = otherwise;
    detail::check_size(model, name, size);
  };
  complete("inner", model.inner, is_wide ? 4 * c : std::max(Index{32}, c * 7 / 2 / 32 * 32));
  complete("rank_w", model.rank_w, is_7 ? rounded(1.8, 0.5) : 64);
  complete("rank_a", model.rank_a, rounded(1.8, 0.5));
  complete("rank_v", model.rank_v, is_7 ? rounded(1.3, 0.5) : 64);
  complete("rank_g", model.rank_g, rounded(0.6, 0.8));
  complete("rank_mix", model.rank_mix, 32);
  complete("rank_keys", model.rank_keys, std::max(Index{64}, c / 16));
  complete("compressed", model.compressed, std::max(Index{1}, c / 16));
  return model;
}

namespace detail {

/// Collects the tensors of a model whose sizes are all known.
class Shapes {
 public:
  explicit Shapes(NewModel const& model) : n_(model), c_(model.channels) {}

  std::vector<NamedShape> all() {
    add("emb.weight", {n_.vocab, c_});
    add("head.weight", {n_.vocab, c_});
    norms({"blocks.0.ln0", "ln_out"});
    if (n_.generation == Generation::goldfinch) {
      add("w_kv_cache_a.weight", {n_.compressed, c_});
      add("w_kv_cache_b.weight", {c_, c_ + n_.compressed});
    }
    for (Index layer = 0; layer < n_.layers; ++layer) {
      prefix_ = "blocks." + std::to_string(layer) + ".";
      norms({"ln1", "ln2"});
      prefix_ += "att.";
      time_mix(layer);
      prefix_.replace(prefix_.size() - 4, 3, "ffn");
      channel_mix();
    }
    return std::move(shapes_);
  }

 private:
  using Names = std::initializer_list<char const*>;

  void add(std::string const& name, std::vector<std::int64_t> shape) {
    shapes_.push_back({prefix_ + name, std::move(shape)});
  }
  /// A number of each channel.
  void vectors(std::string const& start, Names names) {
    for (char const* name : names) add(start + name, {1, 1, c_});
  }
  void norms(Names names) {
    for (std::string const name : names) add(name + ".weight", {c_}), add(name + ".bias", {c_});
  }
  void projections(Names names) {
    for (std::string const name : names) add(name + ".weight", {c_, c_});
  }
  /// The factors of a low-rank map.
  void factors(std::string const& name, Index rank) {
    add(name + "1", {c_, rank});
    add(name + "2", {rank, c_});
  }
  /// Those of the token shifts of several slices.
  void shift_factors(std::string const& name, Index slices) {
    add(name + "1", {c_, slices * n_.rank_mix});
    add(name + "2", {slices, n_.rank_mix, c_});
  }
  std::vector<std::int64_t> in_heads() const { return {c_ / n_.head_size, n_.head_size}; }

  void time_mix(Index layer) {
    switch (n_.generation) {
      case Generation::rwkv4:
        return time_mix4();
      case Generation::rwkv5_0:
      case Generation::rwkv5_1:
      case Generation::rwkv5_2:
        return time_mix5();
      case Generation::rwkv6:
        return time_mix6();
      case Generation::rwkv7:
        return time_mix7(layer);
      case Generation::goldfinch:
        return layer < recurrent_layers(n_.layers) ? time_mix_c2() : gold();
      case Generation::unknown:
        break;
    }
  }
  void time_mix4() {
    vectors("time_mix_", {"r", "k", "v"});
    projections({"receptance", "key", "value", "output"});
    add("time_decay", {c_});
    add("time_first", {c_});
  }
  void time_mix5() {
    auto const constants =
        n_.generation == Generation::rwkv5_2 ? in_heads() : std::vector<std::int64_t>{c_ / n_.head_size};
    vectors("time_mix_", {"r", "k", "v"});
    projections({"receptance", "key", "value", "output"});
    add("time_decay", constants);
    add("time_faaaa", constants);
    norms({"ln_x"});
    if (n_.generation == Generation::rwkv5_0) return;
    vectors("time_mix_", {"g"});
    projections({"gate"});
  }
  void time_mix6() {
    vectors("time_maa_", {"x", "w", "k", "v", "r", "g"});
    projections({"gate"});
    data_dependent();
  }
  void time_mix_c2() {
    vectors("time_maa_", {"x", "r", "k", "v", "w", "v2"});
    factors("time_value2_w", n_.rank_v);
    data_dependent();
  }
  /// What RWKV-6 and the recurrent layers of GoldFinch have in common.
  void data_dependent() {
    shift_factors("time_maa_w", 5);
    projections({"receptance", "key", "value", "output"});
    vectors("time_", {"decay"});
    factors("time_decay_w", n_.rank_w);
    add("time_faaaa", in_heads());
    norms({"ln_x"});
  }
  /// The first layer makes the values that others mix into theirs: it has no v0, v1, v2.
  void time_mix7(Index layer) {
    vectors("", {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "k_k", "k_a"});
    projections({"receptance", "key", "value", "output"});
    factors("w", n_.rank_w);
    factors("a", n_.rank_a);
    factors("g", n_.rank_g);
    if (layer > 0) vectors("", {"v0"}), factors("v", n_.rank_v);
    add("r_k", in_heads());
    norms({"ln_x"});
  }
  void gold() {
    vectors("time_maa_", {"x", "q", "v_cache", "k", "v"});
    factors("time_maa_q_w", n_.rank_mix);
    shift_factors("time_maa_kv_w", 2);
    factors("time_key_w", n_.rank_keys);
    factors("time_value_w", n_.rank_keys);
    projections({"query", "output"});
    norms({"ln_q", "ln_k", "ln_v", "ln_x"});
  }

  void channel_mix() {
    if (n_.generation == Generation::rwkv7) {
      vectors("x_", {"k"});
    } else {
      bool const of_previous = n_.generation == Generation::rwkv6 || n_.generation == Generation::goldfinch;
      vectors(of_previous ? "time_maa_" : "time_mix_", {"k", "r"});
      projections({"receptance"});
    }
    add("key.weight", {n_.inner, c_});
    add("value.weight", {c_, n_.inner});
  }

  NewModel const& n_;
  Index c_;
  std::string prefix_;
  std::vector<NamedShape> shapes_;
};

}  // namespace detail

/// All tensors of a model, with the names and shapes of released files, but for RWKV-5.0: time_faaaa is in place of its
/// logarithm time_first, as in a WeightStore. Throws as completed() does.
inline std::vector<NamedShape> shapes_of(NewModel const& model) {
  NewModel const all = completed(model);
  return detail::Shapes(all).all();
}

/// The weights of a model, as many as its file holds. Throws as completed() does.
inline Index count_weights(NewModel const& model) {
  Index sum = 0;
  for (NamedShape const& tensor : shapes_of(model)) sum += tensor.size();
  return sum;
}

/// Whose initial weights a generation has. Throws std::invalid_argument for an unknown one.
inline aviary::Recipe recipe_of(Generation generation) {
  switch (generation) {
    case Generation::rwkv4:
      return aviary::Recipe::rwkv4;
    case Generation::rwkv5_0:
      return aviary::Recipe::rwkv5_0;
    case Generation::rwkv5_1:
      return aviary::Recipe::rwkv5_1;
    case Generation::rwkv5_2:
      return aviary::Recipe::rwkv5_2;
    case Generation::rwkv6:
      return aviary::Recipe::rwkv6;
    case Generation::rwkv7:
      return aviary::Recipe::rwkv7;
    case Generation::goldfinch:
      return aviary::Recipe::goldfinch;
    case Generation::unknown:
      break;
  }
  throw std::invalid_argument("expected a known generation for initial weights, found unknown");
}

/// A model that has learnt nothing, all of whose weights learn: see training/initialize.hpp. The same seed gives the same
/// weights. Throws as completed() does.
template <class T> WeightStore<T> new_weights(NewModel const& model, std::uint64_t seed) {
  std::vector<typename WeightStore<T>::Wanted> wanted;
  for (NamedShape& tensor : shapes_of(model)) wanted.push_back({std::move(tensor.name), std::move(tensor.shape)});
  WeightStore<T> weights(std::move(wanted));
  aviary::Initialization const first{
      .recipe = recipe_of(model.generation), .layers = model.layers, .seed = seed, .head_size = model.head_size};
  for (auto const& entry : weights.entries()) {
    std::string name = entry.name;
    bool const of_logarithm = model.generation == Generation::rwkv5_0 && name.ends_with("time_faaaa");
    if (of_logarithm) name.replace(name.size() - 5, 5, "first");
    aviary::initialize<T>(first, name, std::vector<Index>(entry.shape.begin(), entry.shape.end()), entry.values);
    if (of_logarithm)
      for (Index i = 0; i < entry.values.size(); ++i) entry.values[i] = std::exp(entry.values[i]);
  }
  return weights;
}

}  // namespace AVIARY_ISA
}  // namespace models
