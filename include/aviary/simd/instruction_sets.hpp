#pragma once
/// The instruction sets that this build can run kernels with, as packs of numbers T and their names: for tests, for
/// benchmarks, and for who wants another than the build's own.
#include <tuple>

#include "aviary/simd/pack.hpp"

namespace AVIARY_NAMESPACE::simd {

/// A pack type P with the name of its instruction set.
template <class P> struct InstructionSet {
  using Pack = P;
  char const* name;
};

/// f(set) for each of them, from the plain number to the widest batch. What differs is only which is compiled: the build's
/// flags must allow all of them.
template <class T, class F> void for_each_instruction_set(F&& f) {
  f(InstructionSet<T>{"scalar"});
#if !AVIARY_DEVICE_COMPILER
#if XSIMD_WITH_SSE2
  f(InstructionSet<xsimd::batch<T, xsimd::sse2>>{"sse2"});
#endif
#if XSIMD_WITH_FMA3_AVX2
  f(InstructionSet<xsimd::batch<T, xsimd::fma3<xsimd::avx2>>>{"fma3+avx2"});
#elif XSIMD_WITH_AVX2
  f(InstructionSet<xsimd::batch<T, xsimd::avx2>>{"avx2"});
#endif
#if XSIMD_WITH_AVX512BW
  f(InstructionSet<xsimd::batch<T, xsimd::avx512bw>>{"avx512bw"});
#endif
#if XSIMD_WITH_NEON64
  f(InstructionSet<xsimd::batch<T, xsimd::neon64>>{"neon64"});
#endif
#endif
}

}  // namespace AVIARY_NAMESPACE::simd
