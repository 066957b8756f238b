#pragma once
/// What the benchmark programs have in common: what they say of the machine and the build, and the command line.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

#include "aviary/simd/pack.hpp"

namespace aviary::bench {

/// The instruction set of the kernels, for the names of benchmarks.
template <class P = simd::Native<float>> std::string instruction_set() {
  if constexpr (requires { P::arch_type::name(); })
    return P::arch_type::name();
  else
    return "scalar";
}

inline std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

inline std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "g++ " __VERSION__;
#else
  return "unknown";
#endif
}

/// The compiler's options, where the build tells them.
inline char const* flags() {
#if defined(AVIARY_BENCH_FLAGS)
  return AVIARY_BENCH_FLAGS;
#else
  return "unknown";
#endif
}

/// main of a benchmark program. --short prints the table that `table` makes, within seconds; all else is Google
/// Benchmark's (--help lists it).
template <class Table> int run(int argc, char** argv, Table&& table) {
  for (int i = 1; i < argc; ++i)
    if (std::strcmp(argv[i], "--short") == 0) {
      if (argc > 2) return std::fprintf(stderr, "%s: --short stands alone\n", argv[0]), 2;
      std::printf("CPU %s, %s, compiler %s, flags %s\n", cpu_model().c_str(), instruction_set().c_str(),
                  compiler().c_str(), flags());
      table();
      return 0;
    }
  benchmark::AddCustomContext("cpu", cpu_model());
  benchmark::AddCustomContext("instruction set", instruction_set());
  benchmark::AddCustomContext("compiler", compiler());
  benchmark::AddCustomContext("flags", flags());
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace aviary::bench
