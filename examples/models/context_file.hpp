#pragma once
/// The context of a model in a safetensors file, under names like those of checkpoints:
///
///   blocks.0.att_s   the memory of block 0, as aviary/io/state_file.hpp writes states
///   blocks.0.att_x   (C) the last input of its time mix
///   blocks.0.ffn_x   (C) the last input of its channel mix
///   logits           (vocabulary) of the token that follows; not there if nothing was read, or not yet all of a prompt
///
/// The file's metadata say for which models it is:  aviary.context  "wkv7, 12 layers, 64 channels, 256 tokens", and for
/// which weights (aviary/io/fingerprint.hpp). Older files lack the weights, and are read as ever.
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "aviary/core/aligned.hpp"
#include "aviary/io/fingerprint.hpp"
#include "aviary/io/state_file.hpp"
#include "models/model.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// What a model has read, and made of it.
template <class Context, class T> struct SavedContext {
  Context context;
  aviary::AlignedVector<T> logits;  ///< (vocabulary), or none
  aviary::Fingerprint weights;      ///< of the model
};

inline constexpr std::string_view context_key = "aviary.context";

template <class Numbers> void write_row(aviary::StateWriter& to, std::string const& name, Numbers const& x) {
  to.tensors().add(name, {static_cast<std::int64_t>(x.size())}, x);
}
template <class Numbers> void read_row(aviary::StateFile const& from, std::string const& name, Numbers& x) {
  from.tensors().tensor(name, {static_cast<std::int64_t>(x.size())}).read_into(x);
}

/// The state of block i (aviary::Block<...>::State), of whatever its time mix remembers. Names what it reads and writes.
template <class State> void write_block(aviary::StateWriter& to, std::size_t i, State const& state) {
  std::string const block = "blocks." + std::to_string(i) + ".";
  if constexpr (requires { state.time_mix.s; })
    to.add<typename decltype(state.time_mix)::Memory>(block + "att_s", state.time_mix.s,
                                                      static_cast<Index>(state.time_mix.s.size()));
  write_row(to, block + "att_x", state.time_mix.x);
  write_row(to, block + "ffn_x", state.channel_mix.x);
}
/// Float and double convert.
template <class State> void read_block(aviary::StateFile const& from, std::size_t i, State& state) {
  std::string const block = "blocks." + std::to_string(i) + ".";
  if constexpr (requires { state.time_mix.s; })
    from.read<typename decltype(state.time_mix)::Memory>(block + "att_s", std::span(state.time_mix.s),
                                                         static_cast<Index>(state.time_mix.s.size()), {.dtype = true});
  read_row(from, block + "att_x", state.time_mix.x);
  read_row(from, block + "ffn_x", state.channel_mix.x);
}

/// "wkv7, 12 layers, 64 channels, 256 tokens": models of the same description have contexts of the same tensors.
template <class Body> std::string description(Body const& body, Index vocab_size) {
  return body.description() + ", " + std::to_string(vocab_size) + " tokens";
}

/// Older files call a cache of q8 one of int8.
inline std::string in_words_of_today(std::string description) {
  constexpr std::string_view was = "cache of int8";
  auto const at = description.find(was);
  return at == description.npos ? description : description.replace(at, was.size(), "cache of q8");
}

/// Writes a context. The old file, if any, is replaced when all is written, and stays if anything fails.
/// Throws std::runtime_error with path and reason.
template <class Body, class Saved>
void write_context(std::filesystem::path const& path, Body const& body, Saved const& saved, Index vocab_size) {
  aviary::StateWriter writer;
  writer.tensors().set_metadata(std::string(context_key), description(body, vocab_size));
  add_fingerprint(writer.tensors(), saved.weights);
  body.write(writer, saved.context);
  if (!saved.logits.empty()) write_row(writer, "logits", saved.logits);
  writer.write(path);
}

/// Reads a context into one of the weights and shapes that are expected; float and double convert. Throws
/// std::runtime_error with path, what was expected and found; the context may then hold anything.
template <class Body, class Saved>
void read_context(std::filesystem::path const& path, Body const& body, Saved& saved, Index vocab_size) {
  aviary::StateFile const file(path);
  auto const& metadata = file.tensors().metadata();
  std::string const expected = description(body, vocab_size);
  auto const found = metadata.find(context_key);
  if (found == metadata.end() || in_words_of_today(found->second) != expected)
    throw std::runtime_error(path.string() + ": expected the context of a model of " + expected + ", found " +
                             (found == metadata.end() ? "none" : aviary::in_quotes(found->second)));
  body.read(file, saved.context);
  expect_fingerprint(file.tensors(), saved.weights);  // last: other shapes say more
  saved.logits.clear();
  if (!file.tensors().contains("logits")) return;
  saved.logits.resize(aviary::to_size(vocab_size));
  read_row(file, "logits", saved.logits);
}

}  // namespace AVIARY_ISA
}  // namespace models
