/// A memory of one's own: a recurrence that no paper has, in thirty lines, with every verb of the library.
///
///     S' = w S (I - a e e^T) + v k^T            y = S' r
///
/// Before a token writes v under its key k, it forgets at another address, e: as much as the rate a says, along e alone,
/// while everything decays by w. (The delta rule forgets where it writes; this memory may drop one thing and keep another.)
///
/// All that the library wants to know is how this is the one matrix recurrence
///
///     S' = S diag(w) + (S p) q^T + v k^T        y = S' r
///
/// Multiplied out, the rule is  S' = w S - a w (S e) e^T + v k^T:  so p = w e, q = -a e, and the rest is what it is called.
/// The program runs the rule token by token, as a sequence, and as a scan over segments, which is how one long sequence
/// goes through many processors; it checks each against the equation written out as loops in double.
#include <algorithm>
#include <aviary/matrix/memory.hpp>
#include <cmath>
#include <cstdio>
#include <random>
#include <string_view>
#include <vector>

using aviary::Index;

// --- the rule -------------------------------------------------------------------------------------------------------

struct ForgetfulRule {
  static constexpr char const* name = "forgetful";                 // in messages, and in files of states
  static constexpr aviary::Erase erase = aviary::Erase::rank_one;  // p and q are not the key that is written
  static constexpr aviary::Read read = aviary::Read::after;        // y sees the token that was just written

  /// The model's own inputs: how many numbers each has, of every token and head.
  template <template <aviary::Axis> class Per> struct Fields {
    Per<aviary::Axis::key> r, k;   // (K) each
    Per<aviary::Axis::value> v;    // (V)
    Per<aviary::Axis::one> log_w;  // the logarithm of w, <= 0: a gate's field has this name, and x.w is its exponential
    Per<aviary::Axis::key> e;      // (K), |e| = 1
    Per<aviary::Axis::one> a;      // in [0, 1]
  };

  /// The terms of the recurrence, number by number: x is one lane of a SIMD batch, or a number.
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    return {.r = x.r, .p = x.w * x.e, .q = -(x.a * x.e), .k = x.k, .v = x.v};
  }

  /// The chain rule of map, for gradients alone: what reaches the inputs from d, what reached the terms, and log_w
  /// through the state. Where a field has one number, its gradient is the sum over the lanes.
  template <class Gradients> AVIARY_HOST_DEVICE static constexpr Gradients pull(auto const& x, auto const& d) {
    return {.r = d.r,
            .k = d.k,
            .v = d.v,
            .log_w = d.log_w + x.w * x.e * d.p,
            .e = x.w * d.p - x.a * d.q,
            .a = -(x.e * d.q)};
  }
};

template <class T, Index K, Index V = K> using Forgetful = aviary::MatrixMemory<ForgetfulRule, T, K, V>;

// --- a program that uses it -----------------------------------------------------------------------------------------

namespace {

constexpr Index tokens = 240, heads = 2, keys = 32, values = 16, stretches = 4;
using Memory = Forgetful<float, keys, values>;
using Numbers = std::vector<float>;

constexpr std::size_t size(Index n) { return static_cast<std::size_t>(n); }

/// Seeded inputs, (tokens, heads, K, V or 1).
struct Sequence {
  Numbers r, k, v, log_w, e, a;

  Sequence() {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    auto const rows = [&](Index n, auto f) {
      Numbers x(size(tokens * heads * n));
      for (float& number : x) number = f(normal(random));
      return x;
    };
    auto const plain = [](float x) { return x; };
    auto const rate = [](float x) { return 1 / (1 + std::exp(-x)); };
    r = rows(keys, plain);
    k = rows(keys, plain);
    v = rows(values, plain);
    log_w = rows(1, [&](float x) { return -0.1f * rate(x); });
    e = rows(keys, plain);
    for (auto row = e.begin(); row != e.end(); row += keys) {
      float square = 0;
      std::for_each(row, row + keys, [&](float x) { square += x * x; });
      std::for_each(row, row + keys, [&](float& x) { x /= std::sqrt(square); });
    }
    a = rows(1, rate);
  }

  Memory::Inputs inputs() const {
    return {.r = {r.data(), tokens, heads},
            .k = {k.data(), tokens, heads},
            .v = {v.data(), tokens, heads},
            .log_w = {log_w.data(), tokens, heads},
            .e = {e.data(), tokens, heads},
            .a = {a.data(), tokens, heads}};
  }
  Memory::Token token(Index t, Index h) const {
    auto const row = [&](Numbers const& x, Index n) { return x.data() + (t * heads + h) * n; };
    return {.r = row(r, keys),
            .k = row(k, keys),
            .v = row(v, values),
            .log_w = *row(log_w, 1),
            .e = row(e, keys),
            .a = *row(a, 1)};
  }
};

/// Outputs (tokens, heads, V) and the states of the heads after the last token.
struct Result {
  Numbers y = Numbers(size(tokens * heads * values));
  std::vector<Memory::State> states = std::vector<Memory::State>(size(heads));  // empty contexts
};

struct Exact {
  std::vector<double> y = std::vector<double>(size(tokens * heads * values));
  std::vector<double> states = std::vector<double>(size(heads * keys * values));  // [head][key][value]
};

/// The equation, index by index, in double.
Exact explicit_loop(Sequence const& x) {
  Exact out;
  for (Index h = 0; h < heads; ++h)
    for (Index t = 0; t < tokens; ++t) {
      auto const at = [&](Numbers const& from, Index n, Index i) {
        return static_cast<double>(from[size((t * heads + h) * n + i)]);
      };
      double const w = std::exp(at(x.log_w, 1, 0)), a = at(x.a, 1, 0);
      for (Index i = 0; i < values; ++i) {
        auto const s = [&](Index j) -> double& { return out.states[size((h * keys + j) * values + i)]; };
        double& y = out.y[size((t * heads + h) * values + i)];
        double reading = 0;  // (S e)[i]
        for (Index j = 0; j < keys; ++j) reading += s(j) * at(x.e, keys, j);
        for (Index j = 0; j < keys; ++j) {
          s(j) = w * (s(j) - a * reading * at(x.e, keys, j)) + at(x.v, values, i) * at(x.k, keys, j);
          y += s(j) * at(x.r, keys, j);
        }
      }
    }
  return out;
}

Result with_step(Sequence const& x) {
  Result out;
  for (Index t = 0; t < tokens; ++t)
    for (Index h = 0; h < heads; ++h)
      Memory::step(out.states[size(h)], x.token(t, h), out.y.data() + (t * heads + h) * values);
  return out;
}

Result with_forward(Sequence const& x) {
  Result out;
  Memory::forward({.x = x.inputs(), .y = {out.y.data(), tokens, heads}, .states = out.states});
  return out;
}

/// Each stretch is summarised from nothing, as if on a machine of its own; a scan then finds the states between them, and
/// these correct the outputs.
Result with_segments(Sequence const& x) {
  std::vector<Index> offsets;
  for (Index n = 0; n <= stretches; ++n) offsets.push_back(n * tokens / stretches);
  Result out;
  Numbers m(size(tokens * heads * keys));
  std::vector<Memory::Segment> segments(size(stretches * heads));
  Memory::summarize({.x = x.inputs(),
                     .segments = segments,
                     .y = {out.y.data(), tokens, heads},
                     .state_weights = {m.data(), tokens, heads},
                     .offsets = offsets});

  std::vector<Memory::State> before(size((stretches + 1) * heads));  // of each stretch; the first are empty contexts
  for (Index n = 0; n < stretches * heads; ++n)
    Memory::apply(before[size(n)], segments[size(n)], before[size(n + heads)]);
  out.states.assign(before.end() - heads, before.end());
  before.resize(size(stretches * heads));

  Memory::add_initial_state({.state_weights = {m.data(), tokens, heads},
                             .y0 = {out.y.data(), tokens, heads},
                             .y = {out.y.data(), tokens, heads},
                             .states = before,
                             .offsets = offsets});
  return out;
}

/// max |x - expected| / max |expected|; not within any bound where x is NaN.
double error(Numbers const& x, std::vector<double> const& expected) {
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    double const difference = std::abs(static_cast<double>(x[i]) - expected[i]);
    if (!(difference <= worst) && !std::isnan(worst)) worst = difference;
    largest = std::max(largest, std::abs(expected[i]));
  }
  return worst / largest;
}

Numbers numbers_of(std::vector<Memory::State> const& states) {
  Numbers x;
  for (auto const& state : states)
    for (Index j = 0; j < keys; ++j) x.insert(x.end(), state.view()[j], state.view()[j] + values);
  return x;
}

/// Prints a line; true if outputs and states are within the bound of a float recurrence over a thousand tokens.
bool report(char const* verb, Result const& x, Exact const& exact) {
  double const output_error = error(x.y, exact.y), state_error = error(numbers_of(x.states), exact.states);
  bool const ok = output_error <= 3e-6 && state_error <= 3e-6;
  std::printf("%-8s  last output %+.5f; off the explicit loop by %.1e (outputs), %.1e (states): %s\n", verb,
              static_cast<double>(x.y.back()), output_error, state_error, ok ? "ok" : "WRONG");
  return ok;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) {
    bool const help = std::string_view(argv[1]) == "--help";
    std::fputs(
        "own_rule: runs a recurrence of its own by step, forward and segments, and compares each with explicit loops; "
        "takes no arguments\n",
        help ? stdout : stderr);
    return help ? 0 : 2;
  }
  Sequence const x;
  Exact const exact = explicit_loop(x);
  bool ok = report("step", with_step(x), exact);
  ok = report("forward", with_forward(x), exact) && ok;
  ok = report("segments", with_segments(x), exact) && ok;
  return ok ? 0 : 1;
}
