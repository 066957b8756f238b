#pragma once
/// Vocabularies: which bytes a token id stands for, and the reader of the "World" vocabulary file, whose lines are
///   decimal id, space, Python str or bytes literal, space, number of bytes
/// for example  "257 ' the' 4"  or  "129 b'\x80' 1".  Id 0 is not in the file: it is the end of text.
#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "aviary/core/config.hpp"
#include "aviary/io/mapped_file.hpp"
#include "aviary/io/message.hpp"

namespace AVIARY_NAMESPACE {

using TokenId = std::int32_t;

namespace detail {

/// Appends a Unicode character as UTF-8. Throws std::invalid_argument for what has no UTF-8.
inline void append_utf8(std::uint32_t c, std::string& to) {
  if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
    throw std::invalid_argument("character " + std::to_string(c) + " has no UTF-8 encoding");
  auto const put = [&](std::uint32_t byte) { to += static_cast<char>(byte); };
  auto const put_tail = [&](unsigned shift) { put(0x80u | ((c >> shift) & 0x3fu)); };
  if (c < 0x80) return put(c);
  if (c < 0x800) return put(0xc0u | c >> 6), put_tail(0);
  if (c < 0x10000) return put(0xe0u | c >> 12), put_tail(6), put_tail(0);
  put(0xf0u | c >> 18), put_tail(12), put_tail(6), put_tail(0);
}

/// The string that a Python literal ('...', "..." or b'...') denotes, as bytes: characters of a str in UTF-8.
/// Knows the escapes of the language but line continuation and \N{...}, and refuses unknown ones, which Python deprecates.
class PythonLiteral {
 public:
  /// Appends the bytes. Throws std::invalid_argument saying what is wrong with the literal.
  static void append(std::string_view literal, std::string& to) { PythonLiteral(literal, to).run(); }

  /// The same for what lies between the quotes of a bytes literal. A byte that is not ASCII may stand for itself.
  static void append_content(std::string_view content, std::string& to) { PythonLiteral(content, to, {}).run(); }

 private:
  struct Content {};
  PythonLiteral(std::string_view content, std::string& to, Content)
      : to_(to), is_bytes_(true), is_content_(true), rest_(content) {}
  PythonLiteral(std::string_view literal, std::string& to)
      : to_(to), is_bytes_(literal.starts_with('b')), rest_(literal.substr(is_bytes_ ? 1 : 0)) {
    bool const quoted = rest_.size() >= 2 && (rest_.front() == '\'' || rest_.front() == '"');
    if (!quoted || rest_.back() != rest_.front())
      throw std::invalid_argument("expected a Python str or bytes literal, found " + printable(literal));
    quote_ = rest_.front();
    rest_ = rest_.substr(1, rest_.size() - 2);
  }

  void run() {
    while (!rest_.empty()) {
      char const c = take();
      if (c == '\\')
        escape();
      else if (c == quote_ && !is_content_)
        throw std::invalid_argument("the literal ends before its last quote");
      else if (is_bytes_ && !is_content_ && static_cast<unsigned char>(c) >= 0x80)
        throw std::invalid_argument("a bytes literal holds a character that is not ASCII");
      else
        to_ += c;
    }
  }

  void escape() {
    constexpr std::string_view kinds = "\\'\"abfnrtv", values = "\\'\"\a\b\f\n\r\t\v";
    if (rest_.empty()) throw std::invalid_argument("the literal ends in a backslash");
    if (rest_.front() >= '0' && rest_.front() <= '7') return put(number(octal_digits(), 8));
    char const kind = take();
    if (std::size_t const i = kinds.find(kind); i != kinds.npos) {
      to_ += values[i];
    } else if (std::size_t const digits = hexadecimal_digits(kind); digits > 0) {
      put(number(digits, 16));
    } else {
      throw std::invalid_argument("unknown escape " + in_quotes(std::string{'\\', kind}));
    }
  }

  /// A byte of bytes, a character of str.
  void put(std::uint32_t value) {
    if (!is_bytes_) return append_utf8(value, to_);
    if (value > 0xff) throw std::invalid_argument("an escape of a bytes literal exceeds 255");
    to_ += static_cast<char>(value);
  }

  std::size_t hexadecimal_digits(char kind) const {
    if (kind == 'x') return 2;
    if (is_bytes_) return 0;
    return kind == 'u' ? 4 : kind == 'U' ? 8 : 0;
  }
  std::size_t octal_digits() const {
    std::size_t const end = rest_.find_first_not_of("01234567");
    return std::min<std::size_t>(std::min(end, rest_.size()), 3);
  }

  std::uint32_t number(std::size_t digits, int base) {
    std::uint32_t value = 0;
    std::string_view const text = rest_.substr(0, digits);
    char const* const end = text.data() + text.size();
    if (text.size() < digits || std::from_chars(text.data(), end, value, base).ptr != end)
      throw std::invalid_argument("expected " + std::to_string(digits) + " digits in an escape, found " +
                                  in_quotes(text));
    rest_.remove_prefix(digits);
    return value;
  }
  char take() {
    char const c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }

  std::string& to_;
  bool is_bytes_, is_content_ = false;
  std::string_view rest_;
  char quote_ = 0;
};

class WorldReader;

}  // namespace detail

/// The bytes of each token id. Immutable; no two ids have the same bytes.
class Vocabulary {
 public:
  static constexpr TokenId max_id = (1 << 24) - 1;

  /// Reads a World vocabulary file.  Throws std::runtime_error "PATH:LINE: what" for a line that breaks the format, a
  /// stated length that is not the token's, an id or a token that occurs twice, an id above max_id, or above 65535 and
  /// the size of the file in bytes; std::runtime_error if it cannot be read.
  static Vocabulary read_world(std::filesystem::path const& path) {
    return parse_world(MappedFile(path).text(), path.string());
  }

  /// The same for text in memory. `file` stands for the path in messages.
  static Vocabulary parse_world(std::string_view text, std::string_view file = "memory");

  /// The bytes of ids 0, 1, 2 ...; empty: the id stands for none, and so does id 0 in any case.
  /// Throws std::invalid_argument if two ids have the same bytes, or none has any, or there are more than max_id.
  static Vocabulary of(std::span<std::string const> tokens);

  /// One more than the largest id: ids lie in [0, size).
  Index size() const noexcept { return static_cast<Index>(pieces_.size()); }

  /// Whether the id stands for bytes. Id 0 does not.
  bool contains(TokenId id) const noexcept { return id >= 0 && id < size() && piece(id).length > 0; }

  /// The bytes of an id, valid as long as the vocabulary is neither moved nor destroyed; none for an unknown id.
  std::string_view bytes(TokenId id) const noexcept {
    if (!contains(id)) return {};
    return std::string_view(bytes_).substr(piece(id).offset, piece(id).length);
  }

 private:
  friend class detail::WorldReader;
  struct Piece {
    std::size_t offset = 0, length = 0;
  };
  Piece const& piece(TokenId id) const noexcept { return pieces_[static_cast<std::size_t>(id)]; }

  std::string bytes_;
  std::vector<Piece> pieces_;
};

namespace detail {

/// What Vocabulary::parse_world is made of.
class WorldReader {
 public:
  WorldReader(std::string_view text, std::string_view file)
      : rest_(text), file_(file), max_id_(std::clamp(text.size(), usual_max_id, std::size_t{Vocabulary::max_id})) {}

  Vocabulary read() {
    while (!rest_.empty()) {
      ++line_;
      read_line(next_line());
    }
    if (lines_of_.empty()) throw std::runtime_error(std::string(file_) + ": holds no tokens");
    check_distinct();
    return std::move(vocabulary_);
  }

 private:
  /// A carriage return before the line end is dropped; elsewhere the format has none outside of escapes.
  std::string_view next_line() {
    std::size_t const end = std::min(rest_.find('\n'), rest_.size());
    std::string_view const line = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    return line.ends_with('\r') ? line.substr(0, line.size() - 1) : line;
  }

  void read_line(std::string_view line) {
    std::size_t const first = line.find(' '), last = line.rfind(' ');
    if (first == last) fail("expected 'id literal length', found " + in_quotes(line));
    TokenId const id = id_of(line.substr(0, first));
    std::size_t const stated = number(line.substr(last + 1), "a length in bytes");
    std::size_t const offset = vocabulary_.bytes_.size();
    append_literal(line.substr(first + 1, last - first - 1));
    std::size_t const length = vocabulary_.bytes_.size() - offset;
    if (length == 0) fail("the token of id " + std::to_string(id) + " is empty");
    if (length != stated)
      fail("expected " + std::to_string(stated) + " bytes as stated, found " + std::to_string(length) +
           " in the token");
    add(id, {offset, length});
  }

  TokenId id_of(std::string_view text) const {
    std::size_t const id = number(text, "a token id");
    if (id == 0) fail("id 0 is kept for the end of text");
    if (id > max_id_) fail("expected ids of at most " + std::to_string(max_id_) + ", found " + std::to_string(id));
    return static_cast<TokenId>(id);
  }

  std::size_t number(std::string_view text, char const* what) const {
    std::size_t value = 0;
    char const* const end = text.data() + text.size();
    auto const [stop, error] = std::from_chars(text.data(), end, value);
    if (text.empty() || stop != end || error != std::errc())
      fail(std::string("expected ") + what + ", found " + in_quotes(text));
    return value;
  }

  void append_literal(std::string_view literal) {
    try {
      PythonLiteral::append(literal, vocabulary_.bytes_);
    } catch (std::invalid_argument const& error) {
      fail(error.what());
    }
  }

  void add(TokenId id, Vocabulary::Piece piece) {
    auto const i = static_cast<std::size_t>(id);
    if (vocabulary_.contains(id))
      fail("id " + std::to_string(id) + " is given twice, first in line " + std::to_string(lines_of_[i]));
    if (i >= lines_of_.size()) {
      lines_of_.resize(i + 1);
      vocabulary_.pieces_.resize(i + 1);
    }
    vocabulary_.pieces_[i] = piece;
    lines_of_[i] = line_;
  }

  void check_distinct() {
    std::vector<std::pair<std::string_view, std::size_t>> tokens;  // bytes, line
    for (TokenId id = 0; id < vocabulary_.size(); ++id)
      if (vocabulary_.contains(id)) tokens.emplace_back(vocabulary_.bytes(id), lines_of_[static_cast<std::size_t>(id)]);
    std::ranges::sort(tokens);
    auto const twice = std::ranges::adjacent_find(tokens, {}, [](auto const& t) { return t.first; });
    if (twice == tokens.end()) return;
    line_ = (twice + 1)->second;
    fail("the token " + in_quotes(twice->first) + " is given twice, first in line " + std::to_string(twice->second));
  }

  [[noreturn]] void fail(std::string const& what) const {
    throw std::runtime_error(std::string(file_) + ":" + std::to_string(line_) + ": " + what);
  }

  /// Memory grows with the largest id; beyond this one it may be as large as the file has bytes.
  static constexpr std::size_t usual_max_id = 65535;

  std::string_view rest_, file_;
  std::size_t max_id_;
  std::size_t line_ = 0;
  Vocabulary vocabulary_;
  std::vector<std::size_t> lines_of_;  // by id
};

}  // namespace detail

inline Vocabulary Vocabulary::of(std::span<std::string const> tokens) {
  if (tokens.size() > std::size_t{max_id} + 1)
    throw std::invalid_argument("expected ids of at most " + std::to_string(max_id) + ", found " +
                                std::to_string(tokens.size()) + " tokens");
  Vocabulary made;
  std::vector<std::pair<std::string_view, std::size_t>> known;  // bytes, id
  for (std::size_t id = 1; id < tokens.size(); ++id) {
    std::string const& token = tokens[id];
    if (token.empty()) continue;
    made.pieces_.resize(id + 1);
    made.pieces_[id] = {made.bytes_.size(), token.size()};
    made.bytes_ += token;
    known.emplace_back(token, id);
  }
  if (known.empty()) throw std::invalid_argument("holds no tokens");
  std::ranges::sort(known);
  auto const twice = std::ranges::adjacent_find(known, {}, [](auto const& token) { return token.first; });
  if (twice != known.end())
    throw std::invalid_argument("the token " + in_quotes(twice->first) + " is that of ids " +
                                std::to_string(twice->second) + " and " + std::to_string((twice + 1)->second));
  return made;
}

inline Vocabulary Vocabulary::parse_world(std::string_view text, std::string_view file) {
  return detail::WorldReader(text, file).read();
}

}  // namespace AVIARY_NAMESPACE
