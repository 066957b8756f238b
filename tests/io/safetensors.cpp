#include "aviary/io/safetensors.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "support/temporary_folder.hpp"

using namespace aviary;
using namespace aviary::test;

static_assert(std::is_move_constructible_v<SafeTensors> && !std::is_copy_constructible_v<SafeTensors>);
static_assert(std::is_trivially_copyable_v<Tensor>);

namespace {

/// A file of a header and a number of data bytes.
std::string file_of(std::string const& header, std::size_t data = 0) {
  std::uint64_t const length = header.size();
  std::string file(sizeof(length), '\0');
  std::memcpy(file.data(), &length, sizeof(length));
  return file + header + std::string(data, '\1');
}

/// What is wrong with the file, after its name.
std::string complaint(std::string const& file) {
  std::string const message = message_of([&] { SafeTensors{bytes_of(file), "f"}; });
  CHECK(message.starts_with("f: "));
  CHECK(message.find('\n') == message.npos);
  return message.size() > 3 ? message.substr(3) : message;
}
std::string complaint(std::string const& header, std::size_t data) { return complaint(file_of(header, data)); }

std::string bytes_written(SafeTensorsWriter const& writer) {
  std::ostringstream stream;
  writer.write(stream);
  return stream.str();
}

/// One tensor of each number type, one without numbers and one without dimensions.
struct Sample {
  static constexpr std::size_t data_size = 24 + 24 + 24 + 8 + 4 + 8 + 6 + 3;

  std::vector<double> f64{1.5, -2.25, std::numeric_limits<double>::infinity()};
  std::vector<float> f32{0.5f, -1e-40f, 3e38f, 4.0f, 5.0f, 6.0f};
  std::vector<f16> half{{0x3c00}, {0x7bff}, {0x0001}, {0xfc00}};
  std::vector<bf16> brain{{0x3f80}, {0x7f80}, {0x0001}};
  std::vector<std::int64_t> i64{INT64_MIN, -1, INT64_MAX};
  std::vector<std::int32_t> i32{INT32_MIN, 7};
  std::vector<std::uint8_t> u8{0, 128, 255};
  std::array<float, 1> scalar{42.0f};
  std::vector<float> none;

  SafeTensorsWriter writer() const {
    SafeTensorsWriter writer;
    writer.add("f64", {3}, f64).add("f32", {2, 3}, f32).add("f16", {2, 1, 2}, half).add("bf16", {3, 1}, brain);
    writer.add("i64", {3}, i64).add("i32", {2}, i32).add("u8", {3}, u8);
    writer.add("scalar", {}, scalar).add("none", {4, 0}, none);
    writer.set_metadata("op", "sample").set_metadata("note", "two\nlines, \"quotes\" and \xc3\xa9");
    return writer;
  }
};

template <class T> std::span<std::byte const> as_bytes(std::vector<T> const& v) { return std::as_bytes(std::span(v)); }
bool same_bytes(std::span<std::byte const> a, std::span<std::byte const> b) { return std::ranges::equal(a, b); }

void check_sample(SafeTensors const& file, Sample const& sample) {
  CHECK(file.size() == 9);
  CHECK(same_bytes(file.tensor("f64", {3}).bytes, as_bytes(sample.f64)));
  CHECK(same_bytes(file.tensor("f32", {2, 3}).bytes, as_bytes(sample.f32)));
  CHECK(same_bytes(file.tensor("f16", {2, 1, 2}).bytes, as_bytes(sample.half)));
  CHECK(same_bytes(file.tensor("bf16", {3, 1}).bytes, as_bytes(sample.brain)));
  CHECK(file.tensor("f64").read<double>() == sample.f64);
  CHECK(file.tensor("f32").read<float>() == sample.f32);
  CHECK(file.tensor("f16").read<f16>() == sample.half);
  CHECK(file.tensor("bf16").read<bf16>() == sample.brain);
  CHECK(file.tensor("i64").read<std::int64_t>() == sample.i64);
  CHECK(file.tensor("i32").read<std::int32_t>() == sample.i32);
  CHECK(file.tensor("u8").read<std::uint8_t>() == sample.u8);
  CHECK(file.tensor("scalar", std::initializer_list<std::int64_t>{}).read<float>() == std::vector{42.0f});
  CHECK(file.tensor("none", {4, 0}).read<float>().empty());
  CHECK(file.metadata().at("op") == "sample");
  CHECK(file.metadata().at("note") == "two\nlines, \"quotes\" and \xc3\xa9");
}

}  // namespace

TEST_CASE("safetensors: what is written is read, from a file and from memory") {
  TemporaryFolder const folder;
  Sample const sample;
  sample.writer().write(folder / "sample.safetensors");
  CHECK(folder.files() == 1);
  check_sample(SafeTensors(folder / "sample.safetensors"), sample);
  std::string const bytes = bytes_written(sample.writer());
  CHECK(bytes == content_of(folder / "sample.safetensors"));
  check_sample(SafeTensors(bytes_of(bytes)), sample);
}

TEST_CASE("safetensors: writing what was read gives the same bytes") {
  std::string const bytes = bytes_written(Sample().writer());
  SafeTensors const file(bytes_of(bytes));
  SafeTensorsWriter writer;
  for (std::string_view const name : file.names()) writer.add(file.tensor(name));
  for (auto const& [key, text] : file.metadata()) writer.set_metadata(key, text);
  CHECK(bytes_written(writer) == bytes);
}

TEST_CASE("safetensors: written files have an exact form") {
  std::array<std::uint8_t, 3> const u{1, 2, 3};
  std::array<float, 1> const f{1.0f};
  SafeTensorsWriter writer;
  writer.add("a", {3}, u).add("b", {1}, f).set_metadata("k", "v");
  std::string header = R"({"__metadata__":{"k":"v"},"a":{"data_offsets":[4,7],"dtype":"U8","shape":[3]},)"
                       R"("b":{"data_offsets":[0,4],"dtype":"F32","shape":[1]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  CHECK(bytes_written(writer) == file_of(header) + std::string("\0\0\x80\x3f\1\2\3", 7));
  std::string const nothing = bytes_written(SafeTensorsWriter());
  CHECK(nothing == file_of("{}      "));
  CHECK(SafeTensors(bytes_of(nothing)).names().empty());
}

TEST_CASE("safetensors: written tensors lie on multiples of their number size, in any order of adding") {
  std::vector<std::byte> storage;
  std::string const bytes = bytes_written(Sample().writer());
  SafeTensors const file(bytes_of(bytes));
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  CHECK(length % 8 == 0);
  for (std::string_view const name : file.names()) {
    Tensor const tensor = file.tensor(name);
    auto const offset = tensor.bytes.data() - bytes_of(bytes).data();
    CHECK_MESSAGE(static_cast<std::size_t>(offset) % size_of(tensor.dtype) == 0, name);
  }
  SafeTensorsWriter backwards;
  auto names = file.names();
  for (auto name = names.rbegin(); name != names.rend(); ++name) backwards.add(file.tensor(*name));
  for (auto const& [key, text] : file.metadata()) backwards.set_metadata(key, text);
  CHECK(bytes_written(backwards) == bytes);
}

TEST_CASE("safetensors: views survive a move of the file") {
  TemporaryFolder const folder;
  Sample const sample;
  std::filesystem::path const path = folder / "s";
  sample.writer().write(path);
  auto file = std::make_unique<SafeTensors>(path);
  Tensor const tensor = file->tensor("f32");
  SafeTensors const moved = std::move(*file);
  file.reset();
  CHECK(tensor.name == "f32");
  CHECK(tensor.file == path.string());
  CHECK(tensor.read<float>() == sample.f32);
  check_sample(moved, sample);
}

TEST_CASE("safetensors: names are sorted, contains tells which there are") {
  std::string const bytes = bytes_written(Sample().writer());
  SafeTensors const file(bytes_of(bytes), "f");
  CHECK(file.names() ==
        std::vector<std::string_view>{"bf16", "f16", "f32", "f64", "i32", "i64", "none", "scalar", "u8"});
  CHECK(file.contains("none"));
  CHECK_FALSE(file.contains("__metadata__"));
  CHECK(message_of([&] { file.tensor("F64"); }) == "f: has no tensor 'F64' among its 9");
}

TEST_CASE("safetensors: a shape is checked in words, dynamic fits any size") {
  std::string const bytes = bytes_written(Sample().writer());
  SafeTensors const file(bytes_of(bytes), "dir/f");
  CHECK(file.tensor("f32", {dynamic, 3}).size() == 6);
  CHECK(file.tensor("f32", {dynamic, dynamic}).size() == 6);
  CHECK(message_of([&] { file.tensor("f32", {3, 2}); }) == "dir/f: tensor 'f32': expected shape [3, 2], found [2, 3]");
  CHECK(message_of([&] {
          file.tensor("f32", {dynamic, 4});
        }) == "dir/f: tensor 'f32': expected shape [any, 4], found [2, 3]");
  CHECK(message_of([&] { file.tensor("scalar", {1}); }) == "dir/f: tensor 'scalar': expected shape [1], found []");
  std::vector<std::int64_t> const long_shape(20, 1);
  CHECK(message_of([&] { file.tensor("u8", long_shape); }) ==
        "dir/f: tensor 'u8': expected shape [1, 1, 1, 1, 1, 1, 1, 1, ...] of 20 dimensions, found [3]");
}

TEST_CASE("tensor: floating types convert into each other, rounding to nearest") {
  // 1 + 2^-8 is halfway between two bf16, 1 + 2^-11 between two f16: the even one is 1.
  std::vector<double> const numbers{1.0, -0.5, 1.0 + 0x1p-8, 1.0 + 0x1p-11, 1.0 + 0x1p-24, 65504.0, 0x1p-24};
  SafeTensorsWriter writer;
  writer.add("x", {7}, numbers);
  std::string const bytes = bytes_written(writer);
  SafeTensors const file(bytes_of(bytes));
  Tensor const x = file.tensor("x");
  auto const check = [&]<class T>(std::vector<double> const& expected) {
    std::vector<T> const read = x.read<T>();
    SafeTensorsWriter again;
    again.add("y", {7}, read);
    std::string const narrow = bytes_written(again);
    SafeTensors const narrow_file(bytes_of(narrow));
    CHECK(narrow_file.tensor("y").dtype == format_of<T>);
    CHECK(narrow_file.tensor("y").read<double>() == expected);
    std::vector<float> const as_float(expected.begin(), expected.end());
    CHECK(narrow_file.tensor("y").read<float>() == as_float);
  };
  check.operator()<double>(numbers);
  check.operator()<float>({1.0, -0.5, 1.0 + 0x1p-8, 1.0 + 0x1p-11, 1.0, 65504.0, 0x1p-24});
  check.operator()<bf16>({1.0, -0.5, 1.0, 1.0, 1.0, 65536.0, 0x1p-24});
  check.operator()<f16>({1.0, -0.5, 1.0 + 0x1p-8, 1.0, 1.0, 65504.0, 0x1p-24});
}

TEST_CASE("tensor: conversion is the same around the size of a block") {
  for (std::size_t n : {std::size_t{1}, std::size_t{255}, std::size_t{256}, std::size_t{257}, std::size_t{1000}}) {
    std::vector<bf16> numbers(n);
    std::vector<std::int32_t> integers(n);
    for (std::size_t i = 0; i < n; ++i) {
      numbers[i] = narrow<bf16>(static_cast<float>(i % 128));
      integers[i] = static_cast<std::int32_t>(i) - 500;
    }
    SafeTensorsWriter writer;
    auto const size = static_cast<std::int64_t>(n);
    writer.add("x", {size}, numbers).add("i", {size}, integers);
    std::string const bytes = bytes_written(writer);
    SafeTensors const file(bytes_of(bytes));
    std::vector<double> const x = file.tensor("x").read<double>();
    std::vector<std::int64_t> const i64 = file.tensor("i").read<std::int64_t>();
    for (std::size_t i = 0; i < n; ++i) {
      REQUIRE(x[i] == static_cast<double>(i % 128));
      REQUIRE(i64[i] == static_cast<std::int64_t>(i) - 500);
    }
  }
}

TEST_CASE("tensor: integers widen to integers, and no other dtype is taken for another") {
  Sample const sample;
  std::string const bytes = bytes_written(sample.writer());
  SafeTensors const file(bytes_of(bytes), "f");
  CHECK(file.tensor("i32").read<std::int64_t>() == std::vector<std::int64_t>{INT32_MIN, 7});
  CHECK(file.tensor("u8").read<std::int64_t>() == std::vector<std::int64_t>{0, 128, 255});
  CHECK(file.tensor("u8").read<std::int32_t>() == std::vector<std::int32_t>{0, 128, 255});
  CHECK(message_of([&] { file.tensor("i64").read<float>(); }) ==
        "f: tensor 'i64': expected dtype f64, f32, f16, bf16, found i64");
  CHECK(message_of([&] { file.tensor("f32").read<std::int64_t>(); }) ==
        "f: tensor 'f32': expected dtype i64, i32, u8, found f32");
  CHECK(message_of([&] { file.tensor("i64").read<std::int32_t>(); }) ==
        "f: tensor 'i64': expected dtype i32, u8, found i64");
  CHECK(message_of([&] { file.tensor("i32").read<std::uint8_t>(); }) ==
        "f: tensor 'i32': expected dtype u8, found i32");
}

TEST_CASE("tensor: read_into fills spans, arrays and vectors of the right size only") {
  Sample const sample;
  std::string const bytes = bytes_written(sample.writer());
  SafeTensors const file(bytes_of(bytes), "f");
  std::array<float, 8> guarded;
  guarded.fill(-7.0f);
  file.tensor("f32").read_into(std::span(guarded).subspan(1, 6));
  CHECK(guarded[0] == -7.0f);
  CHECK(guarded[7] == -7.0f);
  CHECK(std::equal(sample.f32.begin(), sample.f32.end(), guarded.begin() + 1));
  std::array<double, 3> out{};
  file.tensor("f64").read_into(out);
  CHECK(out[1] == -2.25);
  std::vector<float> few(5);
  CHECK(message_of<std::invalid_argument>([&] { file.tensor("f32").read_into(few); }) ==
        "f: tensor 'f32': holds 6 numbers of shape [2, 3], the destination 5");
}

TEST_CASE("tensor: numbers on any boundary are read, in place only where they may be") {
  Sample const sample;
  std::string const bytes = bytes_written(sample.writer());
  for (std::size_t shift = 0; shift < 8; ++shift) {
    std::vector<std::uint64_t> storage(bytes.size() / 8 + 2);  // begins on a boundary of 8
    auto const place = std::as_writable_bytes(std::span(storage)).subspan(shift, bytes.size());
    std::memcpy(place.data(), bytes.data(), bytes.size());
    SafeTensors const file(place);
    check_sample(file, sample);
    CHECK(file.tensor("f16").read<double>()[1] == 65504.0);
    CHECK(file.tensor("bf16").read<float>()[0] == 1.0f);
    CHECK(file.tensor("f64").in_place<double>().has_value() == (shift == 0));
    CHECK(file.tensor("f32").in_place<float>().has_value() == (shift % 4 == 0));
    CHECK(file.tensor("bf16").in_place<bf16>().has_value() == (shift % 2 == 0));
    CHECK(file.tensor("u8").in_place<std::uint8_t>().has_value());
    CHECK_FALSE(file.tensor("f32").in_place<std::int32_t>().has_value());
    if (shift == 0) {
      auto const view = file.tensor("f32").in_place<float>().value();
      CHECK(static_cast<void const*>(view.data()) == file.tensor("f32").bytes.data());
      CHECK(std::ranges::equal(view, sample.f32));
    }
  }
}

TEST_CASE("safetensors: a file cut at any length is refused") {
  TemporaryFolder const folder;
  std::string const whole = bytes_written(Sample().writer());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    std::vector<std::byte> const part(bytes_of(whole).begin(), bytes_of(whole).begin() + static_cast<Index>(size));
    CAPTURE(size);
    CHECK_THROWS_AS(SafeTensors{part}, std::runtime_error);  // exact size: the sanitizer sees a read behind the end
    if (size % 16 == 0)
      CHECK_THROWS_AS(SafeTensors{folder.file("cut", std::string_view(whole).substr(0, size))}, std::runtime_error);
  }
  CHECK(complaint(whole + "x").ends_with("of the data belong to no tensor"));
  CHECK(complaint(whole.substr(0, whole.size() - 1)) ==
        "tensor 'u8': data_offsets [98, 101] reach beyond the 100 bytes of data: the file is damaged or cut short");
}

TEST_CASE("safetensors: errors of opening name the path") {
  TemporaryFolder const folder;
  std::string const empty = folder.file("empty", "").string();
  CHECK(message_of([&] { SafeTensors{std::filesystem::path(empty)}; }) ==
        empty + ": expected 8 bytes of header length, found a file of 0 bytes");
  std::string const missing = (folder / "missing").string();
  CHECK(message_of([&] { SafeTensors{std::filesystem::path(missing)}; }) ==
        missing + ": cannot open: No such file or directory");
  CHECK(message_of([&] { SafeTensors{folder.path()}; }) == folder.path().string() + ": is a directory");
}

TEST_CASE("safetensors: header lengths are checked before use") {
  CHECK(complaint("1234567") == "expected 8 bytes of header length, found a file of 7 bytes");
  CHECK(complaint(std::string("\x03\0\0\0\0\0\0\0{}", 10)) == "expected a header of 3 bytes, found 2 left in the file");
  CHECK(complaint(std::string(8, '\xff') + "{}") ==
        "expected a header of at most 100000000 bytes, found 18446744073709551615: not a safetensors file?");
  CHECK(complaint(std::string("\x01\xe1\xf5\x05\0\0\0\0", 8)) ==
        "expected a header of at most 100000000 bytes, found 100000001: not a safetensors file?");
  CHECK(complaint(std::string("\x00\xe1\xf5\x05\0\0\0\0", 8)) ==
        "expected a header of 100000000 bytes, found 0 left in the file");
}

TEST_CASE("safetensors: a header that is no JSON object is refused") {
  CHECK(complaint("", 0) == "the header does not begin with '{'");
  CHECK(complaint("[]", 0) == "the header does not begin with '{'");
  CHECK(complaint(" {}", 0) == "the header does not begin with '{'");
  for (std::string const header :
       {"{", "{}x", "{\"a\"", "{'a':1}", "{\"a\":{", "{\"\xff\":{}}", "{} {}", "{\"a\":{\"b\":1e999}}"}) {
    CAPTURE(header);
    std::string const message = complaint(header, 0);
    CHECK(
        (message.starts_with("the header is not valid JSON: ") || message.starts_with("the header cannot be read: ")));
    CHECK(message.size() < 400);
  }
  CHECK(complaint("{} {}", 0).find("line 1, column 4") != std::string::npos);
  CHECK(complaint("{\"" + std::string(100'000, 'x'), 0).size() < 400);
  CHECK(SafeTensors(bytes_of(file_of("{}  \n\t "))).size() == 0);  // trailing white space is padding
}

TEST_CASE("safetensors: nesting without end is refused at once") {
  CHECK(complaint("{\"a\":" + std::string(1'000'000, '['), 0) == "tensor 'a': expected an object, found array");
  for (auto const& [start, message] :
       {std::pair<std::string, std::string>{"{\"a\":{\"b\":", "tensor 'a': is nested too deeply"},
        {"{\"__metadata__\":{\"b\":", "__metadata__: expected a string for 'b', found array"}}) {
    CHECK(complaint(start + std::string(1'000'000, '['), 0) == message);
    std::string braces = start;
    for (int i = 0; i < 100'000; ++i) braces += "{\"a\":";
    CHECK(complaint(braces, 0).size() < 400);
  }
}

TEST_CASE("safetensors: lists and members without end are refused") {
  std::string list = "0";
  for (int i = 0; i < 100'000; ++i) list += ",0";
  std::string const known = R"("dtype":"U8","data_offsets":[0,0],)";
  CHECK(complaint("{\"a\":{" + known + "\"shape\":[" + list + "]}}", 0) == "tensor 'a': holds too many values");
  std::string members = "\"shape\":[0]";
  for (int i = 0; i < 10'000; ++i) members += ",\"" + std::to_string(i) + "\":{}";
  CHECK(complaint("{\"a\":{" + known + members + "}}", 0) == "tensor 'a': holds too many values");
  std::string many;  // the limit is for one tensor
  for (int i = 0; i < 2000; ++i) many += "\"" + std::to_string(i) + "\":{" + known + "\"shape\":[0]},";
  std::string const file = file_of("{" + many + "\"last\":{" + known + "\"shape\":[0,1,2,3,4,5,6,7]}}");
  CHECK(SafeTensors(bytes_of(file)).size() == 2001);
}

TEST_CASE("safetensors: repeated names and keys are refused") {
  std::string const t = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  CHECK(complaint("{\"a\":" + t + ",\"b\":" + t + ",\"a\":" + t + "}", 0) == "tensor 'a': is given twice");
  CHECK(complaint("{\"a\":" + t + ",\"\\u0061\":" + t + "}", 0) == "tensor 'a': is given twice");
  CHECK(complaint(R"({"__metadata__":{},"__metadata__":{}})", 0) == "__metadata__: is given twice");
  CHECK(complaint(R"({"__metadata__":{"k":"1","k":"2"}})", 0) == "__metadata__: the key 'k' is given twice");
  CHECK(complaint(R"({"a":{"dtype":"U8","dtype":"U8"}})", 0) == "tensor 'a': the key 'dtype' is given twice");
}

TEST_CASE("safetensors: metadata holds strings only") {
  CHECK(complaint(R"({"__metadata__":{"k":1}})", 0) == "__metadata__: expected a string for 'k', found number");
  CHECK(complaint(R"({"__metadata__":{"k":null}})", 0) == "__metadata__: expected a string for 'k', found null");
  CHECK(complaint(R"({"__metadata__":{"k":{"l":"m"}}})", 0) == "__metadata__: expected a string for 'k', found object");
  CHECK(complaint(R"({"__metadata__":"k"})", 0) == "__metadata__: expected an object, found string");
}

TEST_CASE("safetensors: metadata have an end") {
  auto const texts = [](int count) {
    std::string list;
    for (int i = 0; i < count; ++i) list += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":\"\"";
    return R"({"__metadata__":{)" + list + "}}";
  };
  CHECK(SafeTensors(bytes_of(file_of(texts(65536)))).metadata().size() == 65536);
  CHECK(complaint(texts(65537), 0) == "__metadata__: holds more than 65536 texts");
  auto const long_text = [](std::size_t size) { return R"({"__metadata__":{"k":")" + std::string(size, 'x') + "\"}}"; };
  CHECK(SafeTensors(bytes_of(file_of(long_text((1 << 24) - 1)))).metadata().size() == 1);
  CHECK(complaint(long_text(1 << 24), 0) == "__metadata__: its texts have more than 16777216 bytes");
  CHECK(complaint(R"({"__metadata__":{"k":[1,2]}})", 0) == "__metadata__: expected a string for 'k', found array");
}

TEST_CASE("safetensors: a byte of 0 ends no header") {
  std::string file = file_of("{}   ");
  file.back() = '\0';
  CHECK(message_of([&] { SafeTensors(bytes_of(file), "f"); }) == "f: the header holds a byte of 0");
}

TEST_CASE("safetensors: a checksum of all that a file holds, on request") {
  std::vector<float> const numbers{1, 2, 3, 4, 5, 6};
  std::vector<std::uint8_t> const bytes{7, 8};
  SafeTensorsWriter writer;
  writer.add("f", {2, 3}, numbers).add("u", {2}, bytes).set_metadata("k", "v");
  auto const text = [](SafeTensorsWriter const& from) {
    std::ostringstream out;
    from.write(out);
    return out.str();
  };
  std::string const without = text(writer), with = text(writer.add_checksum());
  CHECK_FALSE(SafeTensors(bytes_of(without)).has_checksum());
  SafeTensors(bytes_of(without)).verify();
  SafeTensors const file(bytes_of(with));
  CHECK(file.has_checksum());
  file.verify();

  // Who writes the same content in another way keeps it; who writes other content gets another.
  std::vector<std::int64_t> const shape{2, 3}, strides{1, 2};
  std::vector<float> const by_columns{1, 4, 2, 5, 3, 6};
  SafeTensorsWriter copy;
  for (auto const& [key, value] : file.metadata()) copy.set_metadata(key, value);
  copy.add(file.tensor("u"))
      .add({.name = "f",
            .dtype = NumberFormat::f32,
            .shape = shape,
            .bytes = std::as_bytes(std::span(by_columns)),
            .strides = strides});
  CHECK(text(copy) == with);
  std::string const changed = text(copy.set_metadata("k", "w"));
  CHECK(SafeTensors(bytes_of(changed)).metadata().at("aviary.checksum") != file.metadata().at("aviary.checksum"));
  SafeTensors(bytes_of(changed)).verify();

  std::string damaged = with;
  damaged[damaged.find("\"v\"") + 1] = 'w';
  CHECK(message_of([&] { SafeTensors(bytes_of(damaged), "f").verify(); }) ==
        "f: its content does not fit its checksum: it is damaged");
}

TEST_CASE("safetensors: missing or wrongly typed members are refused") {
  auto const with = [](std::string const& tensor) { return complaint("{\"a\":" + tensor + "}", 8); };
  CHECK(with("7") == "tensor 'a': expected an object, found number");
  CHECK(with("[{}]") == "tensor 'a': expected an object, found array");
  CHECK(with("{}") == "tensor 'a': dtype is missing");
  CHECK(with(R"({"dtype":"F32"})") == "tensor 'a': shape is missing");
  CHECK(with(R"({"dtype":"F32","shape":[2]})") == "tensor 'a': data_offsets is missing");
  CHECK(with(R"({"dtype":1,"shape":[2],"data_offsets":[0,8]})") ==
        "tensor 'a': expected a string for dtype, found number");
  CHECK(with(R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})") ==
        "tensor 'a': expected an array for shape, found number");
  CHECK(with(R"({"dtype":"F32","shape":["2"],"data_offsets":[0,8]})") ==
        "tensor 'a': expected integers from 0 to 2^63 - 1 for shape, found string");
  CHECK(with(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})") ==
        "tensor 'a': expected integers from 0 to 2^63 - 1 for shape, found 2.0");
  CHECK(with(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})") ==
        "tensor 'a': expected integers from 0 to 2^63 - 1 for shape, found -2");
  CHECK(with(R"({"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]})") ==
        "tensor 'a': expected integers from 0 to 2^63 - 1 for shape, found 9223372036854775808");
  CHECK(with(R"({"dtype":"F32","shape":[2],"data_offsets":{"begin":0}})") ==
        "tensor 'a': expected an array for data_offsets, found object");
  CHECK(with(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})") == "tensor 'a': expected 2 data_offsets, found 1");
  CHECK(with(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,8]})") ==
        "tensor 'a': expected 2 data_offsets, found 3");
  CHECK(with(R"({"dtype":"F32","shape":[2],"data_offsets":[-1,8]})") ==
        "tensor 'a': expected integers from 0 to 2^63 - 1 for data_offsets, found -1");
}

TEST_CASE("safetensors: every official dtype is either read or named as not supported") {
  for (NumberFormat const dtype : tensor_formats) {
    std::string const bytes = std::to_string(size_of(dtype));
    std::string const file = file_of(
        R"({"a":{"dtype":")" + detail::safetensors_name(dtype) + R"(","shape":[1],"data_offsets":[0,)" + bytes + "]}}",
        size_of(dtype));
    CHECK(SafeTensors(bytes_of(file)).tensor("a").dtype == dtype);
  }
  auto const with = [](std::string const& dtype) {
    return complaint(R"({"a":{"dtype":")" + dtype + R"(","shape":[0],"data_offsets":[0,0]}})", 0);
  };
  for (std::string const dtype :
       {"BOOL", "I8", "I16", "U16", "U32", "U64", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "C64"})
    CHECK(with(dtype) ==
          "tensor 'a': dtype " + dtype + " is not supported, expected one of F64, F32, F16, BF16, I64, I32, U8");
  CHECK(with("f32") == "tensor 'a': unknown dtype 'f32', expected one of F64, F32, F16, BF16, I64, I32, U8");
  CHECK(with("") == "tensor 'a': unknown dtype '', expected one of F64, F32, F16, BF16, I64, I32, U8");
}

TEST_CASE("safetensors: sizes are checked in 64 bits and against the place") {
  auto const with = [](std::string const& dtype, std::string const& shape, std::string const& offsets) {
    return complaint(R"({"a":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}",
                     8);
  };
  CHECK(with("F32", "[3]", "[0,8]") == "tensor 'a': dtype F32 and shape [3] need 12 bytes, data_offsets [0, 8] hold 8");
  CHECK(with("F64", "[]", "[0,4]") == "tensor 'a': dtype F64 and shape [] need 8 bytes, data_offsets [0, 4] hold 4");
  CHECK(with("U8", "[0]", "[0,8]") == "tensor 'a': dtype U8 and shape [0] need 0 bytes, data_offsets [0, 8] hold 8");
  // 2^32 * 2^32 is 0 in 64 bits, 2^61 numbers of 8 bytes are too, 2^62 + 1 numbers of 4 bytes would be 4 bytes.
  CHECK(with("U8", "[4294967296,4294967296]", "[0,0]") ==
        "tensor 'a': shape [4294967296, 4294967296] needs more than 2^63 - 1 bytes");
  CHECK(with("F64", "[2305843009213693952]", "[0,0]") ==
        "tensor 'a': shape [2305843009213693952] needs more than 2^63 - 1 bytes");
  CHECK(with("F32", "[4611686018427387905]", "[0,4]") ==
        "tensor 'a': shape [4611686018427387905] needs more than 2^63 - 1 bytes");
  CHECK(with("U8", "[0,9223372036854775807,2]", "[0,0]") ==
        "tensor 'a': shape [0, 9223372036854775807, 2] needs more than 2^63 - 1 bytes");
  CHECK(with("F32", "[2]", "[8,0]") == "tensor 'a': data_offsets [8, 0] end before they begin");
  CHECK(with("F32", "[2]", "[4,12]") ==
        "tensor 'a': data_offsets [4, 12] reach beyond the 8 bytes of data: the file is damaged or cut short");
  CHECK(with("U8", "[1]", "[9223372036854775806,9223372036854775807]")
            .starts_with("tensor 'a': data_offsets [9223372036854775806, 9223372036854775807] reach beyond"));
}

TEST_CASE("safetensors: tensors neither overlap nor leave holes") {
  auto const tensor = [](std::string const& name, int begin, int end) {
    return "\"" + name + R"(":{"dtype":"U8","shape":[)" + std::to_string(end - begin) + R"(],"data_offsets":[)" +
           std::to_string(begin) + "," + std::to_string(end) + "]}";
  };
  auto const of = [](std::string const& a, std::string const& b) { return "{" + a + "," + b + "}"; };
  CHECK(complaint(of(tensor("a", 0, 5), tensor("b", 4, 8)), 8) ==
        "tensors 'a' and 'b' overlap: one ends at byte 5 of the data, the other has data_offsets [4, 8]");
  CHECK(complaint(of(tensor("a", 2, 4), tensor("b", 0, 8)), 8) ==
        "tensors 'b' and 'a' overlap: one ends at byte 8 of the data, the other has data_offsets [2, 4]");
  CHECK(complaint(of(tensor("a", 0, 8), tensor("b", 0, 8)), 8).starts_with("tensors 'a' and 'b' overlap"));
  CHECK(complaint(of(tensor("a", 0, 8), tensor("b", 4, 4)), 8).starts_with("tensors 'a' and 'b' overlap"));
  CHECK(complaint(of(tensor("a", 0, 3), tensor("b", 4, 8)), 8) == "bytes [3, 4] of the data belong to no tensor");
  CHECK(complaint(of(tensor("a", 4, 8), tensor("b", 2, 4)), 8) == "bytes [0, 2] of the data belong to no tensor");
  CHECK(complaint(of(tensor("a", 0, 3), tensor("b", 3, 7)), 8) == "bytes [7, 8] of the data belong to no tensor");
  CHECK(complaint("{}", 8) == "bytes [0, 8] of the data belong to no tensor");
  std::string const good = file_of(of(tensor("a", 4, 8), tensor("b", 0, 4)), 8);
  CHECK(SafeTensors(bytes_of(good)).size() == 2);
  std::string const empty_first = file_of(of(tensor("a", 0, 8), tensor("b", 0, 0)), 8);
  CHECK(SafeTensors(bytes_of(empty_first)).size() == 2);
  std::string const empty_last = file_of(of(tensor("a", 0, 8), tensor("b", 8, 8)), 8);
  CHECK(SafeTensors(bytes_of(empty_last)).size() == 2);
}

TEST_CASE("safetensors: unknown members are ignored, as by other readers") {
  std::string const file = file_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"note":["x"]}})", 1);
  CHECK(SafeTensors(bytes_of(file)).tensor("a").size() == 1);
}

TEST_CASE("safetensors: strange names are shown on one short line") {
  CHECK(complaint("{\"a\\n\\u0000b\":1}", 0) == "tensor 'a\\x0a\\x00b': expected an object, found number");
  std::string const message = complaint("{\"" + std::string(10'000, 'n') + "\":1}", 0);
  CHECK(message == "tensor '" + std::string(120, 'n') + "...': expected an object, found number");
  // A cut falls between characters: 119 bytes, then one of two bytes.
  CHECK(complaint("{\"" + std::string(119, 'n') + "\xc3\xa9\":1}", 0)
            .starts_with("tensor '" + std::string(119, 'n') + "...'"));
}

TEST_CASE("safetensors: the writer refuses what would make a bad file") {
  std::vector<float> const numbers(6);
  SafeTensorsWriter writer;
  writer.add("a", {6}, numbers);
  auto const add = [&](std::string const& name, std::vector<std::int64_t> shape) {
    return message_of<std::invalid_argument>([&] { writer.add(name, std::move(shape), numbers); });
  };
  CHECK(add("a", {6}) == "cannot write tensor 'a': it is given twice");
  CHECK(add("__metadata__", {6}) == "cannot write tensor '__metadata__': the name is reserved");
  CHECK(add("b", {2, 4}) == "cannot write tensor 'b': expected numbers for shape [2, 4], found 24 bytes of f32");
  CHECK(add("b", {-6}) == "cannot write tensor 'b': expected numbers for shape [-6], found 24 bytes of f32");
  CHECK(add("b", {INT64_MAX, 4}) ==
        "cannot write tensor 'b': expected numbers for shape [9223372036854775807, 4], found 24 bytes of f32");
  Tensor const torn{.name = "t", .dtype = NumberFormat::f32, .shape = {}, .bytes = bytes_of("sixsix")};
  CHECK(message_of<std::invalid_argument>([&] { writer.add(torn); }) ==
        "cannot write tensor 't': expected numbers for shape [], found 6 bytes of f32");
  CHECK(add("\xff", {6}) == "expected a tensor name in UTF-8, found '\\xff'");
  CHECK(message_of<std::invalid_argument>([&] { writer.set_metadata("k", "\xc3"); }) ==
        "expected a metadata text in UTF-8, found '\\xc3'");
  CHECK(message_of<std::invalid_argument>([&] { writer.set_metadata("\x80", ""); }) ==
        "expected a metadata key in UTF-8, found '\\x80'");
  std::string const bytes = bytes_written(writer);
  CHECK(SafeTensors(bytes_of(bytes)).names() == std::vector<std::string_view>{"a"});
}

TEST_CASE("safetensors: names of any characters come back") {
  std::vector<float> const numbers(2);
  std::vector<std::string> const names{
      "", " ", "a\"b\\c", "line\nbreak", std::string("nul\0nul", 7), "\xf0\x9f\x90\xa6"};
  SafeTensorsWriter writer;
  for (std::string const& name : names) writer.add(name, {2}, numbers);
  std::string const bytes = bytes_written(writer);
  SafeTensors const file(bytes_of(bytes));
  CHECK(file.size() == names.size());
  for (std::string const& name : names) CHECK(file.contains(name));
}

TEST_CASE("safetensors: a failed write leaves the old file and nothing else") {
  TemporaryFolder const folder;
  SafeTensorsWriter const writer = Sample().writer();
  std::string const nowhere = (folder / "no" / "f").string();
  CHECK(message_of([&] { writer.write(std::filesystem::path(nowhere)); }) ==
        nowhere + ": cannot create: No such file or directory");
  CHECK(message_of([&] { writer.write(folder.path()); }) == folder.path().string() + ": is a directory");
  CHECK(folder.files() == 0);
}

TEST_CASE("safetensors: random damage is refused or harmless") {
  std::string const whole = bytes_written(Sample().writer());
  std::mt19937 random(20240229);
  auto const below = [&](std::size_t n) { return random() % n; };
  constexpr std::string_view interesting = "{}[]\",:0123456789-.eE\\u \xff";
  int opened = 0, refused = 0;
  for (int trial = 0; trial < 20'000; ++trial) {
    std::string damaged = whole;
    // Three in four changes hit length and header, the rest anything.
    std::size_t const reach = trial % 4 != 0 ? damaged.size() - Sample::data_size : damaged.size();
    for (std::size_t change = 0; change <= below(4); ++change) {
      std::size_t const at = below(std::min(reach, damaged.size()));
      switch (below(5)) {
        case 0:
          damaged[at] = static_cast<char>(random());
          break;
        case 1:
          damaged[at] = interesting[below(interesting.size())];
          break;
        case 2:
          damaged.erase(at, 1 + below(4));
          break;
        case 3:
          damaged.insert(at, 1 + below(4), interesting[below(interesting.size())]);
          break;
        default:
          damaged.insert(at, damaged.substr(below(damaged.size()), below(40)));
      }
      if (damaged.empty()) break;
    }
    std::vector<std::byte> const bytes(bytes_of(damaged).begin(), bytes_of(damaged).end());
    try {
      SafeTensors const file{std::span(bytes)};
      for (std::string_view const name : file.names()) {
        Tensor const tensor = file.tensor(name);
        with_element(tensor.dtype,
                     [&]<class T>() { REQUIRE(tensor.read<T>().size() * sizeof(T) == tensor.bytes.size()); });
      }
      ++opened;
    } catch (std::runtime_error const&) {
      ++refused;
    }
  }
  CHECK(refused > 10'000);
  CHECK(opened > 100);  // damage to numbers and names alone is no error
}

TEST_CASE("safetensors: golden files and models are read and written back unchanged") {
  std::string const data = AVIARY_TEST_DATA_DIR, committed = AVIARY_TEST_GOLDEN_DIR;
  if (data.empty()) MESSAGE("no AVIARY_TEST_DATA_DIR: the committed golden files alone");
  std::vector<std::filesystem::path> folders{committed};
  if (!data.empty()) folders.insert(folders.end(), {data + "/golden", data + "/models"});
  int files = 0;
  for (std::filesystem::path const& folder : folders)
    for (auto const& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() != ".safetensors") continue;
      CAPTURE(entry.path().string());
      SafeTensors const file(entry.path());
      SafeTensorsWriter writer;
      for (std::string_view const name : file.names()) writer.add(file.tensor(name));
      for (auto const& [key, text] : file.metadata()) writer.set_metadata(key, text);
      std::string const bytes = bytes_written(writer);
      SafeTensors const copy(bytes_of(bytes));
      CHECK(copy.metadata() == file.metadata());
      REQUIRE(copy.names() == file.names());
      for (std::string_view const name : file.names()) {
        CHECK(copy.tensor(name).dtype == file.tensor(name).dtype);
        CHECK(same_bytes(copy.tensor(name, file.tensor(name).shape).bytes, file.tensor(name).bytes));
      }
      ++files;
    }
  CHECK(files > 0);
}
