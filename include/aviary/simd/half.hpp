#pragma once
/// Packs from and to bf16 and f16 in memory, the same numbers as widen and narrow of core/convert.hpp give one by one, and
/// from 8-bit integers. For pack.hpp, which includes it; include that.
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "aviary/core/convert.hpp"

#if !defined(__CUDACC__)
#include <xsimd/xsimd.hpp>
#endif

namespace aviary::simd::detail {

#if !defined(__CUDACC__)
/// What a batch of floats does with 16-bit numbers.
template <class A> struct HalfBatch {
  using F = xsimd::batch<float, A>;
  using U = xsimd::batch<std::uint32_t, A>;
  static constexpr std::size_t lanes = F::size;

  static AVIARY_INLINE F as_float(U const& u) noexcept {
#if XSIMD_VERSION_MAJOR >= 11
    return xsimd::bitwise_cast<float>(u);
#else
    return xsimd::bitwise_cast<F>(u);
#endif
  }
  static AVIARY_INLINE U as_bits(F const& x) noexcept {
#if XSIMD_VERSION_MAJOR >= 11
    return xsimd::bitwise_cast<std::uint32_t>(x);
#else
    return xsimd::bitwise_cast<U>(x);
#endif
  }
  /// 16-bit numbers, each in the lower half of a lane.
  template <class H> static AVIARY_INLINE U load_bits(H const* p) noexcept {
#if XSIMD_WITH_AVX512F
    if constexpr (lanes == 16)
      return U(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<__m256i const*>(p))));
    else
#endif
#if XSIMD_WITH_AVX2
        if constexpr (lanes == 8)
      return U(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<__m128i const*>(p))));
    else
#endif
    {
      std::uint32_t bits[lanes];
      for (std::size_t i = 0; i < lanes; ++i) bits[i] = p[i].bits;
      return U::load_unaligned(bits);
    }
  }
  template <class H> static AVIARY_INLINE void store_bits(H* p, U const& u) noexcept {
#if XSIMD_WITH_AVX512F
    if constexpr (lanes == 16)
      return _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(u));
    else
#endif
    {
      std::uint32_t bits[lanes];
      u.store_unaligned(bits);
      for (std::size_t i = 0; i < lanes; ++i) p[i].bits = static_cast<std::uint16_t>(bits[i]);
    }
  }

  static AVIARY_INLINE F load(std::int8_t const* p) noexcept {
#if XSIMD_WITH_AVX512F
    if constexpr (lanes == 16)
      return F(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<__m128i const*>(p)))));
    else
#endif
#if XSIMD_WITH_AVX2
        if constexpr (lanes == 8)
      return F(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<__m128i const*>(p)))));
    else
#endif
    {
      float x[lanes];
      for (std::size_t i = 0; i < lanes; ++i) x[i] = static_cast<float>(p[i]);
      return F::load_unaligned(x);
    }
  }

  static AVIARY_INLINE F load(bf16 const* p) noexcept { return as_float(load_bits(p) << 16); }
  static AVIARY_INLINE void store(bf16* p, F const& x) noexcept {
    U const u = as_bits(x);
    U const rounded = (u + U(0x7fffu) + ((u >> 16) & U(1u))) >> 16;
    U const quiet = (u >> 16) | U(0x40u);
    store_bits(p, select(u, rounded, quiet));
  }

  static AVIARY_INLINE F load(f16 const* p) noexcept {
#if XSIMD_WITH_AVX512F
    if constexpr (lanes == 16)
      return F(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<__m256i const*>(p))));
    else
#endif
#if defined(__F16C__)
        if constexpr (lanes == 8)
      return F(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<__m128i const*>(p))));
    else
#endif
    {
      float x[lanes];
      for (std::size_t i = 0; i < lanes; ++i) x[i] = widen(p[i]);
      return F::load_unaligned(x);
    }
  }
  static AVIARY_INLINE void store(f16* p, F const& x) noexcept {
#if XSIMD_WITH_AVX512F
    if constexpr (lanes == 16)
      return _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                                 _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    else
#endif
#if defined(__F16C__)
        if constexpr (lanes == 8)
      return _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                              _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    else
#endif
    {
      float numbers[lanes];
      x.store_unaligned(numbers);
      for (std::size_t i = 0; i < lanes; ++i) p[i] = narrow<f16>(numbers[i]);
    }
  }

 private:
  /// `number` where u are the bits of a number, else `other`.
  static AVIARY_INLINE U select(U const& u, U const& number, U const& other) noexcept {
    return xsimd::select((u & U(0x7fffffffu)) <= U(0x7f800000u), number, other);
  }
};
#endif

/// Lanes one by one: for a number, and for packs of double.
template <class P> struct Half { static constexpr bool in_batches = false; };
#if !defined(__CUDACC__)
template <class A> struct Half<xsimd::batch<float, A>> : HalfBatch<A> { static constexpr bool in_batches = true; };
#endif

}  // namespace aviary::simd::detail
