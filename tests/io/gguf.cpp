#include "aviary/io/gguf.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "aviary/io/checkpoint_file.hpp"
#include "aviary/io/tokenizer.hpp"
#include "support/container_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using namespace aviary::test;

static_assert(std::is_move_constructible_v<Gguf> && !std::is_copy_constructible_v<Gguf>);

namespace {

std::filesystem::path samples() {
  return std::filesystem::path(AVIARY_TEST_GOLDEN_DIR).parent_path() / "io" / "containers";
}

/// What is wrong with the file, after its name.
std::string complaint(std::string const& file) { return test::complaint_of<Gguf>(file); }
std::string complaint(GgufCase const& file) { return complaint(file.file()); }

std::string floats(std::size_t n) { return std::string(4 * n, '\1'); }

/// A file with a value of a type.
GgufCase with_value(std::uint32_t type, std::string const& bytes) {
  GgufCase file;
  file.values.push_back({"k", type, bytes});
  return file;
}

GgufCase const words = GgufCase()
                           .text("tokenizer.ggml.model", "rwkv")
                           .texts("tokenizer.ggml.tokens", {"<s>", "a", "\\x80\\xff", "it's", "\\\\\\t\\n\\r", "[PAD]"})
                           .i32s("tokenizer.ggml.token_type", {3, 1, 1, 4, 6, 5});

}  // namespace

TEST_CASE("gguf: what gguf wrote is read as it says") {
  Gguf const file(samples() / "formats.gguf");
  file.verify();
  auto const text = [&](char const* key) { return file.metadata().at(std::string("sample.") + key); };
  CHECK(file.metadata().at("general.architecture") == "sample");
  CHECK(text("uint8") == "255");
  CHECK(text("int8") == "-128");
  CHECK(text("uint16") == "65535");
  CHECK(text("int16") == "-32768");
  CHECK(text("uint32") == "4294967295");
  CHECK(text("int32") == "-2147483648");
  CHECK(text("float32") == "0.1");
  CHECK(text("uint64") == "18446744073709551615");
  CHECK(text("int64") == "-9223372036854775808");
  CHECK(text("float64") == "0.1");
  CHECK(text("bool") == "true");
  CHECK(text("string") == "a\n\u00e9");
  CHECK(!file.metadata().contains("sample.texts"));
  CHECK(!file.vocabulary());

  constexpr float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> const real{0, -0.0f, 1, -2.5f, 1e-40f, 65504, infinity, -infinity};
  CHECK(file.tensor("f32", {8}).expect_dtype(NumberFormat::f32).read<float>() == real);
  CHECK(file.tensor("f64", {8}).expect_dtype(NumberFormat::f64).read<float>() == real);
  std::vector<f16> halves;
  std::vector<bf16> upper;
  for (float const x : real) halves.push_back(narrow<f16>(x)), upper.push_back(narrow<bf16>(x));
  CHECK(file.tensor("f16", {8}).read<f16>() == halves);
  CHECK(file.tensor("bf16", {8}).read<bf16>() == upper);
  CHECK(file.tensor("i32", {1, 2, 3}).read<std::int32_t>() == std::vector{-3, -2, -1, 0, 1, 2});
  CHECK(file.tensor("i64", {2}).read<std::int64_t>() == std::vector{INT64_MIN, INT64_MAX});
}

TEST_CASE("gguf: the bytes tell what a file is, and versions 2 and 3 are alike") {
  GgufCase file = GgufCase().text("k", "v").tensor("x", {3, 2}, 0, floats(6));
  for (std::uint32_t const version : {2u, 3u}) {
    file.version = version;
    std::string const bytes = file.file();
    TensorFile const read = open_checkpoint(bytes_of(bytes), "f");
    CHECK(read.tensor("x", {2, 3}).read<float>() == std::vector<float>(6, std::bit_cast<float>(0x01010101)));
    CHECK(read.metadata() == Metadata{{"k", "v"}});
  }
  CHECK(Gguf(bytes_of(GgufCase().file())).size() == 0);
  std::string const no_padding = GgufCase().text("k", "v").file().substr(0, 24 + 9 + 4 + 9);
  CHECK(Gguf(bytes_of(no_padding)).size() == 0);
}

TEST_CASE("gguf: the vocabulary is what the file's texts stand for") {
  std::string const bytes = words.file();
  Gguf const file{bytes_of(bytes)};
  REQUIRE(file.vocabulary());
  Vocabulary const& found = *file.vocabulary();
  CHECK(found.size() == 5);
  CHECK(!found.contains(0));
  CHECK(found.bytes(1) == "a");
  CHECK(found.bytes(2) == "\x80\xff");
  CHECK(found.bytes(3) == "it's");
  CHECK(found.bytes(4) == "\\\t\n\r");
  CHECK(!found.contains(5));

  GgufCase other = words;
  other.values[0] = GgufCase().text("tokenizer.ggml.model", "gpt2").values[0];
  std::string const gpt2 = other.file();
  CHECK(!Gguf(bytes_of(gpt2)).vocabulary());

  Gguf const sample(samples() / "rwkv7.gguf");
  WorldTokenizer const tokenizer(sample.vocabulary().value());
  CHECK(tokenizer.encode("abba the\n\t\r\\it's'\"\u00e9\x80\xff") == std::vector<TokenId>{3, 2, 1, 5, 6, 7, 8, 9, 4});
}

TEST_CASE("gguf: a vocabulary that is none is refused") {
  auto const with = [](std::vector<std::string> const& tokens) {
    return complaint(GgufCase().text("tokenizer.ggml.model", "rwkv").texts("tokenizer.ggml.tokens", tokens));
  };
  std::string const value = "value 'tokenizer.ggml.tokens': ";
  CHECK(with({"", "a", "\\q"}) == value + "token 2: unknown escape '\\q'");
  CHECK(with({"", "\\x8"}) == value + "token 1: expected 2 digits in an escape, found '8'");
  CHECK(with({"", "\\"}) == value + "token 1: the literal ends in a backslash");
  CHECK(with({"", "a", "b", "\\x61"}) == value + "the token 'a' is that of ids 1 and 3");
  CHECK(with({"a"}) == value + "holds no tokens");
  CHECK(with({}) == value + "holds no tokens");
  CHECK(complaint(GgufCase().text("tokenizer.ggml.model", "rwkv")) == value + "is missing");
  CHECK(complaint(GgufCase().text("tokenizer.ggml.model", "rwkv").i32s("tokenizer.ggml.tokens", {1})) ==
        value + "expected a list of texts, found something else");
  CHECK(complaint(GgufCase().text("tokenizer.ggml.model", "rwkv").text("tokenizer.ggml.tokens", "a")) ==
        value + "expected a list of texts, found something else");
  GgufCase fewer = words;
  fewer.values[2] = GgufCase().i32s("tokenizer.ggml.token_type", {3, 1}).values[0];
  CHECK(complaint(fewer) == "value 'tokenizer.ggml.token_type': expected one for each of 6 tokens, found 2");
}

TEST_CASE("gguf: a file that is cut short anywhere is refused, without a read beyond its end") {
  GgufCase file = words;
  file.u32("general.alignment", 64).tensor("x", {32, 2}, 2, std::string(36, 'x')).tensor("y", {3}, 0, floats(3));
  file.alignment = 64;
  std::string const whole = file.file();
  CHECK(Gguf(bytes_of(whole)).size() == 2);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    std::string const message = complaint(whole.substr(0, size));
    CHECK((message.find("found its end") != message.npos || message.find("cut short") != message.npos ||
           message.find("GGUF") != message.npos));
  }
}

TEST_CASE("gguf: another file is refused, and says what it is") {
  std::string const rest = le(std::uint64_t{0}, std::uint64_t{0});
  CHECK(complaint("GGML" + le(std::uint32_t{3}) + rest) == "expected a file that begins with 'GGUF', found another");
  CHECK(complaint("GGUF" + le(std::uint32_t{1}) + rest) == "expected version 2 or 3, found 1");
  CHECK(complaint("GGUF" + le(std::uint32_t{4}) + rest) == "expected version 2 or 3, found 4");
  CHECK(complaint("GGUF" + le(std::uint32_t{3u << 24}) + rest) == "is big-endian, expected a little-endian file");
  CHECK(complaint(GgufCase().u32("split.count", 3)) ==
        "is one of 3 parts of a file, expected all of it: merge the parts");
}

TEST_CASE("gguf: values are checked") {
  CHECK(complaint(with_value(13, "")) == "value 'k': unknown type of value 13");
  CHECK(complaint(with_value(7, "\2")) == "value 'k': expected a truth value of 0 or 1, found 2");
  CHECK(complaint(with_value(8, gguf_text("\xff"))) == "value 'k': expected a text in UTF-8, found '\\xff'");
  CHECK(complaint(with_value(9, le(std::uint32_t{9}, std::uint64_t{1}))) ==
        "value 'k': expected a list of single values, found one of lists");
  CHECK(complaint(with_value(9, le(std::uint32_t{77}, std::uint64_t{1}))) == "value 'k': unknown type of value 77");
  // 24 bytes of counts, 9 of the key, 4 of a type; then a length.
  CHECK(complaint(with_value(8, le(UINT64_MAX))) ==
        "expected a text at byte 45 of its 64, found its end: the file is damaged or cut short");
  for (std::uint64_t const count : {std::uint64_t{1} << 62, UINT64_MAX, std::uint64_t{100}})
    for (std::uint32_t const type : {0u, 5u, 8u, 12u}) {
      std::string const message = complaint(with_value(9, le(type, count)));
      CHECK(message.find("found its end: the file is damaged or cut short") != message.npos);
    }
  CHECK(complaint(GgufCase().u32("k", 1).text("k", "v")) == "value 'k': is given twice");
  CHECK(complaint(GgufCase().u32("a\xff", 1)) == "expected a key in UTF-8 of at most 65535 bytes, found 'a\\xff'");
  CHECK(complaint(GgufCase().u32(std::string(65536, 'k'), 1)).starts_with("expected a key in UTF-8 of at most 65535"));
  CHECK(complaint(GgufCase().u32("general.alignment", 24)) ==
        "value 'general.alignment': expected a power of two up to 1048576, found 24");
  CHECK(complaint(GgufCase().u32("general.alignment", 0)) ==
        "value 'general.alignment': expected a power of two up to 1048576, found 0");
  CHECK(complaint(GgufCase().text("general.alignment", "x")) ==
        "value 'general.alignment': expected an integer from 0 on, found 'x'");
}

TEST_CASE("gguf: counts that no file can hold are refused") {
  for (std::uint64_t const count : {std::uint64_t{1} << 40, UINT64_MAX}) {
    std::string const message = "found its end: the file is damaged or cut short";
    CHECK(complaint("GGUF" + le(std::uint32_t{3}, count, std::uint64_t{0})).find(message) != std::string::npos);
    CHECK(complaint("GGUF" + le(std::uint32_t{3}, std::uint64_t{0}, count)).find(message) != std::string::npos);
  }
}

TEST_CASE("gguf: tensors are checked") {
  auto const with = [](std::vector<std::uint64_t> dimensions, std::uint32_t type, std::string bytes) {
    return complaint(GgufCase().tensor("x", std::move(dimensions), type, std::move(bytes)));
  };
  std::string const supported =
      ", expected one of F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, I32, I64, F64, BF16";
  CHECK(with({3}, 10, "") == "tensor 'x': type Q2_K is not supported" + supported);
  CHECK(with({3}, 24, "") == "tensor 'x': type I8 is not supported" + supported);
  CHECK(with({3}, 4711, "") == "tensor 'x': unknown type 4711" + supported);
  CHECK(with({1, 1, 1, 1, 1}, 0, floats(1)) == "tensor 'x': expected at most 4 dimensions, found 5");
  CHECK(with({std::uint64_t{1} << 63}, 0, "") ==
        "tensor 'x': expected sizes up to 2^63 - 1, found 9223372036854775808");
  CHECK(with({std::uint64_t{1} << 32, std::uint64_t{1} << 31}, 0, "") ==
        "tensor 'x': shape [2147483648, 4294967296] needs more than 2^63 - 1 bytes");
  CHECK(with({31, 2}, 2, std::string(36, 'x')) ==
        "tensor 'x': expected rows of a multiple of 32 numbers for Q4_0, found shape [2, 31]");
  CHECK(with({128}, 14, std::string(210, 'x')) ==
        "tensor 'x': expected rows of a multiple of 256 numbers for Q6_K, found shape [128]");
  CHECK(with({64}, 8, std::string(67, 'x')) ==
        "tensor 'x': Q8_0 and shape [64] need 68 bytes from 0 on, which reach beyond the 67 bytes of data: the file is "
        "damaged or cut short");
  CHECK(with({std::uint64_t{1} << 60}, 0, floats(1)).find("reach beyond the 4 bytes of data") != std::string::npos);

  GgufCase two = GgufCase().tensor("x", {8}, 0, floats(8)).tensor("x", {8}, 0, floats(8));
  CHECK(complaint(two) == "tensor 'x': is given twice");
  two.tensors[1].name = "y";
  two.tensors[1].more_offset = 16;
  CHECK(complaint(two) == "tensor 'y': expected an offset that 32 divides, found 48");
  two.tensors[1].more_offset = std::uint64_t{1} << 40;
  CHECK(complaint(two).find("tensor 'y': F32 and shape [8] need 32 bytes from 1099511627808 on") == 0);
  two.tensors[1].more_offset = -std::uint64_t{32};
  CHECK(complaint(two) == "tensors 'x' and 'y' overlap: one ends at byte 32 of the data, the other begins at 0");
  two.tensors[1].more_offset = 0;
  two.tensors[1].name = std::string("y\xc3");
  CHECK(complaint(two) == "expected a name of a tensor in UTF-8 of at most 65535 bytes, found 'y\\xc3'");
}
