#pragma once
/// The matrix unit of x86 (AMX): tiles of 16 rows of 64 bytes. AVIARY_HAS_TILES is 1 where the flags of the build have it for
/// 8-bit integers and bf16; the kernel of the operating system must grant it as well.
///
/// One shape serves all: sums of 32 rows and 32 columns, in four tiles. Rows lie as rows of a matrix, `bytes` of each are
/// multiplied at once: 32 of them are 32 integers, 64 are 32 bf16. Columns lie as the words of simd/words.hpp: 32 words, one
/// of each column, then 32 words with the numbers that follow.
#include <cstdint>

#include "aviary/simd/xsimd.hpp"

#if defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__) && defined(__AVX512BW__) && \
    defined(__linux__) && !AVIARY_DEVICE_COMPILER
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
  /// Sums of rows 0 ... 15 and, if `both`, 16 ... 31, which lie 128 bytes apart.
  AVIARY_INLINE void load(void const* sums, bool both) noexcept {
    auto const* const from = static_cast<char const*>(sums);
    barrier();
    _tile_loadd(0, from, 128);
    _tile_loadd(1, from + 64, 128);
    if (!both) return;
    _tile_loadd(2, from + 16 * 128, 128);
    _tile_loadd(3, from + 16 * 128 + 64, 128);
  }
  AVIARY_INLINE void store(void* sums, bool both) noexcept {
    auto* const to = static_cast<char*>(sums);
    _tile_stored(0, to, 128);
    _tile_stored(1, to + 64, 128);
    if (both) {
      _tile_stored(2, to + 16 * 128, 128);
      _tile_stored(3, to + 16 * 128 + 64, 128);
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
