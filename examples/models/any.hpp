#pragma once
/// A model of any RWKV generation, or GoldFinch, from a checkpoint. This is what programs include. The models themselves are
/// in the headers of their generations, rwkv4.hpp ... goldfinch.hpp; the sources beside these hold each once, in float, so
/// that no program compiles them again. For another number type include the header of the generation.
#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "aviary/dense/weights.hpp"
#include "aviary/io/tensor_file.hpp"
#include "models/model.hpp"
#include "models/threads.hpp"

namespace models {
inline namespace AVIARY_ISA {

enum class Generation { unknown, rwkv4, rwkv5_0, rwkv5_1, rwkv5_2, rwkv6, rwkv7, goldfinch };

constexpr std::string_view name_of(Generation generation) noexcept {
  switch (generation) {
    case Generation::rwkv4:
      return "RWKV-4";
    case Generation::rwkv5_0:
      return "RWKV-5.0";
    case Generation::rwkv5_1:
      return "RWKV-5.1";
    case Generation::rwkv5_2:
      return "RWKV-5.2";
    case Generation::rwkv6:
      return "RWKV-6";
    case Generation::rwkv7:
      return "RWKV-7";
    case Generation::goldfinch:
      return "GoldFinch";
    case Generation::unknown:
      break;
  }
  return "unknown";
}

/// The generation of a checkpoint, from names and, among those of RWKV-5, from the shape of the decay: it has a number of
/// each head, or of each channel from 5.2 on.
inline Generation generation_of(aviary::TensorFile const& file) {
  auto const names = file.names();
  auto const find = [&](std::string_view part) {
    return std::ranges::find_if(names, [&](auto name) { return name.find(part) != name.npos; });
  };
  auto const has = [&](std::string_view part) { return find(part) != names.end(); };
  if (has("w_kv_cache_a")) return Generation::goldfinch;
  if (has(".att.r_k")) return Generation::rwkv7;
  if (has(".att.time_maa")) return Generation::rwkv6;
  auto const decay = find(".att.time_decay");
  if (decay == names.end()) return Generation::unknown;
  if (!has(".att.ln_x.weight")) return Generation::rwkv4;
  auto const shape = file.tensor(*decay).shape;
  if (shape.size() == 2 && shape[1] > 1) return Generation::rwkv5_2;
  return has(".att.gate.weight") ? Generation::rwkv5_1 : Generation::rwkv5_0;
}

struct LoadOptions {
  double group_norm_eps = 64e-5;                              ///< of ln_x (RWKV-5, 6, 7); no file stores it
  aviary::WeightFormat format = aviary::WeightFormat::exact;  ///< of all matrices; with q4 the head is q8
  Threads threads = Threads();
  std::optional<aviary::NumberFormat> cache =
      {};                                  ///< of GoldFinch's keys: bf16, f16, q8 or the model's own; none: its own
  bool keep_keys = false;                  ///< GoldFinch: spend memory on rebuilt keys and values, not arithmetic
  std::optional<double> rotary_base = {};  ///< GoldFinch: of a rotary embedding; no file stores it
};

/// The formats that programs offer for caches of models in float, as command lines call them, and those for matrices.
inline constexpr std::array kept_formats{aviary::NumberFormat::f32, aviary::NumberFormat::bf16,
                                         aviary::NumberFormat::f16, aviary::NumberFormat::q8};
inline constexpr std::array weight_formats{aviary::NumberFormat::f32, aviary::NumberFormat::bf16,
                                           aviary::NumberFormat::f16, aviary::NumberFormat::q8,
                                           aviary::NumberFormat::q4};

/// A model, and the tensors of its file that it has no use for.
struct Loaded {
  std::shared_ptr<Model const> model;
  std::vector<std::string> unused;
};

/// @name The whole model in arithmetic T, or std::runtime_error with file, tensor, expected and found
///@{
template <class T> Loaded load_rwkv4(aviary::TensorFile const& file, LoadOptions const& options = {});
template <class T> Loaded load_rwkv5(aviary::TensorFile const& file, LoadOptions const& options = {});
template <class T> Loaded load_rwkv6(aviary::TensorFile const& file, LoadOptions const& options = {});
template <class T> Loaded load_rwkv7(aviary::TensorFile const& file, LoadOptions const& options = {});
template <class T> Loaded load_goldfinch(aviary::TensorFile const& file, LoadOptions const& options = {});
extern template Loaded load_rwkv4<float>(aviary::TensorFile const&, LoadOptions const&);
extern template Loaded load_rwkv5<float>(aviary::TensorFile const&, LoadOptions const&);
extern template Loaded load_rwkv6<float>(aviary::TensorFile const&, LoadOptions const&);
extern template Loaded load_rwkv7<float>(aviary::TensorFile const&, LoadOptions const&);
extern template Loaded load_goldfinch<float>(aviary::TensorFile const&, LoadOptions const&);
///@}

/// The model in arithmetic T that the names and shapes of a file are those of.
template <class T> Loaded load_any(aviary::TensorFile const& file, LoadOptions const& options = {}) {
  Generation const generation = generation_of(file);
  switch (generation) {
    case Generation::rwkv4:
      return load_rwkv4<T>(file, options);
    case Generation::rwkv5_0:
    case Generation::rwkv5_1:
    case Generation::rwkv5_2:
      return load_rwkv5<T>(file, options);
    case Generation::rwkv6:
      return load_rwkv6<T>(file, options);
    case Generation::rwkv7:
      return load_rwkv7<T>(file, options);
    case Generation::goldfinch:
      return load_goldfinch<T>(file, options);
    case Generation::unknown:
      break;
  }
  if (auto const found = file.metadata().find("general.architecture"); found != file.metadata().end())
    throw std::runtime_error(
        file.message("expected a GGUF file of architecture rwkv6 or rwkv7, found " + aviary::in_quotes(found->second)));
  aviary::Tensor const embedding = file.tensor("emb.weight");  // any checkpoint has it
  throw std::runtime_error(embedding.message(
      "expected tensors of RWKV-4, 5, 6, 7 or GoldFinch beside it, found those of no known generation"));
}

}  // namespace AVIARY_ISA
}  // namespace models
