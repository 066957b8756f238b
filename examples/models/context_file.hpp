#pragma once
/// The context of a model in a safetensors file, under names like those of checkpoints:
///
///   blocks.0.att_s   the memory of block 0, as aviary/io/state.hpp writes states
///   blocks.0.att_x   (C) the last input of its time mix
///   blocks.0.ffn_x   (C) the last input of its channel mix
///   logits           (vocabulary) of the token that follows; not there if nothing was read
///
/// The file's metadata say for which models it is:  aviary.context  "wkv7, 12 layers, 64 channels, 256 tokens"
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "aviary/core/aligned.hpp"
#include "aviary/io/state.hpp"
#include "aviary/layers/time_mix.hpp"
#include "models/model.hpp"

namespace models {

/// What a model of blocks has read. State is the state of a block, T the model's number type.
template <class State, class T> struct Context {
  std::vector<State> blocks;        ///< at least one
  aviary::AlignedVector<T> logits;  ///< (vocabulary), or none if nothing was read
};

namespace detail {

inline constexpr std::string_view context_key = "aviary.context";

inline std::string block_name(std::size_t i) { return "blocks." + std::to_string(i) + "."; }

template <class Memory> constexpr std::string_view rule_name(aviary::TimeMixState<Memory> const&) {
  return aviary::detail::rule_name<Memory>();
}

/// Models of the same description have contexts of the same tensors.
template <class State> std::string description(std::vector<State> const& blocks, Index vocab_size) {
  State const& first = blocks.front();
  return std::string(rule_name(first.time_mix)) + ", " + std::to_string(blocks.size()) + " layers, " +
         std::to_string(first.channel_mix.x.size()) + " channels, " + std::to_string(vocab_size) + " tokens";
}

template <class Memory>
void add_memory(aviary::StateWriter& to, std::string const& name, aviary::TimeMixState<Memory> const& state) {
  to.add<Memory>(name, state.s, static_cast<Index>(state.s.size()));
}
template <class Memory>
void read_memory(aviary::StateFile const& from, std::string const& name, aviary::TimeMixState<Memory>& state) {
  from.read<Memory>(name, std::span(state.s), static_cast<Index>(state.s.size()), {.dtype = true});
}

template <class Numbers> void add_row(aviary::StateWriter& to, std::string const& name, Numbers const& x) {
  to.tensors().add(name, {static_cast<std::int64_t>(x.size())}, x);
}
template <class Numbers> void read_row(aviary::StateFile const& from, std::string const& name, Numbers& x) {
  from.tensors().tensor(name, {static_cast<std::int64_t>(x.size())}).read_into(x);
}

}  // namespace detail

/// Writes a context. The old file, if any, is replaced when all is written, and stays if anything fails.
/// Throws std::runtime_error with path and reason.
template <class State, class T>
void write_context(std::filesystem::path const& path, Context<State, T> const& context, Index vocab_size) {
  aviary::StateWriter writer;
  writer.tensors().set_metadata(std::string(detail::context_key), detail::description(context.blocks, vocab_size));
  for (std::size_t i = 0; i < context.blocks.size(); ++i) {
    State const& state = context.blocks[i];
    detail::add_memory(writer, detail::block_name(i) + "att_s", state.time_mix);
    detail::add_row(writer, detail::block_name(i) + "att_x", state.time_mix.x);
    detail::add_row(writer, detail::block_name(i) + "ffn_x", state.channel_mix.x);
  }
  if (!context.logits.empty()) detail::add_row(writer, "logits", context.logits);
  writer.write(path);
}

/// Reads a context into one of the shapes that are expected; float and double convert. Throws std::runtime_error with
/// path, what was expected and found; the context may then hold anything.
template <class State, class T>
void read_context(std::filesystem::path const& path, Context<State, T>& context, Index vocab_size) {
  aviary::StateFile const file(path);
  auto const& metadata = file.tensors().metadata();
  std::string const expected = detail::description(context.blocks, vocab_size);
  auto const found = metadata.find(detail::context_key);
  if (found == metadata.end() || found->second != expected)
    throw std::runtime_error(path.string() + ": expected the context of a model of " + expected + ", found " +
                             (found == metadata.end() ? "none" : aviary::detail::in_quotes(found->second)));
  for (std::size_t i = 0; i < context.blocks.size(); ++i) {
    State& state = context.blocks[i];
    detail::read_memory(file, detail::block_name(i) + "att_s", state.time_mix);
    detail::read_row(file, detail::block_name(i) + "att_x", state.time_mix.x);
    detail::read_row(file, detail::block_name(i) + "ffn_x", state.channel_mix.x);
  }
  context.logits.clear();
  if (!file.tensors().contains("logits")) return;
  context.logits.resize(aviary::to_size(vocab_size));
  detail::read_row(file, "logits", context.logits);
}

}  // namespace models
