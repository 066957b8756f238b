#pragma once
/// Exact sums of products of 8-bit integers: each 32-bit lane adds up the products of its four bytes with four bytes that are
/// the same for all lanes. The sums are the same on every unit.
#include <cstdint>
#include <cstring>

#include "aviary/simd/words.hpp"

#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace AVIARY_NAMESPACE::simd {

namespace detail {

/// The unit for as many lanes as packs of A have. `Sums` are 32-bit lanes, and `Steps` weights made ready for it.
///
///   set(n)                 n in every lane
///   add(sums, steps, x)    sums plus the products with the four bytes of x, which are -127 ... 127
///   number(sums)           as floats; exact below 2^24
///   steps8(words)          weights of q8, to each of which `excess` is added
///   steps4(words, half)    numbers 4 half ... 4 half + 3 of words of q4, to which 8 is added
///   is_fast                whether it is worth more than multiplying floats
///
/// This is the unit that goes lane by lane.
template <class P, Index lanes> struct DotUnit {
  static constexpr bool is_fast = false;
  static constexpr int excess = 0;
  struct Sums {
    std::int32_t lane[to_size(lanes)];
  };
  struct Steps {
    std::int8_t byte[to_size(lanes)][4];
  };
  static AVIARY_INLINE Sums set(std::int32_t n) noexcept {
    Sums sums;
    for (std::int32_t& lane : sums.lane) lane = n;
    return sums;
  }
  static AVIARY_INLINE Sums add(Sums sums, Steps const& w, std::uint32_t x) noexcept {
    for (Index i = 0; i < lanes; ++i)
      for (int k = 0; k < 4; ++k) sums.lane[i] += w.byte[i][k] * static_cast<std::int8_t>(x >> 8 * k);
    return sums;
  }
  static AVIARY_INLINE P number(Sums const& sums) noexcept {
    float lane[to_size(lanes)];
    for (Index i = 0; i < lanes; ++i) lane[i] = static_cast<float>(sums.lane[i]);
    return Pack<P>::load(lane);
  }
  static AVIARY_INLINE Steps steps8(std::uint32_t const* words) noexcept { return bytes(words, 0, 0xffffffffu); }
  static AVIARY_INLINE Steps steps4(std::uint32_t const* words, int half) noexcept {
    return bytes(words, 4 * half, 0x0f0f0f0fu);
  }

 private:
  static AVIARY_INLINE Steps bytes(std::uint32_t const* words, int shift, std::uint32_t mask) noexcept {
    Steps steps;
    for (Index i = 0; i < lanes; ++i)
      for (int k = 0; k < 4; ++k) steps.byte[i][k] = static_cast<std::int8_t>((words[i] >> shift & mask) >> 8 * k);
    return steps;
  }
};

#if !AVIARY_DEVICE_COMPILER && XSIMD_WITH_AVX512BW
template <class A> struct DotUnit<xsimd::batch<float, A>, 16> {
  static constexpr bool is_fast = true;
  using Sums = __m512i;
  static AVIARY_INLINE Sums set(std::int32_t n) noexcept { return _mm512_set1_epi32(n); }
  static AVIARY_INLINE xsimd::batch<float, A> number(Sums sums) noexcept {
    return _mm512_maskz_cvtepi32_ps(0xffff, sums);  // all lanes: see half.hpp
  }
  static AVIARY_INLINE Sums load(std::int32_t const* sums) noexcept { return _mm512_loadu_si512(sums); }
  /// Words of q4 as two rows of 32 words of q8: numbers 0 ... 3, and 4 ... 7.
  static AVIARY_INLINE void spread4(std::uint32_t const* words, std::uint32_t* rows) noexcept {
    for (int half = 0; half < 2; ++half)
      _mm512_storeu_si512(rows + 32 * half, _mm512_sub_epi8(nibbles(words, half), _mm512_set1_epi8(8)));
  }
#if defined(__AVX512VNNI__)
  static constexpr int excess = 128;
  using Steps = __m512i;
  static AVIARY_INLINE Sums add(Sums sums, Steps w, std::uint32_t x) noexcept {
    return _mm512_dpbusd_epi32(sums, w, set(static_cast<std::int32_t>(x)));
  }
  static AVIARY_INLINE Steps steps8(std::uint32_t const* words) noexcept {
    return _mm512_xor_si512(_mm512_loadu_si512(words), _mm512_set1_epi8(-128));
  }
  static AVIARY_INLINE Steps steps4(std::uint32_t const* words, int half) noexcept { return nibbles(words, half); }
#else
  /// Magnitudes and signs: products of pairs then fit 16 bits.
  static constexpr int excess = 0;
  struct Steps {
    __m512i size;
    __mmask64 negative;
  };
  static AVIARY_INLINE Sums add(Sums sums, Steps const& w, std::uint32_t x) noexcept {
    __m512i const bytes = set(static_cast<std::int32_t>(x));
    __m512i const turned = _mm512_mask_sub_epi8(bytes, w.negative, _mm512_setzero_si512(), bytes);
    return _mm512_add_epi32(sums, _mm512_madd_epi16(_mm512_maddubs_epi16(w.size, turned), _mm512_set1_epi16(1)));
  }
  static AVIARY_INLINE Steps steps8(std::uint32_t const* words) noexcept {
    __m512i const w = _mm512_loadu_si512(words);
    return {_mm512_abs_epi8(w), _mm512_movepi8_mask(w)};
  }
  static AVIARY_INLINE Steps steps4(std::uint32_t const* words, int half) noexcept { return {nibbles(words, half), 0}; }
#endif

 private:
  static AVIARY_INLINE __m512i nibbles(std::uint32_t const* words, int half) noexcept {
    __m512i const w = _mm512_loadu_si512(words);
    return _mm512_and_si512(half == 0 ? w : _mm512_maskz_srli_epi16(~__mmask32{0}, w, 4), _mm512_set1_epi8(15));
  }
};
#endif

#if !AVIARY_DEVICE_COMPILER && XSIMD_WITH_AVX2
template <class A> struct DotUnit<xsimd::batch<float, A>, 8> {
  static constexpr bool is_fast = true;
  using Sums = __m256i;
  using Steps = __m256i;
  static AVIARY_INLINE Sums set(std::int32_t n) noexcept { return _mm256_set1_epi32(n); }
  static AVIARY_INLINE xsimd::batch<float, A> number(Sums sums) noexcept { return _mm256_cvtepi32_ps(sums); }
#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
  static constexpr int excess = 128;
  static AVIARY_INLINE Sums add(Sums sums, Steps w, std::uint32_t x) noexcept {
    __m256i const bytes = set(static_cast<std::int32_t>(x));
#if defined(__AVXVNNI__)
    return _mm256_dpbusd_avx_epi32(sums, w, bytes);
#else
    return _mm256_dpbusd_epi32(sums, w, bytes);
#endif
  }
  static AVIARY_INLINE Steps steps8(std::uint32_t const* words) noexcept {
    return _mm256_xor_si256(load(words), _mm256_set1_epi8(-128));
  }
#else
  /// Products of magnitudes with bytes that take the sign: pairs of them fit 16 bits.
  static constexpr int excess = 0;
  static AVIARY_INLINE Sums add(Sums sums, Steps w, std::uint32_t x) noexcept {
    __m256i const turned = _mm256_sign_epi8(set(static_cast<std::int32_t>(x)), w);
    __m256i const pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), turned);
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static AVIARY_INLINE Steps steps8(std::uint32_t const* words) noexcept { return load(words); }
#endif
  static AVIARY_INLINE Steps steps4(std::uint32_t const* words, int half) noexcept {
    __m256i const w = load(words);
    return _mm256_and_si256(half == 0 ? w : _mm256_srli_epi16(w, 4), _mm256_set1_epi8(15));
  }

 private:
  static AVIARY_INLINE __m256i load(std::uint32_t const* words) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<__m256i const*>(words));
  }
};
#endif

#if !AVIARY_DEVICE_COMPILER && XSIMD_WITH_NEON64
template <class A> struct DotUnit<xsimd::batch<float, A>, 4> {
  static constexpr bool is_fast = true;
  static constexpr int excess = 0;
  using Sums = int32x4_t;
  using Steps = int8x16_t;
  static AVIARY_INLINE Sums set(std::int32_t n) noexcept { return vdupq_n_s32(n); }
  static AVIARY_INLINE xsimd::batch<float, A> number(Sums sums) noexcept { return vcvtq_f32_s32(sums); }
  static AVIARY_INLINE Sums add(Sums sums, Steps w, std::uint32_t x) noexcept {
    int8x16_t const bytes = vreinterpretq_s8_u32(vdupq_n_u32(x));
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sums, w, bytes);
#else
    int32x4_t const low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(bytes)));
    return vaddq_s32(sums, vpaddq_s32(low, vpaddlq_s16(vmull_high_s8(w, bytes))));
#endif
  }
  static AVIARY_INLINE Steps steps8(std::uint32_t const* words) noexcept {
    return vreinterpretq_s8_u32(vld1q_u32(words));
  }
  static AVIARY_INLINE Steps steps4(std::uint32_t const* words, int half) noexcept {
    uint8x16_t const w = vreinterpretq_u8_u32(vld1q_u32(words));
    return vreinterpretq_s8_u8(half == 0 ? vandq_u8(w, vdupq_n_u8(15)) : vshrq_n_u8(w, 4));
  }
};
#endif

}  // namespace detail

/// The unit of packs P of floats.
template <class P> using Dot = detail::DotUnit<P, Pack<P>::lanes>;

}  // namespace AVIARY_NAMESPACE::simd
