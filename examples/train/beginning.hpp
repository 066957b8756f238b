#pragma once
/// What a run begins with: text and weights.
#include "models/weight_store.hpp"
#include "train/arguments.hpp"
#include "train/corpus.hpp"

namespace train {

using Weights = models::WeightStore<float>;

/// What is learned, and what is only measured.
struct Texts {
  Corpus learned, held_out;
};

struct Beginning {
  Texts texts;
  Weights weights;
};

/// Refuses to write over what is read, and finds out whether the files can be written: better before all the work.
void check_targets(Request const& r);

/// Reads texts and a model, or makes one. Throws UsageError for sizes that a new model cannot have and for states that a model
/// cannot carry, std::runtime_error for files that cannot be learned from.
Beginning beginning_of(Request const& r);

/// What no file stores.
models::LoadOptions load_options(Request const& r);

}  // namespace train
