#pragma once
/// Pieces of error messages about files: short, on one line, whatever the file holds.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "aviary/core/config.hpp"

namespace aviary::detail {

/// The text with control characters as \xHH, cut after about `limit` bytes (never inside a UTF-8 character).
inline std::string printable(std::string_view text, std::size_t limit = 120) {
  constexpr char digits[] = "0123456789abcdef";
  std::size_t end = text.size();
  if (end > limit)
    for (end = limit; end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0u) == 0x80u;) --end;
  std::string out;
  for (char const c : text.substr(0, end)) {
    auto const byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f)
      (((out += "\\x") += digits[byte >> 4]) += digits[byte & 15u]);
    else
      out += c;
  }
  return end < text.size() ? out + "..." : out;
}

/// The text in quotes, made printable.
inline std::string in_quotes(std::string_view text) { return "'" + printable(text) + "'"; }

/// "[3, 64]"; aviary::dynamic reads "any". Of more sizes than `shown` the first.
inline std::string shape_text(std::span<std::int64_t const> shape, std::size_t shown = 8) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size() && i < shown; ++i)
    out += (i > 0 ? ", " : "") + (shape[i] == dynamic ? std::string("any") : std::to_string(shape[i]));
  return out + (shape.size() > shown ? ", ...] of " + std::to_string(shape.size()) + " dimensions" : "]");
}

}  // namespace aviary::detail
