#include "aviary/io/torch.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "aviary/io/checkpoint_file.hpp"
#include "aviary/io/safetensors.hpp"
#include "support/temporary_folder.hpp"
#include "support/zip_case.hpp"

using namespace aviary;
using namespace aviary::test;
using pickled::dict;
using pickled::global;
using pickled::number;
using pickled::numbers;
using pickled::storage;
using pickled::tensor;
using pickled::text;
using pickled::tuple;

static_assert(std::is_move_constructible_v<TorchCheckpoint> && !std::is_copy_constructible_v<TorchCheckpoint>);

namespace {

std::filesystem::path samples() { return std::filesystem::path(AVIARY_TEST_GOLDEN_DIR).parent_path() / "io" / "torch"; }

std::string hexadecimal(std::span<std::byte const> bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string out;
  for (std::byte const byte : bytes) {
    out += digits[static_cast<unsigned>(byte) >> 4];
    out += digits[static_cast<unsigned>(byte) & 15u];
  }
  return out;
}

/// The numbers row-major, as they lie in the file otherwise.
std::string numbers_of(Tensor const& tensor) {
  return with_element(tensor.dtype, [&]<class T>() {
    std::vector<T> const numbers = tensor.read<T>();
    return hexadecimal(std::as_bytes(std::span(numbers)));
  });
}

template <class T> std::string raw(std::vector<T> const& numbers) {
  auto const bytes = std::as_bytes(std::span(numbers));
  return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

/// 0, 1, 2 ... as floats.
std::string count_to(int n) {
  std::vector<float> numbers;
  for (int i = 0; i < n; ++i) numbers.push_back(static_cast<float>(i));
  return raw(numbers);
}

/// What is wrong with the file, after its name.
std::string complaint(std::string const& file) { return test::complaint_of<TorchCheckpoint>(file); }

/// The same of a checkpoint of one tensor 'x', made by `value`, and a storage '0' of 6 floats.
std::string complaint_of(std::string const& value) {
  return complaint(torch_of(dict({text("x"), value}), {{"0", count_to(6)}}));
}

std::string const six = storage("FloatStorage", "0", 6);
std::string const damaged = ", found something else: the file is damaged";

/// A file of one tensor 'x' of float and this layout.
struct Layout {
  std::string file;
  Layout(int stored, std::int64_t offset, std::vector<std::int64_t> const& shape,
         std::vector<std::int64_t> const& strides)
      : file(torch_of(dict({text("x"), tensor(storage("FloatStorage", "0", stored), offset, shape, strides)}),
                      {{"0", count_to(stored)}})) {}
  std::vector<float> read() const { return TorchCheckpoint(bytes_of(file)).tensor("x").read<float>(); }
};

}  // namespace

TEST_CASE("torch: what torch wrote is read as torch reads it") {
  auto const expected = nlohmann::json::parse(content_of(samples() / "expected.json"));
  CHECK(expected.size() == 6);
  for (auto const& [name, content] : expected.items()) {
    auto const& tensors = content.is_string() ? expected.at(content.get<std::string>()) : content;
    std::string const bytes = content_of(samples() / name);
    std::vector<std::byte> const exact(bytes_of(bytes).begin(), bytes_of(bytes).end());
    TorchCheckpoint const mapped(samples() / name), in_memory(exact);
    for (TorchCheckpoint const* const file : {&mapped, &in_memory}) {
      file->verify();
      CHECK(file->size() == tensors.size());
      for (auto const& [key, values] : tensors.items()) {
        std::string const where = name + ": " + key;
        CAPTURE(where);
        Tensor const found = file->tensor(key, values["shape"].get<std::vector<std::int64_t>>());
        CHECK(name_of(found.dtype) == values["dtype"].get<std::string>());
        CHECK(numbers_of(found) == values["bytes"].get<std::string>());
      }
    }
  }
}

TEST_CASE("torch: a published checkpoint is listed as torch lists it") {
  std::filesystem::path const folder = std::filesystem::path(AVIARY_TEST_DATA_DIR) / "models";
  if (std::string_view(AVIARY_TEST_DATA_DIR).empty() || !exists(folder / "small-torch-checkpoint.json")) {
    MESSAGE("not run: AVIARY_TEST_DATA_DIR has no models/small-torch-checkpoint.json");
    return;
  }
  auto const expected = nlohmann::json::parse(content_of(folder / "small-torch-checkpoint.json"))["tensors"];
  TorchCheckpoint const file(folder / "small-torch-checkpoint.pth");
  file.verify();
  CHECK(file.size() == expected.size());
  for (auto const& [name, values] : expected.items()) {
    Tensor const tensor = file.tensor(name, values["shape"].get<std::vector<std::int64_t>>());
    CAPTURE(tensor.name);
    CHECK(values["dtype"] == "float32");
    CHECK(tensor.dtype == NumberFormat::f32);
    double sum = 0, abs_sum = 0;
    for (float const x : tensor.read<float>()) {
      sum += static_cast<double>(x);
      abs_sum += std::abs(static_cast<double>(x));
    }
    // Two sums of n numbers, each in an order of its own: n eps of the sum of their sizes.
    double const bound = static_cast<double>(tensor.size()) * 0x1p-52 * abs_sum;
    CHECK(std::abs(sum - values["sum"].get<double>()) <= bound);
    CHECK(std::abs(abs_sum - values["abs_sum"].get<double>()) <= bound);
  }
}

TEST_CASE("torch: the files that are refused say what they are") {
  auto const refused = [](char const* name) {
    std::string const path = (samples() / name).string();
    std::string const message = message_of([&] { TorchCheckpoint{std::filesystem::path(path)}; });
    CHECK(message.starts_with(path + ": "));
    return message.substr(std::min(path.size() + 2, message.size()));
  };
  CHECK(refused("before_1_6.pth") ==
        "is in the format of torch before 1.6, expected a zip archive: save it again with "
        "torch.save(torch.load(...), ...)");
  CHECK(refused("bool.pth") ==
        "tensor 'mask': dtype 'torch BoolStorage' is not supported, expected one of f64, f32, f16, bf16, i64, i32, u8");
  CHECK(refused("negated.pth") ==
        "tensor 'x': is conjugated or negated when it is read: save it after resolve_conj() and resolve_neg()");
  std::string tar(1024, '\0');
  tar.replace(257, 5, "ustar");
  CHECK(complaint(tar).starts_with("is in the tar format of torch before 0.2, expected a zip archive"));
  for (std::string const file : {"", "PK", "{}", "\x80\x02}."})
    CHECK(complaint(file) == "expected a zip archive as torch.save writes it, found another file");
  CHECK(message_of([&] { TorchCheckpoint{samples()}; }) == samples().string() + ": is a directory");
}

TEST_CASE("torch: either format is opened by its content") {
  TemporaryFolder const folder;
  std::vector<float> const two{1, 2};
  std::ostringstream written;
  SafeTensorsWriter().add("y", {2}, two).set_metadata("k", "v").write(written);
  std::string const torch = torch_of(dict({text("x"), tensor(six, 0, {6}, {1})}), {{"0", count_to(6)}});
  auto const check = [](TensorFile const& file, char const* name, Index size) {
    CHECK(file.names() == std::vector<std::string_view>{name});
    CHECK(file.tensor(name).size() == size);
  };
  check(open_checkpoint(folder.file("a.safetensors", torch)), "x", 6);
  check(open_checkpoint(folder.file("a.pth", written.str())), "y", 2);
  check(open_checkpoint(bytes_of(torch)), "x", 6);
  check(open_checkpoint(bytes_of(written.str()), "f"), "y", 2);
  CHECK(open_checkpoint(bytes_of(written.str())).metadata().at("k") == "v");
  std::string const path = folder.file("a", "not a checkpoint").string();
  CHECK(message_of([&] { open_checkpoint(std::filesystem::path(path)); }).starts_with(path + ": expected a header of"));
  CHECK(message_of([&] { open_checkpoint(bytes_of("PK\3\4"), "f"); }).starts_with("f: expected a zip directory"));
  // A safetensors header may be as long as "PK\3\4" says.
  std::string const header = std::string("PK\3\4\0\0\0\0", 8) + "{}";
  CHECK(message_of([&] { open_checkpoint(bytes_of(header), "f"); }) ==
        "f: expected a header of 67324752 bytes, found 2 left in the file");
}

TEST_CASE("torch: views survive a move of the file") {
  auto file = std::make_unique<TorchCheckpoint>(samples() / "views.pth");
  Tensor const tensor = file->tensor("bf16.transposed");
  std::string const numbers = numbers_of(tensor);
  TensorFile const moved = std::move(*file);
  file.reset();
  CHECK(tensor.name == "bf16.transposed");
  CHECK(tensor.file == (samples() / "views.pth").string());
  CHECK(numbers_of(tensor) == numbers);
  CHECK(std::ranges::equal(tensor.strides, std::vector<std::int64_t>{1, 6}));
}

TEST_CASE("torch: names join the keys, whatever holds them") {
  std::string const x = tensor(six, 0, {6}, {1});
  std::string const od = pickled::ordered_dict() + "(" + text("o") + x + "u}" + text("_metadata") + x + "sb";
  std::string const file = torch_of(
      dict({text("a"), x, text("d"), dict({text(""), x, text("b.c"), x}), number(7), x, number(-1), x, text("l"),
            pickled::list({x, "N", tuple({x, number(3)})}), text("od"), od, text("n"), "N", tuple({}), "K\1"}),
      {{"0", count_to(6)}});
  CHECK(TorchCheckpoint(bytes_of(file)).names() ==
        std::vector<std::string_view>{"-1", "7", "a", "d.", "d.b.c", "l.0", "l.2.0", "od.o"});
  auto const names = [](std::string const& value) {
    return TorchCheckpoint(bytes_of(torch_of(value, {{"0", count_to(6)}}))).size();
  };
  CHECK(names(x) == 1);
  CHECK(names("N") == 0);
  CHECK(names(")") == 0);
  CHECK(names(pickled::call(global("torch", "Size"), {numbers({1, 2})})) == 0);
  CHECK(names(six) == 0);
  CHECK(names("\x8f(" + x + "\x90") == 0);
}

TEST_CASE("torch: names and keys that cannot be are refused") {
  std::string const x = tensor(six, 0, {6}, {1});
  auto const of = [](std::string const& value) { return complaint(torch_of(value, {{"0", count_to(6)}})); };
  CHECK(of(dict({text("a"), x, text("a"), x})) == "tensor 'a': is given twice");
  CHECK(of(dict({text("a"), dict({text("b"), x}), text("a.b"), x})) == "tensor 'a.b': is given twice");
  CHECK(of(dict({text("1"), x, number(1), x})) == "tensor '1': is given twice");
  CHECK(of(dict({text("a"), dict({"N", x})})) == "expected a str or an int as a key behind 'a', found None");
  CHECK(of(dict({tuple({}), x})) == "expected a str or an int as a key behind '', found a tuple");
  CHECK(of(dict({"\x88", pickled::list({})})) == "expected a str or an int as a key behind '', found a bool");
  CHECK(of(pickled::call(global("collections", "OrderedDict"), {pickled::list({})})) ==
        "tensor '': expected an OrderedDict without arguments" + damaged);
}

TEST_CASE("torch: nesting and sharing without end are refused") {
  std::string const x = tensor(six, 0, {6}, {1});
  auto const nested = [&](std::size_t depth) {
    std::string value;
    for (std::size_t i = 0; i < depth; ++i) value += "](";
    return torch_of(value + x + std::string(depth, 'e'), {{"0", count_to(6)}});
  };
  CHECK(TorchCheckpoint(bytes_of(nested(100))).size() == 1);
  CHECK(complaint(nested(101)) == "its values are nested more than 100 deep");
  CHECK(complaint(nested(100'000)) == "its values are nested more than 100 deep");
  std::string const endless = "its values hold each other so often that there is no end to the names";
  CHECK(complaint(torch_of(std::string("]q\0h\0a", 6))) == endless);
  // Each tuple holds the one before twice: 2^40 tensors.
  std::string doubled = x;
  for (char i = 0; i < 40; ++i) doubled += std::string("q") + i + "h" + i + "\x86";
  CHECK(complaint(torch_of(doubled, {{"0", count_to(6)}})) == endless);
  // A long key above many tensors.
  std::string many = x + std::string("q\0", 2);
  std::vector<std::string> items{many};
  for (int i = 0; i < 1000; ++i) items.emplace_back("h\0", 2);
  CHECK(complaint(torch_of(dict({text(std::string(10'000, 'k')), pickled::list(items)}), {{"0", count_to(6)}})) ==
        endless);
}

TEST_CASE("torch: a tensor of many sizes is not listed for two bytes each") {
  std::vector<std::int64_t> const ones(64, 1);
  std::vector<std::string> items{tensor(six, 0, ones, ones) + std::string("q\0", 2)};
  CHECK(TorchCheckpoint(bytes_of(torch_of(pickled::list(items), {{"0", count_to(6)}}))).size() == 1);
  for (int i = 0; i < 1000; ++i) items.emplace_back("h\0", 2);
  CHECK(complaint(torch_of(pickled::list(items), {{"0", count_to(6)}})) ==
        "its values hold each other so often that there is no end to the names");
}

TEST_CASE("torch: a dict may be in a file under two names") {
  std::string const shared = dict({text("w"), tensor(six, 0, {2, 3}, {3, 1})}) + std::string("q\0", 2);
  std::string const file =
      torch_of(dict({text("model"), shared, text("ema"), std::string("h\0", 2)}), {{"0", count_to(6)}});
  CHECK(TorchCheckpoint(bytes_of(file)).names() == std::vector<std::string_view>{"ema.w", "model.w"});
}

TEST_CASE("torch: every way to make a tensor") {
  auto const made = [](std::string const& value) {
    std::string const file = torch_of(dict({text("x"), value}), {{"0", count_to(6)}});
    return TorchCheckpoint(bytes_of(file)).tensor("x", {2, 2}).read<float>();
  };
  std::string const view = numbers({2, 2}) + numbers({2, 1}), base = six + number(1) + view,
                    hooks = pickled::ordered_dict();
  std::string const v2 = global("torch._utils", "_rebuild_tensor_v2"), plain = tensor(six, 1, {2, 2}, {2, 1});
  std::vector<float> const expected{1, 2, 3, 4};
  auto const call = [](std::string const& name, std::string const& arguments) {
    return global("torch._utils", name) + "(" + arguments + "tR";
  };
  CHECK(made(plain) == expected);
  CHECK(made(call("_rebuild_tensor", base)) == expected);
  CHECK(made(call("_rebuild_tensor_v2", base + "\x89" + hooks + "}")) == expected);
  CHECK(made(call("_rebuild_tensor_v3", base + "\x89" + hooks + global("torch", "float32"))) == expected);
  CHECK(made(call("_rebuild_parameter", plain + "\x88" + hooks)) == expected);
  CHECK(made(call("_rebuild_parameter_with_state", plain + "\x88" + hooks + "}")) == expected);
  CHECK(made(global("torch._tensor", "_rebuild_from_type_v2") + "(" + v2 + global("torch.nn.parameter", "Parameter") +
             "(" + base + "\x89" + hooks + "t}tR") == expected);
  CHECK(made(call("_rebuild_parameter", call("_rebuild_parameter", plain + "\x88N") + "\x88N")) == expected);
  // A storage without a type, of which a tensor has one.
  for (auto const& [module, name] : {std::pair{"torch.storage", "UntypedStorage"},
                                     {"torch.storage", "_UntypedStorage"},
                                     {"torch", "UntypedStorage"}}) {
    std::string const untyped =
        tuple({text("storage"), global(module, name), text("0"), text("cpu"), number(24)}) + "Q";
    CHECK(made(call("_rebuild_tensor_v3",
                    untyped + number(1) + view + "\x89" + hooks + global("torch", "float32") + "}")) == expected);
    std::string const bytes = torch_of(dict({text("x"), tensor(untyped, 4, {4}, {1})}), {{"0", count_to(6)}});
    CHECK(TorchCheckpoint(bytes_of(bytes)).tensor("x").read<std::uint8_t>() ==
          std::vector<std::uint8_t>{0, 0, 128, 63});
  }
}

TEST_CASE("torch: a description that is not torch's is refused") {
  std::string const base = six + number(0) + numbers({6}) + numbers({1}), hooks = pickled::ordered_dict();
  auto const call = [](std::string const& name, std::string const& arguments) {
    return complaint_of(global("torch._utils", name) + "(" + arguments + "tR");
  };
  std::string const not_torch = "tensor 'x': expected a tensor as torch describes it" + damaged;
  CHECK(call("_rebuild_tensor", base + "N") == not_torch);
  CHECK(call("_rebuild_tensor", six) == not_torch);
  CHECK(call("_rebuild_tensor_v2", base + "\x89") == not_torch);
  CHECK(call("_rebuild_tensor_v2", base + "\x89" + hooks + "}N") == not_torch);
  CHECK(call("_rebuild_tensor_v3", base + "\x89" + hooks) == not_torch);
  CHECK(call("_rebuild_tensor_v2", base + "\x89" + hooks + "N") ==
        "tensor 'x': expected a dict of a tensor's further bits" + damaged);
  CHECK(call("_rebuild_tensor_v2", base + "NNNNNNNNN") == "tensor 'x': expected arguments of a tensor" + damaged);
  CHECK(complaint_of(pickled::call(global("torch", "FloatStorage"), {})) == not_torch);
  CHECK(call("_rebuild_parameter", "") == "tensor 'x': expected a parameter of a tensor" + damaged);
  CHECK(call("_rebuild_parameter", "N\x88N") == "tensor 'x': expected a parameter of a tensor" + damaged);
  CHECK(call("_rebuild_parameter", hooks + "\x88N") == not_torch);
  for (std::string const& arguments : {std::string("N"), std::string("NNNN"), global("torch", "Tensor") + "NN"})
    CHECK(complaint_of(global("torch._tensor", "_rebuild_from_type_v2") + "(" + arguments + "tR") ==
          "tensor 'x': expected a subclass of a tensor" + damaged);
  CHECK(call("_rebuild_tensor_v3", base + "\x89" + hooks + global("torch", "FloatStorage")) ==
        "tensor 'x': expected a type of numbers" + damaged);
  CHECK(call("_rebuild_tensor_v3", base + "\x89" + hooks + global("torch", "float8_e5m2")) ==
        "tensor 'x': dtype 'torch float8_e5m2' is not supported, expected one of f64, f32, f16, bf16, i64, i32, u8");
}

TEST_CASE("torch: a storage that is not there, or not as large, is refused") {
  auto const of = [](std::string const& storage) { return complaint_of(tensor(storage, 0, {1}, {1})); };
  CHECK(of("N") == "tensor 'x': expected a storage" + damaged);
  CHECK(of(storage("FloatStorage", "1", 6)) == "tensor 'x': its storage 'f/data/1' is missing");
  CHECK(of(storage("FloatStorage", "../data.pkl", 6)) == "tensor 'x': its storage 'f/data/../data.pkl' is missing");
  for (std::int64_t const count : {0, 5, 7})
    CHECK(of(storage("FloatStorage", "0", count)) == "tensor 'x': expected " + std::to_string(count) +
                                                         " numbers of f32 in its storage 'f/data/0', found 24 bytes");
  CHECK(of(storage("FloatStorage", "0", INT64_MAX)).starts_with("tensor 'x': expected 9223372036854775807 numbers"));
  CHECK(of(storage("FloatStorage", "0", -1)) == "tensor 'x': expected a size of a storage from 0 on, found -1");
  CHECK(of(storage("DoubleStorage", "0", 6)) ==
        "tensor 'x': expected 6 numbers of f64 in its storage 'f/data/0', found 24 bytes");
  CHECK(of(storage("ShortStorage", "0", 12)).starts_with("tensor 'x': dtype 'torch ShortStorage' is not supported"));
  CHECK(of(storage("float32", "0", 6)) == "tensor 'x': expected a type of numbers" + damaged);
  std::string const words = "tensor 'x': expected 5 words about a storage" + damaged;
  CHECK(of("NQ") == words);
  CHECK(of(tuple({text("storage"), global("torch", "FloatStorage"), text("0"), text("cpu")}) + "Q") == words);
  CHECK(of(tuple({text("module"), global("torch", "FloatStorage"), text("0"), text("cpu"), number(6)}) + "Q") == words);
  CHECK(of(tuple({text("storage"), global("torch", "FloatStorage"), number(0), text("cpu"), number(6)}) + "Q") ==
        words);
  CHECK(of(tuple({text("storage"), global("torch", "FloatStorage"), text("0"), text("cpu"), number(6), "N"}) + "Q") ==
        words);
}

TEST_CASE("torch: a view must lie inside of its storage") {
  auto const of = [](std::int64_t offset, std::vector<std::int64_t> const& shape,
                     std::vector<std::int64_t> const& strides) {
    return complaint_of(tensor(six, offset, shape, strides));
  };
  auto const beyond = [](std::string const& shape, std::string const& strides, std::int64_t offset) {
    return "tensor 'x': shape " + shape + " and strides " + strides + " from number " + std::to_string(offset) +
           " on reach beyond the 6 numbers of its storage";
  };
  CHECK(of(0, {7}, {1}) == beyond("[7]", "[1]", 0));
  CHECK(of(1, {6}, {1}) == beyond("[6]", "[1]", 1));
  CHECK(of(0, {2, 2}, {1, 5}) == beyond("[2, 2]", "[1, 5]", 0));
  CHECK(of(6, {}, {}) == beyond("[]", "[]", 6));
  CHECK(of(7, {0}, {1}) == beyond("[0]", "[1]", 7));
  CHECK(of(INT64_MAX, {1}, {1}) == beyond("[1]", "[1]", INT64_MAX));
  CHECK(of(1, {2}, {INT64_MAX - 1}) == beyond("[2]", "[9223372036854775806]", 1));
  std::string const tail = " reach over more than 2^63 - 1 numbers";
  CHECK(of(0, {2}, {INT64_MAX}) == "tensor 'x': shape [2] and strides [9223372036854775807]" + tail);
  CHECK(of(0, {INT64_MAX, 2}, {1, 1}) == "tensor 'x': shape [9223372036854775807, 2] and strides [1, 1]" + tail);
  // 2^32 * 2^32 is 0 in 64 bits.
  CHECK(of(0, {1LL << 32, 1LL << 32}, {0, 0}) ==
        "tensor 'x': shape [4294967296, 4294967296] and strides [0, 0]" + tail);
  CHECK(of(0, {(1LL << 32) + 1, 2}, {1LL << 32, 1}).ends_with(tail));
  CHECK(of(0, {2}, {-1}) == "tensor 'x': expected strides from 0 on, found -1");
  CHECK(of(0, {-2}, {1}) == "tensor 'x': expected a shape from 0 on, found -2");
  CHECK(of(-1, {2}, {1}) == "tensor 'x': expected an offset from 0 on, found -1");
  CHECK(of(0, {2}, {}) == "tensor 'x': expected as many strides as sizes" + damaged);
  CHECK(of(0, std::vector<std::int64_t>(65, 1), std::vector<std::int64_t>(65, 1)) ==
        "tensor 'x': expected a shape" + damaged);
  CHECK(complaint_of(global("torch._utils", "_rebuild_tensor") + "(" + six + "\x89" + numbers({1}) + numbers({1}) +
                     "tR") == "tensor 'x': expected an offset" + damaged);
}

TEST_CASE("torch: views are read in the order of their shape") {
  auto const read = [](int stored, std::int64_t offset, std::vector<std::int64_t> const& shape,
                       std::vector<std::int64_t> const& strides) {
    return Layout(stored, offset, shape, strides).read();
  };
  using Floats = std::vector<float>;
  CHECK(read(6, 0, {6}, {1}) == Floats{0, 1, 2, 3, 4, 5});
  CHECK(read(6, 1, {2, 2}, {2, 1}) == Floats{1, 2, 3, 4});
  CHECK(read(6, 0, {3, 2}, {1, 3}) == Floats{0, 3, 1, 4, 2, 5});
  CHECK(read(6, 1, {2, 2}, {3, 1}) == Floats{1, 2, 4, 5});
  CHECK(read(6, 2, {3}, {0}) == Floats{2, 2, 2});
  CHECK(read(6, 0, {3, 3}, {1, 1}) == Floats{0, 1, 2, 1, 2, 3, 2, 3, 4});
  CHECK(read(6, 5, {}, {}) == Floats{5});
  CHECK(read(6, 6, {0}, {1}).empty());
  CHECK(read(6, 0, {2, 0, INT64_MAX / 2}, {0, 9, 1}).empty());
  CHECK(read(6, 4, {1, 2, 1}, {77, 1, 99}) == Floats{4, 5});
  CHECK(read(24, 0, {2, 3, 4}, {12, 1, 3}) ==
        Floats{0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 12, 15, 18, 21, 13, 16, 19, 22, 14, 17, 20, 23});
}

TEST_CASE("torch: large views convert, block by block, as they are") {
  constexpr int rows = 37, columns = 41;
  for (std::vector<std::int64_t> const& strides : {std::vector<std::int64_t>{1, rows}, {columns + 1, 1}, {2, 3}}) {
    Layout const layout(2000, 5, {rows, columns}, strides);
    TorchCheckpoint const file(bytes_of(layout.file));
    Tensor const x = file.tensor("x", {rows, columns});
    CHECK(x.size() == rows * columns);
    std::vector<float> const floats = x.read<float>();
    std::vector<double> const doubles = x.read<double>();
    std::vector<bf16> const brains = x.read<bf16>();
    for (std::size_t i = 0; i < floats.size(); ++i) {
      auto const expected = static_cast<float>(5 + static_cast<std::int64_t>(i) / columns * strides[0] +
                                               static_cast<std::int64_t>(i) % columns * strides[1]);
      REQUIRE(floats[i] == expected);
      REQUIRE(doubles[i] == static_cast<double>(expected));
      REQUIRE(brains[i] == narrow<bf16>(expected));
    }
    CHECK_FALSE(x.in_place<float>());
  }
}

TEST_CASE("torch: views without gaps are read in place, if they lie on their boundary") {
  for (auto const& [shape, strides] : {std::pair<std::vector<std::int64_t>, std::vector<std::int64_t>>{{2, 3}, {3, 1}},
                                       {{1, 6}, {99, 1}},
                                       {{6, 1}, {1, 7}}}) {
    Layout const layout(6, 0, shape, strides);
    TorchCheckpoint const file(bytes_of(layout.file));
    Tensor const x = file.tensor("x");
    CHECK(x.strides.empty());
    CHECK(x.bytes.size() == 24);
    bool const aligned = std::bit_cast<std::uintptr_t>(x.bytes.data()) % alignof(float) == 0;
    CHECK(x.in_place<float>().has_value() == aligned);
  }
}

TEST_CASE("torch: an expanded tensor takes no more memory than the file may ask for") {
  std::int64_t const million = std::int64_t{1} << 20;
  CHECK(Layout(6, 5, {million}, {0}).read() == std::vector<float>(static_cast<std::size_t>(million), 5.0f));
  CHECK(complaint(Layout(6, 5, {million + 1}, {0}).file)
            .starts_with("tensor 'x': shape [1048577] and strides [0] repeat or share numbers until the tensors hold "
                         "more than 4194304 bytes, the most that a file of"));
  CHECK(complaint(Layout(1, 0, {std::int64_t{1} << 40}, {0}).file).find("repeat or share") != std::string::npos);
  CHECK(complaint(Layout(6, 0, {3, million}, {1, 0}).file).find("repeat or share") != std::string::npos);
  // A larger file may ask for four times its bytes.
  auto const stored = static_cast<int>(million);
  CHECK(Layout(stored, 0, {4, million}, {0, 1}).read().size() == 4u << 20);
  CHECK(complaint(Layout(stored, 0, {5, million}, {0, 1}).file).find("repeat or share") != std::string::npos);
}

TEST_CASE("torch: all tensors together expand to no more than the file may ask for") {
  using namespace test::pickled;
  auto const file = [](int tensors, std::int64_t size) {
    std::vector<std::string> pairs;
    for (int i = 0; i < tensors; ++i) {
      pairs.push_back(text("t" + std::to_string(i)));
      pairs.push_back(tensor(storage("FloatStorage", "0", 1), 0, {size}, {0}));
    }
    return test::torch_of(dict(pairs), {{"0", test::le(1.0f)}});
  };
  std::int64_t const quarter = std::int64_t{1} << 18;  // of 4 MiB
  CHECK(TorchCheckpoint(bytes_of(file(4, quarter))).size() == 4);
  std::string const bomb = file(5, quarter);
  CHECK(bomb.size() < 4096);
  CHECK(complaint(bomb).starts_with("tensor 't4': shape [262144] and strides [0] repeat or share numbers until"));
}

TEST_CASE("torch: what has strides is written row-major") {
  TorchCheckpoint const file(samples() / "views.pth");
  SafeTensorsWriter writer;
  for (std::string_view const name : file.names()) writer.add(file.tensor(name));
  std::ostringstream written;
  writer.write(written);
  std::string const bytes = written.str();
  SafeTensors const copy(bytes_of(bytes));
  REQUIRE(copy.names() == file.names());
  for (std::string_view const name : file.names()) {
    Tensor const from = file.tensor(name), to = copy.tensor(name, from.shape);
    CHECK(to.dtype == from.dtype);
    CHECK(hexadecimal(to.bytes) == numbers_of(from));
  }
}

TEST_CASE("torch: writing checks that the bytes hold what shape and strides reach") {
  std::vector<std::int64_t> const shape{2, 3}, strides{1, 2}, huge{INT64_MAX / 2};
  std::vector<std::int64_t> const none{0};
  std::string const bytes(24, '\1');
  Tensor tensor{.name = "x",
                .dtype = NumberFormat::f32,
                .shape = shape,
                .bytes = bytes_of(bytes),
                .file = "f",
                .strides = strides};
  SafeTensorsWriter().add(tensor);
  auto const refused = [&] { return message_of<std::invalid_argument>([&] { SafeTensorsWriter().add(tensor); }); };
  tensor.bytes = bytes_of(bytes).first(23);
  CHECK(refused() ==
        "cannot write tensor 'x': expected numbers for shape [2, 3] and strides [1, 2], found 23 bytes of f32");
  tensor.bytes = bytes_of(bytes).first(20);
  CHECK(refused() ==
        "cannot write tensor 'x': expected numbers for shape [2, 3] and strides [1, 2], found 20 bytes of f32");
  tensor.shape = huge, tensor.strides = none, tensor.bytes = bytes_of(bytes).first(4);
  CHECK(refused() == "cannot write tensor 'x': it has more than 2^63 - 1 bytes");
}

TEST_CASE("torch: damage is noticed where it decides what is read, and on request") {
  std::string file = content_of(samples() / "views.pth");
  TorchCheckpoint(bytes_of(file)).verify();
  std::string names = file, order = file, data = file;
  names[file.find("transposed")] = 'T';
  CHECK(complaint(names) == "member 'archive/data.pkl': its bytes do not fit its checksum: it is damaged");
  order[file.find("little")] = 'L';
  CHECK(complaint(order) == "member 'archive/byteorder': its bytes do not fit its checksum: it is damaged");
  data[file.find(raw<float>({7}))] = 1;
  TorchCheckpoint const opened(bytes_of(data), "f");
  CHECK(message_of([&] { opened.verify(); }) ==
        "f: member 'archive/data/0': its bytes do not fit its checksum: it is damaged");
}

TEST_CASE("torch: the archive must be one checkpoint of small bytes first") {
  ZipMemberCase const data{.name = "f/data.pkl", .bytes = pickled::whole("}")};
  CHECK(TorchCheckpoint(bytes_of(zip_of({data}))).size() == 0);
  CHECK(TorchCheckpoint(bytes_of(zip_of({{.name = "data.pkl", .bytes = data.bytes}}))).size() == 0);
  CHECK(complaint(zip_of({{.name = "f/other.pkl"}, {.name = "f/xdata.pkl"}})) ==
        "is a zip archive without 'data.pkl': not a checkpoint of torch.save");
  CHECK(complaint(zip_of({data, {.name = "g/data.pkl"}})) == "holds two checkpoints, 'f/data.pkl' and 'g/data.pkl'");
  CHECK(complaint(zip_of({data, {.name = "f/byteorder", .bytes = "big"}})) ==
        "expected numbers of byte order 'little', found 'big': save it again on another machine");
  CHECK(complaint(zip_of({{.name = "f/data.pkl", .bytes = "\x80\x02ios\nsystem\n."}})) ==
        "member 'f/data.pkl', byte 2: opcode INST is not among those that data need");
}

#if AVIARY_IO_MAPS_FILES
TEST_CASE("torch: numbers behind the first 4 GiB") {
  TemporaryFolder const folder;
  std::filesystem::path const path = folder / "sparse.pth";
  std::int64_t const gigabyte = std::int64_t{1} << 30, far = 5 * gigabyte / 4;  // in floats: 5 GiB
  ZipMemberCase const large{.name = "f/data/0", .zip64 = true, .checksum = false};
  ZipMemberCase const small{.name = "f/data/1", .bytes = count_to(3), .zip64 = true};
  ZipMemberCase const data{
      .name = "f/data.pkl",
      .bytes = pickled::whole(dict({text("far"), tensor(storage("FloatStorage", "0", far + 4), far, {2, 2}, {1, 2}),
                                    text("near"), tensor(storage("FloatStorage", "0", far + 4), 3, {2}, {1}),
                                    text("behind"), tensor(storage("FloatStorage", "1", 3), 0, {3}, {1})})),
      .zip64 = true};
  std::ofstream file(path, std::ios::binary);
  std::uint64_t const size = static_cast<std::uint64_t>(far + 4) * 4;
  std::string const header = zip_local_header(large, size);
  file << header;
  file.seekp(static_cast<std::streamoff>(header.size() + size - 16));  // a hole
  file << count_to(4);
  std::string directory = zip_entry(large, size, 0);
  for (ZipMemberCase const* const member : {&small, &data}) {
    directory += zip_entry(*member, member->bytes.size(), static_cast<std::uint64_t>(file.tellp()));
    file << zip_local_header(*member, member->bytes.size()) << member->bytes;
  }
  auto const begin = static_cast<std::uint64_t>(file.tellp());
  file << directory << zip_end({.zip64 = true}, 3, directory.size(), begin);
  file.close();
  if (!file) {
    MESSAGE("not run: the file system has no room for a file with a hole of 5 GiB");
    return;
  }
  TorchCheckpoint const checkpoint(path);
  CHECK(checkpoint.tensor("far").read<float>() == std::vector<float>{0, 2, 1, 3});
  CHECK(checkpoint.tensor("near").read<float>() == std::vector<float>{0, 0});
  CHECK(checkpoint.tensor("behind").read<float>() == std::vector<float>{0, 1, 2});
}
#endif

TEST_CASE("torch: a file cut at any length is refused") {
  for (char const* const name : {"bare.pth", "views_zip64.pth"}) {
    std::string const whole = content_of(samples() / name);
    for (std::size_t size = 0; size < whole.size(); ++size) CHECK(complaint(whole.substr(0, size)) != "");
  }
}

TEST_CASE("torch: random damage is refused or harmless") {
  std::mt19937 random(20250309);
  std::string const x = tensor(six, 1, {2, 2}, {1, 2});
  std::string const pickle = pickled::whole(
      dict({text("a"), x, text("b"), pickled::list({x, tensor(storage("ByteStorage", "1", 5), 0, {5, 2}, {1, 0})})}));
  int opened = 0, refused = 0;
  for (int trial = 0; trial < 50'000; ++trial) {
    std::string changed = pickle;
    for (std::size_t change = 0; change <= random() % 3; ++change) {
      std::size_t const at = random() % changed.size();
      if (random() % 8 == 0)
        changed.erase(at, 1 + random() % 12);
      else
        changed[at] ^= static_cast<char>(random() % 2 == 0 ? random() : 1u << random() % 8);
    }
    std::string const file = zip_of({{.name = "f/data.pkl", .bytes = changed},
                                     {.name = "f/data/0", .bytes = count_to(6)},
                                     {.name = "f/data/1", .bytes = "bytes"}});
    std::vector<std::byte> const exact(bytes_of(file).begin(), bytes_of(file).end());
    try {
      TorchCheckpoint const read{std::span(exact)};
      for (std::string_view const name : read.names()) {
        Tensor const found = read.tensor(name);
        REQUIRE(found.size() * static_cast<Index>(size_of(found.dtype)) <= Index{1} << 22);
        REQUIRE(numbers_of(found).size() == 2 * static_cast<std::size_t>(found.size()) * size_of(found.dtype));
      }
      ++opened;
    } catch (std::runtime_error const&) {
      ++refused;
    }
  }
  CHECK(refused > 10'000);
  CHECK(opened > 100);
}
