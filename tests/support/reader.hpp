#pragma once
/// Models as most tests read with them: one context each.
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "models/any.hpp"
#include "models/reader.hpp"

namespace aviary::test {

/// What loading a model gives, with a reader in the model's place.
struct LoadedReader {
  std::unique_ptr<models::Reader> model;
  std::vector<std::string> unused;
};
inline LoadedReader reader_of(models::Loaded loaded) {
  return {std::make_unique<models::Reader>(std::move(loaded.model)), std::move(loaded.unused)};
}

/// The logits of a model of type Made after these tokens, in its own number type.
template <class Made> auto exact_logits(models::Reader& reader, std::span<TokenId const> tokens) {
  reader.prefill(tokens);
  return dynamic_cast<Made const&>(reader.model()).logits_of(reader.context());
}

}  // namespace aviary::test
