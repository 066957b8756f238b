#pragma once
/// A model of any RWKV generation from a checkpoint.
#include <stdexcept>
#include <string>

#include "models/goldfinch.hpp"
#include "models/rwkv4.hpp"
#include "models/rwkv5.hpp"
#include "models/rwkv6.hpp"
#include "models/rwkv7.hpp"

namespace models {

/// The model in arithmetic T that the names and shapes of a file are those of. File: aviary::SafeTensors, or any with
/// names(), contains() and tensor() like it. Throws std::runtime_error with file, tensor, expected and found, or returns
/// all of it.
template <class T, class File> Loaded load_any(File const& file, LoadOptions const& options = {}) {
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
  aviary::Tensor const embedding = file.tensor("emb.weight");  // any checkpoint has it
  throw std::runtime_error(embedding.message(
      "expected tensors of RWKV-4, 5, 6, 7 or GoldFinch beside it, found those of no known generation"));
}

}  // namespace models
