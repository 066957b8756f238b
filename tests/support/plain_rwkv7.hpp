#pragma once
/// RWKV-7 as its equations say it, in double, one token at a time, with loops and nothing of the library.
#include <cmath>
#include <string>
#include <vector>

#include "support/checkpoint_case.hpp"

namespace aviary::test {

class PlainRwkv7 {
 public:
  using Vector = std::vector<double>;

  struct Layer {
    Vector att_x, ffn_x, s;  ///< s: (heads, value, key)
  };

  explicit PlainRwkv7(CheckpointCase const& weights, double group_norm_eps = 64e-5)
      : w_(weights),
        eps_(group_norm_eps),
        channels_(weights.size("emb.weight", 1)),
        heads_(weights.size("blocks.0.att.r_k", 0)),
        size_(weights.size("blocks.0.att.r_k", 1)) {
    while (w_.tensors.contains(name(static_cast<Index>(layers_.size()), "ln1.weight")))
      layers_.push_back({Vector(n(channels_)), Vector(n(channels_)), Vector(n(heads_ * size_ * size_))});
  }

  std::vector<Layer> const& layers() const { return layers_; }

  /// The logits after the token.
  Vector step(Index token) {
    Vector x;
    for (Index i = 0; i < channels_; ++i) x.push_back(w_["emb.weight"][n(token * channels_ + i)]);
    x = norm(x, "blocks.0.ln0", 1, 1e-5);
    Vector v_first;
    for (Index i = 0; i < static_cast<Index>(layers_.size()); ++i) {
      x = sum(x, time_mix(i, norm(x, name(i, "ln1"), 1, 1e-5), v_first));
      x = sum(x, channel_mix(i, norm(x, name(i, "ln2"), 1, 1e-5)));
    }
    return multiply("head.weight", norm(x, "ln_out", 1, 1e-5));
  }

 private:
  static std::size_t n(Index i) { return static_cast<std::size_t>(i); }
  static std::string name(Index layer, std::string const& rest) {
    return "blocks." + std::to_string(layer) + "." + rest;
  }
  static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
  static Vector sum(Vector a, Vector const& b) {
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
  }

  Vector norm(Vector x, std::string const& which, Index groups, double eps) const {
    Index const size = static_cast<Index>(x.size()) / groups;
    for (Index g = 0; g < groups; ++g) {
      double mean = 0, square = 0;
      for (Index i = g * size; i < (g + 1) * size; ++i) mean += x[n(i)] / static_cast<double>(size);
      for (Index i = g * size; i < (g + 1) * size; ++i) square += (x[n(i)] - mean) * (x[n(i)] - mean);
      for (Index i = g * size; i < (g + 1) * size; ++i)
        x[n(i)] = (x[n(i)] - mean) / std::sqrt(square / static_cast<double>(size) + eps) *
                      static_cast<double>(w_[which + ".weight"][n(i)]) +
                  static_cast<double>(w_[which + ".bias"][n(i)]);
    }
    return x;
  }
  /// W x
  Vector multiply(std::string const& weight, Vector const& x) const {
    Vector y(n(w_.size(weight, 0)));
    for (std::size_t o = 0; o < y.size(); ++o)
      for (std::size_t i = 0; i < x.size(); ++i) y[o] += static_cast<double>(w_[weight][o * x.size() + i]) * x[i];
    return y;
  }
  /// x W of a row vector
  Vector from_left(Vector const& x, std::string const& weight) const {
    Vector y(n(w_.size(weight, 1)));
    for (std::size_t i = 0; i < x.size(); ++i)
      for (std::size_t o = 0; o < y.size(); ++o) y[o] += x[i] * static_cast<double>(w_[weight][i * y.size() + o]);
    return y;
  }
  Vector shift(Vector const& x, Vector const& before, std::string const& mix) const {
    Vector y;
    for (std::size_t i = 0; i < x.size(); ++i) y.push_back(x[i] + (before[i] - x[i]) * static_cast<double>(w_[mix][i]));
    return y;
  }

  Vector time_mix(Index layer, Vector const& x, Vector& v_first) {
    Layer& state = layers_[n(layer)];
    auto const weight = [&](std::string const& which) { return name(layer, "att." + which); };
    auto const at = [&](std::string const& which, Index i) { return static_cast<double>(w_[weight(which)][n(i)]); };
    auto const shifted = [&](std::string const& which) { return shift(x, state.att_x, weight("x_" + which)); };
    Vector const r = multiply(weight("receptance.weight"), shifted("r"));
    Vector k = multiply(weight("key.weight"), shifted("k")), v = multiply(weight("value.weight"), shifted("v"));
    Vector hidden = from_left(shifted("w"), weight("w1"));
    for (double& h : hidden) h = std::tanh(h);
    Vector decay = from_left(hidden, weight("w2"));
    Vector rate = from_left(from_left(shifted("a"), weight("a1")), weight("a2"));
    hidden = from_left(shifted("g"), weight("g1"));
    for (double& h : hidden) h = sigmoid(h);
    Vector const g = from_left(hidden, weight("g2"));
    Vector const residual = layer == 0 ? v : from_left(from_left(shifted("v"), weight("v1")), weight("v2"));
    if (layer == 0) v_first = v;
    state.att_x = x;

    Index const a = heads_ * size_;
    Vector removal = k;
    for (Index i = 0; i < a; ++i) {
      decay[n(i)] = std::exp(-std::exp(-0.5) * sigmoid(at("w0", i) + decay[n(i)]));
      rate[n(i)] = sigmoid(at("a0", i) + rate[n(i)]);
      if (layer > 0) v[n(i)] += (v_first[n(i)] - v[n(i)]) * sigmoid(at("v0", i) + residual[n(i)]);
      removal[n(i)] *= at("k_k", i);
      k[n(i)] *= 1 + (rate[n(i)] - 1) * at("k_a", i);
    }
    Vector y(n(a));
    for (Index h = 0; h < heads_; ++h)
      step_head(state.s.data() + h * size_ * size_, h, r, decay, k, v, removal, rate, y);
    y = norm(y, weight("ln_x"), heads_, eps_);
    for (Index h = 0; h < heads_; ++h) {
      double bonus = 0;
      for (Index i = h * size_; i < (h + 1) * size_; ++i) bonus += r[n(i)] * k[n(i)] * at("r_k", i);
      for (Index i = h * size_; i < (h + 1) * size_; ++i) y[n(i)] = (y[n(i)] + bonus * v[n(i)]) * g[n(i)];
    }
    return multiply(weight("output.weight"), y);
  }

  /// S' = S diag(w) - (S kappa_hat)(a kappa_hat)^T + v k^T,  y = S' r
  void step_head(double* s, Index h, Vector const& r, Vector const& decay, Vector const& k, Vector const& v,
                 Vector const& removal, Vector const& rate, Vector& y) const {
    Index const first = h * size_;
    double length = 0;
    for (Index j = 0; j < size_; ++j) length += removal[n(first + j)] * removal[n(first + j)];
    length = std::max(std::sqrt(length), 1e-12);
    for (Index i = 0; i < size_; ++i, s += size_) {
      double probe = 0;
      for (Index j = 0; j < size_; ++j) probe += s[j] * removal[n(first + j)] / length;
      for (Index j = 0; j < size_; ++j) {
        std::size_t const at = n(first + j);
        s[j] = s[j] * decay[at] - probe * rate[at] * removal[at] / length + v[n(first + i)] * k[at];
        y[n(first + i)] += s[j] * r[at];
      }
    }
  }

  Vector channel_mix(Index layer, Vector const& x) {
    Vector hidden = multiply(name(layer, "ffn.key.weight"), shift(x, layers_[n(layer)].ffn_x, name(layer, "ffn.x_k")));
    for (double& h : hidden) h = h > 0 ? h * h : 0;
    layers_[n(layer)].ffn_x = x;
    return multiply(name(layer, "ffn.value.weight"), hidden);
  }

  CheckpointCase const& w_;
  double eps_;
  Index channels_, heads_, size_;
  std::vector<Layer> layers_;
};

}  // namespace aviary::test
