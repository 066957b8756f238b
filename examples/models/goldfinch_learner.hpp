#pragma once
/// What GoldFinch (Goldstein et al. 2024, arXiv:2407.12077) is between embedding and head, going forward and back.
///
///   e = x        x = FinchC2Block_i(x)        c = W_a x        x = GoldBlock_i(x; e, c)
///
/// All rows go through the attention blocks, each over the tokens of its own sequence up to its own. What they need of a token
/// is its row e, which the batch has already: so the table of their TokenCat has the rows of the batch, and the ids of their
/// caches are the numbers of these rows. What reaches e through attention joins what reaches the first block's input.
#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "aviary/layers/gold_backward.hpp"
#include "aviary/layers/token_cat.hpp"
#include "models/goldfinch.hpp"
#include "models/language_learner.hpp"
#include "models/learning_stack.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// A Body for LanguageLearner.
/// @tparam G  GoldFinch<...>
template <class G> class GoldFinchLearner {
 public:
  using T = typename G::T;
  using Recurrent = LearningStack<typename G::Body::Recurrent>;
  using Attention = LearningStack<typename G::Body::Attention>;
  using States = typename Recurrent::States;
  using StateGradients = typename Recurrent::StateGradients;

  GoldFinchLearner(WeightStore<T> const& store, aviary::TensorFile const& file, Index channels,
                   LearnerOptions const& options)
      : GoldFinchLearner(store, file, channels, options, first_attention(file)) {}

  Index channels() const noexcept { return recurrent_.channels(); }

  /// @name Not carried: attention would need the tokens of all batches before
  /// They throw std::runtime_error.
  ///@{
  States make_states(Index) const { refuse(); }
  StateGradients make_state_gradients(Index) const { refuse(); }
  void reset(States&, Index) const { refuse(); }
  ///@}

  void refresh() {
    recurrent_.refresh();
    attention_.refresh();
  }

  void forward(std::span<TokenId const> ids, aviary::MatView<T> x, Parts const& cut, States*, bool keeps) {
    token_cat_.emplace(aviary::Embedding<T>(x), std::nullopt,
                       typename aviary::TokenCat<T>::Weights{.compress = compress_, .expand = expand_});
    Parts::Part const& last = cut[cut.size() - 1];
    caches_.assign(aviary::to_size(last.first + last.sequences), token_cat_->template empty_cache<T>());
    make_room(x.rows(), cut, keeps);
    recurrent_.forward(ids, x, cut, nullptr, keeps);
    cut.run(options_.threads, [&](Index, Parts::Part const& of, Threads threads) {
      typename Pool<Workspace>::Lent const workspace(workspaces_);
      for (Index s = 0; s < of.sequences; ++s) {
        Index const begin = of.row + of.offsets[aviary::to_size(s)],
                    count = of.row + of.offsets[aviary::to_size(s + 1)] - begin;
        token_cat_->append(std::span(rows_).subspan(aviary::to_size(begin), aviary::to_size(count)),
                           x.rows(begin, count), caches_[aviary::to_size(of.first + s)], *workspace->scratch, threads);
      }
    });
    attention_.forward(ids, x, cut, nullptr, keeps,
                       [&](Index, Parts::Part const& of, auto const& run) { with_context(of, run); });
  }

  void backward(std::span<TokenId const> ids, aviary::MatView<T> d, Parts const& cut, bool, StateGradients*,
                double& seconds) {
    aviary::MatView<T> const de = rows_of(de_, d.rows(), channels()), dc = rows_of(dc_, d.rows(), token_cat_->width());
    for (auto* const numbers : {&de_, &dc_}) std::ranges::fill(*numbers, T(0));
    for (Index p = 0; p < cut.size(); ++p) std::ranges::fill(parts_[aviary::to_size(p)].gradients, T(0));
    attention_.backward(ids, d, cut, false, nullptr, seconds, [&](Index p, Parts::Part const& of, auto const& run) {
      with_context(of, [&](auto const& context) {
        aviary::GoldTape<T, T> const tape{.context = context,
                                          .expand = expand_,
                                          .de = of.of(de),
                                          .dc = of.of(dc),
                                          .dexpand = parts_[aviary::to_size(p)].dexpand};
        run(tape);
      });
    });
    aviary::MatView<T> const x = attention_.input(d.rows());
    cut.run(options_.threads, [&](Index p, Parts::Part const& of, Threads threads) {
      token_cat_->append_backward(compress_, of.of(x), of.of(dc), of.of(d), parts_[aviary::to_size(p)].dcompress,
                                  threads);
    });
    seconds += models::seconds([&] {
      std::vector<T*> sums;
      for (Index p = 0; p < cut.size(); ++p) sums.push_back(parts_[aviary::to_size(p)].gradients.data());
      add_parts<T>(gradients_, sums, options_.threads);
    });
    recurrent_.backward(ids, d, cut, false, nullptr, seconds);
    auto const add = [](auto const& a, auto const& b) { return a + b; };
    for (Index t = 0; t < d.rows(); ++t)
      aviary::simd::transform(channels(), d[t].data(), add, d[t].data(), de[t].data());
  }

  std::size_t bytes() const {
    std::size_t numbers = de_.size() + dc_.size();
    for (Part const& part : parts_) numbers += part.gradients.size();
    for (Workspace const& workspace : workspaces_.all())
      if (workspace.scratch) numbers += aviary::to_size(workspace.scratch->left());
    if (token_cat_) numbers += rows_.size() * aviary::to_size(token_cat_->width() + channels());  // caches, their table
    return recurrent_.bytes() + attention_.bytes() + numbers * sizeof(T);
  }

 private:
  /// Gradients of what the attention blocks share.
  struct Part {
    aviary::AlignedVector<T> gradients;
    aviary::MatSink<T> dcompress, dexpand;
  };
  struct Workspace {
    std::unique_ptr<aviary::Scratch<T>> scratch;
  };

  static constexpr char const* shared = "w_kv_cache_";  // names of the weights that the attention blocks share begin so

  GoldFinchLearner(WeightStore<T> const& store, aviary::TensorFile const& file, Index channels,
                   LearnerOptions const& options, Index recurrent)
      : options_(options),
        values_(file),
        compress_(G::compress(values_, channels)),
        expand_(G::expand(values_, channels, compress_)),
        recurrent_(store, file, 0, recurrent, channels, options,
                   [](auto& reader) { return G::recurrent_parameters(reader); }),
        attention_(store, file, recurrent, G::layers(file) - recurrent, channels, options,
                   [&](auto& reader) { return G::attention_parameters(reader, options.load); }),
        gradients_(store.gradients_of(shared)),
        parts_(aviary::to_size(std::min(options.parts, options.sequences))),
        workspaces_(std::min<Index>(options.threads.concurrency(), static_cast<Index>(parts_.size()))) {
    for (Part& part : parts_) {
      part.gradients.resize(aviary::to_size(gradients_.size()));
      GradientReader<T> gradients(store, gradients_, part.gradients.data());
      part.dcompress = G::compress(gradients, channels);
      part.dexpand = G::expand(gradients, channels, part.dcompress);
    }
  }

  static Index first_attention(aviary::TensorFile const& file) {
    Index layer = 0;
    while (!G::attends(file, layer, G::layers(file))) ++layer;
    return layer;
  }
  [[noreturn]] static void refuse() {
    throw std::runtime_error(
        "GoldFinch carries no states from one batch to the next when it learns: its attention would "
        "need all tokens before");
  }

  /// f(context) for the sequences of a part.
  template <class F> void with_context(Parts::Part const& of, F const& f) {
    typename Pool<Workspace>::Lent const workspace(workspaces_);
    auto const cache = [&](Index s) { return &std::as_const(caches_)[aviary::to_size(of.first + s)]; };
    f(aviary::GoldContext<T, T>(*token_cat_, aviary::States<aviary::TokenCache<T> const>(cache, of.sequences, 1),
                                of.offsets, *workspace->scratch));
  }

  /// Allocates what the largest batch so far needs.
  void make_room(Index tokens, Parts const& cut, bool keeps) {
    rows_.resize(aviary::to_size(std::max(tokens, static_cast<Index>(rows_.size()))));
    std::iota(rows_.begin(), rows_.end(), TokenId{0});
    Index numbers = cut.most_rows() * aviary::padded<T>(token_cat_->width());
    for (Index i = 0; i < attention_.size(); ++i) {
      auto const& layer = attention_.block(i).time_mix();
      numbers = std::max(numbers, keeps ? aviary::GoldBackward<T>::workspace_size(layer, *token_cat_)
                                        : layer.workspace_size(*token_cat_));
    }
    for (Workspace& workspace : workspaces_.all())
      if (!workspace.scratch || workspace.scratch->left() < numbers)
        workspace.scratch = std::make_unique<aviary::Scratch<T>>(numbers);
    if (!keeps) return;
    for (auto const& [to, columns] : {std::pair(&de_, channels()), std::pair(&dc_, token_cat_->width())})
      to->resize(std::max(to->size(), aviary::to_size(tokens * aviary::padded<T>(columns))));
  }
  static aviary::MatView<T> rows_of(aviary::AlignedVector<T>& numbers, Index rows, Index columns) noexcept {
    return {numbers.data(), rows, columns, aviary::padded<T>(columns)};
  }

  LearnerOptions options_;
  WeightReader<T> values_;
  aviary::WeightMatrix compress_, expand_;
  Recurrent recurrent_;
  Attention attention_;
  aviary::VecView<T> gradients_;
  std::vector<Part> parts_;
  Pool<Workspace> workspaces_;
  std::optional<aviary::TokenCat<T>> token_cat_;  // of the batch
  std::vector<TokenId> rows_;                     // 0, 1 ...
  std::vector<aviary::TokenCache<T>> caches_;     // of its sequences
  aviary::AlignedVector<T> de_, dc_;              // (tokens, C), (tokens, R)
};

template <class G>
std::unique_ptr<Learner<typename G::T>> make_goldfinch_learner(WeightStore<typename G::T>& weights,
                                                               LearnerOptions const& options) {
  using Body = GoldFinchLearner<G>;
  return std::make_unique<LanguageLearner<Body>>(
      weights, weights.file(), options,
      [&](aviary::TensorFile const& file, Index channels) { return Body(weights, file, channels, options); });
}

}  // namespace AVIARY_ISA
}  // namespace models
