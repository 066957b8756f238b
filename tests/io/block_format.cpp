/// Numbers in blocks. What they are is compared with what gguf (PyPI) reads from tests/io/containers/formats.gguf, where each
/// tensor NAME of blocks stands beside its numbers, NAME.floats.
#include "aviary/io/block_format.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "aviary/io/fingerprint.hpp"
#include "aviary/io/gguf.hpp"
#include "aviary/io/safetensors.hpp"
#include "aviary/io/weights.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::message_of;

namespace {

Gguf sample() {
  return Gguf(std::filesystem::path(AVIARY_TEST_GOLDEN_DIR).parent_path() / "io" / "containers" / "formats.gguf");
}
std::vector<std::string> const names{"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k"};

bool same_bits(std::vector<float> const& a, std::vector<float> const& b) {
  return std::ranges::equal(std::as_bytes(std::span(a)), std::as_bytes(std::span(b)));
}

}  // namespace

TEST_CASE("block format: every format gives the numbers that its definition gives, to the bit") {
  Gguf const file = sample();
  for (std::string const& name : names) {
    CAPTURE(name);
    Tensor const blocks = file.tensor(name), floats = file.tensor(name + ".floats", blocks.shape);
    REQUIRE(blocks.blocks);
    CHECK(blocks.dtype == NumberFormat::f32);
    CHECK(blocks.format_name() == name);
    CHECK(blocks.size() == floats.size());
    CHECK(blocks.stored_size() == blocks.bytes.size());
    auto const expected = floats.read<float>();
    CHECK(std::ranges::count(expected, 0.0f) < floats.size());
    CHECK(same_bits(blocks.read<float>(), expected));
    CHECK(blocks.read<double>() == floats.read<double>());
  }
}

TEST_CASE("block format: parts, transposed views and copies have the same numbers") {
  Gguf const file = sample();
  for (std::string const& name : names) {
    CAPTURE(name);
    Tensor const blocks = file.tensor(name);
    auto const all = blocks.read<float>();
    Index const rows = blocks.shape[0], columns = blocks.shape[1];
    for (Index i = 0; i < rows; ++i) {
      Tensor const row = blocks[i];
      CHECK(row.size() == columns);
      std::vector<float> const expected(all.begin() + i * columns, all.begin() + (i + 1) * columns);
      CHECK(same_bits(row.read<float>(), expected));
      for (Index j = 0; j < columns; j += 37) CHECK(row[j].read<float>() == std::vector{expected[to_size(j)]});
    }
    std::vector<std::int64_t> const shape{columns, rows}, strides{1, columns};
    Tensor view = blocks;
    view.shape = shape, view.strides = strides;
    auto const transposed = view.read<float>();
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < columns; ++j) CHECK(transposed[to_size(j * rows + i)] == all[to_size(i * columns + j)]);
    CHECK(same_bits(view[3].read<float>(), {transposed.begin() + 3 * rows, transposed.begin() + 4 * rows}));

    TensorWeights const weights(blocks);
    CHECK(weights.is_copy());
    std::vector<float> found(to_size(columns));
    static_cast<WeightMatrix>(weights).read(rows - 1, 0, columns, found.data());
    CHECK(same_bits(found, {all.end() - columns, all.end()}));
  }
}

TEST_CASE("block format: halved numbers are doubled again, whatever their format") {
  Gguf const file = sample();
  for (std::string const& name : names) {
    Tensor tensor = file.tensor(name);
    auto expected = tensor.read<float>();
    for (float& x : expected) x *= 8;
    tensor.blocks->halvings = 3;
    CHECK(same_bits(tensor.read<float>(), expected));
  }
  std::vector<f16> const halves{narrow<f16>(0.75f), narrow<f16>(-3e-6f), narrow<f16>(65504.0f)};
  std::vector<std::int64_t> const shape{3};
  Tensor const tensor{.name = "x",
                      .dtype = NumberFormat::f32,
                      .shape = shape,
                      .bytes = std::as_bytes(std::span(halves)),
                      .blocks = BlockNumbers{.format = BlockFormat::f16, .halvings = 1}};
  CHECK(tensor.read<float>() == std::vector{1.5f, 2 * widen(halves[1]), 131008.0f});
  CHECK(tensor[2].read<float>() == std::vector{131008.0f});
}

TEST_CASE("block format: nothing is seen where it lies, and errors say what lies there") {
  Gguf const file = sample();
  Tensor const tensor = file.tensor("q4_0");
  CHECK(!tensor.in_place<float>());
  std::string const path = std::string(tensor.file);
  CHECK(message_of([&] { tensor.matrix<float>(); }) ==
        path + ": tensor 'q4_0': expected numbers as they are, found blocks of q4_0");
  CHECK(message_of([&] { tensor.expect_dtype(NumberFormat::f16); }) ==
        path + ": tensor 'q4_0': expected dtype f16, found f32");
}

TEST_CASE("block format: what is written as safetensors, and its fingerprint, are those of the floats") {
  Gguf const file = sample();
  SafeTensorsWriter writer;
  for (std::string const& name : names) writer.add(file.tensor(name));
  std::ostringstream out;
  writer.write(out);
  std::string const text = out.str();
  SafeTensors const copy(test::bytes_of(text));
  for (std::string const& name : names) {
    Tensor floats = file.tensor(name + ".floats");
    floats.name = name;
    CHECK(same_bits(copy.tensor(name, floats.shape).read<float>(), floats.read<float>()));
    Fingerprint blocks, numbers;
    blocks.add(file.tensor(name)), numbers.add(floats);
    CHECK(blocks == numbers);
  }
}
