#include "models/sampling.hpp"

#include <doctest/doctest.h>

#include <map>

#include "support/allocation_counter.hpp"
#include "support/random.hpp"
#include "support/temporary_folder.hpp"

using models::Sampler;
using models::SamplingOptions;
using models::TokenId;

namespace {

/// How often each token comes in n draws.
std::map<TokenId, int> count(SamplingOptions options, std::vector<float> const& logits, int n, std::uint64_t seed = 1) {
  Sampler sample(options, seed);
  std::map<TokenId, int> counts;
  for (int i = 0; i < n; ++i) ++counts[sample(logits)];
  return counts;
}

/// Logits of given probabilities.
std::vector<float> logits_of(std::vector<double> const& p) {
  std::vector<float> logits;
  for (double const x : p) logits.push_back(static_cast<float>(std::log(x)) + 3);
  return logits;
}

/// Draws agree with probabilities within five standard deviations.
void check_frequencies(SamplingOptions options, std::vector<float> const& logits, std::vector<double> const& p) {
  int const n = 20000;
  auto const counts = count(options, logits, n);
  for (std::size_t i = 0; i < p.size(); ++i) {
    auto const found = counts.find(static_cast<TokenId>(i));
    double const times = found == counts.end() ? 0 : found->second;
    CAPTURE(i);
    CHECK(std::abs(times - n * p[i]) <= 5 * std::sqrt(n * p[i] * (1 - p[i])));
  }
}

float const infinity = std::numeric_limits<float>::infinity();

}  // namespace

TEST_CASE("sampling: draws have the probabilities of the softmax") {
  check_frequencies({}, logits_of({0.5, 0.25, 0.125, 0.125}), {0.5, 0.25, 0.125, 0.125});
  check_frequencies({}, {-infinity, 0, -infinity, 0}, {0, 0.5, 0, 0.5});
}

TEST_CASE("sampling: temperature acts on what the filter leaves") {
  // p^(1/2) of 0.64, 0.32, 0.04 is 0.8, 0.566, 0.2
  double const sum = 0.8 + std::sqrt(0.32) + 0.2;
  check_frequencies({.temperature = 2}, logits_of({0.64, 0.32, 0.04}), {0.8 / sum, std::sqrt(0.32) / sum, 0.2 / sum});
  double const kept = 0.8 + std::sqrt(0.32);
  check_frequencies({.temperature = 2, .top_p = 0.9}, logits_of({0.64, 0.32, 0.04}),
                    {0.8 / kept, std::sqrt(0.32) / kept, 0});
}

TEST_CASE("sampling: temperature 0 takes the largest, and any of several equal ones") {
  CHECK(count({.temperature = 0}, {1, 5, 3, 2}, 100) == std::map<TokenId, int>{{1, 100}});
  check_frequencies({.temperature = 0}, {1, 5, 5, 2}, {0, 0.5, 0.5, 0});
  CHECK(count({.temperature = 0, .top_p = 1, .top_k = 1}, {1, 5, 5, 2}, 100) == std::map<TokenId, int>{{1, 100}});
}

TEST_CASE("sampling: a tiny temperature is as 0, a huge one is fair") {
  CHECK(count({.temperature = 1e-300}, {1, 5, 4.999f, 2}, 100) == std::map<TokenId, int>{{1, 100}});
  CHECK(count({.temperature = 5e-324}, {1, 5, 5, 2}, 1000).size() == 2);
  check_frequencies({.temperature = 1e300}, {1, 50, -80, 2}, {0.25, 0.25, 0.25, 0.25});
}

TEST_CASE("sampling: top-p keeps up to the token that reaches it, and its equals") {
  auto const logits = logits_of({0.1, 0.4, 0.3, 0.2});
  CHECK(count({.top_p = 0.39}, logits, 2000).size() == 1);
  check_frequencies({.top_p = 0.41}, logits, {0, 4 / 7.0, 3 / 7.0, 0});
  check_frequencies({.top_p = 0.71}, logits, {0, 4 / 9.0, 3 / 9.0, 2 / 9.0});
  CHECK(count({.top_p = 0.91}, logits, 2000).size() == 4);
  check_frequencies({.top_p = 0.3}, logits_of({0.25, 0.25, 0.25, 0.25}), {0.25, 0.25, 0.25, 0.25});
  check_frequencies({.top_p = 1}, logits, {0.1, 0.4, 0.3, 0.2});
}

TEST_CASE("sampling: a top-p that rounding never reaches keeps everything") {
  std::vector<float> logits(1000, 0.f);  // 1000 times 1/1000
  logits[3] = 0.001f;
  double const nearly = std::nextafter(1.0, 0.0);
  CHECK(count({.top_p = nearly}, logits, 5000).size() > 900);  // e^-5 of them are never drawn
}

TEST_CASE("sampling: top-k keeps exactly k, earlier ones among equals") {
  auto const logits = logits_of({0.1, 0.4, 0.3, 0.2});
  check_frequencies({.top_k = 2}, logits, {0, 4 / 7.0, 3 / 7.0, 0});
  check_frequencies({.top_k = 4}, logits, {0.1, 0.4, 0.3, 0.2});
  check_frequencies({.top_k = 9}, logits, {0.1, 0.4, 0.3, 0.2});
  check_frequencies({.top_k = 3}, {1, 1, 1, 1, 1}, {1 / 3.0, 1 / 3.0, 1 / 3.0, 0, 0});
  check_frequencies({.top_p = 0.5, .top_k = 3}, logits, {0, 4 / 7.0, 3 / 7.0, 0});
}

TEST_CASE("sampling: what a full sort keeps, and no other token") {
  aviary::test::Random random(5);
  for (double const spread : {0.1, 2.0, 8.0})
    for (double const top_p : {1e-9, 0.3, 0.85, 0.999, 1 - 1e-9}) {
      auto const logits = random.normals<float>(200, spread);
      std::vector<std::pair<double, TokenId>> sorted;
      double total = 0, sum = 0;
      for (std::size_t i = 0; i < logits.size(); ++i)
        sorted.emplace_back(std::exp(double{logits[i]}), static_cast<TokenId>(i)), total += sorted.back().first;
      std::sort(sorted.rbegin(), sorted.rend());
      std::map<TokenId, double> kept;
      for (auto const& [p, token] : sorted) {
        kept[token] = p;
        if ((sum += p) >= top_p * total) break;
      }
      std::vector<double> p(logits.size());
      for (auto const& entry : kept) p[static_cast<std::size_t>(entry.first)] = entry.second / sum;
      check_frequencies({.top_p = top_p}, logits, p);  // what has none is never drawn
    }
}

TEST_CASE("sampling: nothing is allocated after the first token") {
  aviary::test::Random random(6);
  auto const flat = random.normals<float>(3000, 0.01), sharp = random.normals<float>(3000, 20);
  for (SamplingOptions const options : {SamplingOptions{}, {.temperature = 0}, {.top_p = 0.9}, {.top_k = 40}}) {
    Sampler sample(options);
    sample(sharp);  // keeps few
    aviary::test::AllocationCounter const allocations;
    sample(flat);
    sample(sharp);
    CHECK(allocations.count() == 0);
  }
}

TEST_CASE("sampling: equal seeds give equal tokens, others do not") {
  aviary::test::Random random(1);
  auto const logits = random.normals<float>(500);
  auto const draw = [&](std::uint64_t seed) {
    Sampler sample({.temperature = 1, .top_p = 0.9}, seed);
    std::vector<TokenId> tokens;
    for (int i = 0; i < 50; ++i) tokens.push_back(sample(logits));
    return tokens;
  };
  CHECK(draw(7) == draw(7));
  CHECK(draw(7) != draw(8));

  Sampler sample({}, 7);
  auto const again = [&] {
    sample.seed(9);
    std::vector<TokenId> tokens;
    for (int i = 0; i < 50; ++i) tokens.push_back(sample(logits));
    return tokens;
  };
  auto const first = again();
  CHECK(again() == first);
}

TEST_CASE("sampling: infinite and extreme logits") {
  check_frequencies({}, {1, infinity, infinity, -infinity}, {0, 0.5, 0.5, 0});
  check_frequencies({.top_p = 0.5}, {1, infinity, infinity, -infinity}, {0, 0.5, 0.5, 0});
  CHECK(count({}, {-3e38f, 3e38f}, 100) == std::map<TokenId, int>{{1, 100}});
  CHECK(count({}, {-3e38f}, 10) == std::map<TokenId, int>{{0, 10}});
}

TEST_CASE("sampling: logits without a distribution and options out of range are refused") {
  using aviary::test::message_of;
  float const nan = std::numeric_limits<float>::quiet_NaN();
  for (SamplingOptions const options : {SamplingOptions{}, {.temperature = 0}, {.top_p = 0.5}}) {
    CHECK(message_of([&] { count(options, {1, nan}, 1); }) == "a logit is not a number");
    CHECK(message_of([&] { count(options, {-infinity, -infinity}, 1); }) == "no token has a logit above -infinity");
    CHECK(message_of([&] { count(options, {}, 1); }) == "no token has a logit above -infinity");
  }
  auto const refused = [](SamplingOptions options) {
    return message_of<std::invalid_argument>([&] { Sampler{options}; });
  };
  CHECK(refused({.temperature = -1}) == "expected a temperature of at least 0, found -1.000000");
  CHECK(refused({.temperature = nan}) == "expected a temperature of at least 0, found nan");
  CHECK(refused({.top_p = 0}) == "expected top-p above 0 and at most 1, found 0.000000");
  CHECK(refused({.top_p = 1.5}) == "expected top-p above 0 and at most 1, found 1.500000");
  CHECK(refused({.top_k = -1}) == "expected top-k of at least 0, found -1.000000");
}
