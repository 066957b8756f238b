#pragma once
/// Everything in `aviary` lies in an inline namespace that is called after the instruction set. A program may then have files
/// that are compiled for several: without it, of an inline function that two files compile the linker keeps one copy for
/// both, and the file for older processors may get instructions that they lack.
///
/// Users write aviary::Linear, and specialise templates, as if it was not there. Two things differ. A forward declaration
/// `namespace aviary { class Linear; }` declares another class: include the header. And an aviary type of one instruction
/// set is not that of another: files for different ones exchange numbers, spans and types of their own.
///
/// What the standard library makes of its own types alone, such as a std::vector<float>, has no such name. List the files
/// for the oldest processors first when you link: of several copies linkers keep the first. A program that chooses among its
/// instruction sets when it starts gets all of this from simd/dispatch.hpp and a CMake function.

/// 1 if a CUDA or HIP compiler reads this, whether it compiles for the host or for the device; else 0.
#if defined(__CUDACC__) || defined(__HIPCC__)
#define AVIARY_DEVICE_COMPILER 1
#else
#define AVIARY_DEVICE_COMPILER 0
#endif

/// The name of the instruction set: on x86 its level (x86-64-v2 to v4 of the psABI), then a letter for each further extension
/// that compilers use of their own accord. Extensions that are not in this list are told apart by a name of yours:
/// -DAVIARY_ISA=name.
#if defined(AVIARY_ISA)
// the user's
#elif AVIARY_DEVICE_COMPILER
#define AVIARY_ISA device
#elif defined(__x86_64__) || defined(__i386__) || defined(_M_X64) || defined(_M_IX86)

// AVIARY_ISA_IF(__FMA__, f) is f where the compiler defines __FMA__ as 1, else nothing: only a 1 makes the name of a macro
// that puts f into second place.
#define AVIARY_ISA_AFTER_1 unused,
#define AVIARY_ISA_SECOND(first, second, ...) second
#define AVIARY_ISA_CHOOSE(...) AVIARY_ISA_SECOND(__VA_ARGS__)
#define AVIARY_ISA_IF_VALUE(value, letter) AVIARY_ISA_CHOOSE(AVIARY_ISA_AFTER_##value letter, , )
#define AVIARY_ISA_IF(extension, letter) AVIARY_ISA_IF_VALUE(extension, letter)
#define AVIARY_ISA_JOIN_ALL(a, b, c, d, e, f, g, h, i, j, k, l, m) a##b##c##d##e##f##g##h##i##j##k##l##m
#define AVIARY_ISA_JOIN(...) AVIARY_ISA_JOIN_ALL(__VA_ARGS__)

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && defined(__BMI__) && defined(__BMI2__) && \
    defined(__LZCNT__) && defined(__MOVBE__) && defined(__POPCNT__)
#define AVIARY_ISA_HAS_V3 1
#endif

#if defined(AVIARY_ISA_HAS_V3) && defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512CD__) && \
    defined(__AVX512DQ__) && defined(__AVX512VL__)
#define AVIARY_ISA_LEVEL v4
#define AVIARY_ISA_REST                                                                                            \
  AVIARY_ISA_IF(__AVX512IFMA__, i), AVIARY_ISA_IF(__AVX512VBMI__, b), AVIARY_ISA_IF(__AVX512VBMI2__, c),           \
      AVIARY_ISA_IF(__AVX512VNNI__, n), AVIARY_ISA_IF(__AVX512BITALG__, a), AVIARY_ISA_IF(__AVX512VPOPCNTDQ__, p), \
      AVIARY_ISA_IF(__AVX512BF16__, k), AVIARY_ISA_IF(__AVX512FP16__, e), AVIARY_ISA_IF(__GFNI__, g),              \
      AVIARY_ISA_IF(__AVXVNNI__, v), AVIARY_ISA_IF(__AMX_INT8__, t), AVIARY_ISA_IF(__AMX_BF16__, u)
#elif defined(AVIARY_ISA_HAS_V3)
#if defined(__AVX512F__)
#define AVIARY_ISA_LEVEL v3_512
#else
#define AVIARY_ISA_LEVEL v3
#endif
#define AVIARY_ISA_REST                                                                           \
  AVIARY_ISA_IF(__AVX512BW__, w), AVIARY_ISA_IF(__AVX512CD__, d), AVIARY_ISA_IF(__AVX512DQ__, q), \
      AVIARY_ISA_IF(__AVX512VL__, l), AVIARY_ISA_IF(__FMA4__, f), AVIARY_ISA_IF(__XOP__, x),      \
      AVIARY_ISA_IF(__GFNI__, g), AVIARY_ISA_IF(__AVXVNNI__, v), , , ,
#else
#if defined(__AVX512F__)
#define AVIARY_ISA_LEVEL avx512
#elif defined(__AVX2__)
#define AVIARY_ISA_LEVEL avx2
#elif defined(__AVX__)
#define AVIARY_ISA_LEVEL avx
#elif defined(__SSE4_2__)
#define AVIARY_ISA_LEVEL sse42
#elif defined(__SSE4_1__)
#define AVIARY_ISA_LEVEL sse41
#elif defined(__SSSE3__)
#define AVIARY_ISA_LEVEL ssse3
#elif defined(__SSE3__)
#define AVIARY_ISA_LEVEL sse3
#else
#define AVIARY_ISA_LEVEL x86
#endif
#define AVIARY_ISA_REST                                                                                              \
  AVIARY_ISA_IF(__POPCNT__, p), AVIARY_ISA_IF(__LZCNT__, l), AVIARY_ISA_IF(__MOVBE__, m), AVIARY_ISA_IF(__BMI__, b), \
      AVIARY_ISA_IF(__BMI2__, c), AVIARY_ISA_IF(__F16C__, h), AVIARY_ISA_IF(__FMA__, f), AVIARY_ISA_IF(__FMA4__, 4), \
      AVIARY_ISA_IF(__XOP__, x), AVIARY_ISA_IF(__GFNI__, g), ,
#endif
#define AVIARY_ISA AVIARY_ISA_JOIN(AVIARY_ISA_LEVEL, AVIARY_ISA_REST)

#elif defined(__ARM_FEATURE_SVE)
#define AVIARY_ISA sve
#elif defined(__ARM_FEATURE_DOTPROD)
#define AVIARY_ISA neon_dot
#elif defined(__ARM_NEON)
#define AVIARY_ISA neon
#elif defined(__riscv_vector)
#define AVIARY_ISA rvv
#elif defined(__wasm_simd128__)
#define AVIARY_ISA simd128
#else
#define AVIARY_ISA generic
#endif

/// What every header opens: namespace AVIARY_NAMESPACE { ... }, or namespace AVIARY_NAMESPACE::detail { ... }.
#define AVIARY_NAMESPACE aviary::inline AVIARY_ISA
