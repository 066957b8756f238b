#pragma once
/// Learners of all generations. Programs with models in float include learner.hpp; for another number type include this, which
/// takes a while to compile.
#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "models/goldfinch_learner.hpp"
#include "models/language_learner.hpp"
#include "models/learner.hpp"
#include "models/rwkv4.hpp"
#include "models/rwkv5.hpp"
#include "models/rwkv6.hpp"
#include "models/rwkv7.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// @name Compiled once, in learners/
///@{
extern template std::unique_ptr<Learner<float>> make_block_learner<Rwkv4<float>>(WeightStore<float>&,
                                                                                 LearnerOptions const&);
extern template std::unique_ptr<Learner<float>> make_block_learner<Rwkv5PerHead<float, aviary::dynamic>>(
    WeightStore<float>&, LearnerOptions const&);
extern template std::unique_ptr<Learner<float>> make_block_learner<Rwkv5PerChannel<float, aviary::dynamic>>(
    WeightStore<float>&, LearnerOptions const&);
extern template std::unique_ptr<Learner<float>> make_block_learner<Rwkv6<float, aviary::dynamic>>(
    WeightStore<float>&, LearnerOptions const&);
extern template std::unique_ptr<Learner<float>> make_block_learner<Rwkv7<float, 64>>(WeightStore<float>&,
                                                                                     LearnerOptions const&);
extern template std::unique_ptr<Learner<float>> make_block_learner<Rwkv7<float, aviary::dynamic>>(
    WeightStore<float>&, LearnerOptions const&);
///@}

namespace detail {

/// f.operator()<Generation>() for the generation of a file, in arithmetic T. Throws for heads that are too large for kernels.
template <class T, class F> auto with_generation(aviary::TensorFile const& file, F const& f) {
  constexpr Index any = aviary::dynamic;
  auto const with_heads = [&]<class Of>() {
    (void)head_size<Of>(file);
    return f.template operator()<Of>();
  };
  switch (generation_of(file)) {
    case Generation::rwkv4:
      return f.template operator()<Rwkv4<T>>();
    case Generation::rwkv5_0:
    case Generation::rwkv5_1:
      return with_heads.template operator()<Rwkv5PerHead<T, any>>();
    case Generation::rwkv5_2:
      return with_heads.template operator()<Rwkv5PerChannel<T, any>>();
    case Generation::rwkv6:
      return with_heads.template operator()<Rwkv6<T, any>>();
    case Generation::rwkv7:
      if (head_size<Rwkv7<T, any>>(file) == 64) return f.template operator()<Rwkv7<T, 64>>();
      return f.template operator()<Rwkv7<T, any>>();
    case Generation::goldfinch:
      return with_heads.template operator()<GoldFinch<T, any>>();
    case Generation::unknown:
      break;
  }
  throw std::runtime_error(
      file.message("expected tensors of RWKV-4, 5, 6, 7 or GoldFinch, found those of no known generation"));
}

template <class Generation> inline constexpr bool is_goldfinch = false;
template <class T, Index Size> inline constexpr bool is_goldfinch<GoldFinch<T, Size>> = true;

/// Reads all that is between embedding and head. That checks all shapes: no layer is made.
template <class Generation>
void read_body(aviary::TensorFile const& file, WeightReader<typename Generation::T>& read, Index channels,
               LoadOptions const& options) {
  using Reader = BlockReader<WeightReader<typename Generation::T>>;
  if constexpr (is_goldfinch<Generation>) {
    Index const layers = Generation::layers(file);
    for (Index layer = 0; layer < layers; ++layer) {
      Reader reader(file, read, layer, channels, options);
      if (Generation::attends(file, layer, layers)) {
        (void)Generation::attention_parameters(reader, options);
      } else {
        (void)Generation::recurrent_parameters(reader);
        // The model has no bonus, but the file tells by it how large heads are.
        Heads const heads = Generation::heads(file);
        (void)reader.table("att.time_faaaa", {heads.count, heads.size});
      }
    }
    (void)Generation::expand(read, channels, Generation::compress(read, channels));
  } else {
    for (Index layer = 0; layer < std::max(count_layers(file), Index{1}); ++layer) {
      Reader reader(file, read, layer, channels, options);
      (void)Generation::parameters(reader);
    }
  }
}

/// The tensors that a model of a file is made of. Throws where one is missing or has another shape.
template <class Generation>
std::vector<std::string> tensors_of(aviary::TensorFile const& file, LoadOptions const& options) {
  using T = typename Generation::T;
  WeightReader<T> read(file);
  aviary::WeightMatrix const table = read.matrix("emb.weight", aviary::dynamic, aviary::dynamic);
  Index const c = table.columns();
  (void)read.matrix("head.weight", table.rows(), c);
  for (char const* norm : {"blocks.0.ln0", "ln_out"}) (void)read.layer_norm(norm, c);
  read_body<Generation>(file, read, c, options);
  return {read.used().begin(), read.used().end()};
}

}  // namespace detail

template <class T>
WeightStore<T> read_weights(aviary::TensorFile const& file, std::function<bool(std::string_view)> const& learns,
                            LoadOptions const& options) {
  auto const names = detail::with_generation<T>(
      file, [&]<class Generation>() { return detail::tensors_of<Generation>(file, options); });
  constexpr std::string_view logarithm = "time_first", bonus = "time_faaaa";
  bool const is_rwkv4 = generation_of(file) == Generation::rwkv4;
  auto const stored = [&](std::string name) {
    if (!is_rwkv4 && name.ends_with(logarithm)) name.replace(name.size() - logarithm.size(), logarithm.size(), bonus);
    return name;
  };
  std::vector<typename WeightStore<T>::Wanted> wanted;
  for (std::string const& name : names) {
    auto const shape = file.tensor(name).shape;
    wanted.push_back({stored(name), {shape.begin(), shape.end()}, learns(stored(name))});
  }
  WeightStore<T> weights(std::move(wanted));
  for (std::string const& name : names) {
    auto const values = weights[stored(name)].values;
    file.tensor(name).read_into(std::span<T>(values.data(), aviary::to_size(values.size())));
    if (stored(name) != name)
      for (T& e : values) e = std::exp(e);
  }
  return weights;
}

template <class T> std::unique_ptr<Learner<T>> make_learner(WeightStore<T>& weights, LearnerOptions const& options) {
  return detail::with_generation<T>(weights.file(), [&]<class Generation>() {
    if constexpr (detail::is_goldfinch<Generation>)
      return make_goldfinch_learner<Generation>(weights, options);
    else
      return make_block_learner<Generation>(weights, options);
  });
}

}  // namespace AVIARY_ISA
}  // namespace models
