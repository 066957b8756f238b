#include "aviary/dense/step_product.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "aviary/simd/instruction_sets.hpp"
#include "support/layer_case.hpp"

using namespace aviary;
using test::Matrix;
using test::Random;

namespace {

/// (in, out) weights as panels of S.
template <class S> detail::WordPanels<S> panels_of(Matrix<float> const& w) {
  detail::WordPanels<S> panels(w.columns, (w.rows + 31) / 32);
  for (Index p = 0; p < (w.rows + 31) / 32; ++p) {
    Matrix<float> panel(32, w.columns);
    for (Index o = 0; o < 32 && p * 32 + o < w.rows; ++o)
      for (Index i = 0; i < w.columns; ++i) panel(o, i) = w(p * 32 + o, i);
    panels.set(p, panel.numbers.data());
  }
  return panels;
}

}  // namespace

TEST_CASE_TEMPLATE("step product: whole numbers are multiplied exactly, by every unit", S, q8, q4) {
  Random random(1);
  constexpr bool is_q4 = std::is_same_v<S, q4>;
  for (Index const in : {1, 31, 32, 33, 64, 300})
    for (Index const tokens : {1, 2, 3, 7, 13, 31, 40, 70}) {
      // Steps that begin with the largest of each group: the scales are powers of 2, and every sum is below 2^24.
      Matrix<float> w(70, in), x(tokens, in);
      for (Index o = 0; o < 70; ++o)
        for (Index i = 0; i < in; ++i)
          w(o, i) = (is_q4 ? (i % 32 == 0 ? -8.f : static_cast<float>(random.below(16) - 8))
                           : (i % 32 == 0 ? 127.f : static_cast<float>(random.below(255) - 127))) *
                    (o % 2 == 0 ? 1.f : 0.5f);
      for (Index t = 0; t < tokens; ++t)
        for (Index i = 0; i < in; ++i)
          x(t, i) = (i % 32 == 0 ? -127.f : static_cast<float>(random.below(255) - 127)) * (t % 2 == 0 ? 4.f : 1.f);
      Matrix<float> expected(tokens, 70), y(tokens, 70);
      for (Index t = 0; t < tokens; ++t)
        for (Index o = 0; o < 70; ++o) {
          double sum = 0;
          for (Index i = 0; i < in; ++i) sum += static_cast<double>(w(o, i)) * static_cast<double>(x(t, i));
          expected(t, o) = static_cast<float>(sum);
        }
      CAPTURE(in);
      CAPTURE(tokens);
      auto const panels = panels_of<S>(w);
      simd::for_each_instruction_set<float>([&](auto set) {
        CAPTURE(std::string(set.name));
        using Product = detail::StepProduct<typename decltype(set)::Pack>;
        for (bool const tiles : {false, simd::tiles_granted()}) {
          std::fill(y.numbers.begin(), y.numbers.end(), 7.f);
          Product::run(panels, x.view(), y.view(), 0, 3, tiles);
          CHECK(y == expected);
        }
      });
    }
}

TEST_CASE_TEMPLATE("step product: with and without a matrix unit a row has the same bits, alone and among others", S,
                   q8, q4) {
  Random random(2);
  for (Index const in : {50, 700, 2500}) {
    Matrix<float> const w(64, in, random), x(70, in, random);
    Matrix<float> whole(70, 64), y(70, 64);
    auto const panels = panels_of<S>(w);
    using Product = detail::StepProduct<simd::Native<float>>;
    Product::run(panels, x.view(), whole.view(), 0, 2, false);
    Product::run(panels, x.view(), y.view(), 0, 2, simd::tiles_granted());
    CHECK(y == whole);
    for (Index const count : {1, 5, 16, 33})
      for (Index first = 0; first + count <= 70; first += count) {
        Matrix<float> part(count, 64);
        Product::run(panels, x.rows_of(first, count), part.view(), 0, 2);
        CHECK(std::equal(part.numbers.begin(), part.numbers.end(), &whole(first, 0)));
      }
  }
}
