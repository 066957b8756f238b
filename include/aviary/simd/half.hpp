#pragma once
/// Packs are loaded from bf16 and f16 and stored as such. The numbers are those that widen and
/// narrow of core/convert.hpp give one by one. This header belongs to pack.hpp: include that one.
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "aviary/core/convert.hpp"
#include "aviary/simd/xsimd.hpp"

namespace AVIARY_NAMESPACE::simd::detail {

/// How a pack P loads and stores 16-bit numbers. A single number and a pack of double have no way of their
/// own: pack.hpp converts their lanes one by one.
template <class P> struct Half {};

#if !AVIARY_DEVICE_COMPILER
/// The same bits, read as lanes of type To.
template <class To, class From, class A>
AVIARY_INLINE xsimd::batch<To, A> same_bits(xsimd::batch<From, A> const& x) noexcept {
#if XSIMD_VERSION_MAJOR >= 11
  return xsimd::bitwise_cast<To>(x);
#else
  return xsimd::bitwise_cast<xsimd::batch<To, A>>(x);
#endif
}

/// @name What differs between instruction sets A
/// Each struct converts floats from and to f16, moves the bits of bf16 from and to the lower half of 32-bit lanes, and
/// chooses between 32-bit integers.
///@{

/// Every instruction set can work lane by lane. The structs below inherit what they cannot do better.
template <class A> struct EachLane {
  using F = xsimd::batch<float, A>;
  using U = xsimd::batch<std::uint32_t, A>;
  static constexpr std::size_t lanes = F::size;

  static AVIARY_INLINE F load_f16(f16 const* p) noexcept {
    float x[lanes];
    for (std::size_t i = 0; i < lanes; ++i) x[i] = widen(p[i]);
    return F::load_unaligned(x);
  }
  static AVIARY_INLINE void store_f16(f16* p, F const& x) noexcept {
    float numbers[lanes];
    x.store_unaligned(numbers);
    for (std::size_t i = 0; i < lanes; ++i) p[i] = narrow<f16>(numbers[i]);
  }
  static AVIARY_INLINE U load_bits(bf16 const* p) noexcept {
    std::uint32_t bits[lanes];
    for (std::size_t i = 0; i < lanes; ++i) bits[i] = p[i].bits;
    return U::load_unaligned(bits);
  }
  static AVIARY_INLINE void store_bits(bf16* p, U const& u) noexcept {
    std::uint32_t bits[lanes];
    u.store_unaligned(bits);
    for (std::size_t i = 0; i < lanes; ++i) p[i].bits = static_cast<std::uint16_t>(bits[i]);
  }
  template <class Mask> static AVIARY_INLINE U select(Mask const& condition, U const& yes, U const& no) noexcept {
    return xsimd::select(condition, yes, no);
  }
};

/// The instructions for f16 are older than AVX2, and compilers have a flag for them alone.
template <class A, std::size_t lanes> struct F16 : EachLane<A> {};

#if defined(__F16C__)
template <class A> struct F16<A, 8> : EachLane<A> {
  using typename EachLane<A>::F;

  static AVIARY_INLINE F load_f16(f16 const* p) noexcept {
    return F(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<__m128i const*>(p))));
  }
  static AVIARY_INLINE void store_f16(f16* p, F const& x) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
};
#endif

template <class A, std::size_t lanes> struct HalfTraits : F16<A, lanes> {};

#if XSIMD_WITH_AVX2
template <class A> struct HalfTraits<A, 8> : F16<A, 8> {
  using typename EachLane<A>::F;
  using typename EachLane<A>::U;

  static AVIARY_INLINE U load_bits(bf16 const* p) noexcept {
    return U(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<__m128i const*>(p))));
  }
};
#endif

#if XSIMD_WITH_AVX512F
/// The masks take all lanes, and cost nothing. Without a mask g++ 12 warns of its own header.
template <class A> struct HalfTraits<A, 16> : EachLane<A> {
  using typename EachLane<A>::F;
  using typename EachLane<A>::U;

  static AVIARY_INLINE F load_f16(f16 const* p) noexcept {
    return F(_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<__m256i const*>(p))));
  }
  static AVIARY_INLINE void store_f16(f16* p, F const& x) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_maskz_cvtps_ph(0xffff, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static AVIARY_INLINE U load_bits(bf16 const* p) noexcept {
    return U(_mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256(reinterpret_cast<__m256i const*>(p))));
  }
  static AVIARY_INLINE void store_bits(bf16* p, U const& u) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_maskz_cvtepi32_epi16(0xffff, u));
  }
  /// The select of xsimd 8.1 does not compile with g++ at -O0.
  template <class Mask> static AVIARY_INLINE U select(Mask const& condition, U const& yes, U const& no) noexcept {
    return U(_mm512_mask_mov_epi32(no, condition, yes));
  }
};
#endif
///@}

template <class A> struct Half<xsimd::batch<float, A>> {
  using F = xsimd::batch<float, A>;
  using U = xsimd::batch<std::uint32_t, A>;
  using Traits = HalfTraits<A, F::size>;

  static AVIARY_INLINE F load(f16 const* p) noexcept { return Traits::load_f16(p); }
  static AVIARY_INLINE void store(f16* p, F const& x) noexcept { Traits::store_f16(p, x); }
  static AVIARY_INLINE F load(bf16 const* p) noexcept { return same_bits<float>(Traits::load_bits(p) << 16); }
  static AVIARY_INLINE void store(bf16* p, F const& x) noexcept {
    U const u = same_bits<std::uint32_t>(x), upper = u >> 16;
    U const rounded = (u + U(0x7fffu) + (upper & U(1u))) >> 16, quiet = upper | U(0x40u);
    auto const is_number = (u & U(0x7fffffffu)) <= U(0x7f800000u);
    Traits::store_bits(p, Traits::select(is_number, rounded, quiet));
  }
};
#endif

}  // namespace AVIARY_NAMESPACE::simd::detail
