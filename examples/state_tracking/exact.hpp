#pragma once
/// Follows permutations with WKV-7, without a single rounding error.
///
/// With w = 1, k = 0 and a = 2 the transition of WKV-7 is the reflection I - 2 kappa_hat kappa_hat^T. Give every object i
/// two coordinates, i and i', with equal columns in the state. Then kappa_hat = (e_i + e_i' - e_j - e_j') / 2 has unit
/// length exactly, and its reflection exchanges the columns of i and j. So a state follows any product of permutations:
/// column i is e_{pi(i)} with pi the product so far. Released layers keep a below 1 and w below 1, which shrinks the state
/// with every exchange; here the kernel is fed directly.
#include <algorithm>
#include <array>
#include <aviary/wkv7.hpp>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

namespace state_tracking {

using aviary::Index;

/// A sequence for Wkv7<T, K, V>, one head, made token by token. All inputs begin as 0: such a token changes nothing.
template <class T, Index K, Index V> class Sequence {
 public:
  using Memory = aviary::Wkv7<T, K, V>;

  /// Appends a token that changes nothing and returns its number.
  Index idle() {
    for (auto* keyed : {&r_, &log_w_, &k_, &kappa_hat_, &a_}) keyed->resize(keyed->size() + K);
    v_.resize(v_.size() + V);
    return tokens_++;
  }
  T& r(Index t, Index key) { return r_[at(t * K + key)]; }
  T& k(Index t, Index key) { return k_[at(t * K + key)]; }
  T& v(Index t, Index value) { return v_[at(t * V + value)]; }
  T& kappa_hat(Index t, Index key) { return kappa_hat_[at(t * K + key)]; }
  void set_rate(Index t, T a) { std::fill_n(a_.begin() + t * K, K, a); }

  /// The outputs of all tokens, from the empty context, in one call.
  std::vector<T> forward() const {
    std::vector<typename Memory::State> state(1);
    std::vector<T> y(at(tokens_ * V));
    Memory::forward({.x = {.r = {r_.data(), tokens_, 1},
                           .log_w = {log_w_.data(), tokens_, 1},
                           .k = {k_.data(), tokens_, 1},
                           .v = {v_.data(), tokens_, 1},
                           .kappa_hat = {kappa_hat_.data(), tokens_, 1},
                           .a = {a_.data(), tokens_, 1}},
                     .y = {y.data(), tokens_, 1},
                     .states = state});
    return y;
  }
  /// The same, one token after another.
  std::vector<T> steps() const {
    typename Memory::State state{};
    std::vector<T> y(at(tokens_ * V));
    for (Index t = 0; t < tokens_; ++t)
      Memory::step(state,
                   {.r = r_.data() + t * K,
                    .log_w = log_w_.data() + t * K,
                    .k = k_.data() + t * K,
                    .v = v_.data() + t * V,
                    .kappa_hat = kappa_hat_.data() + t * K,
                    .a = a_.data() + t * K},
                   y.data() + t * V);
    return y;
  }

 private:
  static constexpr std::size_t at(Index i) { return static_cast<std::size_t>(i); }
  Index tokens_ = 0;
  std::vector<T> r_, log_w_, k_, v_, kappa_hat_, a_;
};

/// What a sequence's outputs have to be, exactly, at some of its tokens.
template <class T, Index V> struct Expectation {
  Index token;
  std::array<T, std::size_t{V}> y;
};

template <class T, Index V> Index count_wrong(std::vector<T> const& y, std::vector<Expectation<T, V>> const& expected) {
  return std::count_if(expected.begin(), expected.end(),
                       [&](auto const& e) { return !std::equal(e.y.begin(), e.y.end(), y.begin() + e.token * V); });
}

/// Runs a sequence both ways and prints a line; true when every output is exact.
template <class T, Index K, Index V>
bool report(char const* task, Sequence<T, K, V> const& sequence, std::vector<Expectation<T, V>> const& expected) {
  Index const forward = count_wrong(sequence.forward(), expected), steps = count_wrong(sequence.steps(), expected);
  bool const exact = forward == 0 && steps == 0;
  std::printf("%-6s  %-6s  %zu symbols, %td tokens: forward %td wrong, step %td wrong: %s\n", task,
              sizeof(T) == sizeof(float) ? "float" : "double", expected.size(), expected.back().token + 1, forward,
              steps, exact ? "exact" : "WRONG");
  return exact;
}

/// Products of random elements of S_n, n - 1 transpositions (some of them idle) each.
template <class T, Index n> bool track_permutations(char const* task, int symbols, unsigned seed) {
  Sequence<T, 2 * n, n> sequence;
  auto const read_all = [&](Index t) {  // r = (1, 2, ... n), so that y[pi(i)] = i + 1
    for (Index i = 0; i < n; ++i) sequence.r(t, i) = static_cast<T>(i + 1);
  };
  for (Index i = 0; i < n; ++i) {  // write column i and its twin
    Index const t = sequence.idle();
    sequence.k(t, i) = sequence.k(t, i + n) = sequence.v(t, i) = 1;
  }
  std::mt19937 random(seed);
  std::array<std::size_t, std::size_t{n}> product;
  std::iota(product.begin(), product.end(), 0u);
  auto const one = product;
  std::vector<Expectation<T, n>> expected;
  for (int symbol = 0; symbol < symbols; ++symbol) {
    auto g = one;
    std::shuffle(g.begin(), g.end(), random);
    auto h = one;  // becomes g, by exchanges from the left to the right
    Index t = 0;
    for (std::size_t i = 0; i + 1 < n; ++i) {
      auto const j = static_cast<std::size_t>(std::find(h.begin(), h.end(), g[i]) - h.begin());
      std::swap(h[i], h[j]);
      t = sequence.idle();
      if (i == j) continue;
      auto const key = [](std::size_t object) { return static_cast<Index>(object); };
      sequence.kappa_hat(t, key(i)) = sequence.kappa_hat(t, key(i) + n) = T(0.5);
      sequence.kappa_hat(t, key(j)) = sequence.kappa_hat(t, key(j) + n) = T(-0.5);
      sequence.set_rate(t, 2);
    }
    read_all(t);
    auto const before = product;
    Expectation<T, n> e{t, {}};
    for (std::size_t i = 0; i < n; ++i) {
      product[i] = before[g[i]];
      e.y[product[i]] = static_cast<T>(i + 1);
    }
    expected.push_back(e);
  }
  return report(task, sequence, expected);
}

/// The parity of random bits: a state of one number that a set bit turns over.
template <class T> bool track_parity(int symbols, unsigned seed) {
  Sequence<T, 1, 1> sequence;
  Index const first = sequence.idle();
  sequence.k(first, 0) = sequence.v(first, 0) = 1;
  std::mt19937 random(seed);
  bool odd = false;
  std::vector<Expectation<T, 1>> expected;
  for (int symbol = 0; symbol < symbols; ++symbol) {
    bool const bit = random() & 1u;
    Index const t = sequence.idle();
    sequence.kappa_hat(t, 0) = sequence.r(t, 0) = 1;
    sequence.set_rate(t, bit ? T(2) : T(0));
    odd = odd != bit;
    expected.push_back({t, {odd ? T(-1) : T(1)}});
  }
  return report("parity", sequence, expected);
}

/// Random words for parity, S_3 and S_5, with a line for each.
/// @return how many of the three are exact
template <class T> int track_all(int symbols, unsigned seed) {
  return track_parity<T>(symbols, seed) + track_permutations<T, 3>("S_3", symbols, seed) +
         track_permutations<T, 5>("S_5", symbols, seed);
}

}  // namespace state_tracking
