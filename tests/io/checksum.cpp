#include "aviary/io/checksum.hpp"

#include <doctest/doctest.h>

#include <string>

#include "support/temporary_folder.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {
/// Division by the polynomial, bit by bit.
std::uint32_t plain_crc32(std::string const& text) {
  std::uint32_t crc = ~0u;
  for (char const c : text) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1u) != 0 ? (crc >> 1) ^ 0xedb88320u : crc >> 1;
  }
  return ~crc;
}
}  // namespace

TEST_CASE("checksum: published values") {
  CHECK(crc32(bytes_of("")) == 0);
  CHECK(crc32(bytes_of("123456789")) == 0xcbf43926u);
  CHECK(crc32(bytes_of("The quick brown fox jumps over the lazy dog")) == 0x414fa339u);
}

TEST_CASE("checksum: any length and boundary, as by single bits") {
  std::string text;
  for (int i = 0; i < 64; ++i) text += static_cast<char>(i * 151 + 7);
  for (std::size_t begin = 0; begin < 9; ++begin)
    for (std::size_t size = 0; begin + size <= text.size(); ++size) {
      std::string const part = text.substr(begin, size);
      REQUIRE(crc32(bytes_of(text).subspan(begin, size)) == plain_crc32(part));
    }
}

TEST_CASE("checksum: of a text in two parts") {
  std::string const text = "The quick brown fox jumps over the lazy dog";
  for (std::size_t size = 0; size <= text.size(); ++size)
    CHECK(crc32(bytes_of(text).subspan(size), crc32(bytes_of(text).first(size))) == 0x414fa339u);
}
