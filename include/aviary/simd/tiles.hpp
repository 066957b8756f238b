#pragma once
/// The matrix unit of x86 (AMX): tiles of 16 rows of 64 bytes. AVIARY_HAS_TILES is 1 where the flags of the build have it for
/// 8-bit integers and bf16; the kernel of the operating system must grant it as well.
///
/// One shape serves all: sums of 32 rows and 32 columns, in four tiles. Rows lie as rows of a matrix, `bytes` of each are
/// multiplied at once: 32 of them are 32 integers, 64 are 32 bf16. Columns lie as the words of simd/words.hpp: 32 words, one
/// of each column, then 32 words with the numbers that follow.
#include <cstdint>
#include <cstring>

#include "aviary/simd/words.hpp"

#if defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__) && defined(__AVX512BW__) && \
    defined(__AVX512BF16__) && defined(__linux__) && !AVIARY_DEVICE_COMPILER
#define AVIARY_HAS_TILES 1
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#define AVIARY_HAS_TILES 0
#endif

namespace AVIARY_NAMESPACE::simd {

#if AVIARY_HAS_TILES
/// Whether the operating system lets this process use tiles. It is asked once.
inline bool tiles_granted() noexcept {
  static bool const granted = [] {
    constexpr long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
    return syscall(SYS_arch_prctl, request, tile_data) == 0;
  }();
  return granted;
}

/// Writes 16 numbers as bf16, and returns what that leaves of them. Subnormal numbers count for 0, as they do in the unit.
template <class P> AVIARY_INLINE P split_bf16(bf16* to, P const& x) noexcept {
  __m256bh const bits = _mm512_cvtneps_pbh(x);
  std::memcpy(to, &bits, sizeof bits);
  return x - P(_mm512_cvtpbh_ps(bits));
}

/// Writes numbers 2 k and 2 k + 1 of 16 words of S, q8 or q4, times a scale of as many bits as bf16 has: as words of two bf16,
/// the nearest, of which the lower comes first.
template <class S, class P>
AVIARY_INLINE void widen_to_bf16(std::uint32_t const* words, int k, P const& scale, std::uint32_t* to) noexcept {
  auto const number = [&](int at) AVIARY_INLINE_LAMBDA {
    if constexpr (std::is_same_v<S, q8>) {
      // The byte, with its sign turned, goes into bits 8 ... 15 of 2^15, from which one fma makes the product: both are exact.
      __m512i const byte =
          _mm512_slli_epi32(_mm512_add_epi32(_mm512_set4_epi32(12, 8, 4, 0), _mm512_set1_epi32(at)), 8);
      __m512i const excess = _mm512_xor_si512(_mm512_loadu_si512(words), _mm512_set1_epi8(-128));
      __m512i const bits = _mm512_mask_shuffle_epi8(_mm512_set1_epi32(0x47000000), 0x2222222222222222u, excess, byte);
      return _mm512_fmadd_ps(_mm512_castsi512_ps(bits), scale, scale * P(-0x1p15f - 128));
    } else {
      return scale * load_from_words<P, S>(words, at);
    }
  };
  auto const rounded = [&](int at) AVIARY_INLINE_LAMBDA {
    return _mm512_add_epi32(_mm512_castps_si512(number(at)), _mm512_set1_epi32(0x8000));
  };
  __m512i const low = _mm512_srli_epi32(rounded(2 * k), 16), high = rounded(2 * k + 1);
  _mm512_store_si512(to, _mm512_mask_blend_epi16(0xaaaaaaaa, low, high));
}

/// The tiles of this thread, from construction to destruction. Pointers are to rows of 64 bytes, or of `bytes`, a stride
/// apart. (Compilers know neither what tiles read nor when: a barrier stands before and after.)
template <int bytes> class Tiles {
 public:
  Tiles() noexcept {
    struct alignas(64) {
      std::uint8_t palette = 1, start = 0, reserved[14] = {};
      std::uint16_t bytes_of_row[16] = {64, 64, 64, 64, bytes, bytes, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, bytes / 4, bytes / 4};
    } const shape;
    asm volatile("" ::"r"(&shape) : "memory");
    _tile_loadconfig(&shape);
  }
  ~Tiles() { _tile_release(); }
  Tiles(Tiles const&) = delete;
  Tiles& operator=(Tiles const&) = delete;

  AVIARY_INLINE void clear() noexcept {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  /// Sums of rows 0 ... 15 and, if `both`, 16 ... 31, which lie so many bytes apart.
  AVIARY_INLINE void load(void const* sums, long stride, bool both) noexcept {
    auto const* const from = static_cast<char const*>(sums);
    barrier();
    _tile_loadd(0, from, stride);
    _tile_loadd(1, from + 64, stride);
    if (!both) return;
    _tile_loadd(2, from + 16 * stride, stride);
    _tile_loadd(3, from + 16 * stride + 64, stride);
  }
  AVIARY_INLINE void store(void* sums, long stride, bool both) noexcept {
    auto* const to = static_cast<char*>(sums);
    _tile_stored(0, to, stride);
    _tile_stored(1, to + 64, stride);
    if (both) {
      _tile_stored(2, to + 16 * stride, stride);
      _tile_stored(3, to + 16 * stride + 64, stride);
    }
    barrier();
  }
  /// What the next rows are multiplied by.
  AVIARY_INLINE void columns(std::uint32_t const* words) noexcept {
    barrier();
    _tile_loadd(6, words, 128);
    _tile_loadd(7, words + 16, 128);
  }
  /// Adds rows times columns.
  AVIARY_INLINE void add(void const* rows, long stride, bool both) noexcept {
    _tile_loadd(4, rows, stride);
    multiply_first();
    if (!both) return;
    _tile_loadd(5, static_cast<char const*>(rows) + 16 * stride, stride);
    multiply_second();
  }

 private:
  static AVIARY_INLINE void barrier() noexcept { asm volatile("" ::: "memory"); }
  static AVIARY_INLINE void multiply_first() noexcept {
    if constexpr (bytes == 32) {
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
    } else {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
    }
  }
  static AVIARY_INLINE void multiply_second() noexcept {
    if constexpr (bytes == 32) {
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    } else {
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
};
#else
inline constexpr bool tiles_granted() noexcept { return false; }
#endif

}  // namespace AVIARY_NAMESPACE::simd
