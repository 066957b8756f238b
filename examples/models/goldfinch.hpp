#pragma once
/// GoldFinch (Goldstein et al. 2024, arXiv:2407.12077) from a checkpoint with the tensor names of the published code.
#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "aviary/layers/gold.hpp"
#include "aviary/layers/time_mix_c2.hpp"
#include "models/goldfinch_body.hpp"
#include "models/load.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// The blocks of a checkpoint. Heads of Size numbers, or with Size = aviary::dynamic of as many as the file says.
template <class Number, Index Size> struct GoldFinch {
  using T = Number;
  using Body = GoldFinchBody<T, Size>;
  using TimeMix = aviary::TimeMix<aviary::FinchC2<T, Size>>;
  using Gold = aviary::Gold<T>;

  static Heads heads(aviary::TensorFile const& file) {
    aviary::Tensor const u = file.tensor("blocks.0.att.time_faaaa", {aviary::dynamic, aviary::dynamic});
    return {u.shape[0], u.shape[1], u};
  }

  /// Whether a block of a file attends. Of all blocks the first one never does, and the last one always.
  static bool attends(aviary::TensorFile const& file, Index layer, Index layers) {
    return layer > 0 && (layer + 1 == layers || file.contains("blocks." + std::to_string(layer) + ".att.query.weight"));
  }
  /// The blocks of a file: two at least, so that what is missing of one of each kind is missed.
  static Index layers(aviary::TensorFile const& file) { return std::max(count_layers(file), Index{2}); }

  /// @name What all attention blocks share
  /// @param compress  as the other function gives it
  ///@{
  template <class Source> static typename Source::As::Matrix compress(Source& read, Index channels) {
    return read.matrix("w_kv_cache_a.weight", aviary::dynamic, channels);
  }
  template <class Source>
  static typename Source::As::Matrix expand(Source& read, Index channels, typename Source::As::Matrix const& compress) {
    return read.matrix("w_kv_cache_b.weight", channels, channels + compress.rows());
  }
  ///@}

  template <class Source> static auto recurrent_parameters(BlockReader<Source>& read) {
    Index const c = read.channels();
    Heads const heads = GoldFinch::heads(read.file());
    Index const n = Size == aviary::dynamic ? heads.size : Size, a = heads.count * n;
    read.skip("att.time_faaaa");  // there is no bonus
    auto const w12 = read.factors("att.time_decay_w", a), value2 = read.factors("att.time_value2_w", a);
    typename TimeMix::template Parameters<typename Source::As> const w{
        .shift = read.template token_shift<5>(
            "att.time_maa_x", "att.time_maa_w",
            {"att.time_maa_r", "att.time_maa_k", "att.time_maa_v", "att.time_maa_w", "att.time_maa_v2"}),
        .receptance = read.matrix("att.receptance.weight", a, c),
        .key = read.matrix("att.key.weight", a, c),
        .value = read.matrix("att.value.weight", a, c),
        .output = read.matrix("att.output.weight", c, a),
        .time_decay = read.vector("att.time_decay", a),
        .w1 = w12[0],
        .w2 = w12[1],
        .value2_w1 = value2[0],
        .value2_w2 = value2[1],
        .heads = heads.count,
        .ln_x_weight = read.vector("att.ln_x.weight", a),
        .ln_x_bias = read.vector("att.ln_x.bias", a),
        .first_state = read.first_state(heads.count, n),
        .format = read.format()};
    return read.template block<typename Body::Recurrent>(w, "time_maa_", aviary::ShareOf::previous, true);
  }

  /// As that of the recurrent blocks.
  template <class Source>
  static Index attention_head_size(BlockReader<Source> const& read, LoadOptions const& options) {
    Heads const heads = GoldFinch::heads(read.file());
    auto const fail = [&](std::string const& expected) {
      throw std::runtime_error(heads.tensor.message("expected " + expected + ", found " + std::to_string(heads.size)));
    };
    if (read.channels() % heads.size != 0)
      fail("a head size that divides the " + std::to_string(read.channels()) + " channels of attention");
    if (options.rotary_base && heads.size % 2 != 0) fail("an even head size for a rotary embedding");
    return heads.size;
  }

  template <class Source> static auto attention_parameters(BlockReader<Source>& read, LoadOptions const& options) {
    Index const c = read.channels(), n = attention_head_size(read, options);
    auto const key = read.factors("att.time_key_w", c), value = read.factors("att.time_value_w", c);
    typename Gold::template Parameters<typename Source::As> const w{
        .query_shift = read.template token_shift<1>("att.time_maa_x", "att.time_maa_q_w", {"att.time_maa_q"}),
        .shift = read.template token_shift<2>("att.time_maa_v_cache", "att.time_maa_kv_w",
                                              {"att.time_maa_k", "att.time_maa_v"}),
        .key_w1 = key[0],
        .key_w2 = key[1],
        .value_w1 = value[0],
        .value_w2 = value[1],
        .query = read.matrix("att.query.weight", c, c),
        .output = read.matrix("att.output.weight", c, c),
        .ln_q_weight = read.vector("att.ln_q.weight"),
        .ln_q_bias = read.vector("att.ln_q.bias"),
        .ln_k_weight = read.vector("att.ln_k.weight"),
        .ln_k_bias = read.vector("att.ln_k.bias"),
        .ln_v_weight = read.vector("att.ln_v.weight"),
        .ln_v_bias = read.vector("att.ln_v.bias"),
        .ln_x_weight = read.vector("att.ln_x.weight"),
        .ln_x_bias = read.vector("att.ln_x.bias"),
        .heads = c / n,
        .rotary_base = options.rotary_base,
        .format = read.format()};
    return read.template block<typename Body::Attention>(w, "time_maa_", aviary::ShareOf::previous, true);
  }
};

/// The whole model, or std::runtime_error with file, tensor, expected and found.
template <class G> Loaded load_goldfinch_with(aviary::TensorFile const& file, LoadOptions const& options) {
  using T = typename G::T;
  using Made = LanguageModel<typename G::Body>;
  WeightReader<T> read(file, options.format);
  aviary::Embedding<T> embedding(read.matrix("emb.weight", aviary::dynamic, aviary::dynamic), options.format);
  Index const c = embedding.channels(), vocab_size = embedding.vocab_size();
  Index const layers = G::layers(file);
  read.forget();
  aviary::Linear<T> head(read.matrix("head.weight", vocab_size, c),
                         format_of_head(options.format));  // early, as in load.hpp
  read.forget();
  auto ln0 = read.layer_norm("blocks.0.ln0", c);
  std::vector<typename G::Body::Recurrent> recurrent;
  std::vector<typename G::Body::Attention> attention;
  for (Index layer = 0; layer < layers; ++layer) {
    BlockReader<WeightReader<T>> reader(file, read, layer, c, options);
    if (G::attends(file, layer, layers))
      attention.emplace_back(G::attention_parameters(reader, options));
    else
      recurrent.emplace_back(G::recurrent_parameters(reader));
    read.forget();
  }
  auto const compress = G::compress(read, c);
  aviary::TokenCat<T> token_cat(
      embedding, ln0, {.compress = compress, .expand = G::expand(read, c, compress), .format = options.format});
  typename G::Body body(BlockStack(std::move(recurrent)), std::move(token_cat), std::move(attention),
                        options.cache.value_or(aviary::format_of<T>), options.keep_keys);
  auto ln_out = read.layer_norm("ln_out", c);
  auto model = std::make_unique<Made>(typename Made::Weights{std::move(embedding), std::move(ln0), std::move(body),
                                                             std::move(ln_out), std::move(head), read.fingerprint()},
                                      options.threads);
  return {std::move(model), read.unused()};
}

template <class T> Loaded load_goldfinch(aviary::TensorFile const& file, LoadOptions const& options) {
  return head_size<GoldFinch<T, aviary::dynamic>>(file) == 64
             ? load_goldfinch_with<GoldFinch<T, 64>>(file, options)
             : load_goldfinch_with<GoldFinch<T, aviary::dynamic>>(file, options);
}

}  // namespace AVIARY_ISA
}  // namespace models
