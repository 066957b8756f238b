#pragma once
/// Packs from 32-bit words that hold several short numbers each, as weights lie: lane n comes from word n.
///
///   bf16   2 numbers: bits 16 k on
///   q8     4 numbers: bits 8 k on, as the two's complement of its steps
///   q4     8 numbers: bits 8 (k % 4) + 4 (k / 4) on, as its steps + 8: numbers 0 ... 3 are the lower halves of the bytes
#include <cstdint>
#include <type_traits>

#include "aviary/simd/pack.hpp"

namespace AVIARY_NAMESPACE::simd {

/// Numbers of S in a word; 0 if S does not lie in words.
template <class S>
inline constexpr int numbers_per_word = std::is_same_v<S, q4>     ? 8
                                        : std::is_same_v<S, q8>   ? 4
                                        : std::is_same_v<S, bf16> ? 2
                                                                  : 0;

/// The lowest bit of number k of a word.
template <class S> constexpr int bit_in_word(int k) noexcept {
  return std::is_same_v<S, q4> ? 8 * (k % 4) + 4 * (k / 4) : 32 / numbers_per_word<S> * k;
}

namespace detail {

/// Number k of one word: a float of bf16, or steps.
template <class S> constexpr float number_of_word(std::uint32_t word, int k) noexcept {
  std::uint32_t const low = word >> bit_in_word<S>(k);
  if constexpr (std::is_same_v<S, bf16>)
    return widen(bf16{static_cast<std::uint16_t>(low)});
  else if constexpr (std::is_same_v<S, q8>)
    return static_cast<float>(static_cast<std::int8_t>(low));
  else
    return static_cast<float>(static_cast<int>(low & 15u) - 8);
}

/// How a pack P takes numbers from words: lane by lane, unless an instruction set can do better.
template <class P> struct FromWords {
  template <class S> static AVIARY_INLINE P load(std::uint32_t const* words, int k) noexcept {
    using T = typename Pack<P>::value_type;
    T lanes[Pack<P>::lanes];
    for (Index i = 0; i < Pack<P>::lanes; ++i) lanes[i] = static_cast<T>(number_of_word<S>(words[i], k));
    return Pack<P>::load(lanes);
  }
};

#if !AVIARY_DEVICE_COMPILER
template <class A> struct FromWords<xsimd::batch<float, A>> {
  using F = xsimd::batch<float, A>;
  using U = xsimd::batch<std::uint32_t, A>;

  template <class S> static AVIARY_INLINE F load(std::uint32_t const* words, int k) noexcept {
    U const w = U::load_unaligned(words);
    if constexpr (std::is_same_v<S, bf16>)
      return same_bits<float>(k == 0 ? w << 16 : w & U(0xffff0000u));
    else if constexpr (std::is_same_v<S, q8>)
      return steps8(w, k);
    else
      return steps4(k == 0 ? w : w >> bit_in_word<S>(k));
  }

 private:
  /// A float of 2^23 + n, for n < 2^23 in the lower bits, is n below an exponent: an `or` and a subtraction convert.
  static constexpr float shift = 0x1p23f;
  static constexpr std::uint32_t exponent = 0x4b000000u;

  static AVIARY_INLINE F steps8(U const& w, int k) noexcept {
#if XSIMD_WITH_AVX512BW
    if constexpr (F::size == 16) {  // one shuffle puts the byte, with its sign turned, below the exponent
      __m512i const byte = _mm512_add_epi32(_mm512_set4_epi32(12, 8, 4, 0), _mm512_set1_epi32(k));
      __m512i const excess = _mm512_xor_si512(w, _mm512_set1_epi8(-128));
      __m512i const bits = _mm512_mask_shuffle_epi8(U(exponent), 0x1111111111111111u, excess, byte);
      return F(_mm512_castsi512_ps(bits)) - F(shift + 128);
    } else
#endif
#if XSIMD_WITH_AVX2
        if constexpr (F::size == 8) {
      __m256i const none = _mm256_set1_epi32(static_cast<int>(0x80808000u));
      __m256i const byte = _mm256_add_epi32(_mm256_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12), _mm256_set1_epi32(k));
      U const excess = w ^ U(0x80808080u);
      return same_bits<float>(U(_mm256_shuffle_epi8(excess, _mm256_or_si256(none, byte))) | U(exponent)) -
             F(shift + 128);
    } else
#endif
      return xsimd::to_float(same_bits<std::int32_t>(k == 3 ? w : w << (24 - bit_in_word<q8>(k))) >> 24);
  }
  /// Those in the lowest 4 bits.
  static AVIARY_INLINE F steps4(U const& w) noexcept {
#if XSIMD_WITH_AVX512F
    if constexpr (F::size == 16) {  // a table, which is looked up with these bits
      __m512 const table = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
      return F(_mm512_maskz_permutexvar_ps(0xffff, w, table));
    } else
#endif
      return same_bits<float>((w & U(15u)) | U(exponent)) - F(shift + 8);
  }
};
#endif

template <class Q, int... n> struct FromWords<Side<Q, std::integer_sequence<int, n...>>> {
  using P = Side<Q, std::integer_sequence<int, n...>>;
  template <class S> static AVIARY_INLINE P load(std::uint32_t const* words, int k) noexcept {
    return {typename P::Parts{}, FromWords<Q>::template load<S>(words + n * Pack<Q>::lanes, k)...};
  }
};

}  // namespace detail

/// Number k of as many words as P has lanes: of bf16 as it is, of q8 and q4 the steps.
template <class P, class S> AVIARY_INLINE P load_from_words(std::uint32_t const* words, int k) noexcept {
  return detail::FromWords<P>::template load<S>(words, k);
}

}  // namespace AVIARY_NAMESPACE::simd
