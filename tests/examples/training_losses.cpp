/// The first steps of training of tiny models, as torch computed them over the published code.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "support/compare.hpp"
#include "support/plain_rwkv.hpp"
#include "support/training_case.hpp"

using namespace aviary;

namespace {

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

}  // namespace

TEST_CASE("training losses: weights and data are those that torch had") {
  for (test::Version const version : {test::Version::v4, test::Version::v5_2, test::Version::v6, test::Version::v7}) {
    CAPTURE(test::name(version));
    test::TrainingCase const golden(AVIARY_TEST_GOLDEN_DIR, version);
    std::vector<double> const found{plain_loss(golden.weights(), golden.batches().at(0))};
    CHECK(test::max_error(found, std::vector{golden.losses().at(0)}) <= 1e-12);
  }
}
