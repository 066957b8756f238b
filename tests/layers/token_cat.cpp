#include "aviary/layers/token_cat.hpp"

#include <doctest/doctest.h>

#include "support/compare.hpp"
#include "support/gold_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::GoldCase;
using test::Matrix;

TEST_CASE("token cat: the reference's rows, and its embeddings are those of the model's first layer") {
  GoldCase<double> const given(1, 20);
  test::GoldRun<double> run(given, 20);
  run.run({20});
  Index const c = given.channels;
  Matrix<double> e(20, c), keys(20, 4), kd(20, c), eh(20, c), normal(1, c);
  run.token_cat.embed(std::span<std::int32_t const>(given.ids), e.view());
  run.cache.read(0, keys.view());
  run.token_cat(run.cache, 0, kd.view(), eh.view(), run.scratch);
  for (Index t = 0; t < 20; ++t) {
    LayerNorm<double>(given.row("ln0"), given.row("ln0.bias"))(given.table.rows_of(given.ids[to_size(t)], 1),
                                                               normal.view());
    for (Index i = 0; i < c; ++i) CHECK(e(t, i) == normal(0, i));
    auto const expected = reference::Gold<double>::expand(
        given.reference_weights(),
        {.e = e.view(), .c = keys.view(), .x = given.x.view(), .before = VecView<double const>(given.before)}, t);
    double size = 0;
    for (Index i = 0; i < c; ++i) {
      CHECK(kd(t, i) == doctest::Approx(expected.kd(i, 0)).epsilon(1e-12));
      CHECK(eh(t, i) == doctest::Approx(expected.eh(i, 0)).epsilon(1e-12));
      size += eh(t, i) * eh(t, i);
    }
    CHECK(size / static_cast<double>(c) == doctest::Approx(1).epsilon(1e-6));
  }
}

TEST_CASE_TEMPLATE("token cat: a token has the same bits alone and among others", T, float, double) {
  GoldCase<T> const given(2, 60);
  test::GoldRun<T> run(given, 60);
  run.run({60});
  Index const c = given.channels;
  Matrix<T> kd(60, c), eh(60, c), one_kd(1, c), one_eh(1, c);
  run.token_cat(run.cache, 0, kd.view(), eh.view(), run.scratch, test::Backwards{3});
  for (Index t = 0; t < 60; ++t) {
    run.token_cat(run.cache, t, one_kd.view(), one_eh.view(), run.scratch);
    CHECK(std::equal(one_kd.numbers.begin(), one_kd.numbers.end(), kd.view()[t].begin()));
    CHECK(std::equal(one_eh.numbers.begin(), one_eh.numbers.end(), eh.view()[t].begin()));
  }
}

TEST_CASE("token cat: weights of a wrong shape are refused by name") {
  GoldCase<float> const given(3, 1);
  Matrix<float> const wrong(3, 7);
  std::vector<float> const few(7, 1.0f);
  Embedding<float> const embedding(given.table.view());
  auto const message = [&](WeightMatrix compress, WeightMatrix expand, std::optional<LayerNorm<float>> const& ln0) {
    return test::message_of<std::invalid_argument>(
        [&] { TokenCat<float>(embedding, ln0, {.compress = compress, .expand = expand}); });
  };
  CHECK(message(wrong.view(), given.view("w_b"), {}) == "aviary: TokenCat: compress is 3 x 7, expected 3 x 64");
  CHECK(message(given.view("w_a"), wrong.view(), {}) == "aviary: TokenCat: expand is 3 x 7, expected 64 x 68");
  CHECK(message({}, given.view("w_b"), {}) == "aviary: TokenCat: compress is 0 x 0, expected 1 x 64");
  CHECK(message(given.view("w_a"), given.view("w_b"), LayerNorm<float>(few, few)) ==
        "aviary: TokenCat: ln0 has 7 channels, expected 64");
}
