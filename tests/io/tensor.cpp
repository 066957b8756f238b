/// Tensors as views and as weights: where the numbers lie if that can be, and messages that say why not.
#include "aviary/io/tensor.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "aviary/dense/linear.hpp"
#include "aviary/io/tensor_file.hpp"
#include "aviary/io/weights.hpp"
#include "aviary/layers/embedding.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::message_of;

namespace {

/// 0, 1, 2 ... in memory, and tensors of them.
template <class T> struct Numbers {
  std::vector<T> numbers;

  explicit Numbers(Index n) : numbers(to_size(n)) {
    for (std::size_t i = 0; i < numbers.size(); ++i)
      if constexpr (Stored<T>)
        numbers[i] = narrow<T>(static_cast<double>(i));
      else
        numbers[i] = static_cast<T>(i);
  }
  Tensor tensor(std::vector<std::int64_t> const& shape, std::vector<std::int64_t> const& strides = {}) const {
    return {.name = "x",
            .dtype = format_of<T>,
            .shape = shape,
            .bytes = std::as_bytes(std::span(numbers)),
            .file = "f",
            .strides = strides};
  }
};

using Shape = std::vector<std::int64_t>;

/// What a tensor of floats says when it is asked for a view.
std::string vector_complaint(Tensor const& x) {
  return message_of([&] { x.vector<float>(); });
}
std::string matrix_complaint(Tensor const& x) {
  return message_of([&] { x.matrix<float>(); });
}

}  // namespace

TEST_CASE_TEMPLATE("tensor: a vector and a matrix are views of the numbers where they lie", T, float, double, bf16, f16,
                   std::int64_t, std::uint8_t) {
  Numbers<T> const x(6);
  Shape const six{6}, one_by_one{1, 1, 6}, matrix{2, 3}, one_matrix{1, 2, 3}, none{0};
  for (Shape const& shape : {six, one_by_one}) {
    VecView<T const> const v = x.tensor(shape).template vector<T>();
    CHECK(v.data() == x.numbers.data());
    CHECK(v.size() == 6);
  }
  for (Shape const& shape : {matrix, one_matrix}) {
    MatView<T const> const m = x.tensor(shape).template matrix<T>();
    CHECK(m.data() == x.numbers.data());
    CHECK(m.rows() == 2);
    CHECK(m.columns() == 3);
    CHECK(m.stride() == 3);
    CHECK(m(1, 2) == x.numbers[5]);
  }
  CHECK(Numbers<T>(0).tensor(none).template vector<T>().size() == 0);
}

TEST_CASE("tensor: rows of a matrix may lie apart, and those of one column or row in any way") {
  Numbers<float> const x(12);
  Shape const two_by_three{2, 3}, apart{4, 1}, column{3, 1}, skip{2, 5}, row{1, 3}, any_then_one{7, 1};
  MatView<float const> const m = x.tensor(two_by_three, apart).matrix<float>();
  CHECK(m.stride() == 4);
  CHECK(m(1, 2) == 6);
  MatView<float const> const c = x.tensor(column, skip).matrix<float>();
  CHECK(c(2, 0) == 4);
  CHECK(x.tensor(row, any_then_one).matrix<float>()(0, 2) == 2);
}

TEST_CASE("tensor: the parts of a tensor are tensors") {
  Numbers<std::int32_t> const x(24);
  Shape const shape{2, 3, 4}, permuted{3, 2, 4}, strides{4, 12, 1};
  Tensor const part = x.tensor(shape)[1];
  CHECK(std::ranges::equal(part.shape, Shape{3, 4}));
  CHECK(part.read<std::int32_t>().front() == 12);
  CHECK(part.size() == 12);
  CHECK(part[2][3].read<std::int32_t>() == std::vector<std::int32_t>{23});
  Tensor const other = x.tensor(permuted, strides)[2];
  CHECK(other.read<std::int32_t>() == std::vector<std::int32_t>{8, 9, 10, 11, 20, 21, 22, 23});
  CHECK(other.matrix<std::int32_t>().stride() == 12);
  CHECK(message_of<std::invalid_argument>([&] { x.tensor(shape)[2]; }) ==
        "f: tensor 'x': has no part 2 in shape [2, 3, 4]");
  CHECK(message_of<std::invalid_argument>([&] { x.tensor(shape)[-1]; }) ==
        "f: tensor 'x': has no part -1 in shape [2, 3, 4]");
  Shape const scalar{};
  CHECK(message_of<std::invalid_argument>([&] { Numbers<float>(1).tensor(scalar)[0]; }) ==
        "f: tensor 'x': has no part 0 in shape []");
}

TEST_CASE("tensor: where there is no view, the message names shape, dtype, boundary or strides") {
  Numbers<float> const x(12);
  Numbers<bf16> const half(12);
  Shape const six{6}, matrix{2, 3}, many{2, 2, 3}, scalar{}, transposed{1, 2}, narrow{2, 1}, every_other{2}, same{0};
  CHECK(vector_complaint(x.tensor(matrix)) == "f: tensor 'x': expected 1 dimension, found shape [2, 3]");
  CHECK(vector_complaint(x.tensor(scalar)) == "f: tensor 'x': expected 1 dimension, found shape []");
  CHECK(matrix_complaint(x.tensor(six)) == "f: tensor 'x': expected 2 dimensions, found shape [6]");
  CHECK(matrix_complaint(x.tensor(many)) == "f: tensor 'x': expected 2 dimensions, found shape [2, 2, 3]");
  CHECK(vector_complaint(half.tensor(six)) == "f: tensor 'x': expected dtype f32, found bf16");
  CHECK(matrix_complaint(half.tensor(matrix)) == "f: tensor 'x': expected dtype f32, found bf16");
  CHECK(vector_complaint(x.tensor(six, every_other)) ==
        "f: tensor 'x': expected rows of numbers side by side, found strides [2]");
  CHECK(vector_complaint(x.tensor(six, same)) ==
        "f: tensor 'x': expected rows of numbers side by side, found strides [0]");
  for (Shape const& strides : {transposed, narrow})
    CHECK(matrix_complaint(x.tensor(matrix, strides)) ==
          "f: tensor 'x': expected rows of numbers side by side, found strides " + shape_text(strides));
  Tensor shifted = x.tensor(six);
  shifted.bytes = std::as_bytes(std::span(x.numbers)).subspan(2, 24);
  CHECK(vector_complaint(shifted) ==
        "f: tensor 'x': expected numbers at an address that 4 divides, found one with a remainder of 2");
  shifted.shape = matrix;
  CHECK(matrix_complaint(shifted) ==
        "f: tensor 'x': expected numbers at an address that 4 divides, found one with a remainder of 2");
}

TEST_CASE_TEMPLATE("tensor weights: layers take tensors of every floating dtype, without a copy where that can be", S,
                   float, double, bf16, f16) {
  Numbers<S> const w(12);
  Shape const shape{2, 3}, one_more{1, 2, 3}, apart{6, 1}, transposed{1, 2};
  std::vector<float> const x{1, 10, 100};
  std::vector<float> y(2);
  std::vector<int> const ids{1, 0};
  auto const check = [&](Tensor const& tensor, std::vector<float> const& expected, bool copies) {
    CAPTURE(shape_text(tensor.strides));
    TensorWeights const weights(tensor);
    CHECK(weights.is_copy() == copies);
    CHECK(weights.rows() == 2);
    CHECK(weights.columns() == 3);
    Linear<float>(TensorWeights(tensor))(x, y);
    CHECK(y == expected);
    std::vector<float> rows(6);
    Embedding<float>(TensorWeights(tensor))(std::span(ids), MatView<float>(rows.data(), 2, 3));
    CHECK(rows[0] + 10 * rows[1] + 100 * rows[2] == expected[1]);
    CHECK(rows[3] + 10 * rows[4] + 100 * rows[5] == expected[0]);
  };
  for (Shape const& sizes : {shape, one_more}) check(w.tensor(sizes), {210, 543}, false);
  check(w.tensor(shape, apart), {210, 876}, false);
  check(w.tensor(shape, transposed), {420, 531}, true);

  std::vector<std::byte> bytes(1 + 6 * sizeof(S));
  std::memcpy(bytes.data() + 1, w.numbers.data(), 6 * sizeof(S));
  Tensor shifted = w.tensor(shape);
  shifted.bytes = std::span(bytes).subspan(1);
  check(shifted, {210, 543}, true);
}

TEST_CASE("tensor weights: other shapes and dtypes are refused by name") {
  Numbers<float> const x(12);
  Numbers<std::int64_t> const integers(6);
  Shape const six{6}, matrix{2, 3}, many{2, 2, 3};
  CHECK(message_of([&] { TensorWeights{x.tensor(six)}; }) == "f: tensor 'x': expected 2 dimensions, found shape [6]");
  CHECK(message_of([&] { TensorWeights{x.tensor(many)}; }) ==
        "f: tensor 'x': expected 2 dimensions, found shape [2, 2, 3]");
  CHECK(message_of([&] { TensorWeights{integers.tensor(matrix)}; }) ==
        "f: tensor 'x': expected dtype f64, f32, f16, bf16, found i64");
}

TEST_CASE("tensor file: tensors in memory are a file, too") {
  Numbers<float> const x(6);
  std::string name = "a";
  Shape shape{2, 3};
  Tensor a = x.tensor(shape), b = a;
  a.name = name;
  std::vector<Tensor> tensors{a, b};
  TensorFile file(tensors);
  name = "?", shape = {9, 9};  // the file has copies
  CHECK(file.names() == std::vector<std::string_view>{"a", "x"});
  CHECK(file.tensor("a", {2, 3}).matrix<float>().data() == x.numbers.data());
  CHECK(file.metadata().empty());
  CHECK(message_of([&] { file.tensor("b"); }) == "memory: has no tensor 'b' among its 2");
  TensorFile const moved = std::move(file);
  CHECK(moved.tensor("x").file == "memory");
  tensors.push_back(b);
  CHECK(message_of<std::invalid_argument>([&] { TensorFile{tensors}; }) == "f: tensor 'x': is given twice");
}
