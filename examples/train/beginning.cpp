#include "train/beginning.hpp"

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "aviary/io/checkpoint_file.hpp"
#include "aviary/io/mapped_file.hpp"
#include "aviary/io/output_file.hpp"
#include "models/initial_state.hpp"
#include "models/inputs.hpp"
#include "models/names.hpp"
#include "models/new_model.hpp"
#include "models/text.hpp"
#include "train/additions.hpp"

namespace train {
namespace {

/// Reads the texts of a request.
class TextReader {
 public:
  TextReader(Request const& r, models::Text& text) {
    if (text.is_ids())
      throw UsageError("--vocab: expected a vocabulary, as the model has " + std::to_string(text.vocab_size()) +
                       " tokens and not 256 bytes, found none");
    // A window lies within a document; a stream takes documents of any length.
    for (auto const& path : r.data) add(path, text, r.held_out, r.carry ? 1 : r.context);
    if (r.held_out_data) add(*r.held_out_data, text, 1, 1);
  }
  Texts texts() && { return std::move(texts_); }

 private:
  void add(std::filesystem::path const& path, models::Text& text, double share, Index least) {
    aviary::MappedFile const file(path);
    std::vector<TokenId> tokens;
    try {
      tokens = text.tokens(file.text());
    } catch (std::invalid_argument const& error) {
      throw std::runtime_error(path.string() + ": " + error.what());
    }
    auto const size = static_cast<double>(tokens.size());
    auto const cut = static_cast<std::size_t>(size - size * share);
    take(path, text, std::span(tokens).first(cut), texts_.learned, share < 1 ? least : -1, "to learn from");
    take(path, text, std::span(tokens).subspan(cut), texts_.held_out, share > 0 ? 1 : -1, "to measure");
  }
  /// Takes a document of more than `least` tokens; none, if that is -1.
  static void take(std::filesystem::path const& path, models::Text& text, std::span<TokenId const> tokens, Corpus& to,
                   Index least, char const* use) {
    if (least < 0) return;
    if (static_cast<Index>(tokens.size()) <= least)
      throw std::runtime_error(path.string() + ": expected more than " + std::to_string(least) + " tokens " + use +
                               ", found " + std::to_string(tokens.size()));
    Index bytes = 0;
    for (TokenId const id : tokens) bytes += static_cast<Index>(text(id, false).size());
    to.add(tokens, bytes);
  }

  Texts texts_;
};

/// A checkpoint to begin with, if there is one, and what its tokens stand for.
struct Source {
  std::optional<aviary::TensorFile> file;
  std::optional<aviary::Vocabulary> words;
};
Source source_of(Request const& r) {
  Source found;
  if (r.model) {
    found.file = models::open_model(*r.model);
    found.file->verify();
    if (r.learns == Learns::states) found.file = models::with_zero_states(std::move(*found.file));
    found.words = found.file->vocabulary();
  }
  if (r.vocab) found.words = aviary::Vocabulary::read_world(*r.vocab);
  return found;
}

/// Better before the text is read: attention would need all tokens before.
void expect_states(Request const& r, Source const& b) {
  if ((b.file ? models::generation_of(*b.file) : r.generation) != models::Generation::goldfinch) return;
  for (auto const& [option, is_wanted] : {std::pair{"--carry", r.carry}, std::pair{"--stretches", r.stretches > 1}})
    if (is_wanted) throw UsageError(std::string(option) + ": expected an RWKV, whose states go on, found GoldFinch");
}

models::Text text_of(Request const& r, Source const& b) {
  Index const vocab_size = b.file    ? b.file->tensor("emb.weight", {aviary::dynamic, aviary::dynamic}).shape[0]
                           : b.words ? b.words->size()
                                     : 256;
  try {
    return models::Text(vocab_size, b.words);
  } catch (std::invalid_argument const& error) {
    throw std::runtime_error((r.vocab ? *r.vocab : *r.model).string() + ": " + error.what());
  }
}

Weights weights_of(Request const& r, Source const& b, Index vocab_size) {
  if (b.file)
    return models::read_weights<float>(
        *b.file,
        [&](std::string_view name) {
          switch (r.learns) {
            case Learns::states:
              return models::is_initial_state(name);
            case Learns::low_rank:
              return b.file->contains(name) && is_block_matrix(name, b.file->tensor(name).shape);
            case Learns::weights:
              break;
          }
          return true;
        },
        load_options(r));
  try {
    return models::new_weights<float>({.generation = r.generation,
                                       .layers = r.layers,
                                       .channels = r.channels,
                                       .vocab = vocab_size,
                                       .head_size = r.head_size},
                                      r.seed);
  } catch (std::invalid_argument const& error) {
    throw UsageError("--new: " + std::string(error.what()));
  }
}

}  // namespace

void check_targets(Request const& r) {
  models::Inputs inputs;
  if (r.model)
    for (auto const& file : aviary::checkpoint_files(*r.model)) inputs.add("the file of --model", file);
  if (r.vocab) inputs.add("the file of --vocab", *r.vocab);
  for (auto const& file : r.data) inputs.add("the file of --data", file);
  if (r.held_out_data) inputs.add("the file of --held-out-data", *r.held_out_data);
  auto const check = [&](std::filesystem::path const& target, char const* what, char const* use) {
    inputs.check_target(target, use);
    aviary::OutputFile const writable(target);
    inputs.add(what, target);
  };
  check(r.out, "the file of --out", "to write");
  check(r.training_file(), "the file to go on from", "to go on from");
  if (r.metrics) check(*r.metrics, "the file of --metrics", "for metrics");
  if (!r.resume && std::filesystem::exists(r.training_file()))
    throw std::runtime_error(r.training_file().string() +
                             ": is there already: expected --resume to go on from it, another --out, or no such file");
}

models::LoadOptions load_options(Request const& r) {
  models::LoadOptions options;
  options.group_norm_eps = r.group_norm_eps;
  return options;
}

Beginning beginning_of(Request const& r) {
  Source const source = source_of(r);
  expect_states(r, source);
  models::Text text = text_of(r, source);
  Texts texts = TextReader(r, text).texts();
  return {std::move(texts), weights_of(r, source, text.vocab_size())};
}

}  // namespace train
