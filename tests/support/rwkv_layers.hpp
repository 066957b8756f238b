#pragma once
/// The blocks of a checkpoint, read in the plainest way: tensors by the names of released files, without checks.
#include <algorithm>
#include <cmath>
#include <deque>
#include <string>
#include <vector>

#include "aviary/io/safetensors.hpp"
#include "aviary/layers/block.hpp"
#include "aviary/layers/time_mix4.hpp"
#include "aviary/layers/time_mix5.hpp"
#include "aviary/layers/time_mix6.hpp"
#include "aviary/layers/time_mix7.hpp"

namespace aviary::test {

/// A layer's tensors as numbers of type T. Views are valid as long as it is.
template <class T> class LayerTensors {
 public:
  LayerTensors(SafeTensors const& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

  bool contains(std::string const& name) const { return file_.contains(prefix_ + name); }
  VecView<T const> row(std::string const& name) { return read(name); }
  /// All numbers in rows of the last axis.
  MatView<T const> matrix(std::string const& name) {
    std::vector<T> const& numbers = read(name);
    Index const size = static_cast<Index>(numbers.size()), columns = file_.tensor(prefix_ + name).shape.back();
    return {numbers.data(), size / columns, columns};
  }
  /// (H, N), or (H, 1) where a head has one number.
  MatView<T const> per_head(std::string const& name) {
    if (file_.tensor(prefix_ + name).shape.size() == 2) return matrix(name);
    VecView<T const> const all = row(name);
    return {all.data(), all.size(), 1};
  }
  /// (H, N) bonuses of RWKV-5, of which old files hold the logarithms.
  MatView<T const> bonus() {
    if (!contains("time_first")) return per_head("time_faaaa");
    MatView<T const> const u = per_head("time_first");
    std::vector<T>& exponentials = numbers_.emplace_back(u.data(), u.data() + u.rows() * u.columns());
    for (T& e : exponentials) e = std::exp(e);
    return {exponentials.data(), u.rows(), u.columns()};
  }
  LayerNorm<T> layer_norm(std::string const& name) { return {row(name + ".weight"), row(name + ".bias")}; }

 private:
  std::vector<T> const& read(std::string const& name) {
    return numbers_.emplace_back(file_.tensor(prefix_ + name).template read<T>());
  }

  SafeTensors const& file_;
  std::string prefix_;
  std::deque<std::vector<T>> numbers_;
};

/// @name The time mix of a layer, from tensors whose names begin after "att."
/// `w` holds numbers while the layer copies them.
///@{
template <class T, Index C> TimeMix<Wkv4<T, C>> read_time_mix(Wkv4<T, C> const*, LayerTensors<T>& w, Index) {
  return TimeMix<Wkv4<T, C>>({.mix_r = w.row("time_mix_r"),
                              .mix_k = w.row("time_mix_k"),
                              .mix_v = w.row("time_mix_v"),
                              .receptance = w.matrix("receptance.weight"),
                              .key = w.matrix("key.weight"),
                              .value = w.matrix("value.weight"),
                              .output = w.matrix("output.weight"),
                              .time_decay = w.row("time_decay"),
                              .u = w.row("time_first")});
}

template <Axis decay, class T, Index N, class S>
auto read_time_mix(MatrixMemory<Wkv5Rule<decay>, T, N, N, S> const*, LayerTensors<T>& w, Index) {
  using Layer = TimeMix<MatrixMemory<Wkv5Rule<decay>, T, N, N, S>>;
  typename Layer::Weights weights{.mix_r = w.row("time_mix_r"),
                                  .mix_k = w.row("time_mix_k"),
                                  .mix_v = w.row("time_mix_v"),
                                  .receptance = w.matrix("receptance.weight"),
                                  .key = w.matrix("key.weight"),
                                  .value = w.matrix("value.weight"),
                                  .output = w.matrix("output.weight"),
                                  .time_decay = w.per_head("time_decay"),
                                  .u = w.bonus(),
                                  .ln_x_weight = w.row("ln_x.weight"),
                                  .ln_x_bias = w.row("ln_x.bias")};
  if (w.contains("gate.weight")) {
    weights.mix_g = w.row("time_mix_g");
    weights.gate = w.matrix("gate.weight");
  }
  return Layer(weights);
}

template <class T, Index N, class S> auto read_time_mix(Wkv6<T, N, N, S> const*, LayerTensors<T>& w, Index) {
  using Layer = TimeMix<Wkv6<T, N, N, S>>;
  MatView<T const> const second = w.matrix("time_maa_w2");
  Index const rank = second.rows() / 5;
  typename Layer::Weights weights{.shift = {.base = w.row("time_maa_x"),
                                            .w1 = w.matrix("time_maa_w1"),
                                            .w2 = {},
                                            .mix = {w.row("time_maa_w"), w.row("time_maa_k"), w.row("time_maa_v"),
                                                    w.row("time_maa_r"), w.row("time_maa_g")}},
                                  .receptance = w.matrix("receptance.weight"),
                                  .key = w.matrix("key.weight"),
                                  .value = w.matrix("value.weight"),
                                  .gate = w.matrix("gate.weight"),
                                  .output = w.matrix("output.weight"),
                                  .time_decay = w.row("time_decay"),
                                  .w1 = w.matrix("time_decay_w1"),
                                  .w2 = w.matrix("time_decay_w2"),
                                  .u = w.matrix("time_faaaa"),
                                  .ln_x_weight = w.row("ln_x.weight"),
                                  .ln_x_bias = w.row("ln_x.bias")};
  for (Index n = 0; n < 5; ++n) weights.shift.w2[to_size(n)] = second.rows(n * rank, rank);
  if (w.contains("time_state")) weights.first_state = w.matrix("time_state");
  return Layer(weights);
}

template <class T, Index N, class S> auto read_time_mix(Wkv7<T, N, N, S> const*, LayerTensors<T>& w, Index layer) {
  using Layer = TimeMix<Wkv7<T, N, N, S>>;
  typename Layer::Weights weights{.x_r = w.row("x_r"),
                                  .x_w = w.row("x_w"),
                                  .x_k = w.row("x_k"),
                                  .x_v = w.row("x_v"),
                                  .x_a = w.row("x_a"),
                                  .x_g = w.row("x_g"),
                                  .receptance = w.matrix("receptance.weight"),
                                  .key = w.matrix("key.weight"),
                                  .value = w.matrix("value.weight"),
                                  .output = w.matrix("output.weight"),
                                  .w0 = w.row("w0"),
                                  .w1 = w.matrix("w1"),
                                  .w2 = w.matrix("w2"),
                                  .a0 = w.row("a0"),
                                  .a1 = w.matrix("a1"),
                                  .a2 = w.matrix("a2"),
                                  .g1 = w.matrix("g1"),
                                  .g2 = w.matrix("g2"),
                                  .k_k = w.row("k_k"),
                                  .k_a = w.row("k_a"),
                                  .r_k = w.matrix("r_k"),
                                  .ln_x_weight = w.row("ln_x.weight"),
                                  .ln_x_bias = w.row("ln_x.bias")};
  if (layer > 0) {  // the first layer has no use for them, though some files give it them
    weights.v0 = w.row("v0");
    weights.v1 = w.matrix("v1");
    weights.v2 = w.matrix("v2");
  }
  return Layer(weights);
}
///@}

/// A channel mix, from tensors whose names begin after "ffn.".
template <class T> ChannelMix<T> read_channel_mix(LayerTensors<T>& w) {
  bool const is_rwkv7 = w.contains("x_k"), is_rwkv6 = w.contains("time_maa_k");
  std::string const mix = is_rwkv7 ? "x_" : is_rwkv6 ? "time_maa_" : "time_mix_";
  typename ChannelMix<T>::Weights weights{.x_k = w.row(mix + "k"),
                                          .key = w.matrix("key.weight"),
                                          .value = w.matrix("value.weight"),
                                          .shares = is_rwkv7 || is_rwkv6 ? ShareOf::previous : ShareOf::current};
  if (w.contains("receptance.weight")) {
    weights.x_r = w.row(mix + "r");
    weights.receptance = w.matrix("receptance.weight");
  }
  return ChannelMix<T>(weights);
}

/// All blocks of a file. Memory: Wkv7<float, 16> ...
template <class Memory> std::vector<Block<TimeMix<Memory>>> read_blocks(SafeTensors const& file) {
  using T = typename Memory::T;
  std::vector<Block<TimeMix<Memory>>> blocks;
  for (Index layer = 0;; ++layer) {
    std::string const prefix = "blocks." + std::to_string(layer) + ".";
    LayerTensors<T> norms(file, prefix), att(file, prefix + "att."), ffn(file, prefix + "ffn.");
    if (!norms.contains("ln1.weight")) return blocks;
    blocks.emplace_back(norms.layer_norm("ln1"), read_time_mix(static_cast<Memory const*>(nullptr), att, layer),
                        norms.layer_norm("ln2"), read_channel_mix(ffn));
  }
}

}  // namespace aviary::test
