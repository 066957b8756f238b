#pragma once
/// Pieces of error messages about files: short, on one line, whatever the file holds.
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "aviary/core/config.hpp"

namespace AVIARY_NAMESPACE {

/// All digits of a number without sign in base 16: "00c0ffee".
template <std::unsigned_integral U> std::string hexadecimal(U number) {
  std::string out(2 * sizeof(U), '0');
  for (auto digit = out.rbegin(); digit != out.rend(); ++digit, number = static_cast<U>(number >> 4))
    *digit = "0123456789abcdef"[number & 15u];
  return out;
}

namespace detail {

/// A character of UTF-8 and how many bytes it has; 0 bytes: none.
struct Utf8Character {
  std::uint32_t code;
  std::size_t bytes;
};

/// The character with which a text of at least one byte begins.
constexpr Utf8Character first_character(std::string_view text) noexcept {
  auto const byte = [&](std::size_t i) { return std::uint32_t{static_cast<unsigned char>(text[i])}; };
  std::uint32_t const first = byte(0);
  if (first < 0x80) return {first, 1};
  std::size_t const size = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (size == 0 || text.size() < size) return {};
  std::uint32_t code = first & (0xffu >> (size + 1));
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0u) != 0x80u) return {};
    code = code << 6 | (byte(i) & 0x3fu);
  }
  constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  bool const is_one = code >= least[size] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
  return is_one ? Utf8Character{code, size} : Utf8Character{};
}

constexpr bool is_utf8(std::string_view text) noexcept {
  while (!text.empty()) {
    std::size_t const bytes = first_character(text).bytes;
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}

/// Whether a character shows: it controls nothing, in either range of control characters, and ends no line.
constexpr bool shows(std::uint32_t code) noexcept {
  return code >= 0x20 && (code < 0x7f || code >= 0xa0) && code != 0x2028 && code != 0x2029;
}

}  // namespace detail

/// The text in characters that show: control characters and what is no UTF-8 as \xHH. Cut after about `limit` bytes (never
/// inside a character).
inline std::string printable(std::string_view text, std::size_t limit = 120) {
  std::size_t end = text.size();
  if (end > limit)
    for (end = limit; end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0u) == 0x80u;) --end;
  std::string out;
  for (std::string_view rest = text.substr(0, end); !rest.empty();) {
    auto const [code, bytes] = detail::first_character(rest);
    bool const is_shown = bytes > 0 && detail::shows(code);
    auto const byte = static_cast<unsigned char>(rest.front());
    if (is_shown)
      out += rest.substr(0, bytes);
    else
      (out += "\\x") += hexadecimal(byte);
    rest.remove_prefix(is_shown ? bytes : 1);
  }
  return end < text.size() ? out + "..." : out;
}

/// The text in quotes, made printable.
inline std::string in_quotes(std::string_view text) { return "'" + printable(text) + "'"; }

/// "[3, 64]"; aviary::dynamic reads "any". A longer shape shows its first `shown` sizes.
inline std::string shape_text(std::span<std::int64_t const> shape, std::size_t shown = 8) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size() && i < shown; ++i)
    out += (i > 0 ? ", " : "") + (shape[i] == dynamic ? std::string("any") : std::to_string(shape[i]));
  return out + (shape.size() > shown ? ", ...] of " + std::to_string(shape.size()) + " dimensions" : "]");
}

/// Collects what differs between what a reader expects and what it finds:
/// "expected 2 heads, found 4; expected 16 keys, found 8".
class Differences {
 public:
  void add(std::string const& expected, std::string const& found) {
    text_ += (text_.empty() ? "expected " : "; expected ") + expected + ", found " + found;
  }
  /// Adds a text that is another than expected: "expected WHAT EXPECTED, found 'FOUND'".
  void expect(std::string const& what, std::string_view expected, std::string_view found) {
    if (found != expected) add(what + " " + std::string(expected), in_quotes(found));
  }
  /// Throws std::runtime_error with all of them, if there are any, and says where: `in` is a tensor or a file.
  template <class In> void throw_any(In const& in) const {
    if (!text_.empty()) throw std::runtime_error(in.message(text_));
  }

 private:
  std::string text_;
};

/// Throws std::system_error, a std::runtime_error, with the text "PATH: cannot ACTION: reason".
/// @param error  a value of errno     @param action  "open", "read" ...
[[noreturn]] inline void throw_errno(int error, std::filesystem::path const& path, char const* action) {
  throw std::system_error(error, std::generic_category(), path.string() + ": cannot " + action);
}

}  // namespace AVIARY_NAMESPACE
