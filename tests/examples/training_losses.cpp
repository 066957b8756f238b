/// The first steps of training of tiny models, as torch computed them over the published code.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "models/learner.hpp"
#include "support/compare.hpp"
#include "support/plain_rwkv.hpp"
#include "support/training_case.hpp"

using namespace aviary;

namespace {

constexpr test::Version versions[] = {test::Version::v4, test::Version::v5_2, test::Version::v6, test::Version::v7};

/// The mean cross-entropy of a batch, in nats, by the equations in double.
double plain_loss(test::CheckpointCase const& weights, test::TrainingBatch const& batch) {
  double sum = 0;
  for (std::size_t s = 0; s + 1 < batch.offsets.size(); ++s) {
    test::PlainRwkv model(weights);
    for (Index t = batch.offsets[s]; t < batch.offsets[s + 1]; ++t) {
      std::vector<double> const logits = model.step(batch.inputs[to_size(t)]);
      double const most = *std::max_element(logits.begin(), logits.end());
      double total = 0;
      for (double const l : logits) total += std::exp(l - most);
      sum += most + std::log(total) - logits[to_size(batch.targets[to_size(t)])];
    }
  }
  return sum / static_cast<double>(batch.inputs.size());
}

/// The norm of numbers, in double.
double norm(VecView<float const> numbers) {
  double sum = 0;
  for (float const x : numbers) sum += double{x} * double{x};
  return std::sqrt(sum);
}

/// Weights with the moments that AdamW keeps of them.
std::vector<Parameter<float>> parameters_of(models::WeightStore<float> const& weights, double weight_decay,
                                            std::vector<std::vector<float>>& moments) {
  std::vector<Parameter<float>> made;
  for (auto const& e : weights.entries()) {
    moments.push_back(std::vector<float>(to_size(2 * e.values.size())));
    float* const first = moments.back().data();
    made.push_back({.values = e.values,
                    .gradients = e.gradients,
                    .first = {first, e.values.size()},
                    .second = {first + e.values.size(), e.values.size()},
                    .group = parameter_group(e.name, e.is_matrix(), weight_decay)});
  }
  return made;
}

}  // namespace

TEST_CASE("training losses: weights and data are those that torch had") {
  for (test::Version const version : versions) {
    CAPTURE(test::name(version));
    test::TrainingCase const golden(AVIARY_TEST_GOLDEN_DIR, version);
    std::vector<double> const found{plain_loss(golden.weights(), golden.batches().at(0))};
    CHECK(test::max_error(found, std::vector{golden.losses().at(0)}) <= 1e-12);
  }
}

TEST_CASE("training losses: ten steps are those of torch") {
  for (test::Version const version : versions) {
    CAPTURE(test::name(version));
    test::TrainingCase const golden(AVIARY_TEST_GOLDEN_DIR, version);
    test::CheckpointCase const checkpoint = golden.weights();
    auto weights = models::read_weights<float>(checkpoint.file(), [](std::string_view) { return true; });
    std::vector<std::vector<float>> moments;
    auto const parameters = parameters_of(weights, golden.weight_decay(), moments);

    std::vector<double> losses, norms;
    std::vector<test::TrainingBatch> const batches = golden.batches();
    auto const learner =
        models::make_learner(weights, {.tokens = static_cast<Index>(batches[0].inputs.size()),
                                       .sequences = static_cast<Index>(batches[0].offsets.size()) - 1});
    for (test::TrainingBatch const& batch : batches) {
      weights.clear_gradients();
      Loss const loss = learner->learn({.batch = {batch.inputs, batch.targets, batch.offsets},
                                        .scale = 1 / static_cast<float>(batch.inputs.size())});
      losses.push_back(loss.mean());
      if (losses.size() == 1)
        for (auto const& e : weights.entries()) {
          CAPTURE(e.name);
          CHECK(norm(e.gradients) == doctest::Approx(golden.norm(e.name)).epsilon(1e-4));
        }
      Update const update =
          adamw_update<float>(golden.optimizer(), parameters, golden.update(static_cast<Index>(losses.size())));
      REQUIRE(update);
      norms.push_back(update.norm);
      learner->refresh();
    }
    CHECK(test::max_error(losses, golden.losses()) <= 1e-5);
    CHECK(test::max_error(norms, golden.norms()) <= 1e-4);
  }
}
