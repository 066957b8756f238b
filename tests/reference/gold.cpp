#include "aviary/reference/gold.hpp"

#include <doctest/doctest.h>

#include "support/compare.hpp"
#include "support/gold_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::GoldCase;
using test::Matrix;
using test::max_error;
using Reference = reference::Gold<double>;

namespace {

/// A seeded sequence, all of it queries; embeddings and keys are what the case has as table rows and part of its hidden rows.
struct Sequence {
  GoldCase<double> given;
  Matrix<double> e, c;

  explicit Sequence(Index tokens, std::optional<double> rotary = {})
      : given(1, tokens, {}, rotary), e(tokens, given.channels), c(tokens, 4) {
    for (Index t = 0; t < tokens; ++t) {
      for (Index i = 0; i < given.channels; ++i) e(t, i) = given.table(given.ids[to_size(t)], i);
      for (Index i = 0; i < 4; ++i) c(t, i) = given.hidden(t, i);
    }
  }
  Reference::Inputs inputs() const {
    return {.e = e.view(), .c = c.view(), .x = given.x.view(), .before = VecView<double const>(given.before)};
  }
  std::vector<double> outputs() const {
    Matrix<double> y(e.rows, given.channels);
    Reference::forward(given.reference_weights(), inputs(), y.view());
    return y.numbers;
  }
  std::vector<double> row(std::vector<double> const& y, Index t) const {
    return {y.begin() + t * given.channels, y.begin() + (t + 1) * given.channels};
  }
};

}  // namespace

TEST_CASE("gold reference: causal, and of the first token the value alone") {
  Sequence s(6);
  auto const before = s.outputs();
  s.c(0, 1) += 1;  // a key: one score alone makes no difference
  auto const first = s.outputs();
  CHECK(s.row(first, 0) == s.row(before, 0));
  CHECK_FALSE(s.row(first, 1) == s.row(before, 1));
  s = Sequence(6);
  s.e(4, 2) += 1;
  s.given.x(4, 3) += 1;
  auto const late = s.outputs();
  for (Index t = 0; t < 6; ++t) CHECK((s.row(late, t) == s.row(before, t)) == (t < 4));
}

TEST_CASE("gold reference: a rotary embedding changes all outputs but the first, and a slow one none") {
  Sequence const plain(6), rotary(6, 10.0);
  auto const expected = plain.outputs(), turned = rotary.outputs();
  CHECK(plain.row(turned, 0) == plain.row(expected, 0));
  for (Index t = 1; t < 6; ++t) CHECK(max_error(plain.row(turned, t), plain.row(expected, t)) > 1e-3);
  // All pairs of a head but the first stand still, and of that queries have nothing.
  Sequence slow(6, 1e300);
  for (Index i = 0; i < slow.given.channels; i += slow.given.channels / slow.given.heads)
    for (char const* name : {"ln_q", "ln_q.bias"})
      slow.given.tensors.at(name)(0, i) = slow.given.tensors.at(name)(0, i + 1) = 0;
  Sequence still = slow;
  still.given.rotary_base.reset();
  CHECK(max_error(slow.outputs(), still.outputs()) <= 1e-12);
}

TEST_CASE("gold reference: sizes that disagree are refused by name") {
  Sequence const s(3);
  auto const message = [&](auto&& change) {
    auto w = s.given.reference_weights();
    auto in = s.inputs();
    Matrix<double> y(3, s.given.channels);
    change(w, in);
    return test::message_of<std::invalid_argument>([&] { Reference::forward(w, in, y.view()); });
  };
  CHECK(message([&](auto&, auto& in) { in.c = s.c.view().rows(0, 2); }) ==
        "aviary::reference::Gold: c has size 2, expected 3");
  CHECK(message([&](auto& w, auto&) { w.key_w2 = s.c.view(); }) ==
        "aviary::reference::Gold: key_w2 has size 3, expected 9");
  CHECK(message([&](auto& w, auto&) { w.heads = 5; }) ==
        "aviary::reference::Gold: heads (C % heads) has size 4, expected 0");
}

TEST_CASE("gold reference: agrees with published files") {
  auto const files = test::gold_files(AVIARY_TEST_GOLDEN_DIR, AVIARY_TEST_DATA_DIR);
  CHECK(!files.empty());
  for (auto const& path : files) {
    test::GoldenFile const file(path);
    CAPTURE(file.path());
    for (Index b = 0; b < GoldCase<double>::sequences(file); ++b) {
      GoldCase<double> const given(file, b);
      auto const c = GoldCase<double>::rows(file, "compressed", b);
      Matrix<double> y(given.tokens, given.channels);
      Reference::forward(
          given.reference_weights(),
          {.e = given.table.view(), .c = c.view(), .x = given.x.view(), .before = VecView<double const>(given.before)},
          y.view());
      CHECK(max_error(y.numbers, GoldCase<double>::rows(file, "out", b).numbers) <= 1e-12);
    }
  }
}
