/// Runs one long WKV-7 sequence on several threads, by a scan over its segments, and checks it against one thread.
///
/// What a stretch of tokens does to a state S is an affine map, S A + B, whatever S is. So the sequence is cut into
/// pieces; all of them are summarised at once, each as if it began with an empty state; the states between the pieces
/// follow one from another, a product of matrices each; and all outputs are corrected at once by what these states
/// contribute.
///
/// The work is more than twice that of one pass, because A is as large as the state. It pays with more threads than
/// there are heads and stretches of values to share out, which plain `forward` does by itself.
///
/// On several machines (`mpirun -n 2 parallel_prefill`) each has a stretch of the sequence, with pieces of its own. One
/// composed segment a head is all that travels: each finds the states before its stretch from those of the stretches before.
///
/// With --gradients it trains on the sequence in the same way. The gradient of the state before a piece is an affine map of
/// that of the state after it, with the same matrix: so another scan, from the last piece to the first, finds the gradients
/// of all states between pieces, and `backward` takes all pieces at once.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <aviary/core/flush_to_zero.hpp>
#include <aviary/core/math.hpp>
#include <aviary/layers/functions.hpp>
#include <aviary/wkv7.hpp>
#include <cmath>
#include <cstdio>
#include <exception>
#include <iostream>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "models/ranks.hpp"
#include "models/threads.hpp"
#include "models/timing.hpp"

namespace {

using aviary::Index;
using aviary::to_size;
constexpr Index size = 64;
using Memory = aviary::Wkv7<float, size>;
using States = std::vector<Memory::State>;

/// Random inputs of the kind that layers make and the states before them, and gradients of a loss with respect to the outputs
/// and to the states after them.
struct Sequence {
  Index tokens, heads;
  std::vector<float> r, log_w, k, v, kappa_hat, a, dy;
  States states, dstates;

  Sequence(Index tokens_, Index heads_, unsigned seed)
      : tokens(tokens_), heads(heads_), states(to_size(heads)), dstates(to_size(heads)) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (auto* field : {&r, &log_w, &k, &v, &kappa_hat, &a, &dy}) {
      field->resize(to_size(tokens * heads * size));
      for (float& x : *field) x = normal(random);
    }
    for (float& x : log_w) x = aviary::log_w_of_sigmoid(2 * x - 4);  // a state is to remember more than its piece
    for (float& x : a) x = aviary::sigmoid(x);
    for (Index row = 0; row < tokens * heads; ++row)
      aviary::normalize_max(aviary::VecView<float>(&kappa_hat[to_size(row * size)], size));
    for (auto* const all : {&states, &dstates})
      for (auto& state : *all)
        for (auto& row : state.s)
          for (float& x : row) x = normal(random);
  }
  /// Tokens begin ... end - 1, after the same states.
  Sequence stretch(Index begin, Index end) const {
    Sequence part = *this;
    part.tokens = end - begin;
    for (auto* field : {&part.r, &part.log_w, &part.k, &part.v, &part.kappa_hat, &part.a, &part.dy}) {
      field->resize(to_size(end * heads * size));
      field->erase(field->begin(), field->begin() + begin * heads * size);
    }
    return part;
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

/// What the pieces of a sequence do to a state, and the states between them.
struct Pieces {
  std::vector<Index> offsets;
  std::vector<Memory::Segment> segments;  // (pieces, heads)
  std::vector<float> y, m;                // outputs from empty states, and what each has of the state before its piece
  States states;                          // (pieces + 1, heads): the last ones are those after the last piece
};

using Segments = std::vector<Memory::Segment>;

/// One segment a head that all pieces are composed into, neighbours first.
Segments composed(Segments segments, Index heads) {
  Index const pieces = static_cast<Index>(segments.size()) / heads;
  for (Index step = 1; step < pieces; step *= 2)
    for (Index piece = 0; piece + step < pieces; piece += 2 * step)
      for (Index head = 0; head < heads; ++head) {
        Memory::Segment& earlier = segments[to_size(piece * heads + head)];
        Memory::Segment both;
        Memory::compose(earlier, segments[to_size((piece + step) * heads + head)], both);
        earlier = both;
      }
  segments.resize(to_size(heads));
  return segments;
}

States after(States const& states, Segments const& segments) {
  States result(states.size());
  for (std::size_t h = 0; h < states.size(); ++h) Memory::apply(states[h], segments[h], result[h]);
  return result;
}

constexpr auto compose_segments = [](Memory::Segment const& earlier, Memory::Segment const& later,
                                     Memory::Segment& out) { Memory::compose(earlier, later, out); };

/// @param x  the stretch that this rank has, with the states before the whole sequence
Pieces summarize(Sequence const& x, Index pieces, models::Threads threads, models::Ranks const& ranks) {
  Pieces p{cut(x.tokens, pieces), Segments(to_size(pieces * x.heads)), std::vector<float>(x.v.size()),
           std::vector<float>(x.k.size()), x.states};
  Memory::summarize({.x = x.inputs(),
                     .segments = p.segments,
                     .y = {p.y.data(), x.tokens, x.heads},
                     .state_weights = {p.m.data(), x.tokens, x.heads},
                     .offsets = p.offsets},
                    threads);
  if (ranks.size() > 1) {
    Segments before = composed(p.segments, x.heads);
    ranks.compose_before<compose_segments>(std::span(before));
    if (!ranks.is_first()) p.states = after(x.states, before);
  }
  p.states.resize(to_size((pieces + 1) * x.heads));
  threads(x.heads, [&](Index head) noexcept {
    for (Index at = head; at < pieces * x.heads; at += x.heads)
      Memory::apply(p.states[to_size(at)], p.segments[to_size(at)], p.states[to_size(at + x.heads)]);
  });
  return p;
}

Result by_segments(Sequence const& x, Pieces p, models::Threads threads) {
  std::span<Memory::State const> const states(p.states);
  Memory::add_initial_state({.state_weights = {p.m.data(), x.tokens, x.heads},
                             .y0 = {p.y.data(), x.tokens, x.heads},
                             .y = {p.y.data(), x.tokens, x.heads},
                             .states = states.first(p.segments.size()),
                             .offsets = p.offsets},
                            threads);
  return {std::move(p.y), States(p.states.end() - x.heads, p.states.end())};
}

/// The gradients of the loss with respect to the inputs, and to the states before the first token.
struct Gradients {
  std::vector<float> r, log_w, k, v, kappa_hat, a;
  States states;
};

/// forward and backward over pieces, each a sequence of its own: from the states before them and the gradients of those after.
Gradients by_backward(Sequence const& x, std::span<Index const> offsets, States states, States dstates,
                      models::Threads threads) {
  Memory::Inputs const inputs = x.inputs();
  States kept(Memory::tape_size(inputs, offsets));
  Memory::Tape tape;
  tape.states = kept;
  Memory::forward({.x = inputs, .states = states, .offsets = offsets, .tape = tape}, threads);

  std::vector<float> const zeros(x.k.size());
  Gradients d{zeros, zeros, zeros, zeros, zeros, zeros, std::move(dstates)};
  auto const sink = [&](std::vector<float>& field) { return aviary::Sink<size>(field.data(), x.tokens, x.heads); };
  std::vector<float> workspace(Memory::backward_workspace(inputs, x.heads, offsets, tape.every, threads.concurrency()));
  Memory::backward({.x = inputs,
                    .dy = {x.dy.data(), x.tokens, x.heads},
                    .tape = tape,
                    .dx = {.r = sink(d.r),
                           .log_w = sink(d.log_w),
                           .k = sink(d.k),
                           .v = sink(d.v),
                           .kappa_hat = sink(d.kappa_hat),
                           .a = sink(d.a)},
                    .dstates = d.states,
                    .workspace = workspace,
                    .offsets = offsets},
                   threads);
  d.states.resize(to_size(x.heads));
  return d;
}

Gradients gradients_by_backward(Sequence const& x, models::Threads threads) {
  Index const whole[]{0, x.tokens};
  return by_backward(x, whole, x.states, x.dstates, threads);
}

Gradients gradients_by_segments(Sequence const& x, Index pieces, models::Threads threads, models::Ranks const& ranks) {
  Pieces const p = summarize(x, pieces, threads, ranks);
  States d(p.segments.size());  // (pieces + 1, heads), as the states
  Memory::pull_outputs({.state_weights = {p.m.data(), x.tokens, x.heads},
                        .dy = {x.dy.data(), x.tokens, x.heads},
                        .dstates = d,
                        .offsets = p.offsets},
                       threads);
  d.insert(d.end(), x.dstates.begin(), x.dstates.end());
  threads(x.heads, [&](Index head) noexcept {
    for (Index at = (pieces - 1) * x.heads + head; at >= 0; at -= x.heads)
      Memory::pull_state(d[to_size(at + x.heads)], p.segments[to_size(at)], d[to_size(at)]);
  });
  return by_backward(x, p.offsets, States(p.states.begin(), p.states.end() - x.heads),
                     States(d.begin() + x.heads, d.end()), threads);
}

/// |x - expected| / |expected|
double difference(std::span<float const> x, std::span<float const> expected) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    error += std::pow(double{x[i]} - double{expected[i]}, 2);
    norm += std::pow(double{expected[i]}, 2);
  }
  return std::sqrt(error / norm);
}
double difference(States const& x, States const& expected) {
  auto const numbers = [](States const& states) {
    return std::span(&states.front().s[0][0], states.size() * to_size(size * size));
  };
  return difference(numbers(x), numbers(expected));
}

bool report(std::string const& what, double error) {
  constexpr double bound = 3e-6;
  bool const agrees = error <= bound;
  std::printf("%-34s differ from one thread's by %.1e (L2, relative), bound %.0e: %s\n", what.c_str(), error, bound,
              agrees ? "agree" : "WRONG");
  return agrees;
}

bool report(Gradients const& x, Gradients const& expected) {
  bool agree = report("gradients of r", difference(x.r, expected.r));
  agree &= report("gradients of log_w", difference(x.log_w, expected.log_w));
  agree &= report("gradients of k", difference(x.k, expected.k));
  agree &= report("gradients of v", difference(x.v, expected.v));
  agree &= report("gradients of kappa_hat", difference(x.kappa_hat, expected.kappa_hat));
  agree &= report("gradients of a", difference(x.a, expected.a));
  return agree & report("gradients of the first states", difference(x.states, expected.states));
}

/// Milliseconds of the fastest of three runs.
double milliseconds(auto&& run) {
  double best = 1e300;
  for (int i = 0; i < 3; ++i) best = std::min(best, 1e3 * models::seconds(run));
  return best;
}

int run(int argc, char** argv, models::Ranks const& ranks) {
  CLI::App app(
      "parallel_prefill: runs one WKV-7 sequence on several threads by a scan over its segments, checks outputs and "
      "states against one thread, and prints the wall times; exits with 1 when they disagree. With mpirun each process "
      "has a stretch of the sequence");
  Index threads = 2, tokens = 4096, heads = 1, pieces = 0;
  unsigned seed = 1;
  bool gradients = false;
  app.add_option("--threads", threads, "default 2")->check(CLI::Range(1, 1024));
  app.add_option("--tokens", tokens, "length of the sequence, default 4096")->check(CLI::Range(1, 1 << 22));
  app.add_option("--heads", heads, "of 64 keys and values, default 1")->check(CLI::Range(1, 1024));
  app.add_option("--pieces", pieces, "that a process cuts its stretch into, default 4 for every thread")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--seed", seed, "of the random inputs, default 1");
  app.add_flag("--gradients", gradients, "checks and times the gradients of a random loss as well");
  auto const say = [&](std::string const& text) {
    if (ranks.is_first()) std::cerr << "parallel_prefill: " << text << '\n';
  };
  auto const refuse = [&](std::string const& text) { return say(text), 2; };
  try {
    app.parse(argc, argv);
  } catch (CLI::CallForHelp const& help) {
    return ranks.is_first() ? app.exit(help) : 0;
  } catch (CLI::ParseError const& error) {
    return refuse(error.what());
  }
  if (!models::has_threads && threads > 1) say("built without OpenMP, so that everything runs on one thread");
  if (gradients && ranks.size() > 1)
    return refuse("--gradients: expected one process, found " + std::to_string(ranks.size()));
  if (tokens < ranks.size())
    return refuse("--tokens: expected one for each of " + std::to_string(ranks.size()) + " processes or more, found " +
                  std::to_string(tokens));
  if (pieces == 0) pieces = 4 * threads;

  Index const begin = tokens * ranks.rank() / ranks.size(), end = tokens * (ranks.rank() + 1) / ranks.size();
  Sequence const whole(tokens, heads, seed), x = whole.stretch(begin, end);
  models::Threads const one(1), many(threads);
  if (ranks.is_first())
    std::printf("WKV-7, tokens %td, heads %td of 64 x 64, pieces %td, threads %td, processes %td\n", tokens, heads,
                pieces, many.concurrency(), ranks.size());
  auto const named = [&](char const* what) {
    return (ranks.size() > 1 ? "process " + std::to_string(ranks.rank()) + ", " : std::string()) + what;
  };
  Result const expected = by_forward(whole.stretch(0, end), one);
  Pieces const segmented = summarize(x, pieces, many, ranks);
  Result const result = by_segments(x, segmented, many);
  States const before(segmented.states.begin(), segmented.states.begin() + heads);
  bool agree = report(named("outputs"), difference(result.y, std::span(expected.y).last(result.y.size())));
  agree &= report(named("states after the last piece"), difference(result.states, expected.states));
  agree &= report(named("states from one composed segment"),
                  difference(after(before, composed(segmented.segments, heads)), expected.states));
  if (gradients) agree &= report(gradients_by_segments(x, pieces, many, ranks), gradients_by_backward(x, one));

  std::array const times{milliseconds([&] { by_forward(whole, one); }), milliseconds([&] { by_forward(whole, many); }),
                         milliseconds([&] { by_segments(x, summarize(x, pieces, many, ranks), many); })};
  if (ranks.is_first())
    std::printf("milliseconds, best of 3: forward on one thread %.1f, on all %.1f; segments on all %.1f\n", times[0],
                times[1], times[2]);
  if (gradients)
    std::printf("forward and backward on one thread %.1f, on all %.1f; segments on all %.1f\n",
                milliseconds([&] { gradients_by_backward(x, one); }),
                milliseconds([&] { gradients_by_backward(x, many); }),
                milliseconds([&] { gradients_by_segments(x, pieces, many, ranks); }));
  return agree ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::optional<models::Ranks> ranks;
  try {
    ranks.emplace();
  } catch (std::exception const& error) {
    std::cerr << "parallel_prefill: " << error.what() << '\n';
    return 1;
  }
  return run(argc, argv, *ranks);
}
