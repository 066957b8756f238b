#pragma once
/// Tensors by the names of the released files, whatever container they come in: a table for each container says what it calls
/// them, and what it does to their numbers. Loaders, and whoever lists or converts checkpoints, see released files alone.
///
///   GGUF                            RWKV-6 and 7, as llama.cpp converts them (convert_hf_to_gguf.py; gguf-py, constants.py)
///   transformers                    RWKV-4 (models/rwkv), and RWKV-5 and 6 as their repositories' own code calls them
///   flash-linear-attention          RWKV-6 and 7 (fla/layers, fla/models)
///
/// A tensor that a table does not know keeps its name: it is reported as unused. What has another shape than a table expects
/// is shown as it is, and refused by whoever reads it.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <filesystem>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "aviary/io/checkpoint_file.hpp"
#include "aviary/io/tensor_file.hpp"

namespace models {
inline namespace AVIARY_ISA {

using aviary::Index;

/// A tensor of a file on its way to one of a release.
struct ShownTensor {
  std::string name;
  aviary::Tensor tensor;  ///< but for shape and strides
  std::vector<std::int64_t> shape, strides;
  std::vector<std::byte> numbers = {};  ///< if they lie otherwise than in the file

  ShownTensor(std::string n, aviary::Tensor const& of) : name(std::move(n)), tensor(of) { take_layout(); }

  aviary::Tensor view() {
    aviary::Tensor shown = tensor;
    shown.name = name, shown.shape = shape, shown.strides = strides;
    if (name != tensor.name) shown.stored_name = tensor.name;
    if (!numbers.empty()) shown.bytes = numbers;
    return shown;
  }
  /// After a change of `tensor`.
  void take_layout() {
    shape.assign(tensor.shape.begin(), tensor.shape.end());
    strides.assign(tensor.strides.begin(), tensor.strides.end());
  }
};

/// What undoes a container's change; of a tensor of layer `layer` of the file.
using Undo = void (*)(ShownTensor&, aviary::TensorFile const& file, Index layer);

/// '#' stands for the number of a layer, '*' at the end for anything.
struct NameOf {
  std::string_view released, stored;
  Undo undo = nullptr;
};

namespace detail {

/// A number from the texts of a GGUF file, under "ARCHITECTURE.KEY"; nothing if there is none.
inline std::optional<Index> hyperparameter(aviary::TensorFile const& file, std::string const& key) {
  auto const& texts = file.metadata();
  auto const architecture = texts.find("general.architecture");
  if (architecture == texts.end()) return std::nullopt;
  auto const found = texts.find(architecture->second + "." + key);
  if (found == texts.end()) return std::nullopt;
  Index value = 0;
  char const* const end = found->second.data() + found->second.size();
  auto const [stop, error] = std::from_chars(found->second.data(), end, value);
  if (stop != end || error != std::errc() || value < 0)
    throw std::runtime_error(file.message("value " + aviary::in_quotes(found->first) +
                                          ": expected an integer from 0 on, found " +
                                          aviary::in_quotes(found->second)));
  return value;
}

/// (..., a, b) as (..., b, a). Of no numbers the sizes may be anything, and stay as they are.
inline void transposed(ShownTensor& shown, aviary::TensorFile const&, Index) {
  std::size_t const n = shown.shape.size();
  if (n < 2 || shown.tensor.size() == 0) return;
  if (shown.strides.empty()) {
    shown.strides.assign(n, 1);
    for (std::size_t axis = n - 1; axis-- > 0;) shown.strides[axis] = shown.strides[axis + 1] * shown.shape[axis + 1];
  }
  std::swap(shown.shape[n - 2], shown.shape[n - 1]);
  std::swap(shown.strides[n - 2], shown.strides[n - 1]);
}

/// Part i of several that are one tensor.
template <Index i, Index parts> void part(ShownTensor& shown, aviary::TensorFile const&, Index) {
  if (shown.shape.empty() || shown.shape[0] != parts)
    throw std::runtime_error(shown.tensor.message("expected " + std::to_string(parts) +
                                                  " tensors in one, found shape " + aviary::shape_text(shown.shape)));
  shown.tensor = shown.tensor[i];
  shown.take_layout();
}

/// (heads size) as (heads, size).
inline void in_heads(ShownTensor& shown, aviary::TensorFile const& file, Index) {
  Index const size = hyperparameter(file, "wkv.head_size").value_or(0), numbers = shown.tensor.size();
  if (size == 0 || numbers % size != 0)
    throw std::runtime_error(shown.tensor.message("expected heads of the file's wkv.head_size, " +
                                                  std::to_string(size) + " numbers each, found shape " +
                                                  aviary::shape_text(shown.shape)));
  shown.shape = {numbers / size, size};
}

/// Numbers that were divided by 2 once for each rescale_every_n_layers layers before theirs, so that half precision could hold
/// what layers add up.
inline void rescaled(ShownTensor& shown, aviary::TensorFile const& file, Index layer) {
  Index const every = hyperparameter(file, "rescale_every_n_layers").value_or(0);
  if (every == 0 || layer < every) return;
  aviary::Tensor& tensor = shown.tensor;
  if (!tensor.blocks) {
    for (auto const format : {aviary::BlockFormat::f32, aviary::BlockFormat::f16, aviary::BlockFormat::bf16})
      if (block_format_name(format) == name_of(tensor.dtype)) tensor.blocks = aviary::BlockNumbers{format};
    if (!tensor.blocks) throw std::runtime_error(tensor.message("expected numbers of at most 32 bits"));
    tensor.dtype = aviary::NumberFormat::f32;
  }
  tensor.blocks->halvings = static_cast<int>(std::min<Index>(layer / every, 1024));
}

/// A copy of the numbers: `places` calls its argument with the place of each in the file, in the order of the new shape.
template <class Places> void copied(ShownTensor& shown, std::vector<std::int64_t> shape, Places&& places) {
  aviary::with_element(shown.tensor.dtype, [&]<class T>() {
    std::vector<T> const from = shown.tensor.read<T>();
    std::vector<std::byte> to(from.size() * sizeof(T));
    std::size_t i = 0;
    places([&](Index place) { std::memcpy(&to[sizeof(T) * i++], &from[aviary::to_size(place)], sizeof(T)); });
    shown.numbers = std::move(to);
  });
  shown.tensor.strides = {}, shown.tensor.blocks = {};
  shown.shape = std::move(shape), shown.strides.clear();
}

/// What five token shifts share, here in the order r, w, k, v, g, released as w, k, v, r, g.
inline constexpr std::array<Index, 5> shift_places{1, 2, 3, 0, 4};

/// (5 R, C) as (C, 5 R), with other shifts first.
inline void first_factor_of_shifts(ShownTensor& shown, aviary::TensorFile const&, Index) {
  if (shown.shape.size() != 2 || shown.shape[0] % 5 != 0 || shown.tensor.size() == 0) return;
  Index const rank = shown.shape[0] / 5, channels = shown.shape[1];
  copied(shown, {channels, 5 * rank}, [&](auto&& take) {
    for (Index c = 0; c < channels; ++c)
      for (Index const shift : shift_places)
        for (Index j = 0; j < rank; ++j) take((shift * rank + j) * channels + c);
  });
}
/// (C, 5 R) as (5, R, C), with other shifts first.
inline void second_factor_of_shifts(ShownTensor& shown, aviary::TensorFile const&, Index) {
  if (shown.shape.size() != 2 || shown.shape[1] % 5 != 0 || shown.tensor.size() == 0) return;
  Index const rank = shown.shape[1] / 5, channels = shown.shape[0];
  copied(shown, {5, rank, channels}, [&](auto&& take) {
    for (Index const shift : shift_places)
      for (Index j = 0; j < rank; ++j)
        for (Index c = 0; c < channels; ++c) take((c * 5 + shift) * rank + j);
  });
}

// clang-format off
inline constexpr NameOf gguf_names[]{
    {"emb.weight", "token_embd.weight"},
    {"blocks.0.ln0.*", "token_embd_norm.*"},
    {"ln_out.*", "output_norm.*"},
    {"head.weight", "output.weight"},
    {"blocks.#.ln1.*", "blk.#.attn_norm.*"},
    {"blocks.#.ln2.*", "blk.#.attn_norm_2.*"},
    {"blocks.#.att.ln_x.*", "blk.#.time_mix_ln.*"},
    {"blocks.#.att.receptance.weight", "blk.#.time_mix_receptance.weight"},
    {"blocks.#.att.key.weight", "blk.#.time_mix_key.weight"},
    {"blocks.#.att.value.weight", "blk.#.time_mix_value.weight"},
    {"blocks.#.att.gate.weight", "blk.#.time_mix_gate.weight"},
    {"blocks.#.att.output.weight", "blk.#.time_mix_output.weight", rescaled},
    {"blocks.#.ffn.receptance.weight", "blk.#.channel_mix_receptance.weight"},
    {"blocks.#.ffn.key.weight", "blk.#.channel_mix_key.weight"},
    {"blocks.#.ffn.value.weight", "blk.#.channel_mix_value.weight", rescaled},
};
inline constexpr NameOf gguf6_names[]{
    {"blocks.#.att.time_maa_x", "blk.#.time_mix_lerp_x.weight"},
    {"blocks.#.att.time_maa_w", "blk.#.time_mix_lerp_fused.weight", part<0, 5>},
    {"blocks.#.att.time_maa_k", "blk.#.time_mix_lerp_fused.weight", part<1, 5>},
    {"blocks.#.att.time_maa_v", "blk.#.time_mix_lerp_fused.weight", part<2, 5>},
    {"blocks.#.att.time_maa_r", "blk.#.time_mix_lerp_fused.weight", part<3, 5>},
    {"blocks.#.att.time_maa_g", "blk.#.time_mix_lerp_fused.weight", part<4, 5>},
    {"blocks.#.att.time_maa_w", "blk.#.time_mix_lerp_w.weight"},  // in older files
    {"blocks.#.att.time_maa_k", "blk.#.time_mix_lerp_k.weight"},
    {"blocks.#.att.time_maa_v", "blk.#.time_mix_lerp_v.weight"},
    {"blocks.#.att.time_maa_r", "blk.#.time_mix_lerp_r.weight"},
    {"blocks.#.att.time_maa_g", "blk.#.time_mix_lerp_g.weight"},
    {"blocks.#.att.time_maa_w1", "blk.#.time_mix_w1.weight", transposed},
    {"blocks.#.att.time_maa_w2", "blk.#.time_mix_w2.weight", transposed},
    {"blocks.#.att.time_faaaa", "blk.#.time_mix_first.weight"},
    {"blocks.#.att.time_decay", "blk.#.time_mix_decay.weight"},
    {"blocks.#.att.time_decay_w1", "blk.#.time_mix_decay_w1.weight", transposed},
    {"blocks.#.att.time_decay_w2", "blk.#.time_mix_decay_w2.weight", transposed},
    {"blocks.#.ffn.time_maa_k", "blk.#.channel_mix_lerp_k.weight"},
    {"blocks.#.ffn.time_maa_r", "blk.#.channel_mix_lerp_r.weight"},
};
inline constexpr NameOf gguf7_names[]{
    {"blocks.#.att.x_r", "blk.#.time_mix_lerp_fused.weight", part<0, 6>},
    {"blocks.#.att.x_w", "blk.#.time_mix_lerp_fused.weight", part<1, 6>},
    {"blocks.#.att.x_k", "blk.#.time_mix_lerp_fused.weight", part<2, 6>},
    {"blocks.#.att.x_v", "blk.#.time_mix_lerp_fused.weight", part<3, 6>},
    {"blocks.#.att.x_a", "blk.#.time_mix_lerp_fused.weight", part<4, 6>},
    {"blocks.#.att.x_g", "blk.#.time_mix_lerp_fused.weight", part<5, 6>},
    {"blocks.#.att.w0", "blk.#.time_mix_w0.weight"},
    {"blocks.#.att.w1", "blk.#.time_mix_w1.weight", transposed},
    {"blocks.#.att.w2", "blk.#.time_mix_w2.weight", transposed},
    {"blocks.#.att.a0", "blk.#.time_mix_a0.weight"},
    {"blocks.#.att.a1", "blk.#.time_mix_a1.weight", transposed},
    {"blocks.#.att.a2", "blk.#.time_mix_a2.weight", transposed},
    {"blocks.#.att.v0", "blk.#.time_mix_v0.weight"},
    {"blocks.#.att.v1", "blk.#.time_mix_v1.weight", transposed},
    {"blocks.#.att.v2", "blk.#.time_mix_v2.weight", transposed},
    {"blocks.#.att.g1", "blk.#.time_mix_g1.weight", transposed},
    {"blocks.#.att.g2", "blk.#.time_mix_g2.weight", transposed},
    {"blocks.#.att.k_k", "blk.#.time_mix_k_k.weight"},
    {"blocks.#.att.k_a", "blk.#.time_mix_k_a.weight"},
    {"blocks.#.att.r_k", "blk.#.time_mix_r_k.weight", in_heads},
    {"blocks.#.ffn.x_k", "blk.#.channel_mix_lerp_k.weight"},
};
inline constexpr NameOf transformers_names[]{
    {"emb.weight", "rwkv.embeddings.weight"},
    {"ln_out.*", "rwkv.ln_out.*"},
    {"blocks.#.ln0.*", "rwkv.blocks.#.pre_ln.*"},
    {"blocks.#.ln1.*", "rwkv.blocks.#.ln1.*"},
    {"blocks.#.ln2.*", "rwkv.blocks.#.ln2.*"},
    {"blocks.#.att.time_mix_k", "rwkv.blocks.#.attention.time_mix_key"},
    {"blocks.#.att.time_mix_v", "rwkv.blocks.#.attention.time_mix_value"},
    {"blocks.#.att.time_mix_r", "rwkv.blocks.#.attention.time_mix_receptance"},
    {"blocks.#.att.time_mix_g", "rwkv.blocks.#.attention.time_mix_gate"},
    {"blocks.#.att.*", "rwkv.blocks.#.attention.*"},
    {"blocks.#.ffn.time_mix_k", "rwkv.blocks.#.feed_forward.time_mix_key"},
    {"blocks.#.ffn.time_mix_r", "rwkv.blocks.#.feed_forward.time_mix_receptance"},
    {"blocks.#.ffn.*", "rwkv.blocks.#.feed_forward.*"},
};
inline constexpr NameOf fla_names[]{
    {"emb.weight", "model.embeddings.weight"},
    {"ln_out.*", "model.norm.*"},
    {"head.weight", "lm_head.weight"},
    {"blocks.#.ln0.*", "model.layers.#.pre_norm.*"},
    {"blocks.#.ln1.*", "model.layers.#.attn_norm.*"},
    {"blocks.#.ln2.*", "model.layers.#.ffn_norm.*"},
    {"blocks.#.att.ln_x.*", "model.layers.#.attn.g_norm.*"},
    {"blocks.#.att.output.weight", "model.layers.#.attn.o_proj.weight"},
    // RWKV-7
    {"blocks.#.att.receptance.weight", "model.layers.#.attn.r_proj.weight"},
    {"blocks.#.att.key.weight", "model.layers.#.attn.k_proj.weight"},
    {"blocks.#.att.value.weight", "model.layers.#.attn.v_proj.weight"},
    {"blocks.#.att.w0", "model.layers.#.attn.w_lora.lora.2.bias"},
    {"blocks.#.att.w1", "model.layers.#.attn.w_lora.lora.0.weight", transposed},
    {"blocks.#.att.w2", "model.layers.#.attn.w_lora.lora.2.weight", transposed},
    {"blocks.#.att.a0", "model.layers.#.attn.a_lora.lora.2.bias"},
    {"blocks.#.att.a1", "model.layers.#.attn.a_lora.lora.0.weight", transposed},
    {"blocks.#.att.a2", "model.layers.#.attn.a_lora.lora.2.weight", transposed},
    {"blocks.#.att.v0", "model.layers.#.attn.v_lora.lora.2.bias"},
    {"blocks.#.att.v1", "model.layers.#.attn.v_lora.lora.0.weight", transposed},
    {"blocks.#.att.v2", "model.layers.#.attn.v_lora.lora.2.weight", transposed},
    {"blocks.#.att.g1", "model.layers.#.attn.g_lora.lora.0.weight", transposed},
    {"blocks.#.att.g2", "model.layers.#.attn.g_lora.lora.2.weight", transposed},
    {"blocks.#.att.x_r", "model.layers.#.attn.x_x", part<0, 6>},  // in older files
    {"blocks.#.att.x_w", "model.layers.#.attn.x_x", part<1, 6>},
    {"blocks.#.att.x_k", "model.layers.#.attn.x_x", part<2, 6>},
    {"blocks.#.att.x_v", "model.layers.#.attn.x_x", part<3, 6>},
    {"blocks.#.att.x_a", "model.layers.#.attn.x_x", part<4, 6>},
    {"blocks.#.att.x_g", "model.layers.#.attn.x_x", part<5, 6>},
    // RWKV-6
    {"blocks.#.att.receptance.weight", "model.layers.#.attn.r_proj.linear.weight"},
    {"blocks.#.att.key.weight", "model.layers.#.attn.k_proj.linear.weight"},
    {"blocks.#.att.value.weight", "model.layers.#.attn.v_proj.linear.weight"},
    {"blocks.#.att.gate.weight", "model.layers.#.attn.g_proj.linear.weight"},
    {"blocks.#.att.time_decay", "model.layers.#.attn.w_proj.linear.lora.2.bias"},
    {"blocks.#.att.time_decay_w1", "model.layers.#.attn.w_proj.linear.lora.0.weight", transposed},
    {"blocks.#.att.time_decay_w2", "model.layers.#.attn.w_proj.linear.lora.2.weight", transposed},
    {"blocks.#.att.time_faaaa", "model.layers.#.attn.bonus"},
    {"blocks.#.att.time_maa_x", "model.layers.#.attn.x_proj.0.mu"},
    {"blocks.#.att.time_maa_w1", "model.layers.#.attn.x_proj.0.linear.weight", first_factor_of_shifts},
    {"blocks.#.att.time_maa_w2", "model.layers.#.attn.x_proj.2.weight", second_factor_of_shifts},
    {"blocks.#.att.time_maa_r", "model.layers.#.attn.x_bias", part<0, 5>},
    {"blocks.#.att.time_maa_w", "model.layers.#.attn.x_bias", part<1, 5>},
    {"blocks.#.att.time_maa_k", "model.layers.#.attn.x_bias", part<2, 5>},
    {"blocks.#.att.time_maa_v", "model.layers.#.attn.x_bias", part<3, 5>},
    {"blocks.#.att.time_maa_g", "model.layers.#.attn.x_bias", part<4, 5>},
    {"blocks.#.ffn.time_maa_k", "model.layers.#.ffn.key.mu"},
    {"blocks.#.ffn.key.weight", "model.layers.#.ffn.key.linear.weight"},
    {"blocks.#.ffn.time_maa_r", "model.layers.#.ffn.receptance.mu"},
    {"blocks.#.ffn.receptance.weight", "model.layers.#.ffn.receptance.linear.weight"},
    // Both
    {"blocks.#.att.*", "model.layers.#.attn.*"},
    {"blocks.#.ffn.*", "model.layers.#.ffn.*"},
};
// clang-format on

/// The names of a file's container: a table of the family's and one of the model's. Empty: they are released ones, or of
/// nothing that is known.
inline std::array<std::span<NameOf const>, 2> names_of(aviary::TensorFile const& file) {
  auto const architecture = file.metadata().find("general.architecture");
  if (architecture != file.metadata().end()) {
    if (architecture->second == "rwkv6") return {gguf_names, gguf6_names};
    if (architecture->second == "rwkv7") return {gguf_names, gguf7_names};
  }
  if (file.contains("rwkv.embeddings.weight")) return {transformers_names, {}};
  if (file.contains("model.embeddings.weight")) return {fla_names, {}};
  return {};
}

/// What a pattern leaves open in a name.
struct Match {
  std::string_view layer, rest;

  static std::optional<Match> of(std::string_view pattern, std::string_view name) {
    Match match;
    if (std::size_t const place = pattern.find('#'); place != pattern.npos) {
      if (name.substr(0, place) != pattern.substr(0, place)) return std::nullopt;
      pattern.remove_prefix(place + 1), name.remove_prefix(place);
      match.layer = name.substr(0, name.find_first_not_of("0123456789"));
      if (match.layer.empty() || match.layer.size() > 9) return std::nullopt;
      name.remove_prefix(match.layer.size());
    }
    if (!pattern.ends_with('*')) return pattern == name ? std::optional(match) : std::nullopt;
    pattern.remove_suffix(1);
    if (!name.starts_with(pattern)) return std::nullopt;
    match.rest = name.substr(pattern.size());
    return match;
  }
  /// The name that another pattern makes with it.
  std::string in(std::string_view pattern) const {
    std::string name;
    for (char const c : pattern)
      if (c == '#')
        name += layer;
      else if (c == '*')
        name += rest;
      else
        name += c;
    return name;
  }
  Index layer_number() const {
    Index number = 0;
    std::from_chars(layer.data(), layer.data() + layer.size(), number);
    return number;
  }
};

/// What a tensor is called in a release: of the rows whose pattern is the first that fits.
template <class F> void for_each_name(std::span<NameOf const> names, std::string_view stored, F&& f) {
  std::string_view pattern;
  for (NameOf const& row : names) {
    if (!pattern.empty() && row.stored != pattern) continue;
    auto const match = Match::of(row.stored, stored);
    if (!match) continue;
    pattern = row.stored;
    f(row, *match);
  }
}

}  // namespace detail

/// The file under the names, in the shapes and with the numbers of released checkpoints, if it is one of a known container;
/// else as it is. Nothing is copied but a few small factors.
/// Throws std::runtime_error if two tensors stand for one of the release, or a tensor of several cannot be taken apart.
inline aviary::TensorFile with_released_names(aviary::TensorFile file) {
  auto const tables = detail::names_of(file);
  if (tables[0].empty()) return file;
  std::deque<ShownTensor> shown;
  for (std::string_view const name : file.names()) {
    aviary::Tensor const tensor = file.tensor(name);
    std::size_t const before = shown.size();
    for (std::span<NameOf const> const names : tables)
      detail::for_each_name(names, name, [&](NameOf const& row, detail::Match const& match) {
        ShownTensor& made = shown.emplace_back(match.in(row.released), tensor);
        if (row.undo) row.undo(made, file, match.layer_number());
      });
    if (shown.size() == before) shown.emplace_back(std::string(name), tensor);
  }

  std::vector<aviary::Tensor> tensors;
  std::set<std::string_view> known;
  std::vector<std::vector<std::byte>> numbers;
  for (ShownTensor& one : shown) {
    tensors.push_back(one.view());
    if (!known.insert(one.name).second)
      throw std::runtime_error(tensors.back().message("is given twice, under different names"));
    if (!one.numbers.empty()) numbers.push_back(std::move(one.numbers));
  }
  std::vector<aviary::TensorFile> files;
  std::string const path = file.name();
  files.push_back(std::move(file));
  return {std::move(files), tensors, path, std::move(numbers)};
}

/// aviary::open_checkpoint with released names.
inline aviary::TensorFile open_model(std::filesystem::path const& path) {
  return with_released_names(aviary::open_checkpoint(path));
}

}  // namespace AVIARY_ISA
}  // namespace models
