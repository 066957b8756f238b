#include "support/channel_case.hpp"

#include <cmath>
#include <limits>
#include <utility>

#include "aviary/reference/wkv4.hpp"
#include "support/worst.hpp"

namespace aviary::test {
namespace {

double key(Random& random, Keys keys, double way) {
  switch (keys) {
    case Keys::natural:
      return 2 * random.normal();
    case Keys::strong:
      return random.uniform(-60, 60);
    case Keys::huge:
      return random.uniform(-300, 300);
    case Keys::rising:
      return way + random.normal();
    case Keys::falling:
      return -way + random.normal();
  }
  return 0;
}
double decay(Random& random, Keys keys) {
  if (keys == Keys::natural) return -std::exp(random.normal());
  if (keys == Keys::huge) {
    double const choices[] = {0, -std::numeric_limits<double>::infinity(), -std::exp(40.0), -1e-8, -21, -23, -150};
    return choices[random.below(7)];
  }
  return -std::exp(random.uniform(-12, 5));
}
double bonus(Random& random, Keys keys) {
  if (keys != Keys::huge) return random.normal();
  double const choices[] = {0, 80, -80, 1e4, -1e4, 1e30, -1e20};
  return choices[random.below(7)];
}

}  // namespace

std::string name(Keys keys) {
  switch (keys) {
    case Keys::natural:
      return "natural";
    case Keys::strong:
      return "strong";
    case Keys::huge:
      return "huge";
    case Keys::rising:
      return "rising";
    case Keys::falling:
      return "falling";
  }
  return "?";
}

ChannelCase::ChannelCase(std::uint64_t seed, Index channels_, std::vector<Index> offsets_, Keys keys)
    : channels(channels_), offsets(std::move(offsets_)) {
  Random random(seed);
  for (Index t = 0; t < tokens(); ++t) {
    double const place = static_cast<double>(t) / static_cast<double>(tokens()), way = 600 * place - 300;
    for (Index c = 0; c < channels; ++c) k.push_back(static_cast<float>(key(random, keys, way)));
  }
  v = random.normals<float>(tokens() * channels);
  for (Index c = 0; c < channels; ++c) {
    log_w.push_back(static_cast<float>(decay(random, keys)));
    u.push_back(static_cast<float>(bonus(random, keys)));
  }
  for (Index s = 0; s < sequences(); ++s)
    for (Index c = 0; c < channels; ++c) {
      bool const empty = s % 2 == 0;
      double const weight = random.uniform(0.5, 3);
      bb.push_back(empty ? 0 : static_cast<float>(weight));
      aa.push_back(empty ? 0 : static_cast<float>(weight * random.normal()));
      pp.push_back(empty ? -1e30f : static_cast<float>(key(random, keys, 0)));
    }
}

void ChannelResult::add_state(long double num, long double den, long double exponent) {
  bool const empty = !(den > 0) && den <= 0;
  mean.push_back(static_cast<double>(empty ? 0 : num / den));
  weight.push_back(static_cast<double>(empty ? -1e30L : exponent + std::log(den)));
}

ChannelResult reference_result(ChannelCase const& c) {
  using Number = long double;
  using Numbers = std::vector<Number>;
  auto const take = [](std::vector<float> const& from, Index first, Index n) {
    return Numbers(from.begin() + first, from.begin() + first + n);
  };
  ChannelResult out;
  Index const n = c.channels;
  Numbers const log_w = take(c.log_w, 0, n), u = take(c.u, 0, n);
  for (Index s = 0; s < c.sequences(); ++s) {
    Index const begin = c.offsets[to_size(s)], tokens = c.offsets[to_size(s + 1)] - begin;
    Numbers const k = take(c.k, begin * n, tokens * n), v = take(c.v, begin * n, tokens * n);
    Numbers aa = take(c.aa, s * n, n), bb = take(c.bb, s * n, n), pp = take(c.pp, s * n, n), y(k.size());
    reference::Wkv4<Number>::forward({aa, bb, pp},
                                     {.log_w = log_w, .k = {k.data(), tokens, n}, .v = {v.data(), tokens, n}, .u = u},
                                     {y.data(), tokens, n});
    for (Number const e : y) out.y.push_back(static_cast<double>(e));
    for (std::size_t i = 0; i < to_size(n); ++i) out.add_state(aa[i], bb[i], pp[i]);
  }
  return out;
}

double log_error(std::vector<double> const& x, std::vector<double> const& expected) {
  Worst worst;
  if (x.size() != expected.size()) return worst;
  for (std::size_t i = 0; i < x.size(); ++i) worst.add(std::abs(x[i] - expected[i]));
  return worst;
}

}  // namespace aviary::test
