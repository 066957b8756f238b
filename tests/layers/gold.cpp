#include "aviary/layers/gold.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "aviary/layers/block.hpp"
#include "support/allocation_counter.hpp"
#include "support/compare.hpp"
#include "support/gold_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::GoldCase;
using test::GoldRun;
using test::GoldShape;
using test::Matrix;
using test::max_error;
using test::Random;

namespace {

template <class T> constexpr double bound = std::is_same_v<T, float> ? 1e-5 : 1e-12;

/// Channels and a head size that are no multiples of panels, three heads.
constexpr GoldShape odd{.channels = 66, .heads = 3, .width = 5, .mix_rank = 7, .rank = 10};

std::vector<Index> ones(Index n) { return std::vector<Index>(to_size(n), 1); }

}  // namespace

TEST_CASE_TEMPLATE("gold: the reference's numbers from every storage of keys, with and without rotary embedding", S,
                   float, bf16, q8) {
  for (std::optional<double> const rotary : {std::optional<double>(), std::optional<double>(10000)})
    for (GoldShape const& shape : {GoldShape{}, odd}) {
      GoldCase<float> const given(3, 150, shape, rotary);
      GoldCase<double> const exact(3, 150, shape, rotary);
      GoldRun<float, S> run(given, 150);
      Matrix<float> const y = run.run({150});
      CHECK(max_error(y.numbers, test::reference_gold(exact, run, 150)) <= bound<float>);
    }
}

TEST_CASE("gold: the reference's numbers in double, for a part of the sequence, too") {
  for (std::optional<double> const rotary : {std::optional<double>(), std::optional<double>(500)}) {
    GoldCase<double> const given(4, 131, odd, rotary);
    GoldRun<double> run(given, 131);
    Matrix<double> const y = run.run({131});
    CHECK(max_error(y.numbers, test::reference_gold(given, run, 131)) <= bound<double>);
    std::vector<double> const last(y.numbers.end() - 4 * given.channels, y.numbers.end());
    CHECK(max_error(last, test::reference_gold(given, run, 4)) <= bound<double>);
  }
}

TEST_CASE_TEMPLATE("gold: a prompt, continuations and single tokens give the same bits, rebuilt once or each time", S,
                   float, bf16, q8) {
  for (std::optional<double> const rotary : {std::optional<double>(), std::optional<double>(10000)}) {
    GoldCase<float> const given(5, 150, odd, rotary);
    GoldRun<float, S> whole(given, 150);
    Matrix<float> const expected = whole.run({150});
    for (std::vector<Index> const& split :
         {std::vector<Index>{1, 149}, {149, 1}, {100, 0, 50}, {127, 2, 21}, {128, 1, 1, 20}, {140, 3, 3, 4}, ones(150)})
      for (bool const keep : {false, true})
        for (Index const tokens_at_once : {7, 150}) {
          GoldRun<float, S> run(given, tokens_at_once, keep);
          CHECK(run.run(split) == expected);
          CHECK(run.state == whole.state);
          CHECK(run.cache == whole.cache);
        }
  }
}

TEST_CASE("gold: in double the same holds") {
  GoldCase<double> const given(6, 140);
  Matrix<double> const expected = GoldRun<double>(given, 140).run({140});
  for (bool const keep : {false, true})
    for (std::vector<Index> const& split : {std::vector<Index>{130, 4, 6}, ones(140)})
      CHECK(GoldRun<double>(given, 5, keep).run(split) == expected);
}

TEST_CASE("gold: any executor, the same bits") {
  GoldCase<float> const given(7, 260, {.channels = 128, .heads = 4, .width = 8, .mix_rank = 32, .rank = 64});
  Matrix<float> const expected = GoldRun<float>(given, 260).run({260});
  for (Index const tasks : {2, 3, 7})
    for (bool const keep : {false, true}) {
      CHECK(GoldRun<float>(given, 260, keep).run({260}, test::Backwards{tasks}) == expected);
      CHECK(GoldRun<float>(given, 90, keep).run({200, 59, 1}, test::Backwards{tasks}) == expected);
    }
}

TEST_CASE("gold: the last queries alone, from the state before them, are those of the whole sequence") {
  GoldCase<float> const given(8, 150);
  GoldRun<float> whole(given, 150), tail(given, 150);
  Matrix<float> const expected = whole.run({150});
  tail.token_cat.append(std::span<std::int32_t const>(given.ids), given.hidden.view(), tail.cache, tail.scratch);
  tail.state.x.assign(given.x.view()[144].begin(), given.x.view()[144].end());
  Matrix<float> y(5, given.channels);
  tail.layer(given.x.rows_of(145, 5), tail.state, y.view(), tail.scratch, tail.context(5));
  for (Index t = 0; t < 5; ++t)
    for (Index i = 0; i < given.channels; ++i) CHECK(y(t, i) == expected(145 + t, i));
}

TEST_CASE("gold: truncated and appended again is as if never appended, rebuilt keys and values among it") {
  GoldCase<float> const given(9, 150), other(10, 150);
  Matrix<float> const expected = GoldRun<float>(given, 150).run({150});
  for (bool const keep : {false, true}) {
    GoldRun<float> run(given, 150, keep);
    Matrix<float> y(150, given.channels);
    run.run(0, 90, y.view().rows(0, 90));
    auto const state = run.state;
    run.token_cat.append(std::span(other.ids).first(30), other.hidden.rows_of(0, 30), run.cache, run.scratch);
    Matrix<float> wrong(30, given.channels);
    run.layer(other.x.rows_of(0, 30), run.state, wrong.view(), run.scratch, run.context(30));
    run.cache.truncate(90);
    run.state = state;
    if (keep) run.rebuilt->truncate(90);
    run.run(90, 60, y.view().rows(90, 60));
    CHECK(y == expected);
  }
}

TEST_CASE("gold: is the time mix of a block") {
  GoldCase<float> const given(11, 40);
  Random random(1);
  Index const c = given.channels;
  Matrix<float> const key(96, c, random, 0.1), value(c, 96, random, 0.1), square(c, c, random, 0.1);
  std::vector<float> const weight(to_size(c), 1.0f), bias(to_size(c)), shares(to_size(c), 0.5f);
  Block<Gold<float>> const block(
      LayerNorm<float>(weight, bias), Gold<float>(given.weights()), LayerNorm<float>(weight, bias),
      ChannelMix<float>(
          {.x_k = shares, .key = key.view(), .value = value.view(), .x_r = shares, .receptance = square.view()}));
  GoldRun<float> run(given, 40);
  run.token_cat.append(std::span<std::int32_t const>(given.ids), given.hidden.view(), run.cache, run.scratch);
  auto const blocks = [&](Index tokens_at_once, std::vector<Index> const& split) {
    Scratch<float> scratch(tokens_at_once * block.scratch_size());
    auto state = block.empty_state();
    Matrix<float> x = given.x;
    TokenCache<float> cache = run.token_cat.empty_cache<float>();
    Index first = 0;
    for (Index const count : split) {
      auto const ids = std::span(given.ids).subspan(to_size(first), to_size(count));
      run.token_cat.append(ids, given.hidden.rows_of(first, count), cache, scratch);
      block(x.view().rows(first, count), state, scratch, GoldContext(run.token_cat, cache, count, run.workspace));
      first += count;
    }
    return x;
  };
  Matrix<float> const expected = blocks(40, {40});
  CHECK_FALSE(expected == given.x);
  CHECK(blocks(7, {30, 10}) == expected);
  CHECK(blocks(1, ones(40)) == expected);
}

TEST_CASE("gold: allocates nothing, and keeps its scratch and workspace") {
  GoldCase<float> const given(12, 200);
  for (bool const keep : {false, true}) {
    GoldRun<float, bf16> run(given, 64, keep);
    Matrix<float> y(200, given.channels);
    run.cache.reserve(200);
    if (keep) run.rebuilt->reserve(200);
    Index const scratch = run.scratch.left(), workspace = run.workspace.left();
    test::AllocationCounter const allocations;
    run.run(0, 130, y.view().rows(0, 130));
    for (Index t = 130; t < 200; ++t) run.run(t, 1, y.view().rows(t, 1));
    CHECK(allocations.count() == 0);
    CHECK(run.scratch.left() == scratch);
    CHECK(run.workspace.left() == workspace);
  }
}

TEST_CASE("gold: outputs alone are written") {
  GoldCase<float> const given(13, 9);
  GoldRun<float> run(given, 9);
  Index const c = given.channels;
  Matrix<float> around(11, c + 20, -7);
  MatView<float> const y(&around(1, 10), 9, c, c + 20);
  run.run(0, 9, y);
  Matrix<float> const expected = GoldRun<float>(given, 9).run({9});
  for (Index t = 0; t < 11; ++t)
    for (Index i = 0; i < c + 20; ++i) {
      bool const inside = t >= 1 && t < 10 && i >= 10 && i < c + 10;
      CHECK(around(t, i) == (inside ? expected(t - 1, i - 10) : -7.0f));
    }
}

TEST_CASE("gold: NaN in is NaN out, from the token on that brings it") {
  GoldCase<float> given(14, 140);
  given.hidden(130, 3) = std::numeric_limits<float>::quiet_NaN();  // its key, and by the token shift that of the next
  Matrix<float> const y = GoldRun<float>(given, 140).run({140});
  CHECK_FALSE(std::isnan(y(129, 0)));
  CHECK(std::isnan(y(130, 0)));
  CHECK(std::isnan(y(139, 0)));
}

TEST_CASE_TEMPLATE("gold: a sequence has the same bits alone and among others", S, float, q8) {
  GoldCase<float> const given(16, 60, odd, 10000.0);
  std::vector<Index> const offsets{0, 0, 30, 31, 31, 60};
  for (bool const keep_rebuilt : {false, true}) {
    std::vector<GoldRun<float, S>> alone(5, GoldRun<float, S>(given, 60, keep_rebuilt)), packed = alone;
    Matrix<float> expected(60, given.channels), y = expected;
    for (std::size_t s = 0; s < 5; ++s) {
      Index const first = offsets[s], count = offsets[s + 1] - first;
      alone[s].run(first, count, expected.view().rows(first, count));
      packed[s].token_cat.append(std::span(given.ids).subspan(to_size(first), to_size(count)),
                                 given.hidden.rows_of(first, count), packed[s].cache, packed[s].scratch);
    }
    auto const run_of = [&](Index s) -> auto& { return packed[to_size(s)]; };
    auto const state = [&](Index s) { return &run_of(s).state; };
    auto const cache = [&](Index s) { return &std::as_const(run_of(s).cache); };
    auto const rebuilt = [&](Index s) { return &*run_of(s).rebuilt; };
    using State = Gold<float>::State;
    States<TokenCache<S> const> const caches(cache, 5, 1);
    States<KeyValueCache<float>> none(nullptr, 0), kept(rebuilt, 5, 1);
    auto& any = packed[0];
    Scratch<float> scratch(13 * any.layer.scratch_size());
    any.layer(given.x.view(), Packed<State>(States<State>(state, 5, 1), offsets), y.view(), scratch,
              GoldContext(any.token_cat, caches, offsets, any.workspace, keep_rebuilt ? kept : none));
    CHECK(y == expected);
    for (std::size_t s = 0; s < 5; ++s) CHECK(packed[s].state == alone[s].state);
  }
}

TEST_CASE("gold: a context that does not fit is refused") {
  GoldCase<float> const given(15, 10);
  GoldRun<float> run(given, 10);
  auto const message = [&](TokenCache<float> const& cache, Index queries, KeyValueCache<float>* rebuilt = nullptr) {
    return test::message_of<std::invalid_argument>(
        [&] { GoldContext(run.token_cat, cache, queries, run.workspace, rebuilt); });
  };
  run.run({10});
  CHECK(message(run.cache, 11) == "aviary: GoldContext: 11 queries on a cache of 10 tokens");
  CHECK(message(run.cache, -1) == "aviary: GoldContext: -1 queries on a cache of 10 tokens");
  CHECK(message(TokenCache<float>(3, 20), 0) ==
        "aviary: GoldContext: a cache of 3 numbers a token and 20 ids, expected 4 and 20");
  CHECK(message(TokenCache<float>(4, 21), 0) ==
        "aviary: GoldContext: a cache of 4 numbers a token and 21 ids, expected 4 and 20");
  KeyValueCache<float> rebuilt = run.layer.empty_rebuilt();
  Matrix<float> const rows(11, given.channels);
  rebuilt.append(rows.view(), rows.view());
  CHECK(message(run.cache, 0, &rebuilt) ==
        "aviary: GoldContext: 11 keys are rebuilt and the first query is token 10: truncate them with the cache");
  rebuilt.truncate(8);
  CHECK(message(run.cache, 3, &rebuilt) ==
        "aviary: GoldContext: 8 keys are rebuilt and the first query is token 7: truncate them with the cache");
  CHECK_NOTHROW(GoldContext(run.token_cat, run.cache, 2, run.workspace, &rebuilt));
}

TEST_CASE("gold: weights of a wrong shape are refused by name") {
  GoldCase<float> const given(16, 1);
  Matrix<float> const wrong(3, 7);
  VecView<float const> const short_row(wrong.numbers.data(), 7);
  auto const message = [&](auto&& change) {
    auto w = given.weights();
    change(w);
    return test::message_of<std::invalid_argument>([&] { Gold<float>{w}; });
  };
  CHECK(message([&](auto& w) { w.query = wrong.view(); }) == "aviary: Gold: query is 3 x 7, expected 64 x 64");
  CHECK(message([&](auto& w) { w.output = wrong.view(); }) == "aviary: Gold: output is 3 x 7, expected 64 x 64");
  CHECK(message([&](auto& w) { w.key_w1 = wrong.view(); }) == "aviary: Gold: key_w1 is 3 x 7, expected 64 x 7");
  CHECK(message([&](auto& w) { w.value_w2 = wrong.view(); }) == "aviary: Gold: value_w2 is 3 x 7, expected 9 x 64");
  CHECK(message([&](auto& w) { w.ln_k_bias = short_row; }) == "aviary: Gold: ln_k_bias is 7, expected 64");
  CHECK(message([&](auto& w) { w.shift.base = short_row; }) == "aviary: Gold: shift.base is 7, expected 64");
  CHECK(message([&](auto& w) { w.shift.mix[1] = short_row; }) == "aviary: LowRankTokenShift: mix is 7, expected 64");
  CHECK(message([&](auto& w) { w.heads = 3; }) == "aviary: Gold: 64 channels do not make 3 heads");
  CHECK(message([&](auto& w) { w.heads = 64, w.rotary_base = 10000; }) ==
        "aviary: Rotary: the head size is 1, expected an even number");
}

TEST_CASE("gold: published layers") {
  auto const files = test::gold_files(AVIARY_TEST_GOLDEN_DIR, AVIARY_TEST_DATA_DIR);
  CHECK(!files.empty());
  for (auto const& path : files) {
    test::GoldenFile const file(path);
    CAPTURE(file.path());
    for (Index b = 0; b < GoldCase<double>::sequences(file); ++b) {
      GoldCase<double> const given(file, b);
      auto const expected = GoldCase<double>::rows(file, "out", b).numbers;
      GoldRun<double> run(given, given.tokens);
      Matrix<double> const y = run.run({given.tokens});
      CHECK(max_error(y.numbers, expected) <= bound<double>);
      for (Index cut = 1; cut < given.tokens; ++cut)
        CHECK(GoldRun<double>(given, 3).run({cut, given.tokens - cut}) == y);
    }
  }
}

TEST_CASE("gold: reset and an empty cache begin a sequence anew, without allocation") {
  GoldCase<float> given(12, 40);
  std::fill(given.before.begin(), given.before.end(), 0.0f);
  GoldRun<float> run(given, 40, true);
  Matrix<float> const expected = run.run({40});
  {
    test::AllocationCounter const allocations;
    run.layer.reset(run.state);
    run.cache.truncate(0);
    run.rebuilt->truncate(0);
    CHECK(allocations.count() == 0);
  }
  static_assert(noexcept(run.layer.reset(run.state)));
  CHECK(run.state == run.layer.empty_state());
  CHECK(run.run({40}) == expected);
}

TEST_CASE("gold: the form for one token") {
  GoldCase<float> const given(13, 20);
  GoldRun<float> rows(given, 1), run(given, 1);
  Matrix<float> const expected = rows.run(ones(20));
  std::vector<float> y(to_size(given.channels));
  for (Index t = 0; t < 20; ++t) {
    run.token_cat.append(std::span(given.ids).subspan(to_size(t), 1), given.hidden.rows_of(t, 1), run.cache,
                         run.scratch);
    run.layer(given.x.view()[t], run.state, y, run.scratch, run.context(1));
    CHECK(std::equal(y.begin(), y.end(), expected.view()[t].begin()));
  }
}
