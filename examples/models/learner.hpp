#pragma once
/// A model that learns, whatever its generation.
///
///     models::WeightStore<float> weights = ...;                        values that a checkpoint or initialize() gave
///     auto const learner = models::make_learner(weights, {.tokens = 2048, .sequences = 8});
///     weights.clear_gradients();
///     aviary::Loss const loss = learner->learn({.batch = batch, .scale = 1 / 2048.f});    adds to the gradients
///     ... adamw_update(...) ...
///     learner->refresh();                                              layers are made of the new values
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <type_traits>

#include "aviary/io/vocabulary.hpp"
#include "aviary/training/loss.hpp"
#include "models/any.hpp"
#include "models/threads.hpp"
#include "models/weight_store.hpp"

namespace models {
inline namespace AVIARY_ISA {

using aviary::TokenId;

/// Packed sequences and what is to follow each of their tokens.
struct Batch {
  std::span<TokenId const> tokens;
  std::span<TokenId const> targets;  ///< as many; -1: any, it has no part in the loss
  std::span<Index const> offsets;    ///< where each sequence begins, and the number of tokens
};

/// What a model remembers of the sequences of a batch, or the gradients of that: one array after another.
template <class T> class Carried {
 public:
  virtual ~Carried() = default;
  virtual std::unique_ptr<Carried> copy() const = 0;
  /// Forgets one sequence: it begins anew.
  virtual void reset(Index sequence) = 0;
  /// Calls f(numbers) for every array, in a fixed order: for files.
  virtual void for_each(std::function<void(aviary::VecView<T>)> const& f) = 0;
};

/// What a call takes, at most, and how.
struct LearnerOptions {
  Index tokens;         ///< of a batch
  Index sequences = 1;  ///< of a batch
  /// A batch is cut into so many parts of whole sequences, at most, which learn side by side. Bits depend on their number,
  /// never on that of threads.
  Index parts = 8;
  Threads threads = Threads();
  LoadOptions load = {};  ///< what no file stores
};

/// Seconds spent so far, by part.
struct LearningTimes {
  double embedding = 0, forward = 0, head = 0, backward = 0, sums = 0, refresh = 0;
};

template <class T> class Learner {
 public:
  virtual ~Learner() = default;

  struct Call {
    Batch batch;
    std::type_identity_t<T> scale = T(1);  ///< of gradients: 1 / tokens for those of a mean
    Carried<T>* states = nullptr;          ///< before the tokens; become those after. None: sequences begin
    /// With states: the gradients of those after the tokens; become those of the states before.
    Carried<T>* state_gradients = nullptr;
  };

  virtual Index vocab_size() const noexcept = 0;

  /// What begins with every sequence: states, or gradients that are 0. Throws std::runtime_error for a GoldFinch, whose
  /// sequences begin with every batch.
  virtual std::unique_ptr<Carried<T>> make_states(Index sequences) const = 0;
  virtual std::unique_ptr<Carried<T>> make_state_gradients(Index sequences) const = 0;

  /// The loss, and what it adds to the gradients of all weights that learn. Sequences may be longer than memory allows: take
  /// them in stretches with evaluate(), keep a copy of the states before each, then learn() from the last stretch to the
  /// first, with state_gradients handed from call to call.
  /// Throws std::invalid_argument for a batch that is larger than the options say, or a token beyond the vocabulary.
  virtual aviary::Loss learn(Call const& call) = 0;
  /// The loss alone.
  virtual aviary::Loss evaluate(Call const& call) = 0;

  /// Makes the layers of the values that the weights have now.
  virtual void refresh() = 0;

  virtual LearningTimes times() const noexcept = 0;
  /// What it keeps beside the weights and their gradients.
  virtual std::size_t bytes() const = 0;
};

/// The weights of a checkpoint, of a generation that learns, as a learner has them: those of RWKV-5.0 that are stored as
/// logarithms (time_first) become time_faaaa. Throws std::runtime_error with file, tensor, expected and found.
/// @param learns  whether the weight with this name does
template <class T>
WeightStore<T> read_weights(aviary::TensorFile const& file, std::function<bool(std::string_view)> const& learns,
                            LoadOptions const& options = {});

/// A learner of these weights, which must outlive it. Throws std::runtime_error if they are no model's.
template <class T> std::unique_ptr<Learner<T>> make_learner(WeightStore<T>& weights, LearnerOptions const& options);

extern template WeightStore<float> read_weights(aviary::TensorFile const&, std::function<bool(std::string_view)> const&,
                                                LoadOptions const&);
extern template std::unique_ptr<Learner<float>> make_learner(WeightStore<float>&, LearnerOptions const&);

}  // namespace AVIARY_ISA
}  // namespace models
