#pragma once
/// GGUF files put together by hand, right or wrong, and models under the names of other containers than released files. The
/// names are written here once more, the other way round than examples/models/names.hpp has them.
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aviary/core/convert.hpp"
#include "aviary/io/checksum.hpp"
#include "support/checkpoint_case.hpp"
#include "support/temporary_folder.hpp"
#include "support/zip_case.hpp"

namespace aviary::test {

/// What tests/io/containers/make_samples.py makes of a name and a place.
inline float sample_weight(std::string_view name, std::size_t place) {
  std::uint32_t x = crc32(bytes_of(name)) + static_cast<std::uint32_t>(place) * 2654435761u;
  x = (x ^ x >> 15) * 2246822519u;
  return (static_cast<float>(x >> 24) - 128) / 512;
}
/// The released model whose numbers are those of the samples.
inline CheckpointCase sample_model(Version version) {
  CheckpointCase model = random_rwkv({.version = version,
                                      .vocab = 12,
                                      .heads = 2,
                                      .head_size = 4,
                                      .inner = 12,
                                      .rank_w = 2,
                                      .rank_a = 3,
                                      .rank_v = 4,
                                      .rank_g = 5,
                                      .rank_mix = 2});
  for (auto& [name, entry] : model.tensors)
    for (std::size_t i = 0; i < entry.numbers.size(); ++i) entry.numbers[i] = sample_weight(name, i);
  return model;
}

// --- GGUF files ------------------------------------------------------------------------------------------------------

inline std::string gguf_text(std::string_view text) { return le(std::uint64_t{text.size()}).append(text); }

/// A file of values under keys and tensors.
struct GgufCase {
  struct Value {
    std::string key;
    std::uint32_t type;
    std::string bytes;
  };
  struct TensorCase {
    std::string name;
    std::vector<std::uint64_t> dimensions;  ///< innermost first
    std::uint32_t type;
    std::string bytes;
    std::uint64_t more_offset = 0;  ///< than where it lies
  };

  std::uint32_t version = 3;
  std::uint64_t alignment = 32;
  std::vector<Value> values;
  std::vector<TensorCase> tensors;

  GgufCase& text(std::string key, std::string_view value) {
    values.push_back({std::move(key), 8, gguf_text(value)});
    return *this;
  }
  GgufCase& u32(std::string key, std::uint32_t value) {
    values.push_back({std::move(key), 4, le(value)});
    return *this;
  }
  GgufCase& texts(std::string key, std::vector<std::string> const& list) {
    std::string bytes = le(std::uint32_t{8}, std::uint64_t{list.size()});
    for (std::string const& one : list) bytes += gguf_text(one);
    values.push_back({std::move(key), 9, bytes});
    return *this;
  }
  GgufCase& i32s(std::string key, std::vector<std::int32_t> const& list) {
    std::string bytes = le(std::uint32_t{5}, std::uint64_t{list.size()});
    for (std::int32_t const one : list) bytes += le(one);
    values.push_back({std::move(key), 9, bytes});
    return *this;
  }
  GgufCase& tensor(std::string name, std::vector<std::uint64_t> dimensions, std::uint32_t type, std::string bytes) {
    tensors.push_back({std::move(name), std::move(dimensions), type, std::move(bytes)});
    return *this;
  }

  std::string file() const {
    std::string out = "GGUF" + le(version, std::uint64_t{tensors.size()}, std::uint64_t{values.size()});
    for (Value const& value : values) out += gguf_text(value.key) + le(value.type) + value.bytes;
    std::string data;
    for (TensorCase const& t : tensors) {
      out += gguf_text(t.name) + le(static_cast<std::uint32_t>(t.dimensions.size()));
      for (std::uint64_t const size : t.dimensions) out += le(size);
      data.resize((data.size() + alignment - 1) / alignment * alignment);
      out += le(t.type, std::uint64_t{data.size() + t.more_offset});
      data += t.bytes;
    }
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data;
  }
};

/// How a test quantises the rows of matrices; the others are F32. The numbers that the blocks stand for replace the originals.
enum class Quantiser { none, q8_0, q4_0 };

/// The blocks of 32 numbers each:  d q.  q4_0 keeps q + 8 in 4 bits, number j + 16 above number j.
inline std::string quantised(std::vector<float>& numbers, Quantiser quantiser) {
  std::string out;
  for (std::size_t begin = 0; begin < numbers.size(); begin += 32) {
    float most = 0;
    for (std::size_t i = 0; i < 32; ++i) most = std::max(most, std::abs(numbers[begin + i]));
    float const steps = quantiser == Quantiser::q8_0 ? 127 : 7;
    f16 const kept = narrow<f16>(most / steps);
    float const d = widen(kept);
    out += le(kept.bits);
    std::array<int, 32> q;
    for (std::size_t i = 0; i < 32; ++i) {
      q[i] = d == 0 ? 0 : static_cast<int>(std::clamp(std::round(numbers[begin + i] / d), -steps, steps));
      numbers[begin + i] = d * static_cast<float>(q[i]);
    }
    if (quantiser == Quantiser::q8_0)
      for (int const one : q) out += static_cast<char>(one);
    else
      for (std::size_t i = 0; i < 16; ++i) out += static_cast<char>((q[i] + 8) | (q[i + 16] + 8) << 4);
  }
  return out;
}

// --- names -----------------------------------------------------------------------------------------------------------

using Replacements = std::vector<std::pair<std::string, std::string>>;

/// The text after the replacements, one after another, of the first place each.
inline std::string replaced(std::string text, Replacements const& replacements) {
  for (auto const& [from, to] : replacements)
    if (std::size_t const at = text.find(from); at != text.npos) text.replace(at, from.size(), to);
  return text;
}

/// (..., a, b) as (..., b, a).
inline CheckpointCase::Entry transposed(CheckpointCase::Entry const& entry) {
  CheckpointCase::Entry out = entry;
  std::size_t const n = entry.shape.size();
  auto const a = to_size(entry.shape[n - 2]), b = to_size(entry.shape[n - 1]);
  for (std::size_t i = 0; i < entry.numbers.size(); ++i)
    out.numbers[i / (a * b) * a * b + i % b * a + i / b % a] = entry.numbers[i];
  std::swap(out.shape[n - 2], out.shape[n - 1]);
  return out;
}
inline CheckpointCase::Entry flat(CheckpointCase::Entry entry) {
  entry.shape = {static_cast<std::int64_t>(entry.numbers.size())};
  return entry;
}
/// Vectors of the model, one after another.
inline CheckpointCase::Entry stacked(CheckpointCase const& model, std::string const& prefix, std::string_view letters) {
  CheckpointCase::Entry out;
  for (char const letter : letters) {
    auto const& numbers = model[prefix + letter];
    out.numbers.insert(out.numbers.end(), numbers.begin(), numbers.end());
  }
  auto const parts = static_cast<std::int64_t>(letters.size());
  out.shape = {parts, static_cast<std::int64_t>(out.numbers.size()) / parts};
  return out;
}
/// The parts of the first axis, in the order of `places`.
inline CheckpointCase::Entry reordered(CheckpointCase::Entry const& entry, std::vector<std::size_t> const& places) {
  CheckpointCase::Entry out{entry.shape, {}};
  std::size_t const size = entry.numbers.size() / places.size();
  for (std::size_t const place : places)
    for (std::size_t i = 0; i < size; ++i) out.numbers.push_back(entry.numbers[place * size + i]);
  return out;
}

inline std::string last_part(std::string const& name) { return name.substr(name.rfind('.') + 1); }
/// "w1", "v2": a factor of a low-rank map of RWKV-7, or with "time_decay_" and "time_maa_" of RWKV-6.
inline bool is_factor(std::string const& part) {
  std::size_t const n = part.size();
  return n >= 2 && (part[n - 1] == '1' || part[n - 1] == '2') &&
         std::string_view("wavg").find(part[n - 2]) != std::string_view::npos;
}

/// RWKV-4 to 6 as transformers and repositories' own code name them.
inline CheckpointCase to_transformers(CheckpointCase const& model) {
  CheckpointCase out;
  for (auto const& [name, entry] : model.tensors) {
    std::string renamed = replaced(name, {{"emb.", "embeddings."},
                                          {".ln0.", ".pre_ln."},
                                          {".att.", ".attention."},
                                          {".ffn.", ".feed_forward."},
                                          {".time_mix_k", ".time_mix_key"},
                                          {".time_mix_v", ".time_mix_value"},
                                          {".time_mix_r", ".time_mix_receptance"},
                                          {".time_mix_g", ".time_mix_gate"}});
    out.tensors[name == "head.weight" ? renamed : "rwkv." + renamed] = entry;
  }
  return out;
}

/// RWKV-6 and 7 as flash-linear-attention names them; `fused`: all shares of the token shift in one, as it once did.
inline CheckpointCase to_fla(CheckpointCase const& model, bool fused = false) {
  bool const is_7 = model.tensors.contains("blocks.0.att.r_k");
  std::string const linear = is_7 ? "_proj." : "_proj.linear.";
  CheckpointCase out;
  for (auto const& [name, entry] : model.tensors) {
    std::string const part = last_part(name);
    std::string renamed = replaced(name, {{"emb.", "model.embeddings."},
                                          {"head.", "lm_head."},
                                          {"ln_out.", "model.norm."},
                                          {"blocks.", "model.layers."},
                                          {".att.", ".attn."},
                                          {".ln0.", ".pre_norm."},
                                          {".ln1.", ".attn_norm."},
                                          {".ln2.", ".ffn_norm."},
                                          {".attn.receptance.", ".attn.r" + linear},
                                          {".attn.key.", ".attn.k" + linear},
                                          {".attn.value.", ".attn.v" + linear},
                                          {".attn.gate.", ".attn.g" + linear},
                                          {".attn.output.", ".attn.o_proj."},
                                          {".ln_x.", ".g_norm."}});
    std::string const attn = renamed.substr(0, renamed.find(".attn.") + 6);
    if (is_7 && is_factor(part)) {
      out.tensors[attn + part[0] + "_lora.lora." + (part[1] == '1' ? "0" : "2") + ".weight"] = transposed(entry);
    } else if (is_7 && part.size() == 2 && part[1] == '0') {
      out.tensors[attn + part[0] + "_lora.lora.2.bias"] = flat(entry);
    } else if (is_7 && fused && name.find(".att.x_") != name.npos) {
      if (part == "x_r") out.tensors[attn + "x_x"] = stacked(model, name.substr(0, name.size() - 1), "rwkvag");
    } else if (!is_7 && part == "time_maa_w1") {  // shifts w, k, v, r, g become r, w, k, v, g
      out.tensors[attn + "x_proj.0.linear.weight"] = reordered(transposed(entry), {3, 0, 1, 2, 4});
    } else if (!is_7 && part == "time_maa_w2") {
      CheckpointCase::Entry rows = reordered(entry, {3, 0, 1, 2, 4});
      rows.shape = {entry.shape[0] * entry.shape[1], entry.shape[2]};
      out.tensors[attn + "x_proj.2.weight"] = transposed(rows);
    } else if (!is_7 && name.find(".att.time_maa_") != name.npos) {
      if (part == "time_maa_x") out.tensors[attn + "x_proj.0.mu"] = flat(entry);
      if (part == "time_maa_r") out.tensors[attn + "x_bias"] = stacked(model, name.substr(0, name.size() - 1), "rwkvg");
    } else if (!is_7 && part.starts_with("time_decay")) {
      std::string const lora = attn + "w_proj.linear.lora.";
      if (part == "time_decay") out.tensors[lora + "2.bias"] = flat(entry);
      if (part == "time_decay_w1") out.tensors[lora + "0.weight"] = transposed(entry);
      if (part == "time_decay_w2") out.tensors[lora + "2.weight"] = transposed(entry);
    } else {
      if (!is_7)
        renamed = replaced(renamed, {{".time_faaaa", ".bonus"},
                                     {".ffn.time_maa_k", ".ffn.key.mu"},
                                     {".ffn.time_maa_r", ".ffn.receptance.mu"},
                                     {".ffn.key.weight", ".ffn.key.linear.weight"},
                                     {".ffn.receptance.weight", ".ffn.receptance.linear.weight"}});
      out.tensors[renamed] = entry;
    }
  }
  return out;
}

/// RWKV-6 and 7 as llama.cpp's converter writes them, with matrices quantised, whose numbers in `model` become those that
/// the file stands for. Layers from `rescale` on are halved once for each `rescale` layers before them.
inline GgufCase to_gguf(CheckpointCase& model, Quantiser quantiser = Quantiser::none, int rescale = 0,
                        bool fused = true) {
  bool const is_7 = model.tensors.contains("blocks.0.att.r_k");
  std::string const architecture = is_7 ? "rwkv7" : "rwkv6", mix = is_7 ? ".att.x_" : ".att.time_maa_";
  GgufCase out;
  out.text("general.architecture", architecture);
  out.u32(architecture + ".wkv.head_size",
          static_cast<std::uint32_t>(model.size(is_7 ? "blocks.0.att.r_k" : "blocks.0.att.time_faaaa", 1)));
  if (rescale > 0) out.u32(architecture + ".rescale_every_n_layers", static_cast<std::uint32_t>(rescale));
  auto const add = [&](std::string const& name, CheckpointCase::Entry const& entry, std::uint32_t type,
                       std::string bytes) {
    std::vector<std::uint64_t> dimensions(entry.shape.rbegin(), entry.shape.rend());
    if (bytes.empty())
      bytes.assign(reinterpret_cast<char const*>(entry.numbers.data()), entry.numbers.size() * sizeof(float));
    out.tensor(name, dimensions, type, bytes);
  };
  for (auto& [name, entry] : model.tensors) {
    std::string const part = last_part(name);
    std::string renamed = replaced(name, {{"emb.", "token_embd."},
                                          {"head.", "output."},
                                          {"ln_out.", "output_norm."},
                                          {"blocks.0.ln0.", "token_embd_norm."},
                                          {"blocks.", "blk."},
                                          {".ln1.", ".attn_norm."},
                                          {".ln2.", ".attn_norm_2."},
                                          {".att.ln_x.", ".time_mix_ln."},
                                          {".att.time_maa_x", ".time_mix_lerp_x"},
                                          {".att.time_maa_w1", ".time_mix_w1"},
                                          {".att.time_maa_w2", ".time_mix_w2"},
                                          {".att.time_maa_", ".time_mix_lerp_"},
                                          {".att.time_decay", ".time_mix_decay"},
                                          {".att.time_faaaa", ".time_mix_first"},
                                          {".att.", ".time_mix_"},
                                          {".ffn.time_maa_", ".channel_mix_lerp_"},
                                          {".ffn.x_", ".channel_mix_lerp_"},
                                          {".ffn.", ".channel_mix_"}});
    if (!renamed.ends_with(".weight") && !renamed.ends_with(".bias")) renamed += ".weight";
    bool const is_share = name.find(mix) != name.npos && !is_factor(part) && part != "time_maa_x";
    if (is_share && fused) {
      std::string const first = is_7 ? "x_r" : "time_maa_w";
      if (part != first) continue;
      CheckpointCase::Entry all = stacked(model, name.substr(0, name.size() - 1), is_7 ? "rwkvag" : "wkvrg");
      all.shape = {all.shape[0], 1, 1, all.shape[1]};
      add(renamed.substr(0, renamed.find(".time_mix_")) + ".time_mix_lerp_fused.weight", all, 0, "");
    } else if (is_factor(part)) {
      add(renamed, transposed(entry), 0, "");
    } else if (part == "r_k" || entry.shape.size() == 3) {
      add(renamed, flat(entry), 0, "");
    } else if (entry.shape.size() == 2 && quantiser != Quantiser::none && part != "time_faaaa") {
      std::string const blocks = quantised(entry.numbers, quantiser);
      add(renamed, entry, quantiser == Quantiser::q8_0 ? 8 : 2, blocks);
    } else {
      CheckpointCase::Entry kept = entry;
      if (rescale > 0 && (name.ends_with(".att.output.weight") || name.ends_with(".ffn.value.weight")))
        for (float& x : kept.numbers) x = std::ldexp(x, -(std::stoi(name.substr(7)) / rescale));
      add(renamed, kept, 0, "");
    }
  }
  return out;
}

}  // namespace aviary::test
