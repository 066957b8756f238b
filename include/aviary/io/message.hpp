#pragma once
/// Pieces of error messages about files: short, on one line, whatever the file holds.
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
