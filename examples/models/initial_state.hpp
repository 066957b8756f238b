#pragma once
/// Trained first states, which a model of RWKV-5, 6 or 7 may have in blocks.i.att.time_state [H, N, N], [value, key]: files
/// that have nothing else, and models that have none yet.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aviary/io/tensor_file.hpp"
#include "models/any.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// Whether it is the name of a first state: blocks.3.att.time_state.
inline bool is_initial_state(std::string_view name) {
  return name.starts_with("blocks.") && name.ends_with(".att.time_state") &&
         name.find_first_not_of("0123456789", 7) == name.size() - std::string_view(".att.time_state").size();
}

namespace detail {

/// The tensors of `first` and those of `second` that it does not have, as one file with the name, texts and vocabulary of
/// `second`.
inline aviary::TensorFile merged(aviary::TensorFile first, aviary::TensorFile second) {
  std::vector<aviary::Tensor> tensors;
  for (std::string_view const name : first.names()) tensors.push_back(first.tensor(name));
  for (std::string_view const name : second.names())
    if (!first.contains(name)) tensors.push_back(second.tensor(name));
  std::string const path = second.name();
  std::vector<aviary::TensorFile> files;
  files.push_back(std::move(second));
  files.push_back(std::move(first));
  return {std::move(files), tensors, path};
}

/// Throws std::runtime_error if a model's memory is no state that could be trained.
inline void expect_states(aviary::TensorFile const& model) {
  Generation const generation = generation_of(model);
  if (generation < Generation::rwkv5_0 || generation > Generation::rwkv7)
    throw std::runtime_error(
        model.message("expected a model of RWKV-5, 6 or 7, which may have trained initial states, "
                      "found " +
                      std::string(name_of(generation))));
}

/// [H, N, N] of a layer with tensors "blocks.3.att.". Throws std::runtime_error for a layer that the model does not have.
inline std::vector<std::int64_t> state_shape(aviary::TensorFile const& model, std::string const& att) {
  char const* per_head = "time_decay";
  for (char const* const name : {"r_k", "time_faaaa"})
    if (model.contains(att + name)) per_head = name;
  aviary::Tensor const heads = model.tensor(att + per_head), channels = model.tensor(att + "ln_x.weight");
  if (heads.shape.empty() || heads.shape[0] < 1 || channels.size() % heads.shape[0] != 0)
    throw std::runtime_error(heads.message("expected heads that share " + std::to_string(channels.size()) +
                                           " channels, found shape " + aviary::shape_text(heads.shape)));
  std::int64_t const size = channels.size() / heads.shape[0];
  return {heads.shape[0], size, size};
}

}  // namespace detail

/// The model with the states of another file instead of its own. Throws std::runtime_error for a model that can have none,
/// and for a file with other tensors, or with states of layers or shapes that the model does not have.
inline aviary::TensorFile with_initial_states(aviary::TensorFile model, aviary::TensorFile states) {
  detail::expect_states(model);
  for (std::string_view const name : states.names()) {
    aviary::Tensor const tensor = states.tensor(name);
    if (!is_initial_state(name))
      throw std::runtime_error(tensor.message("expected blocks.i.att.time_state alone, which --state trains"));
    std::string const att(name.substr(0, name.rfind("time_state")));
    if (!model.contains(att + "ln_x.weight")) throw std::runtime_error(tensor.message("the model has no such layer"));
    tensor.expect_shape(detail::state_shape(model, att));
  }
  return detail::merged(std::move(states), std::move(model));
}

/// The model with states of zeros in layers that have none. Throws std::runtime_error for a model that can have none.
inline aviary::TensorFile with_zero_states(aviary::TensorFile model) {
  detail::expect_states(model);
  std::deque<std::string> names;
  std::deque<std::vector<std::int64_t>> shapes;
  std::vector<std::vector<std::byte>> numbers;
  std::vector<aviary::Tensor> tensors;
  for (std::string_view const norm : model.names()) {
    if (!norm.ends_with(".att.ln_x.weight")) continue;
    std::string const att(norm.substr(0, norm.rfind("ln_x")));
    if (model.contains(att + "time_state")) continue;
    auto const& shape = shapes.emplace_back(detail::state_shape(model, att));
    std::int64_t const size = shape[0] * shape[1] * shape[2];
    numbers.emplace_back(static_cast<std::size_t>(size) * sizeof(float));
    tensors.push_back({.name = names.emplace_back(att + "time_state"),
                       .dtype = aviary::NumberFormat::f32,
                       .shape = shape,
                       .bytes = numbers.back()});
  }
  std::string const name = model.name();
  return detail::merged(aviary::TensorFile({}, tensors, name, std::move(numbers)), std::move(model));
}

}  // namespace AVIARY_ISA
}  // namespace models
