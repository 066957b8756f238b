#pragma once
/// Benchmarks of memories: their names, and what is measured.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>

#include "aviary/core/executor.hpp"
#include "support/memories.hpp"
#include "support/peak.hpp"
#include "support/program.hpp"

namespace aviary::bench {

#if defined(_OPENMP)
using Threads = OpenMp;
inline constexpr bool has_threads = true;
#else
/// One thread, where the compiler has no OpenMP.
struct Threads : Serial {
  explicit constexpr Threads(Index) noexcept {}
};
inline constexpr bool has_threads = false;
#endif

/// Floating-point operations for each number of a state and token: 2 to write, 2 to read, 1 to decay, 2 to probe, and 2 more
/// for an update of its own with what was probed.
template <class R>
inline constexpr double flops_of = 4 + (gate_of<R> != Gate::none ? 1 : 0) +
                                   (R::erase == Erase::rank_one    ? 4
                                    : R::erase == Erase::along_key ? 2
                                                                   : 0);

/// How much one call of a verb goes through. 24 layers, whose states together do not stay in a core's caches, are `cold`.
struct Shape {
  Index heads, tokens = 1, layers = 1, threads = 1;
};
inline constexpr Index cold_layers = 24;

/// The benchmarks of memory M with inputs stored as In. A name is that of bench/README.md.
template <class M, Stored In = typename M::T> class Benchmarks {
 public:
  using Problem = Layers<M, In>;

  /// run(problem, executor) over and over; it does so many operations for each number of the state and token. None: there is
  /// no share of the peak.
  template <class F>
  static void add(std::string const& verb, Shape const& shape, F run, double flops = flops_of<typename M::Rule>) {
    std::string const name = std::string(M::name) + "/" + verb + parts(shape, verb != "step");
    benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
      Problem problem(shape.layers, shape.heads, shape.tokens);
      Threads const executor(shape.threads);
      double const elapsed = measure(state, problem, shape, [&] { run(problem, executor); });
      if (flops == 0) return;
      double const most = static_cast<double>(shape.threads) * peak<typename M::T>();
      state.counters["% of peak"] = 100 * problem.work() * flops * numbers / elapsed / most;
    });
  }
  /// A pass over the same states, with the figures of one token.
  static void add_copy(Shape const& shape) {
    benchmark::RegisterBenchmark(("copy/state" + parts(shape, false)).c_str(), [=](benchmark::State& state) {
      Problem problem(shape.layers, shape.heads, 1);
      measure(state, problem, shape, [&] {
        for (auto& of_head : problem.states()) pass_over(&of_head.s[0][0], Problem::size * Problem::size);
      });
    });
  }

  /// Numbers of a state.
  static constexpr double numbers = static_cast<double>(M::keys * M::values);

 private:
  /// A call first, from the empty context to ordinary numbers. A token reads and writes its state once, whichever cache that
  /// comes from. Returns the seconds of a call.
  template <class F> static double measure(benchmark::State& state, Problem const& problem, Shape const& shape, F&& f) {
    f();
    double const elapsed = seconds([&] {
      for (auto _ : state) {
        f();
        benchmark::ClobberMemory();
      }
    });
    double const each = elapsed / static_cast<double>(state.iterations()), tokens = static_cast<double>(shape.tokens);
    state.counters["tokens/s"] = tokens / each;
    state.counters["ns/token/head"] = 1e9 * each / problem.work();
    state.SetBytesProcessed(static_cast<std::int64_t>(2 * tokens * problem.state_bytes()) * state.iterations());
    return each;
  }

  static std::string parts(Shape const& shape, bool with_tokens) {
    auto const number = [](char const* what, Index n) { return what + std::to_string(n); };
    auto const name = [](auto format) { return std::string(name_of(format)); };
    using S = typename M::StateNumber;
    std::string text = "/" + name(format_of<typename M::T>);
    if (!std::is_same_v<S, typename M::T>) text += "/" + name(format_of<S>) + "-state";
    if (!std::is_same_v<In, typename M::T>) text += "/" + name(format_of<In>) + "-inputs";
    text += number("/K", M::keys) + number("/H", shape.heads);
    if (with_tokens) text += number("/T", shape.tokens);
    if (shape.layers > 1) text += "/cold";
    if (shape.threads > 1) text += number("/threads", shape.threads);
    return text + "/" + instruction_set();
  }
};

/// The verbs that most benchmarks run.
inline constexpr auto forward = [](auto& problem, auto const& executor) { problem.forward(executor); };
inline constexpr auto steps = [](auto& problem, auto const&) { problem.steps(); };

}  // namespace aviary::bench
