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

namespace {
using Number = long double;
using Numbers = std::vector<Number>;

/// k, u and log_w beyond +-1e6 count as that.
Number bounded(float x) { return std::clamp(static_cast<Number>(x), Number(-1e6), Number(1e6)); }

/// The numbers of a case, wide enough to be moved a little.
struct WideCase {
  Index channels;
  std::vector<Index> offsets;
  Numbers log_w, k, v, u, aa, bb, pp;

  explicit WideCase(ChannelCase const& c)
      : channels(c.channels),
        offsets(c.offsets),
        k(c.k.begin(), c.k.end()),
        v(c.v.begin(), c.v.end()),
        aa(c.aa.begin(), c.aa.end()),
        bb(c.bb.begin(), c.bb.end()),
        pp(c.pp.begin(), c.pp.end()) {
    for (float const e : c.log_w) log_w.push_back(bounded(e));
    for (float const e : c.u) u.push_back(bounded(e));
  }
  Index sequences() const { return static_cast<Index>(offsets.size()) - 1; }
};

/// Runs all sequences; the states of c become the final ones. f(t, aa, bb, pp) is shown the state before each token.
template <class F> Numbers run_reference(WideCase& c, F&& f) {
  Index const n = c.channels;
  Numbers y(c.k.size());
  auto const row = [&](Numbers& x, Index i) { return VecView<Number>(x.data() + i * n, n); };
  for (Index s = 0; s < c.sequences(); ++s)
    for (Index t = c.offsets[to_size(s)]; t < c.offsets[to_size(s + 1)]; ++t) {
      f(t, row(c.aa, s), row(c.bb, s), row(c.pp, s));
      reference::Wkv4<Number>::step({row(c.aa, s), row(c.bb, s), row(c.pp, s)},
                                    {.log_w = c.log_w, .k = row(c.k, t), .v = row(c.v, t), .u = c.u}, row(y, t));
    }
  return y;
}

Number loss_of(WideCase c, ChannelLoss const& loss) {
  Numbers const y = run_reference(c, [](auto&&...) {});
  Number sum = 0;
  for (std::size_t i = 0; i < y.size(); ++i) sum += y[i] * static_cast<Number>(loss.dy[i]);
  for (std::size_t i = 0; i < c.aa.size(); ++i)
    if (c.bb[i] > 0)
      sum += c.aa[i] / c.bb[i] * static_cast<Number>(loss.dmean[i]) +
             (c.pp[i] + std::log(c.bb[i])) * static_cast<Number>(loss.dweight[i]);
  return sum;
}

}  // namespace

ChannelResult reference_result(ChannelCase const& given) {
  WideCase c(given);
  ChannelResult out;
  for (Number const e : run_reference(c, [](auto&&...) {})) out.y.push_back(static_cast<double>(e));
  for (std::size_t i = 0; i < c.aa.size(); ++i) out.add_state(c.aa[i], c.bb[i], c.pp[i]);
  return out;
}

ChannelLoss::ChannelLoss(std::uint64_t seed, ChannelCase const& c) {
  Random random(seed);
  dy = random.normals<float>(c.tokens() * c.channels);
  dmean = random.normals<float>(c.sequences() * c.channels);
  dweight = random.normals<float>(c.sequences() * c.channels);
}

long double channel_unit(ChannelCase const& c, Index sequence, Index channel) {
  std::size_t const at = to_size(sequence * c.channels + channel), here = to_size(channel);
  if (c.bb[at] > 0) return static_cast<Number>(c.pp[at]) + std::log(static_cast<Number>(c.bb[at]));
  Index const first = c.offsets[to_size(sequence)];
  if (first == c.offsets[to_size(sequence + 1)]) return 0;
  return static_cast<Number>(c.k[to_size(first * c.channels + channel)]) +
         std::min(bounded(c.u[here]), -bounded(c.log_w[here]));
}

ChannelGradients reference_gradients(ChannelCase const& given, ChannelLoss const& loss) {
  WideCase c(given);
  Numbers aa, bb, pp;  // before each token
  Numbers const y = run_reference(c, [&](Index, auto const& a, auto const& b, auto const& p) {
    aa.insert(aa.end(), a.data(), a.data() + a.size());
    bb.insert(bb.end(), b.data(), b.data() + b.size());
    pp.insert(pp.end(), p.data(), p.data() + p.size());
  });
  std::size_t const n = to_size(c.channels);
  Numbers dlog_w(n), du(n), dk(c.k.size()), dv(c.k.size());
  ChannelGradients out;
  for (Index s = 0; s < c.sequences(); ++s)
    for (std::size_t i = 0; i < n; ++i) {
      std::size_t const last = to_size(s) * n + i;
      Number gn = 0, gd = 0, o = -1e30L;  // gradients of the true sums are gn e^o, gd e^o
      if (c.bb[last] > 0) {
        gn = static_cast<Number>(loss.dmean[last]) / c.bb[last];
        gd = static_cast<Number>(loss.dweight[last]) / c.bb[last] - gn * c.aa[last] / c.bb[last];
        o = -c.pp[last];
      }
      for (Index t = c.offsets[to_size(s + 1)] - 1; t >= c.offsets[to_size(s)]; --t) {
        std::size_t const at = to_size(t) * n + i;
        Number const k = c.k[at], v = c.v[at], u = c.u[i], log_w = c.log_w[i], m = std::max(pp[at], u + k),
                     e1 = std::exp(pp[at] - m), e2 = std::exp(u + k - m), d = e1 * bb[at] + e2,
                     dy = static_cast<Number>(loss.dy[at]) / d;
        Number const past = dy * e2 * (v * e1 * bb[at] - e1 * aa[at]) / d, h = std::exp(k + o);
        dk[at] = past + h * (gn * v + gd);
        dv[at] = dy * e2 + h * gn;
        du[i] += past;
        dlog_w[i] += std::exp(log_w + o + pp[at]) * (gn * aa[at] + gd * bb[at]);
        Number const next = std::max(log_w + o, -m), s1 = std::exp(log_w + o - next), s2 = std::exp(-m - next);
        gn = s1 * gn + s2 * dy;
        gd = s1 * gd - s2 * dy * y[at];
        o = next;
      }
      Number const scale = std::exp(o + channel_unit(given, s, static_cast<Index>(i)));
      out.num.push_back(static_cast<double>(gn * scale));
      out.den.push_back(static_cast<double>(gd * scale));
    }
  out.log_w.assign(dlog_w.begin(), dlog_w.end());
  out.k.assign(dk.begin(), dk.end());
  out.v.assign(dv.begin(), dv.end());
  out.u.assign(du.begin(), du.end());
  return out;
}

ChannelGradients difference_gradients(ChannelCase const& given, ChannelLoss const& loss) {
  WideCase c(given);
  auto const difference = [&](Number& x, Number scale) {
    Number const before = x, by = 1e-5L * scale;
    x = before + by;
    Number const above = loss_of(c, loss);
    x = before - by;
    Number const below = loss_of(c, loss);
    x = before;
    return static_cast<double>((above - below) / 2e-5L);
  };
  auto const of = [&](Numbers& all) {
    std::vector<double> out;
    for (Number& x : all) out.push_back(difference(x, 1));
    return out;
  };
  ChannelGradients out{of(c.log_w), of(c.k), of(c.v), of(c.u), {}, {}};
  for (Index s = 0; s < c.sequences(); ++s)
    for (Index i = 0; i < c.channels; ++i) {
      std::size_t const at = to_size(s * c.channels + i);
      bool const nothing = c.bb[at] <= 0 && c.offsets[to_size(s)] == c.offsets[to_size(s + 1)];
      if (nothing) {
        out.num.push_back(0);
        out.den.push_back(0);
        continue;
      }
      if (c.bb[at] <= 0) c.pp[at] = channel_unit(given, s, i);  // which empty sums may have
      Number const unit = std::exp(channel_unit(given, s, i) - c.pp[at]);
      out.num.push_back(difference(c.aa[at], unit));
      out.den.push_back(difference(c.bb[at], unit));
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
