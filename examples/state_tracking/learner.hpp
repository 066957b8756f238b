#pragma once
/// One layer that learns a word problem.
///
///   inputs of the memory = table of each input [symbol]      y = memory(inputs)      logits = head group_norm(y)
///
/// A layer's inputs depend on its token alone here, so that their projections are tables: nothing but the memory brings one
/// symbol to another. The states before a word are trained as well.
#include <algorithm>
#include <array>
#include <aviary/layers/norm.hpp>
#include <aviary/matrix/state.hpp>
#include <aviary/training/loss.hpp>
#include <aviary/training/orthogonal.hpp>
#include <aviary/training/random.hpp>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "models/threads.hpp"
#include "state_tracking/fields.hpp"
#include "state_tracking/tasks.hpp"
#include "state_tracking/weights.hpp"

namespace state_tracking {

/// @tparam Model  one of models.hpp. Results have the same bits whatever the threads.
template <class Model> class Learner {
  using Memory = typename Model::Memory;
  using T = typename Memory::T;
  static constexpr Index steps = Model::steps, heads = 2, keys = Memory::keys, values = Memory::values;
  static constexpr Index channels = heads * values;
  static constexpr auto const& fields = Model::fields;

 public:
  /// Random weights. The task must live as long.
  Learner(Task const& task, std::uint64_t seed, models::Threads threads) : task_(task), threads_(threads) {
    aviary::SplitMix64 random(seed, "weights");
    for (std::size_t f = 0; f < fields.size(); ++f) {
      Field const& field = fields[f];
      Index const rows = field.rows == Rows::shared ? 1 : task.symbols * steps;
      tables_[f] = weights_.add(rows, heads * field.size, field.group);
      for (Index i = 0; i < rows; ++i)
        for (T& e : weights_.values(tables_[f])[i]) e = static_cast<T>(field.mean + field.deviation * random.normal());
    }
    initial_ = weights_.add(heads * keys, values);
    for (Index h = 0; h < heads; ++h)
      aviary::fill_orthogonal(weights_.values(initial_).rows(h * keys, keys), 1, random);
    norm_ = {weights_.add(1, channels), weights_.add(1, channels)};
    std::ranges::fill(weights_.values(norm_.weight)[0], T(1));
    head_ = weights_.add(task.order, channels, {.weight_decay = 1});
    aviary::fill_orthogonal(weights_.values(head_), 0.5, random);
  }

  Weights<T>& weights() noexcept { return weights_; }

  /// The mean loss of a symbol, in nats. The weights' gradients become those of this loss.
  double pull(Words const& words) {
    read(words, true);
    std::ranges::fill(weights_.gradients(), T(0));
    AlignedVector<T> to_normed(normed_.size()), logits(to_size(words.size() * task_.order));
    std::vector<double> losses(to_size(words.size()));
    MatView<T> const dnormed(to_normed.data(), words.size(), channels);
    aviary::Loss const loss = aviary::head_cross_entropy<T>({.x = normed(),
                                                             .head = weights_.values(head_),
                                                             .logits = {logits.data(), words.size(), task_.order},
                                                             .losses = losses,
                                                             .scale = T(1) / static_cast<T>(words.size()),
                                                             .dx = dnormed,
                                                             .dhead = weights_.gradients(head_)},
                                                            words.products, threads_);
    pull_memory(words, dnormed);
    return loss.mean();
  }

  /// What it takes the product after each symbol for.
  std::vector<Index> guess(Words const& words) {
    read(words, false);
    AlignedVector<T> numbers(to_size(words.size() * task_.order));
    MatView<T> const logits(numbers.data(), words.size(), task_.order);
    aviary::Linear<T>(weights_.values(head_), aviary::WeightFormat::full)(normed(), logits, threads_);
    std::vector<Index> guesses;
    for (Index t = 0; t < words.size(); ++t)
      guesses.push_back(std::max_element(logits[t].begin(), logits[t].end()) - logits[t].begin());
    return guesses;
  }

 private:
  using Place = typename Weights<T>::Place;
  /// Numbers of each field, for all tokens.
  using Numbers = std::array<AlignedVector<T>, fields.size()>;
  struct Norm {
    Place weight, bias;
  };

  /// Numbers of each field as the memory's inputs, or as the gradients of those.
  template <class As> static As named(Numbers& numbers, Index tokens) {
    std::array<FieldRows<T>, fields.size()> rows{};
    for (std::size_t f = 0; f < fields.size(); ++f) rows[f] = {numbers[f].data(), tokens, heads};
    return Model::template named<As>(rows);
  }
  typename Memory::Inputs inputs(Words const& words) {
    return named<typename Memory::Inputs>(inputs_, words.size() * steps);
  }
  typename Memory::Tape tape() {
    typename Memory::Tape tape{};
    tape.states = kept_;
    return tape;
  }
  aviary::GroupNorm<T> norm() { return {weights_.values(norm_.weight)[0], weights_.values(norm_.bias)[0], heads}; }
  MatView<T> normed() { return {normed_.data(), static_cast<Index>(normed_.size()) / channels, channels}; }
  /// The outputs after whole symbols, of those after all steps.
  static MatView<T> of_symbols(AlignedVector<T>& y, Words const& words) {
    return {y.data() + (steps - 1) * channels, words.size(), channels, steps * channels};
  }

  /// From words to normed outputs. With `keep` the tape has what `backward` needs.
  void read(Words const& words, bool keep) {
    Index const tokens = words.size() * steps;
    look_up(words);
    offsets_.clear();
    for (Index word = 0; word <= words.count; ++word) offsets_.push_back(word * words.length * steps);
    states_.resize(to_size(words.count * heads));
    for (Index i = 0; i < words.count * heads; ++i) {
      std::span<T const> const numbers(weights_.values(initial_)[i % heads * keys].data(), to_size(keys * values));
      aviary::import_state(states_[to_size(i)].view(), numbers, aviary::Orientation::key_value);
    }
    y_.resize(to_size(tokens * channels));
    normed_.resize(to_size(words.size() * channels));
    auto const x = inputs(words);
    kept_.resize(keep ? Memory::tape_size(x, offsets_) : 0);
    Memory::forward({.x = x, .y = {y_.data(), tokens, heads}, .states = states_, .offsets = offsets_, .tape = tape()},
                    threads_);
    norm()(of_symbols(y_, words), normed());
  }

  /// Fills the inputs from the tables.
  void look_up(Words const& words) {
    AlignedVector<T> in_range;
    for (std::size_t f = 0; f < fields.size(); ++f) {
      Place const table = tables_[f];
      in_range.resize(to_size(table.rows * table.columns));
      into_range<T>(fields[f], steps, weights_.values(table), {in_range.data(), table.rows, table.columns});
      if (fields[f].rows == Rows::shared) {
        inputs_[f] = in_range;
        continue;
      }
      Index const n = steps * table.columns;  // numbers of a symbol
      inputs_[f].resize(to_size(words.size() * n));
      for (Index t = 0; t < words.size(); ++t)
        std::copy_n(in_range.data() + words.symbols[to_size(t)] * n, n, inputs_[f].data() + t * n);
    }
  }

  /// The gradients of all weights but the head's.
  void pull_memory(Words const& words, MatView<T const> dnormed) {
    Index const tokens = words.size() * steps;
    AlignedVector<T> dy(y_.size());
    norm().backward(of_symbols(y_, words), dnormed, of_symbols(dy, words), weights_.gradients(norm_.weight)[0],
                    weights_.gradients(norm_.bias)[0]);
    Numbers dinputs;
    for (std::size_t f = 0; f < fields.size(); ++f) dinputs[f].resize(inputs_[f].size());
    std::vector<typename Memory::StateGradient> dstates(states_.size());
    auto const x = inputs(words);
    workspace_.resize(Memory::backward_workspace(x, heads, offsets_, tape().every, threads_.concurrency()));
    Memory::backward({.x = x,
                      .dy = {dy.data(), tokens, heads},
                      .tape = tape(),
                      .dx = named<typename Memory::Gradients>(dinputs, tokens),
                      .dstates = dstates,
                      .workspace = workspace_,
                      .offsets = offsets_},
                     threads_);
    for (std::size_t f = 0; f < fields.size(); ++f) pull_look_up(words, f, dinputs[f]);
    for (std::size_t i = 0; i < dstates.size(); ++i) {
      auto const sum = weights_.gradients(initial_).rows(static_cast<Index>(i) % heads * keys, keys);
      for (Index key = 0; key < keys; ++key)
        for (Index value = 0; value < values; ++value) sum(key, value) += dstates[i].view()(key, value);
    }
  }

  /// Adds what reached the tokens' inputs to the rows of their symbols, in the order of the tokens.
  void pull_look_up(Words const& words, std::size_t f, AlignedVector<T> const& dinputs) {
    auto const sums = weights_.gradients(tables_[f]);
    if (fields[f].rows == Rows::shared) {
      std::ranges::copy(dinputs, sums.data());
    } else {
      Index const n = steps * sums.columns();
      for (Index t = 0; t < words.size(); ++t) {
        T* const sum = sums.data() + words.symbols[to_size(t)] * n;
        for (Index i = 0; i < n; ++i) sum[i] += dinputs[to_size(t * n + i)];
      }
    }
    pull_range<T>(fields[f], steps, weights_.values(tables_[f]), sums);
  }

  Task const& task_;
  models::Threads threads_;
  Weights<T> weights_;
  std::array<Place, fields.size()> tables_;
  Place initial_, head_;
  Norm norm_;

  // What the last words became, and room for gradients.
  std::vector<Index> offsets_;
  Numbers inputs_;
  std::vector<typename Memory::State> states_, kept_;
  AlignedVector<T> y_, normed_, workspace_;
};

}  // namespace state_tracking
