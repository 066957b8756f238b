/// Runs one long WKV-7 sequence on several threads, by a scan over its segments, and checks it against one thread.
///
/// What a stretch of tokens does to a state S is an affine map, S A + B, whatever S is. So the sequence is cut into
/// pieces; all of them are summarised at once, each as if it began with an empty state; the states between the pieces
/// follow one from another, a product of matrices each; and all outputs are corrected at once by what these states
/// contribute.
///
/// The work is more than twice that of one pass, because A is as large as the state. It pays with more threads than
/// there are heads and stretches of values to share out, which plain `forward` does by itself. On several machines the
/// segments are all that travels.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <aviary/core/flush_to_zero.hpp>
#include <aviary/core/math.hpp>
#include <aviary/layers/functions.hpp>
#include <aviary/wkv7.hpp>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <random>
#include <span>
#include <vector>

#include "models/threads.hpp"
#include "models/timing.hpp"

namespace {

using aviary::Index;
using aviary::to_size;
constexpr Index size = 64;
using Memory = aviary::Wkv7<float, size>;
using States = std::vector<Memory::State>;

/// Random inputs of the kind that layers make, and the states before them.
struct Sequence {
  Index tokens, heads;
  std::vector<float> r, log_w, k, v, kappa_hat, a;
  States states;

  Sequence(Index tokens_, Index heads_, unsigned seed) : tokens(tokens_), heads(heads_), states(to_size(heads)) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (auto* field : {&r, &log_w, &k, &v, &kappa_hat, &a}) {
      field->resize(to_size(tokens * heads * size));
      for (float& x : *field) x = normal(random);
    }
    for (float& x : log_w) x = aviary::log_w_of_sigmoid(x);
    for (float& x : a) x = aviary::sigmoid(x);
    for (Index row = 0; row < tokens * heads; ++row)
      aviary::normalize_max(aviary::VecView<float>(&kappa_hat[to_size(row * size)], size));
    for (auto& state : states)
      for (auto& row : state.s)
        for (float& x : row) x = normal(random);
  }
  Memory::Inputs inputs() const {
    return {.r = {r.data(), tokens, heads},
            .log_w = {log_w.data(), tokens, heads},
            .k = {k.data(), tokens, heads},
            .v = {v.data(), tokens, heads},
            .kappa_hat = {kappa_hat.data(), tokens, heads},
            .a = {a.data(), tokens, heads}};
  }
};

/// The outputs of all tokens and the states after them.
struct Result {
  std::vector<float> y;
  States states;
};

Result by_forward(Sequence const& x, models::Threads threads) {
  Result result{std::vector<float>(x.v.size()), x.states};
  Memory::forward({.x = x.inputs(), .y = {result.y.data(), x.tokens, x.heads}, .states = result.states}, threads);
  return result;
}

/// n + 1 positions of n pieces that differ in length by one token at most.
std::vector<Index> cut(Index tokens, Index pieces) {
  std::vector<Index> offsets;
  for (Index p = 0; p <= pieces; ++p) offsets.push_back(p * tokens / pieces);
  return offsets;
}

struct Segmented {
  Result result;
  std::vector<Memory::Segment> segments;  // (pieces, heads)
};

Segmented by_segments(Sequence const& x, Index pieces, models::Threads threads) {
  std::vector<Index> const offsets = cut(x.tokens, pieces);
  std::vector<Memory::Segment> segments(to_size(pieces * x.heads));
  std::vector<float> y(x.v.size()), m(x.k.size());
  Memory::summarize({.x = x.inputs(),
                     .segments = segments,
                     .y = {y.data(), x.tokens, x.heads},
                     .state_weights = {m.data(), x.tokens, x.heads},
                     .offsets = offsets},
                    threads);

  States before = x.states;  // (pieces + 1, heads), the last ones after the last piece
  before.resize(to_size((pieces + 1) * x.heads));
  threads(x.heads, [&](Index head) noexcept {
    for (Index at = head; at < pieces * x.heads; at += x.heads)
      Memory::apply(before[to_size(at)], segments[to_size(at)], before[to_size(at + x.heads)]);
  });

  std::span<Memory::State const> const states(before);
  Memory::add_initial_state({.state_weights = {m.data(), x.tokens, x.heads},
                             .y0 = {y.data(), x.tokens, x.heads},
                             .y = {y.data(), x.tokens, x.heads},
                             .states = states.first(to_size(pieces * x.heads)),
                             .offsets = offsets},
                            threads);
  auto const last = states.last(to_size(x.heads));
  return {{std::move(y), States(last.begin(), last.end())}, std::move(segments)};
}

/// The states after the sequence, from one segment that all pieces were composed into, neighbours first.
States by_one_segment(Sequence const& x, std::vector<Memory::Segment> segments) {
  Index const heads = x.heads;
  for (Index n = static_cast<Index>(segments.size()) / heads; n > 1; n = (n + 1) / 2)
    for (Index at = 0; at < n / 2 * heads + n % 2 * heads; ++at) {
      Index const first = at / heads * 2 * heads + at % heads;
      if (first + heads < n * heads) {
        Memory::Segment both;
        Memory::compose(segments[to_size(first)], segments[to_size(first + heads)], both);
        segments[to_size(at)] = both;
      } else {
        segments[to_size(at)] = segments[to_size(first)];
      }
    }
  States states(to_size(heads));
  for (std::size_t h = 0; h < states.size(); ++h) Memory::apply(x.states[h], segments[h], states[h]);
  return states;
}

/// max |x - expected| / max |expected|
double difference(std::span<float const> x, std::span<float const> expected) {
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    double const error = std::abs(double{x[i]} - double{expected[i]});
    if (!(error <= worst) && !std::isnan(worst)) worst = error;  // NaN stays
    largest = std::max(largest, std::abs(double{expected[i]}));
  }
  return worst / largest;
}
double difference(States const& x, States const& expected) {
  auto const numbers = [](States const& states) {
    return std::span(&states.front().s[0][0], states.size() * to_size(size * size));
  };
  return difference(numbers(x), numbers(expected));
}

bool report(char const* what, double error) {
  constexpr double bound = 3e-6;
  bool const agrees = error <= bound;
  std::printf("%-34s differ from one thread's by %.1e of the largest, bound %.0e: %s\n", what, error, bound,
              agrees ? "agree" : "WRONG");
  return agrees;
}

/// Milliseconds of the fastest of three runs.
double milliseconds(auto&& run) {
  double best = 1e300;
  for (int i = 0; i < 3; ++i) best = std::min(best, 1e3 * models::seconds(run));
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "parallel_prefill: runs one WKV-7 sequence on several threads by a scan over its segments, checks outputs and "
      "states against one thread, and prints the wall times; exits with 1 when they disagree");
  Index threads = 2, tokens = 4096, heads = 1, pieces = 0;
  unsigned seed = 1;
  app.add_option("--threads", threads, "default 2")->check(CLI::Range(1, 1024));
  app.add_option("--tokens", tokens, "length of the sequence, default 4096")->check(CLI::Range(1, 1 << 22));
  app.add_option("--heads", heads, "of 64 keys and values, default 1")->check(CLI::Range(1, 1024));
  app.add_option("--pieces", pieces, "that the sequence is cut into, default 4 for every thread")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--seed", seed, "of the random inputs, default 1");
  try {
    app.parse(argc, argv);
  } catch (CLI::CallForHelp const& help) {
    return app.exit(help);
  } catch (CLI::ParseError const& error) {
    std::cerr << "parallel_prefill: " << error.what() << '\n';
    return 2;
  }
  if (!models::has_threads && threads > 1)
    std::cerr << "parallel_prefill: built without OpenMP, so that everything runs on one thread\n";
  if (pieces == 0) pieces = 4 * threads;

  Sequence const x(tokens, heads, seed);
  models::Threads const one(1), many(threads);
  std::printf("WKV-7, tokens %td, heads %td of 64 x 64, pieces %td, threads %td\n", tokens, heads, pieces,
              many.concurrency());
  Result const expected = by_forward(x, one);
  Segmented const segmented = by_segments(x, pieces, many);
  bool agree = report("outputs", difference(segmented.result.y, expected.y));
  agree &= report("states after the last piece", difference(segmented.result.states, expected.states));
  agree &=
      report("states from one composed segment", difference(by_one_segment(x, segmented.segments), expected.states));

  std::printf("milliseconds, best of 3: forward on one thread %.1f, on all %.1f; segments on all %.1f\n",
              milliseconds([&] { by_forward(x, one); }), milliseconds([&] { by_forward(x, many); }),
              milliseconds([&] { by_segments(x, pieces, many); }));
  return agree ? 0 : 1;
}
