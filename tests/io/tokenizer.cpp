#include "aviary/io/tokenizer.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "aviary/io/vocabulary.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

std::string literal(std::string_view text) {
  std::string bytes;
  detail::PythonLiteral::append(text, bytes);
  return bytes;
}
std::string literal_error(std::string_view text) {
  return message_of<std::invalid_argument>([&] { literal(text); });
}

/// As Python's repr of bytes writes it, with a choice of quotes.
std::string bytes_literal(std::string_view bytes, char quote = '\'') {
  constexpr char digits[] = "0123456789abcdef";
  std::string out = {'b', quote};
  for (char const c : bytes) {
    auto const byte = static_cast<unsigned char>(c);
    if (c == quote || c == '\\')
      (out += '\\') += c;
    else if (c == '\n')
      out += "\\n";
    else if (byte < 0x20 || byte >= 0x7f)
      ((out += "\\x") += digits[byte >> 4]) += digits[byte & 15u];
    else
      out += c;
  }
  return out + quote;
}

std::string line(int id, std::string const& text, std::size_t length) {
  return std::to_string(id) + " " + text + " " + std::to_string(length) + "\n";
}

/// The bytes 0 ... 255 with ids 1 ... 256, as in the published file.
std::string single_bytes() {
  std::string text;
  for (int byte = 0; byte < 256; ++byte)
    text += line(byte + 1, bytes_literal(std::string(1, static_cast<char>(byte))), 1);
  return text;
}

/// Tokens of several bytes in every notation, and what they stand for; ids from 257.
struct Notation {
  std::string text, bytes;
};
std::vector<Notation> notations() {
  return {{"' the'", " the"},
          {"'  '", "  "},
          {"'    '", "    "},
          {"\"it's\"", "it's"},
          {"'it\\'s a'", "it's a"},
          {"'say \"'", "say \""},
          {"\"\\\"\\\"\"", "\"\""},
          {"'\\t\\n\\r\\\\'", "\t\n\r\\"},
          {"'\\n\\n'", "\n\n"},
          {"'\\xe9'", "\xc3\xa9"},
          {"b'\\xe9\\xff'", "\xe9\xff"},
          {"'\xc3\xa9t\xc3\xa9'", "\xc3\xa9t\xc3\xa9"},
          {"'\\u2028'", "\xe2\x80\xa8"},
          {"'\xe4\xb8\xad\xe6\x96\x87'", "\xe4\xb8\xad\xe6\x96\x87"},
          {"'\xe4\xb8\xad'", "\xe4\xb8\xad"},
          {"b'\\xe4\\xb8'", "\xe4\xb8"},
          {"'\\U0001f426'", "\xf0\x9f\x90\xa6"},
          {"'\\0\\0'", std::string(2, '\0')},
          {"'a b c'", "a b c"},
          {"'ab'", "ab"},
          {"'abcde'", "abcde"},
          {"'cd'", "cd"},
          {"'" + std::string(128, 'a') + "'", std::string(128, 'a')}};
}
std::string world_text() {
  std::string text = single_bytes();
  int id = 257;
  for (Notation const& n : notations()) text += line(id++, n.text, n.bytes.size());
  return text;
}

/// The definition, word for word: of all tokens that begin the rest of the text, the longest.
std::vector<TokenId> naive_encode(std::map<std::string, TokenId, std::less<>> const& ids, std::string_view text) {
  std::size_t longest = 0;
  for (auto const& [bytes, id] : ids) longest = std::max(longest, bytes.size());
  std::vector<TokenId> out;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t length = std::min(longest, text.size() - i);
    while (!ids.contains(text.substr(i, length))) --length;
    out.push_back(ids.find(text.substr(i, length))->second);
    i += length;
  }
  return out;
}
std::map<std::string, TokenId, std::less<>> ids_of(Vocabulary const& vocabulary) {
  std::map<std::string, TokenId, std::less<>> ids;
  for (TokenId id = 0; id < vocabulary.size(); ++id)
    if (vocabulary.contains(id)) ids.emplace(vocabulary.bytes(id), id);
  return ids;
}

std::string world_error(std::string const& text) {
  return message_of([&] { Vocabulary::parse_world(text, "v"); });
}

}  // namespace

TEST_CASE("vocabulary: Python literals mean what Python says") {
  CHECK(literal("''").empty());
  CHECK(literal("b\"\"").empty());
  CHECK(literal("'abc'") == "abc");
  CHECK(literal("\"it's\"") == "it's");
  CHECK(literal("'\"'") == "\"");
  CHECK(literal(R"('\\\'\"\a\b\f\n\r\t\v')") == "\\'\"\a\b\f\n\r\t\v");
  CHECK(literal(R"(b'\\\'\"\a\b\f\n\r\t\v')") == "\\'\"\a\b\f\n\r\t\v");
  CHECK(literal(R"('\x41\xe9\xFF')") == "A\xc3\xa9\xc3\xbf");
  CHECK(literal(R"(b'\x41\xe9\xFF')") == "A\xe9\xff");
  CHECK(literal(R"('\0\7\18\101\400')") == std::string("\0\7\1"
                                                       "8A\xc4\x80",
                                                       7));
  CHECK(literal(R"(b'\0\377')") == std::string("\0\xff", 2));
  CHECK(literal(R"('\u00e9\u20AC\uFFFF')") == "\xc3\xa9\xe2\x82\xac\xef\xbf\xbf");
  CHECK(literal(R"('\U0001F426\U0010ffff')") == "\xf0\x9f\x90\xa6\xf4\x8f\xbf\xbf");
  CHECK(literal("'\xe2\x82\xac \xf0\x9f\x90\xa6'") == "\xe2\x82\xac \xf0\x9f\x90\xa6");
  // First and last character of each length.
  CHECK(literal(R"('\x7f\x80\u07ff\u0800\ud7ff\ue000\U00010000')") ==
        "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80");
}

TEST_CASE("vocabulary: bad Python literals are refused with the reason") {
  for (std::string const text :
       {"", "'", "b", "b'", "abc", "'abc", "abc'", "'abc\"", "r'a'", "u'a'", "B'a'", "'abc' "}) {
    CAPTURE(text);
    CHECK(literal_error(text) == "expected a Python str or bytes literal, found " + text);
  }
  CHECK(literal_error("'a'b'") == "the literal ends before its last quote");
  CHECK(literal_error("''''") == "the literal ends before its last quote");
  CHECK(literal_error("'abc\\'") == "the literal ends in a backslash");
  CHECK(literal_error("'\\d'") == "unknown escape '\\d'");
  CHECK(literal_error("'\\N{DASH}'") == "unknown escape '\\N'");
  CHECK(literal_error("b'\\u0041'") == "unknown escape '\\u'");
  CHECK(literal_error("'\\8'") == "unknown escape '\\8'");
  CHECK(literal_error("'\\x4'") == "expected 2 digits in an escape, found '4'");
  CHECK(literal_error("'\\x4g'") == "expected 2 digits in an escape, found '4g'");
  CHECK(literal_error("'\\x-1'") == "expected 2 digits in an escape, found '-1'");
  CHECK(literal_error("'\\u12 4'") == "expected 4 digits in an escape, found '12 4'");
  CHECK(literal_error("'\\U0001F42'") == "expected 8 digits in an escape, found '0001F42'");
  CHECK(literal_error("'\\ud800'") == "character 55296 has no UTF-8 encoding");
  CHECK(literal_error("'\\udfff'") == "character 57343 has no UTF-8 encoding");
  CHECK(literal_error("'\\U00110000'") == "character 1114112 has no UTF-8 encoding");
  CHECK(literal_error("b'\\400'") == "an escape of a bytes literal exceeds 255");
  CHECK(literal_error("b'\xc3\xa9'") == "a bytes literal holds a character that is not ASCII");
}

TEST_CASE("vocabulary: a World file is read from a path") {
  TemporaryFolder const folder;
  Vocabulary const vocabulary = Vocabulary::read_world(folder.file("vocab.txt", world_text()));
  CHECK(vocabulary.size() == static_cast<Index>(257 + notations().size()));
  CHECK_FALSE(vocabulary.contains(0));
  CHECK_FALSE(vocabulary.contains(-1));
  CHECK_FALSE(vocabulary.contains(static_cast<TokenId>(vocabulary.size())));
  for (int byte = 0; byte < 256; ++byte) CHECK(vocabulary.bytes(byte + 1) == std::string(1, static_cast<char>(byte)));
  TokenId id = 257;
  for (Notation const& n : notations()) CHECK(vocabulary.bytes(id++) == n.bytes);
  CHECK(vocabulary.bytes(0).empty());
  CHECK(vocabulary.bytes(id).empty());
}

TEST_CASE("vocabulary: the last line end may be missing, lines may end in carriage returns, ids in any order") {
  Vocabulary const a = Vocabulary::parse_world("3 'x' 1\r\n1 'yy' 2\r\n7 ' ' 1");
  CHECK(a.size() == 8);
  CHECK(a.bytes(1) == "yy");
  CHECK(a.bytes(3) == "x");
  CHECK(a.bytes(7) == " ");
  CHECK_FALSE(a.contains(2));
}

TEST_CASE("vocabulary: errors name path, line, what was expected and found") {
  TemporaryFolder const folder;
  std::string const path = folder.file("vocab.txt", single_bytes() + "257 'ab' 3\n").string();
  CHECK(message_of([&] { Vocabulary::read_world(path); }) ==
        path + ":257: expected 3 bytes as stated, found 2 in the token");
  std::string const missing = (folder / "missing").string();
  CHECK(message_of([&] { Vocabulary::read_world(missing); }) == missing + ": cannot open: No such file or directory");

  CHECK(world_error("") == "v: holds no tokens");
  CHECK(world_error("1 'a' 1\n\n2 'b' 1\n") == "v:2: expected 'id literal length', found ''");
  CHECK(world_error("1 'a'\n") == "v:1: expected 'id literal length', found '1 'a''");
  CHECK(world_error("1 a 1\n") == "v:1: expected a Python str or bytes literal, found a");
  CHECK(world_error("1 'a'  1\n") == "v:1: expected a Python str or bytes literal, found 'a' ");
  CHECK(world_error("x 'a' 1\n") == "v:1: expected a token id, found 'x'");
  CHECK(world_error(" 'a' 1\n") == "v:1: expected a token id, found ''");
  CHECK(world_error("-1 'a' 1\n") == "v:1: expected a token id, found '-1'");
  CHECK(world_error("1.0 'a' 1\n") == "v:1: expected a token id, found '1.0'");
  CHECK(world_error("99999999999999999999 'a' 1\n") == "v:1: expected a token id, found '99999999999999999999'");
  CHECK(world_error("\xef\xbb\xbf"
                    "1 'a' 1\n") ==
        "v:1: expected a token id, found '\xef\xbb\xbf"
        "1'");
  CHECK(world_error("0 'a' 1\n") == "v:1: id 0 is kept for the end of text");
  CHECK(world_error("65536 'a' 1\n") == "v:1: expected ids of at most 65535, found 65536");
  std::string const large(100'000, 'a'), tail = " '" + large + "' 100000\n";  // a file of 100,017 bytes
  CHECK(Vocabulary::parse_world("100017" + tail).bytes(100'017) == large);
  CHECK(world_error("100018" + tail) == "v:1: expected ids of at most 100017, found 100018");
  std::string const huge = "1 '" + std::string(1 << 24, 'a') + "' 16777216\n";
  CHECK(Vocabulary::parse_world(huge + "16777215 'b' 1\n").size() == 1 << 24);
  CHECK(world_error(huge + "16777216 'b' 1\n") == "v:2: expected ids of at most 16777215, found 16777216");
  CHECK(world_error("1 'a' \n") == "v:1: expected a length in bytes, found ''");
  CHECK(world_error("1 'a' one\n") == "v:1: expected a length in bytes, found 'one'");
  CHECK(world_error("1 'a' 1 \n") == "v:1: expected a length in bytes, found ''");
  CHECK(world_error("1 '' 0\n") == "v:1: the token of id 1 is empty");
  CHECK(world_error("1 '\\xe9' 1\n") == "v:1: expected 1 bytes as stated, found 2 in the token");
  CHECK(world_error("1 b'\\xe9' 2\n") == "v:1: expected 2 bytes as stated, found 1 in the token");
  CHECK(world_error("1 '\\q' 1\n") == "v:1: unknown escape '\\q'");
  CHECK(world_error("5 'a' 1\n2 'b' 1\n5 'c' 1\n") == "v:3: id 5 is given twice, first in line 1");
  CHECK(world_error("5 'e' 1\n2 'b' 1\n1 b'\\x65' 1\n") == "v:3: the token 'e' is given twice, first in line 1");
  CHECK(world_error("1 '\n' 1\n").starts_with("v:1: expected 'id literal length'"));
  CHECK(world_error("1 '" + std::string(100'000, 'x') + " 1\n").size() < 300);
}

TEST_CASE("vocabulary: a file cut at any length is refused or holds the tokens of its whole lines") {
  std::string const whole = world_text();
  Vocabulary const all = Vocabulary::parse_world(whole);
  for (std::size_t size = 0; size < whole.size(); size += 1 + size / 500) {
    CAPTURE(size);
    std::unique_ptr<char[]> const exact(new char[size]);  // so that the sanitizer sees a read behind the end
    whole.copy(exact.get(), size);
    try {
      Vocabulary const part = Vocabulary::parse_world({exact.get(), size});
      for (TokenId id = 0; id < part.size(); ++id) REQUIRE(part.bytes(id) == all.bytes(id));
    } catch (std::runtime_error const&) {
    }
  }
}

TEST_CASE("vocabulary: random damage is refused or harmless") {
  std::string const whole = world_text();
  std::mt19937 random(4);
  int refused = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    std::string damaged = whole;
    damaged[random() % damaged.size()] = static_cast<char>(random());
    damaged.erase(random() % damaged.size(), random() % 3);
    try {
      WorldTokenizer const tokenizer(Vocabulary::parse_world(damaged));
      REQUIRE(tokenizer.size() > 256);
    } catch (std::runtime_error const&) {
      ++refused;
    }
  }
  CHECK(refused > 1000);
}

TEST_CASE("tokenizer: World encodes known texts") {
  WorldTokenizer const tokenizer(Vocabulary::parse_world(world_text()));
  auto const id = [&](std::string_view bytes) {
    for (TokenId i = 1; i < tokenizer.size(); ++i)
      if (tokenizer.decode(i) == bytes) return i;
    FAIL("no such token");
    return TokenId{-1};
  };
  CHECK(tokenizer.encode("").empty());
  CHECK(tokenizer.encode("a") == std::vector<TokenId>{'a' + 1});
  CHECK(tokenizer.encode("ab") == std::vector{id("ab")});
  // "abcd" begins "abcde", which does not come: back to "ab", then "cd".
  CHECK(tokenizer.encode("abcd") == std::vector{id("ab"), id("cd")});
  CHECK(tokenizer.encode("abcde") == std::vector{id("abcde")});
  CHECK(tokenizer.encode("in the end") ==
        std::vector{id("i"), id("n"), id(" the"), id(" "), id("e"), id("n"), id("d")});
  CHECK(tokenizer.encode("       ") == std::vector{id("    "), id("  "), id(" ")});
  CHECK(tokenizer.encode("\xe4\xb8\xad\xe6\x96\x87\xe4\xb8\xad\xe4\xb8") ==
        std::vector{id("\xe4\xb8\xad\xe6\x96\x87"), id("\xe4\xb8\xad"), id("\xe4\xb8")});
  CHECK(tokenizer.encode(std::string(3, '\0')) == std::vector{id(std::string(2, '\0')), TokenId{1}});
  CHECK(tokenizer.encode(std::string(300, 'a')).size() == 2 + 300 - 256);
}

TEST_CASE("tokenizer: World agrees with the definition on random vocabularies, bytes and text") {
  std::mt19937 random(7);
  for (int trial = 0; trial < 20; ++trial) {
    // Few different bytes make many shared prefixes, many make wide nodes.
    unsigned const letters = trial % 2 == 0 ? 3 : 256;
    auto const random_bytes = [&](std::size_t n) {
      std::string s(n, '\0');
      for (char& c : s) c = static_cast<char>(random() % letters);
      return s;
    };
    std::map<std::string, TokenId, std::less<>> ids;
    std::string text;
    auto const add = [&](std::string const& bytes) {
      auto const id = static_cast<TokenId>(ids.size() + 1);
      if (ids.emplace(bytes, id).second)
        text += line(id, bytes_literal(bytes, random() % 2 == 0 ? '\'' : '"'), bytes.size());
    };
    for (int byte = 0; byte < 256; ++byte) add(std::string(1, static_cast<char>(byte)));
    for (int i = 0; i < 3000; ++i) add(random_bytes(2 + random() % 9));
    WorldTokenizer const tokenizer(Vocabulary::parse_world(text));
    REQUIRE(tokenizer.size() == static_cast<Index>(ids.size() + 1));
    for (std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{2000}}) {
      std::string const sample = random_bytes(length);
      std::vector<TokenId> const encoded = tokenizer.encode(sample);
      CHECK(encoded == naive_encode(ids, sample));
      CHECK(tokenizer.decode(encoded) == sample);
    }
  }
}

TEST_CASE("tokenizer: World agrees with the definition where it falls back often, and where no token fits") {
  std::mt19937 random(9);
  for (int trial = 0; trial < 300; ++trial) {
    auto const letters = 1 + random() % 3;
    std::map<std::string, TokenId, std::less<>> ids;
    std::string file;
    auto const some = [&](std::size_t n) {
      std::string s(n, 'a');
      for (char& c : s) c = static_cast<char>('a' + random() % letters);
      return s;
    };
    for (auto n = 1 + random() % 12; n > 0; --n) {
      std::string const bytes = some(1 + random() % 14);
      auto const id = static_cast<TokenId>(ids.size() + 1);
      if (ids.emplace(bytes, id).second) file += line(id, "'" + bytes + "'", bytes.size());
    }
    WorldTokenizer const tokenizer(Vocabulary::parse_world(file));
    for (int i = 0; i < 40; ++i) {
      std::string const text = some(random() % 60);
      std::vector<TokenId> expected;
      std::size_t at = 0;
      while (at < text.size()) {  // the longest token, again and again
        std::size_t length = text.size() - at;
        while (length > 0 && !ids.contains(text.substr(at, length))) --length;
        if (length == 0) break;
        expected.push_back(ids.find(text.substr(at, length))->second);
        at += length;
      }
      if (at == text.size())
        REQUIRE(tokenizer.encode(text) == expected);
      else
        REQUIRE(message_of<std::invalid_argument>([&] { tokenizer.encode(text); }) ==
                "no token begins with byte " + std::to_string(text[at]) + " at position " + std::to_string(at) +
                    " of the text");
    }
  }
}

TEST_CASE("tokenizer: the longest tokens and texts that repeat their beginnings cost no more than others") {
  // A tokenizer that begins anew after each token looks at 10^11 bytes here: this test would not end.
  std::size_t const length = 500'000;
  std::string const almost(length - 1, 'a'), steps = "1 'a' 1\n2 'ab' 2\n3 'b' 1\n";
  WorldTokenizer const tokenizer(
      Vocabulary::parse_world(steps + "4 '" + almost + "b' " + std::to_string(length) + "\n"));
  CHECK(tokenizer.encode(almost) == std::vector<TokenId>(length - 1, 1));
  CHECK(tokenizer.encode(almost + "b") == std::vector<TokenId>{4});
  // One more: the long token does not fit, neither at the beginning nor further on, but for one place.
  std::vector<TokenId> const ids = tokenizer.encode(almost + "aab");
  CHECK(ids == std::vector<TokenId>{1, 1, 4});
}

TEST_CASE("tokenizer: tokens that would take much more memory than their file are refused") {
  auto const refusal = [](std::size_t length) {
    std::string const number = std::to_string(length);
    return message_of<std::invalid_argument>([&] {
      WorldTokenizer(Vocabulary::parse_world("1 '" + std::string(length, 'z') + "' " + number + "\n2 'a' 1\n"));
    });
  };
  CHECK(refusal(1 << 20) == "expected 2 tokens of at most 1048576 bytes in all, found 1048577");
  CHECK(refusal(8 << 20) == "expected 2 tokens of at most 1048576 bytes in all, found 8388609");
}

TEST_CASE("tokenizer: World agrees with the definition on UTF-8 text of its own tokens") {
  Vocabulary vocabulary = Vocabulary::parse_world(world_text());
  auto const ids = ids_of(vocabulary);
  WorldTokenizer const tokenizer(std::move(vocabulary));
  std::mt19937 random(11);
  std::vector<Notation> const pieces = notations();
  for (int trial = 0; trial < 200; ++trial) {
    std::string text;
    while (text.size() < 300) {
      std::string const& piece = pieces[random() % (pieces.size() - 1)].bytes;
      text += random() % 3 != 0 ? piece : piece.substr(0, random() % piece.size());
    }
    std::vector<TokenId> const encoded = tokenizer.encode(text);
    CHECK(encoded == naive_encode(ids, text));
    CHECK(tokenizer.decode(encoded) == text);
  }
}

TEST_CASE("tokenizer: every token encodes to itself, and tokens of any length are taken") {
  std::string const enormous(1'000'000, 'z');
  WorldTokenizer const tokenizer(Vocabulary::parse_world(world_text() + "1000 '" + enormous + "' 1000000\n"));
  for (TokenId id = 1; id < tokenizer.size(); ++id) {
    if (id > 256 + static_cast<TokenId>(notations().size()) && id < 1000) continue;  // not in the file
    CHECK(tokenizer.encode(tokenizer.decode(id)) == std::vector{id});
  }
  CHECK(tokenizer.encode(enormous + "z") == std::vector<TokenId>{1000, 'z' + 1});
}

TEST_CASE("tokenizer: a byte that no token begins with is named with its position") {
  WorldTokenizer const tokenizer(Vocabulary::parse_world("1 'a' 1\n2 'abc' 3\n3 b'\\xff\\xfe' 2\n"));
  CHECK(tokenizer.encode("abca") == std::vector<TokenId>{2, 1});
  auto const error = [&](std::string_view text) {
    return message_of<std::invalid_argument>([&] { tokenizer.encode(text); });
  };
  CHECK(error("ab") == "no token begins with byte 98 at position 1 of the text");
  CHECK(error("abc\xff") == "no token begins with byte 255 at position 3 of the text");
  CHECK(error(std::string(1, '\0')) == "no token begins with byte 0 at position 0 of the text");
}

TEST_CASE("tokenizer: decoding refuses ids that stand for nothing, the end of text is empty") {
  WorldTokenizer const world(Vocabulary::parse_world("1 'a' 1\n3 'b' 1\n"));
  CHECK(world.decode(0).empty());
  CHECK(world.decode(std::vector<TokenId>{1, 0, 3}) == "ab");
  for (TokenId const id : {2, 4, -1, INT32_MAX, INT32_MIN})
    CHECK(message_of<std::invalid_argument>([&] { world.decode(id); }) ==
          "expected a token id below 4 that stands for text, found " + std::to_string(id));
  CHECK_THROWS_AS(world.decode(std::vector<TokenId>{1, 2}), std::invalid_argument);
  ByteTokenizer const bytes;
  for (TokenId const id : {256, -1})
    CHECK(message_of<std::invalid_argument>([&] { bytes.decode(id); }) ==
          "expected a token id below 256 that stands for text, found " + std::to_string(id));
}

TEST_CASE("tokenizer: bytes are their own ids") {
  ByteTokenizer const tokenizer;
  std::string all;
  std::vector<TokenId> ids;
  for (int byte = 0; byte < 256; ++byte) {
    all += static_cast<char>(byte);
    ids.push_back(byte);
  }
  CHECK(tokenizer.encode(all) == ids);
  CHECK(tokenizer.decode(ids) == all);
  CHECK(tokenizer.decode(0) == std::string_view("\0", 1));
  CHECK(tokenizer.size() == 256);
}

TEST_CASE("tokenizer: a program can hold either") {
  std::vector<std::unique_ptr<Tokenizer>> tokenizers;
  tokenizers.push_back(std::make_unique<ByteTokenizer>());
  tokenizers.push_back(std::make_unique<WorldTokenizer>(Vocabulary::parse_world(world_text())));
  CHECK(tokenizers[0]->end_of_text() == std::nullopt);
  CHECK(tokenizers[1]->end_of_text() == TokenId{0});
  for (auto const& tokenizer : tokenizers)
    CHECK(tokenizer->decode(tokenizer->encode("it's the end\n")) == "it's the end\n");
}

TEST_CASE("tokenizer: moved and copied tokenizers work") {
  WorldTokenizer first(Vocabulary::parse_world("1 'a' 1\n2 'b' 1\n"));
  WorldTokenizer const copy = first;
  WorldTokenizer const moved = std::move(first);
  CHECK(copy.decode(copy.encode("ab")) == "ab");
  CHECK(moved.decode(moved.encode("ba")) == "ba");
}
