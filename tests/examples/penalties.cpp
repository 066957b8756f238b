#include "models/penalties.hpp"

#include <doctest/doctest.h>

#include <map>

#include "models/sampling.hpp"
#include "support/allocation_counter.hpp"
#include "support/random.hpp"
#include "support/temporary_folder.hpp"

using models::Index;
using models::Penalties;
using models::PenaltyOptions;
using models::TokenId;

namespace {

using Map = std::map<TokenId, double>;

Map all_of(Penalties const& penalties) {
  Map all;
  penalties.for_each([&](TokenId token, double penalty) { CHECK(all.emplace(token, penalty).second); });
  return all;
}

/// The same, word for word, over a history of draws: what the published loop computes.
Map plain(PenaltyOptions const& o, std::vector<std::pair<TokenId, bool>> const& draws) {
  Map counts;
  for (auto const& [token, counted] : draws) {
    for (auto& entry : counts) entry.second *= o.decay;
    counts[token] += counted ? 1 : 0;
  }
  for (auto& entry : counts) entry.second = o.presence + o.frequency * entry.second;
  return counts;
}

}  // namespace

TEST_CASE("penalties: those of the published loop, for any history") {
  aviary::test::Random random(1);
  for (PenaltyOptions const& options :
       {PenaltyOptions{.presence = 0.2, .frequency = 0.2}, PenaltyOptions{.frequency = 0.5, .decay = 0.9},
        PenaltyOptions{.presence = -1.5, .decay = 0}, PenaltyOptions{.presence = 1, .frequency = -0.25, .decay = 1}}) {
    Penalties penalties(options, 30);
    for (int reply = 0; reply < 3; ++reply) {
      std::vector<std::pair<TokenId, bool>> draws;
      CHECK(all_of(penalties).empty());
      for (int i = 0; i < 200; ++i) {
        draws.push_back({static_cast<TokenId>(random.below(30)), random.below(4) > 0});
        penalties.note(draws.back().first, draws.back().second);
        CHECK(all_of(penalties) == plain(options, draws));
      }
      penalties.clear();
    }
  }
}

TEST_CASE("penalties: a logit loses its token's penalty before anything else") {
  Penalties penalties({.presence = 1, .frequency = 0.5, .decay = 1}, 3);
  penalties.note(1, true);
  penalties.note(1, true);
  penalties.note(2, false);
  // logits 0, 3 - 1 - 2 * 0.5, 1.5 - 1:  greedy takes 1, and 0 once 1 has lost another 0.5 three times
  std::vector<float> const logits{0, 3, 1.5f};
  models::Sampler greedy({.temperature = 0});
  CHECK(greedy(logits, penalties) == 1);
  for (int i = 0; i < 2; ++i) penalties.note(1, true);
  CHECK(greedy(logits, penalties) == 2);
  CHECK(greedy(logits) == 1);
  penalties.clear();
  CHECK(greedy(logits, penalties) == 1);
}

TEST_CASE("penalties: draws have the probabilities of the logits that are left") {
  Penalties penalties({.presence = 0.7, .frequency = 0.1, .decay = 1}, 2);
  penalties.note(0, true);  // exp(-0.8) against 1
  models::Sampler sample({}, 3);
  int const n = 20000;
  double const p = std::exp(-0.8) / (std::exp(-0.8) + 1);
  int zeros = 0;
  for (int i = 0; i < n; ++i) zeros += sample(std::vector<float>{5, 5}, penalties) == 0;
  CHECK(std::abs(zeros - n * p) <= 5 * std::sqrt(n * p * (1 - p)));
}

TEST_CASE("penalties: infinite logits stay as they are") {
  float const infinity = std::numeric_limits<float>::infinity();
  Penalties penalties({.presence = 3e38, .frequency = 3e38, .decay = 1}, 3);
  for (int i = 0; i < 1000; ++i) penalties.note(0, true);
  models::Sampler sample;
  CHECK(sample(std::vector<float>{infinity, 1, -infinity}, penalties) == 0);
  CHECK(sample(std::vector<float>{1, 1, -infinity}, penalties) == 1);
}

TEST_CASE("penalties: what is a piece of blanks and digits is not counted") {
  for (char const* piece : {" ", "\t", "0", "7", " \t", "\t0", "123", "0123456789", ""})
    CHECK(!models::is_counted(piece));
  for (char const* piece : {"a", "21", "00", "  ", "\n", " 1", "1.5", "\xff"}) CHECK(models::is_counted(piece));
}

TEST_CASE("penalties: without them nothing is noted, with them nothing is allocated") {
  Penalties none, zero({.presence = 0, .frequency = 0}, 10);
  for (Penalties* const penalties : {&none, &zero}) {
    penalties->note(3, true);
    penalties->clear();
    CHECK(all_of(*penalties).empty());
  }
  Penalties penalties({.presence = 1}, 1000);
  aviary::test::AllocationCounter const allocations;
  for (TokenId token = 0; token < 1000; ++token) penalties.note(token, true);
  penalties.clear();
  penalties.note(999, false);
  CHECK(allocations.count() == 0);
}

TEST_CASE("penalties: options out of range are refused") {
  auto const refused = [](PenaltyOptions options) {
    return aviary::test::message_of<std::invalid_argument>([&] { Penalties(options, 10); });
  };
  double const nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(refused({.presence = nan}) == "expected a finite penalty, found nan");
  CHECK(refused({.frequency = -1e39}).starts_with("expected a finite penalty, found -99999"));
  CHECK(refused({.decay = 1.5}) == "expected a decay of penalties from 0 to 1, found 1.500000");
  CHECK(refused({.decay = -0.5}) == "expected a decay of penalties from 0 to 1, found -0.500000");
  CHECK(refused({.decay = nan}) == "expected a decay of penalties from 0 to 1, found nan");
}
