#pragma once
/// The text that a model learns from, and which part of it comes next: a function of the seed and the step, or of positions
/// that are saved.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numbers>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "aviary/training/random.hpp"
#include "models/learner.hpp"

namespace train {

using aviary::Index;
using aviary::TokenId;

/// Documents as tokens, one after another.
class Corpus {
 public:
  void add(std::span<TokenId const> document, Index bytes) {
    tokens_.insert(tokens_.end(), document.begin(), document.end());
    begins_.push_back(size());
    bytes_ += bytes;
  }

  Index documents() const noexcept { return static_cast<Index>(begins_.size()) - 1; }
  std::span<TokenId const> document(Index i) const noexcept {
    return std::span(tokens_).subspan(aviary::to_size(begin(i)), aviary::to_size(end(i) - begin(i)));
  }
  std::span<TokenId const> tokens() const noexcept { return tokens_; }
  /// Tokens of all documents.
  Index size() const noexcept { return static_cast<Index>(tokens_.size()); }
  /// Where a document begins and ends in them.
  Index begin(Index i) const noexcept { return begins_[aviary::to_size(i)]; }
  Index end(Index i) const noexcept { return begins_[aviary::to_size(i + 1)]; }
  /// The document of a token.
  Index document_at(Index token) const noexcept {
    return std::ranges::upper_bound(begins_, token) - begins_.begin() - 1;
  }

  /// Of the text that the tokens stand for.
  Index bytes() const noexcept { return bytes_; }
  /// What a loss in nats a token is in bits a byte.
  double bits_per_byte(double nats) const noexcept {
    return nats / std::numbers::ln2 * static_cast<double>(size()) / static_cast<double>(std::max(bytes_, Index{1}));
  }

 private:
  std::vector<TokenId> tokens_;
  std::vector<Index> begins_{0};
  Index bytes_ = 0;
};

/// Sequences of text, each with one token more than the model reads of it: the last is only to be guessed. An empty one has
/// nothing to read.
using Sequences = std::vector<std::span<TokenId const>>;

/// Windows of `context` tokens at random places, which follow from the seed and the step alone. Every document has more.
inline Sequences windows(Corpus const& corpus, std::uint64_t seed, Index step, Index count, Index context) {
  aviary::SplitMix64 random(seed, "windows of step " + std::to_string(step));
  Index const places = corpus.size() - corpus.documents() * context;
  Sequences sequences;
  while (static_cast<Index>(sequences.size()) < count) {
    Index place = static_cast<Index>(random.next() % static_cast<std::uint64_t>(places)), document = 0;
    for (;; ++document) {
      Index const here = corpus.end(document) - corpus.begin(document) - context;
      if (place < here) break;
      place -= here;
    }
    sequences.push_back(corpus.document(document).subspan(aviary::to_size(place), aviary::to_size(context + 1)));
  }
  return sequences;
}

/// Streams that go through all documents in their order, round and round, each from another place on.
class Streams {
 public:
  /// Every document has more tokens than one.
  Streams(Corpus const& corpus, Index streams) : corpus_(corpus) {
    for (Index i = 0; i < streams; ++i)
      places_.push_back(static_cast<std::int64_t>(static_cast<double>(corpus.size()) * static_cast<double>(i) /
                                                  static_cast<double>(streams)));
  }

  /// The next `context` tokens of each stream, or those that are left of its document. Calls begin(stream) for streams that
  /// come to another document.
  Sequences next(Index context, std::function<void(Index)> const& begin) {
    Sequences sequences;
    for (Index i = 0; i < static_cast<Index>(places_.size()); ++i) {
      std::int64_t& place = places_[aviary::to_size(i)];
      Index document = corpus_.document_at(place);
      if (place + 1 >= corpus_.end(document)) {
        document = (document + 1) % corpus_.documents();
        place = corpus_.begin(document);
        begin(i);
      }
      Index const count = std::min(context, corpus_.end(document) - 1 - place);
      sequences.push_back(corpus_.tokens().subspan(aviary::to_size(place), aviary::to_size(count + 1)));
      place += count;
    }
    return sequences;
  }

  /// Where each stream is: all that it takes to go on.
  std::span<std::int64_t> places() noexcept { return places_; }

 private:
  Corpus const& corpus_;
  std::vector<std::int64_t> places_;
};

/// Some tokens of all sequences, packed: one batch at a time.
class Packed {
 public:
  /// Tokens first ... first + count - 1 of each sequence, or those of them that it has.
  models::Batch of(Sequences const& sequences, Index first, Index count) {
    tokens_.clear(), targets_.clear(), offsets_.assign(1, 0);
    for (auto const& sequence : sequences) {
      Index const inputs = std::max(static_cast<Index>(sequence.size()) - 1, Index{0});
      Index const begin = std::min(first, inputs), end = std::min(first + count, inputs);
      tokens_.insert(tokens_.end(), sequence.begin() + begin, sequence.begin() + end);
      if (begin < end) targets_.insert(targets_.end(), sequence.begin() + begin + 1, sequence.begin() + end + 1);
      offsets_.push_back(static_cast<Index>(tokens_.size()));
    }
    return {.tokens = tokens_, .targets = targets_, .offsets = offsets_};
  }

 private:
  std::vector<TokenId> tokens_, targets_;
  std::vector<Index> offsets_;
};

}  // namespace train
