/// Fingerprints: the same for the same weights, another for others.
#include "aviary/io/fingerprint.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "support/random.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

std::string of(std::string_view name, std::vector<std::int64_t> const& shape, std::vector<float> const& numbers,
               std::vector<std::int64_t> const& strides = {}) {
  Fingerprint made;
  made.add({.name = name,
            .dtype = NumberFormat::f32,
            .shape = shape,
            .bytes = std::as_bytes(std::span(numbers)),
            .strides = strides});
  return made.text();
}

}  // namespace

TEST_CASE("fingerprint: every bit of every number counts, and where it is") {
  Random random(3);
  auto numbers = random.normals<float>(100);
  std::set<std::string> seen{of("w", {100}, numbers)};
  std::size_t changes = 1;
  for (float& number : numbers)
    for (int bit = 0; bit < 32; ++bit, ++changes) {
      float const before = number;
      number = std::bit_cast<float>(std::bit_cast<std::uint32_t>(number) ^ (1u << bit));
      seen.insert(of("w", {100}, numbers));
      number = before;
    }
  for (std::size_t i = 1; i < numbers.size(); ++i, ++changes) {
    std::swap(numbers[0], numbers[i]);
    seen.insert(of("w", {100}, numbers));
    std::swap(numbers[0], numbers[i]);
  }
  for (std::size_t i = 0; i + 16 < numbers.size(); ++i, ++changes) {  // two signs at once, that meet in one sum
    for (std::size_t const j : {i, i + 16}) numbers[j] = -numbers[j];
    seen.insert(of("w", {100}, numbers));
    for (std::size_t const j : {i, i + 16}) numbers[j] = -numbers[j];
  }
  CHECK(seen.size() == changes);
}

TEST_CASE("fingerprint: names, formats and shapes count") {
  std::vector<float> const numbers(6);
  std::set<std::string> seen{of("w", {6}, numbers),         of("v", {6}, numbers),    of("wf32", {6}, numbers),
                             of("w", {2, 3}, numbers),      of("w", {3, 2}, numbers), of("w", {1, 6}, numbers),
                             of("w", {5}, {0, 0, 0, 0, 0}), Fingerprint().text()};
  Fingerprint integers;
  std::vector<std::int32_t> const same_bytes(6);
  std::vector<std::int64_t> const shape{6};
  integers.add(
      {.name = "w", .dtype = NumberFormat::i32, .shape = shape, .bytes = std::as_bytes(std::span(same_bytes))});
  seen.insert(integers.text());
  CHECK(seen.size() == 9);
  for (std::string const& text : seen) CHECK(text.size() == 16);
}

TEST_CASE("fingerprint: how numbers lie and in which order tensors come does not count") {
  Random random(4);
  Index const rows = 70, columns = 90;
  auto const plain = random.normals<float>(rows * columns);
  std::vector<float> transposed(plain.size());
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) transposed[to_size(c * rows + r)] = plain[to_size(r * columns + c)];
  CHECK(of("w", {rows, columns}, plain) == of("w", {rows, columns}, transposed, {1, rows}));

  std::vector<std::int64_t> const shape{rows, columns};
  auto const tensor = [&](std::string_view name) {
    return Tensor{.name = name, .dtype = NumberFormat::f32, .shape = shape, .bytes = std::as_bytes(std::span(plain))};
  };
  Fingerprint ab, ba, a;
  ab.add(tensor("a"));
  ab.add(tensor("b"));
  ba.add(tensor("b"));
  ba.add(tensor("a"));
  a.add(tensor("a"));
  CHECK(ab == ba);
  CHECK(a != ab);
  Tensor const both[] = {tensor("b"), tensor("a")};
  CHECK(Fingerprint(TensorFile(both)) == ab);
}
