#pragma once
/// The CRC-32 by which archives notice damage (polynomial 0x04c11db7, reflected; that of ISO-HDLC, zip, gzip and PNG).
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "aviary/core/namespace.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {

/// Eight bytes at a time: table k holds what a byte does to the remainder k bytes later.
inline constexpr auto crc32_tables = [] {
  std::array<std::array<std::uint32_t, 256>, 8> tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
    tables[0][byte] = crc;
  }
  for (std::size_t k = 1; k < tables.size(); ++k)
    for (std::size_t byte = 0; byte < 256; ++byte)
      tables[k][byte] = (tables[k - 1][byte] >> 8) ^ tables[0][tables[k - 1][byte] & 0xffu];
  return tables;
}();

}  // namespace detail

/// The checksum of the bytes: 0xcbf43926 of "123456789", 0 of none. With the checksum of other bytes, that of these behind
/// them.
/// Cost: about a nanosecond for a byte or two.
inline std::uint32_t crc32(std::span<std::byte const> bytes, std::uint32_t before = 0) noexcept {
  static_assert(std::endian::native == std::endian::little);
  auto const& tables = detail::crc32_tables;
  std::uint32_t crc = ~before;
  for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), sizeof(word));
    word ^= crc;
    crc = 0;
    for (std::size_t k = 0; k < 8; ++k) crc ^= tables[7 - k][(word >> (8 * k)) & 0xffu];
  }
  for (std::byte const byte : bytes) crc = (crc >> 8) ^ tables[0][(crc ^ static_cast<std::uint32_t>(byte)) & 0xffu];
  return ~crc;
}

}  // namespace AVIARY_NAMESPACE
