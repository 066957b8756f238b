#pragma once
/// What the machine can do at most, measured in the same run as the kernels: fused multiply-adds, and passes over
/// states and weights.
///
/// "% of peak" of a kernel is its floating-point operations over what this loop does in the same time. Additions and
/// multiplications count one each, so a fused multiply-add is two. WKV-7 has 9 operations per state element and token:
/// 2 for the probe, 1 for the decay, 2 for each rank-one update, 2 for the output. They need five instructions, of which
/// the decay's lone multiplication does half of what it could: 90% is the most that WKV-7 can reach.
#include <benchmark/benchmark.h>

#include <span>
#include <vector>

#include "aviary/simd/pack.hpp"
#include "models/timing.hpp"

namespace aviary::bench {

using models::median;
using models::seconds;

/// Twelve chains of fused multiply-adds, none waiting for another: two ports with a latency of four or five cycles need
/// eight to ten. The chains stay near 1.
template <class T> [[gnu::noinline]] void multiply_add(Index times) {
  using Chains = simd::Wide<simd::Native<T>, 12>;
  using L = simd::Pack<Chains>;
  T volatile const factor = T(0.5), summand = T(0.5);
  T lanes[L::lanes];
  for (Index i = 0; i < L::lanes; ++i) lanes[i] = T(1) + static_cast<T>(i) / T(L::lanes);
  benchmark::DoNotOptimize(lanes);  // equal chains would be computed once
  Chains const x(factor), y(summand);
  Chains chains = L::load(lanes);
  for (Index n = 0; n < times; ++n) chains = L::fma(chains, x, y);
  L::store(lanes, chains);
  benchmark::DoNotOptimize(lanes);
}

/// Operations per second of one burst of about half a millisecond.
template <class T> double peak_burst() {
  constexpr Index times = 100000;
  constexpr double operations = 2.0 * 12 * simd::Pack<simd::Native<T>>::lanes * times;
  return operations / seconds([] { multiply_add<T>(times); });
}

/// Operations per second, the median of many bursts; measured once in a run.
template <class T> double peak() {
  static double const measured = [] {
    std::vector<double> bursts;
    for (int i = 0; i < 101; ++i) bursts.push_back(peak_burst<T>());
    return median(bursts);
  }();
  return measured;
}

/// The least that any step does to its states: every number is read and written back, here with its sign turned.
template <class T> [[gnu::noinline]] void pass_over(T* numbers, Index n) {
  using P = simd::Native<T>;
  using L = simd::Pack<P>;
  P const minus_one(T(-1));
  for (Index i = 0; i < n; i += L::lanes) L::store(numbers + i, minus_one * L::load(numbers + i));
  benchmark::ClobberMemory();
}

/// The least that a product with one row does to its weights: every number is read.
template <class T> [[gnu::noinline]] void read(T const* numbers, Index n) {
  using Four = simd::Wide<simd::Native<T>, 4>;
  using L = simd::Pack<Four>;
  Four sum(T(0));
  for (Index i = 0; i + L::lanes <= n; i += L::lanes) sum = sum + L::load(numbers + i);
  T lanes[L::lanes];
  L::store(lanes, sum);
  benchmark::DoNotOptimize(lanes);
}

}  // namespace aviary::bench
