#pragma once
/// RWKV-4 to RWKV-7 as their equations say, in double, one token at a time. It is made of loops and shares nothing with the
/// library.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "support/checkpoint_case.hpp"

namespace aviary::test {

class PlainRwkv {
 public:
  using Vector = std::vector<double>;

  struct Layer {
    Vector att_x, ffn_x;
    Vector s;  ///< (heads, value, key); RWKV-4: sums of values, of weights, and the exponent of both, (3, channel)
  };

  /// Refers to the weights, whose names tell the generation.
  explicit PlainRwkv(CheckpointCase const& weights, double group_norm_eps = 64e-5)
      : w_(weights), eps_(group_norm_eps), channels_(weights.size("emb.weight", 1)) {
    Index const inner = w_.size("blocks.0.att.key.weight", 0);
    version_ = version();
    if (version_ > 4)
      heads_ = w_.size("blocks.0.att." + std::string(version_ == 7   ? "r_k"
                                                     : version_ == 6 ? "time_faaaa"
                                                                     : "time_decay"),
                       0);
    size_ = inner / heads_;
    while (w_.tensors.contains(name(static_cast<Index>(layers_.size()), "ln1.weight")))
      layers_.push_back({Vector(n(channels_)), Vector(n(channels_)), first_state(static_cast<Index>(layers_.size()))});
  }

  std::vector<Layer> const& layers() const { return layers_; }

  /// The logits after the token.
  Vector step(Index token) {
    Vector x;
    for (Index i = 0; i < channels_; ++i) x.push_back(w_["emb.weight"][n(token * channels_ + i)]);
    x = norm(x, "blocks.0.ln0", 1, 1e-5);
    for (Index i = 0; i < static_cast<Index>(layers_.size()); ++i) {
      x = sum(x, time_mix(i, norm(x, name(i, "ln1"), 1, 1e-5)));
      x = sum(x, channel_mix(i, norm(x, name(i, "ln2"), 1, 1e-5)));
    }
    return multiply("head.weight", norm(x, "ln_out", 1, 1e-5));
  }

  /// What the time mix of a layer makes of its next input. In RWKV-7 that of layer 0 goes first.
  Vector time_mix(Index layer, Vector const& x) {
    Vector const y = version_ == 4   ? time_mix4(layer, x)
                     : version_ == 5 ? time_mix5(layer, x)
                     : version_ == 6 ? time_mix6(layer, x)
                                     : time_mix7(layer, x);
    layers_[n(layer)].att_x = x;
    return multiply(name(layer, "att.output.weight"), y);
  }

 private:
  static std::size_t n(Index i) { return static_cast<std::size_t>(i); }
  static std::string name(Index layer, std::string const& rest) {
    return "blocks." + std::to_string(layer) + "." + rest;
  }
  static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
  static double silu(double x) { return x * sigmoid(x); }
  static Vector sum(Vector a, Vector const& b) {
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
  }
  template <class F> static Vector each(Vector x, F&& f) {
    for (double& e : x) e = f(e);
    return x;
  }
  static double tanh(double x) { return std::tanh(x); }

  bool has(std::string const& tensor) const { return w_.tensors.contains(tensor); }
  int version() const {
    if (has("blocks.0.att.r_k")) return 7;
    if (has("blocks.0.att.time_maa_x")) return 6;
    return has("blocks.0.att.ln_x.weight") ? 5 : 4;
  }
  Vector first_state(Index layer) const {
    if (version_ == 4) {
      Vector s(n(3 * size_));
      std::fill(s.begin() + 2 * size_, s.end(), -1e30);
      return s;
    }
    if (!has(name(layer, "att.time_state"))) return Vector(n(heads_ * size_ * size_));
    auto const& stored = w_[name(layer, "att.time_state")];
    return {stored.begin(), stored.end()};
  }
  Vector weight(std::string const& tensor) const { return {w_[tensor].begin(), w_[tensor].end()}; }

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
    auto const& w = w_[weight];
    Vector y(n(w_.size(weight, 0)));
    for (std::size_t o = 0; o < y.size(); ++o)
      for (std::size_t i = 0; i < x.size(); ++i) y[o] += static_cast<double>(w[o * x.size() + i]) * x[i];
    return y;
  }
  /// x W of a row vector
  Vector from_left(Vector const& x, std::string const& weight) const {
    auto const& w = w_[weight];
    Vector y(n(w_.size(weight, 1)));
    for (std::size_t i = 0; i < x.size(); ++i)
      for (std::size_t o = 0; o < y.size(); ++o) y[o] += x[i] * static_cast<double>(w[i * y.size() + o]);
    return y;
  }
  /// Between an input and the one before. RWKV-4 and 5 store what is taken of the input, later models the rest.
  Vector shift(Vector const& x, Vector const& before, Vector const& mix) const {
    Vector y;
    for (std::size_t i = 0; i < x.size(); ++i) {
      double const previous = version_ < 6 ? 1 - mix[i] : mix[i];
      y.push_back(x[i] * (1 - previous) + before[i] * previous);
    }
    return y;
  }
  Vector shift(Vector const& x, Vector const& before, std::string const& mix) const {
    return shift(x, before, weight(mix));
  }

  Vector time_mix4(Index layer, Vector const& x) {
    auto const project = [&](std::string const& matrix, std::string const& mix) {
      return multiply(name(layer, "att." + matrix),
                      shift(x, layers_[n(layer)].att_x, name(layer, "att.time_mix_" + mix)));
    };
    Vector const r = project("receptance.weight", "r"), k = project("key.weight", "k"),
                 v = project("value.weight", "v");
    Vector const decay = weight(name(layer, "att.time_decay")), u = weight(name(layer, "att.time_first"));
    Vector y;
    for (Index i = 0; i < size_; ++i) {
      double* const s = layers_[n(layer)].s.data() + i;
      double &aa = s[0], &bb = s[size_], &pp = s[2 * size_];
      double most = std::max(pp, u[n(i)] + k[n(i)]);
      double e1 = std::exp(pp - most), e2 = std::exp(u[n(i)] + k[n(i)] - most);
      y.push_back(sigmoid(r[n(i)]) * (e1 * aa + e2 * v[n(i)]) / (e1 * bb + e2));
      double const decayed = pp - std::exp(decay[n(i)]);
      most = std::max(decayed, k[n(i)]);
      e1 = std::exp(decayed - most);
      e2 = std::exp(k[n(i)] - most);
      aa = e1 * aa + e2 * v[n(i)];
      bb = e1 * bb + e2;
      pp = most;
    }
    return y;
  }

  Vector time_mix5(Index layer, Vector const& x) {
    auto const project = [&](std::string const& matrix, std::string const& mix) {
      return multiply(name(layer, "att." + matrix),
                      shift(x, layers_[n(layer)].att_x, name(layer, "att.time_mix_" + mix)));
    };
    /// N numbers for each head
    auto const spread = [&](Vector const& constants) {
      if (static_cast<Index>(constants.size()) > heads_) return constants;
      Vector y;
      for (double const e : constants) y.insert(y.end(), n(size_), e);
      return y;
    };
    bool const is_logarithm = has(name(layer, "att.time_first"));
    Vector u = spread(weight(name(layer, is_logarithm ? "att.time_first" : "att.time_faaaa")));
    if (is_logarithm) u = each(u, [](double e) { return std::exp(e); });
    Vector const decay =
        each(spread(weight(name(layer, "att.time_decay"))), [](double e) { return std::exp(-std::exp(e)); });
    Vector const y = wkv6(layer, project("receptance.weight", "r"), decay, project("key.weight", "k"),
                          project("value.weight", "v"), u);
    if (!has(name(layer, "att.gate.weight"))) return y;
    return gated(y, project("gate.weight", "g"));
  }

  Vector time_mix6(Index layer, Vector const& x) {
    auto const at = [&](std::string const& which) { return name(layer, "att." + which); };
    Vector const& before = layers_[n(layer)].att_x;
    Vector const hidden = each(from_left(shift(x, before, at("time_maa_x")), at("time_maa_w1")), tanh);
    auto const shifted = [&](Index slice, std::string const& letter) {
      Vector mix = weight(at("time_maa_" + letter));
      auto const& second = w_[at("time_maa_w2")];
      Index const rank = w_.size(at("time_maa_w2"), 1);
      for (Index d = slice * rank; d < (slice + 1) * rank; ++d)
        for (Index i = 0; i < channels_; ++i)
          mix[n(i)] += hidden[n(d)] * static_cast<double>(second[n(d * channels_ + i)]);
      return shift(x, before, mix);
    };
    Vector const lora = from_left(each(from_left(shifted(0, "w"), at("time_decay_w1")), tanh), at("time_decay_w2"));
    Vector const decay = each(sum(weight(at("time_decay")), lora), [](double e) { return std::exp(-std::exp(e)); });
    Vector const k = multiply(at("key.weight"), shifted(1, "k")), v = multiply(at("value.weight"), shifted(2, "v"));
    Vector const r = multiply(at("receptance.weight"), shifted(3, "r"));
    return gated(wkv6(layer, r, decay, k, v, weight(at("time_faaaa"))), multiply(at("gate.weight"), shifted(4, "g")));
  }

  /// y = S r + (r . (u k)) v,  S' = S diag(w) + v k^T,  then the norm of each head.
  Vector wkv6(Index layer, Vector const& r, Vector const& w, Vector const& k, Vector const& v, Vector const& u) {
    Vector y(v.size());
    double* s = layers_[n(layer)].s.data();
    for (Index row = 0; row < heads_ * size_; ++row)
      for (Index j = 0; j < size_; ++j, ++s) {
        std::size_t const at = n(row / size_ * size_ + j);
        y[n(row)] += r[at] * (*s + u[at] * k[at] * v[n(row)]);
        *s = *s * w[at] + k[at] * v[n(row)];
      }
    return norm(y, name(layer, "att.ln_x"), heads_, eps_);
  }
  static Vector gated(Vector y, Vector const& g) {
    for (std::size_t i = 0; i < y.size(); ++i) y[i] *= silu(g[i]);
    return y;
  }

  Vector time_mix7(Index layer, Vector const& x) {
    auto const weight_of = [&](std::string const& which) { return name(layer, "att." + which); };
    auto const at = [&](std::string const& which, Index i) { return static_cast<double>(w_[weight_of(which)][n(i)]); };
    auto const shifted = [&](std::string const& which) {
      return shift(x, layers_[n(layer)].att_x, weight_of("x_" + which));
    };
    Vector const r = multiply(weight_of("receptance.weight"), shifted("r"));
    Vector k = multiply(weight_of("key.weight"), shifted("k")), v = multiply(weight_of("value.weight"), shifted("v"));
    Vector decay = from_left(each(from_left(shifted("w"), weight_of("w1")), tanh), weight_of("w2"));
    Vector rate = from_left(from_left(shifted("a"), weight_of("a1")), weight_of("a2"));
    Vector const g = from_left(each(from_left(shifted("g"), weight_of("g1")), sigmoid), weight_of("g2"));
    Vector const residual = layer == 0 ? v : from_left(from_left(shifted("v"), weight_of("v1")), weight_of("v2"));
    if (layer == 0) v_first_ = v;

    Index const a = heads_ * size_;
    Vector removal = k;
    for (Index i = 0; i < a; ++i) {
      decay[n(i)] = std::exp(-std::exp(-0.5) * sigmoid(at("w0", i) + decay[n(i)]));
      rate[n(i)] = sigmoid(at("a0", i) + rate[n(i)]);
      if (layer > 0) v[n(i)] += (v_first_[n(i)] - v[n(i)]) * sigmoid(at("v0", i) + residual[n(i)]);
      removal[n(i)] *= at("k_k", i);
      k[n(i)] *= 1 + (rate[n(i)] - 1) * at("k_a", i);
    }
    Vector y(n(a));
    for (Index h = 0; h < heads_; ++h)
      step_head(layers_[n(layer)].s.data() + h * size_ * size_, h, r, decay, k, v, removal, rate, y);
    y = norm(y, weight_of("ln_x"), heads_, eps_);
    for (Index h = 0; h < heads_; ++h) {
      double bonus = 0;
      for (Index i = h * size_; i < (h + 1) * size_; ++i) bonus += r[n(i)] * k[n(i)] * at("r_k", i);
      for (Index i = h * size_; i < (h + 1) * size_; ++i) y[n(i)] = (y[n(i)] + bonus * v[n(i)]) * g[n(i)];
    }
    return y;
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
    Layer& state = layers_[n(layer)];
    auto const project = [&](std::string const& matrix, std::string const& letter) {
      char const* const mix = version_ == 7 ? "ffn.x_" : version_ == 6 ? "ffn.time_maa_" : "ffn.time_mix_";
      return multiply(name(layer, matrix), shift(x, state.ffn_x, name(layer, mix + letter)));
    };
    Vector const hidden = each(project("ffn.key.weight", "k"), [](double h) { return h > 0 ? h * h : 0; });
    Vector y = multiply(name(layer, "ffn.value.weight"), hidden);
    if (version_ < 7) {
      Vector const r = project("ffn.receptance.weight", "r");
      for (std::size_t i = 0; i < y.size(); ++i) y[i] *= sigmoid(r[i]);
    }
    state.ffn_x = x;
    return y;
  }

  CheckpointCase const& w_;
  double eps_;
  Index channels_, heads_ = 1, size_ = 0;
  int version_ = 0;
  std::vector<Layer> layers_;
  Vector v_first_;
};

}  // namespace aviary::test
