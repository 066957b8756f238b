#pragma once
/// The formats in which GGUF files hold the numbers of tensors: as they are, or in blocks of neighbours that share a scale.
/// These are formats of files. What reads them gets floats, which are exactly the numbers that a format stands for: of
/// the products below none is rounded, of the sums each once.
/// Format: https://github.com/ggml-org/ggml, ggml-common.h (the blocks) and ggml-quants.c (dequantize_row_*)
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "aviary/core/convert.hpp"

namespace AVIARY_NAMESPACE {

enum class BlockFormat : unsigned char { f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k };

namespace detail {

/// The bytes of one block.
struct Block {
  std::byte const* bytes;

  std::uint32_t byte(std::size_t at) const noexcept { return std::to_integer<std::uint32_t>(bytes[at]); }
  float signed_byte(std::size_t at) const noexcept {
    return static_cast<float>(static_cast<std::int8_t>(std::to_integer<std::uint8_t>(bytes[at])));
  }
  template <class T> T number(std::size_t at) const noexcept {
    T out;
    std::memcpy(&out, bytes + at, sizeof(T));
    return out;
  }
  float half(std::size_t at) const noexcept { return widen(number<f16>(at)); }
};

/// A number for itself.
template <class T> struct SingleBlock {
  static constexpr std::size_t numbers = 1, bytes = sizeof(T);
  static void decode(Block block, float* to) noexcept { *to = widen(block.number<T>(0)); }
};

/// 32 numbers of 4 or 5 bits: a scale d, an offset or none, the fifth bits or none, then the others, two in a byte: number
/// j + 16 above number j.  d (q - 8), d (q - 16) or d q + offset.
template <bool has_offset, bool has_fifth_bit> struct SmallBlock {
  static constexpr std::size_t numbers = 32, fifth_bits = has_offset ? 4 : 2,
                               steps = fifth_bits + (has_fifth_bit ? 4 : 0);
  static constexpr std::size_t bytes = steps + 16;

  static void decode(Block block, float* to) noexcept {
    constexpr int middle = has_fifth_bit ? 16 : 8;
    float const d = block.half(0), offset = has_offset ? block.half(2) : 0.0f;
    std::uint32_t high = 0;
    if constexpr (has_fifth_bit) high = block.number<std::uint32_t>(fifth_bits);
    auto const number = [&](std::uint32_t low, std::size_t i) {
      auto const q = static_cast<int>(low | (high >> i & 1u) << 4);
      return has_offset ? d * static_cast<float>(q) + offset : d * static_cast<float>(q - middle);
    };
    for (std::size_t j = 0; j < 16; ++j) {
      std::uint32_t const both = block.byte(steps + j);
      to[j] = number(both & 15u, j);
      to[j + 16] = number(both >> 4, j + 16);
    }
  }
};

/// 32 numbers of 8 bits after their scale:  d q.
struct ByteBlock {
  static constexpr std::size_t numbers = 32, bytes = 2 + 32;
  static void decode(Block block, float* to) noexcept {
    float const d = block.half(0);
    for (std::size_t j = 0; j < numbers; ++j) to[j] = d * block.signed_byte(2 + j);
  }
};

/// 256 numbers of 4 or 5 bits in 8 groups, each of which has a scale and an offset of 6 bits:  d scale q - d_offset offset.
/// The bits of a pair of groups lie in 32 bytes, the second above the first; fifth bits of group g are bit g of 32 others.
template <bool has_fifth_bit> struct GroupedBlock {
  static constexpr std::size_t numbers = 256, scales = 4, fifth_bits = 16, steps = has_fifth_bit ? 48 : 16;
  static constexpr std::size_t bytes = steps + 128;

  static void decode(Block block, float* to) noexcept {
    float const d = block.half(0), d_offset = block.half(2);
    for (std::size_t g = 0; g < 8; ++g) {
      auto const [scale, offset] = scale_and_offset(block, g);
      float const step = d * static_cast<float>(scale), below = d_offset * static_cast<float>(offset);
      for (std::size_t j = 0; j < 32; ++j) {
        std::uint32_t q = block.byte(steps + g / 2 * 32 + j) >> (g % 2 * 4) & 15u;
        if constexpr (has_fifth_bit) q |= (block.byte(fifth_bits + j) >> g & 1u) << 4;
        to[32 * g + j] = step * static_cast<float>(q) - below;
      }
    }
  }

 private:
  /// 12 bytes for 8 pairs: those of groups 0 to 3 in the lower 6 bits of a byte each; of the others 4 bits in the last
  /// bytes, and 2 in the upper bits of the first.
  static std::array<std::uint32_t, 2> scale_and_offset(Block block, std::size_t g) noexcept {
    auto const byte = [&](std::size_t i) { return block.byte(scales + i); };
    if (g < 4) return {byte(g) & 63u, byte(g + 4) & 63u};
    return {(byte(g + 4) & 15u) | byte(g - 4) >> 6 << 4, byte(g + 4) >> 4 | byte(g) >> 6 << 4};
  }
};

/// 256 numbers of 6 bits in 16 groups, each of which has a scale of 8 bits:  d scale (q - 32). Lower 4 bits of all, upper 2 of
/// all, scales, d. In each half of the numbers j + 64 is above j in the first, and j + 32, j + 64, j + 96 in the second.
struct SixBitBlock {
  static constexpr std::size_t numbers = 256, upper = 128, scales = 192, bytes = 210;

  static void decode(Block block, float* to) noexcept {
    float const d = block.half(208);
    for (std::size_t i = 0; i < numbers; ++i) {
      std::size_t const half = i / 128, j = i % 128;
      std::uint32_t const low = block.byte(64 * half + j % 64) >> (j / 64 * 4) & 15u;
      std::uint32_t const high = block.byte(upper + 32 * half + j % 32) >> (j / 32 * 2) & 3u;
      to[i] = d * block.signed_byte(scales + i / 16) * static_cast<float>(static_cast<int>(low | high << 4) - 32);
    }
  }
};

/// Calls f.operator()<B>() with what decodes a format.
template <class F> constexpr decltype(auto) with_blocks(BlockFormat format, F&& f) {
  switch (format) {
    case BlockFormat::f32:
      return f.template operator()<SingleBlock<float>>();
    case BlockFormat::f16:
      return f.template operator()<SingleBlock<f16>>();
    case BlockFormat::bf16:
      return f.template operator()<SingleBlock<bf16>>();
    case BlockFormat::q4_0:
      return f.template operator()<SmallBlock<false, false>>();
    case BlockFormat::q4_1:
      return f.template operator()<SmallBlock<true, false>>();
    case BlockFormat::q5_0:
      return f.template operator()<SmallBlock<false, true>>();
    case BlockFormat::q5_1:
      return f.template operator()<SmallBlock<true, true>>();
    case BlockFormat::q8_0:
      return f.template operator()<ByteBlock>();
    case BlockFormat::q4_k:
      return f.template operator()<GroupedBlock<false>>();
    case BlockFormat::q5_k:
      return f.template operator()<GroupedBlock<true>>();
    default:
      AVIARY_ASSERT(format == BlockFormat::q6_k);
      return f.template operator()<SixBitBlock>();
  }
}

}  // namespace detail

/// Numbers and bytes of a block.
struct BlockSize {
  std::size_t numbers, bytes;
};
constexpr BlockSize block_size(BlockFormat format) noexcept {
  return detail::with_blocks(format, [&]<class B>() { return BlockSize{B::numbers, B::bytes}; });
}

/// "f32", "q4_0", "q6_k": the name in messages and lists.
constexpr std::string_view block_format_name(BlockFormat format) noexcept {
  constexpr std::array<std::string_view, 11> names{"f32",  "f16",  "bf16", "q4_0", "q4_1", "q5_0",
                                                   "q5_1", "q8_0", "q4_k", "q5_k", "q6_k"};
  return names[static_cast<std::size_t>(format)];
}

/// Numbers in blocks, seen as floats.
struct BlockNumbers {
  BlockFormat format;
  std::size_t first = 0;  ///< the place of number 0 among those of the blocks
  int halvings = 0;       ///< the blocks hold each number divided by 2 so often

  /// to[i] = number place + i stride, for n numbers, of blocks that lie from `bytes` on.
  /// Cost: a block is decoded once where its numbers follow each other.
  void decode(std::byte const* bytes, std::size_t place, std::size_t stride, float* to, std::size_t n) const noexcept {
    detail::with_blocks(format, [&]<class B>() noexcept {
      float block[B::numbers];
      float const scale = std::ldexp(1.0f, halvings);
      std::size_t at = first + place;
      for (std::size_t i = 0; i < n;) {
        std::size_t const begin = at / B::numbers * B::numbers;
        B::decode({bytes + begin / B::numbers * B::bytes}, block);
        for (; i < n && at - begin < B::numbers; at += stride) to[i++] = scale * block[at - begin];
      }
    });
  }
};

}  // namespace AVIARY_NAMESPACE
