#include "aviary/matrix/memory.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "support/allocation_counter.hpp"
#include "support/eager.hpp"
#include "support/gradient_case.hpp"
#include "support/matrix_case.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

/// What most tests here run: the hardest traits; and a rule with fields that belong to heads.
using Rule = AnyRule<Gate::vector, Erase::rank_one, Read::after>;
using HeadRule = AnyRule<Gate::vector, Erase::along_key, Read::before, true>;
template <class T, Index K = 16, Index V = 24> using Memory = MatrixMemory<Rule, T, K, V>;
template <class T, Index K = 16, Index V = 24> using HeadMemory = MatrixMemory<HeadRule, T, K, V>;

/// Four value heads, two of r, p, q and k.
template <class R> GradientCase<R> case_of(Shape shape, Decay decay) {
  Index const heads = shape.heads;
  MatrixCase const numbers(11, std::move(shape), gate_of<R>, R::erase, constant_decay<R>, decay);
  return with_gradients(12, with_shared_keys(numbers.of<R>(), heads % 2 == 0 ? heads / 2 : heads));
}
template <class R>
GradientCase<R> case_of(std::vector<Index> offsets, Index keys = 16, Index values = 24, Index heads = 4) {
  return case_of<R>({keys, values, heads, std::move(offsets)}, constant_decay<R> ? Decay::slow : Decay::wkv7);
}

/// Sinks of which some are not wanted: wanted(i) tells of field i.
template <class R, class Gradients, class F> Gradients some_of(Gradients const& all, F&& wanted) {
  int field = 0;
  return aviary::detail::transform_fields<R, Gradients>(
      all, [&]<class S>(auto, S const& sink) { return wanted(field++) ? sink : S(); });
}

/// Tokens that say nothing, one after every `every` tokens of a case with one sequence: w = 1, k = 0 and q = 0.
template <class R> GradientCase<R> padded(GradientCase<R> const& c, Index every) {
  GradientCase<R> to = c;
  Index const tokens = c.shape.tokens(), all = tokens + tokens / every;
  to.shape.offsets = {0, all};
  Random random(3);
  auto const pad = [&](std::vector<double> const& from, auto&& number) {
    std::vector<double> longer;
    Index const size = static_cast<Index>(from.size()) / tokens;
    for (Index t = 0; t < tokens; ++t) {
      longer.insert(longer.end(), from.begin() + t * size, from.begin() + (t + 1) * size);
      if ((t + 1) % every == 0)
        for (Index i = 0; i < size; ++i) longer.push_back(number());
    }
    return longer;
  };
  for (NamedNumbers const& field : named_fields<R>(to.x)) {
    if (!per_token(field.axis)) continue;
    std::string const name = field.name;
    bool const silent = name == "log_w" || name == "k" || name == "q";
    *field.numbers = pad(*field.numbers, [&] { return silent ? 0 : random.normal(); });
  }
  to.dy = pad(c.dy, [] { return 0.0; });
  return to;
}
/// Gradients of a padded case without those of the padding.
template <class R> GradientResult<R> without_padding(GradientCase<R> const& c, Index every, GradientResult<R> g) {
  Index const tokens = c.shape.tokens();
  for (NamedNumbers const& field : named_fields<R>(g.dx)) {
    if (!per_token(field.axis)) continue;
    std::vector<double> kept;
    Index const size = static_cast<Index>(field.numbers->size()) / (tokens + tokens / every);
    for (Index t = 0; t < tokens; ++t) {
      auto const first = field.numbers->begin() + (t + t / every) * size;
      kept.insert(kept.end(), first, first + size);
    }
    *field.numbers = std::move(kept);
  }
  return g;
}

void says(std::string const& text, std::initializer_list<char const*> parts) {
  for (char const* const part : parts) CHECK_MESSAGE(text.find(part) != std::string::npos, text, " lacks ", part);
}

}  // namespace

TEST_CASE_TEMPLATE("backward: in stretches, the state gradient handed back, equals the whole", M, Memory<float>,
                   Memory<double>, HeadMemory<float>, HeadMemory<double>) {
  using R = typename M::Rule;
  auto const c = case_of<R>({0, 44});
  Keep const keep{.every = 8, .readings = true};
  auto const whole = gradients_of<M>(c, keep);
  for (Index const split : {0, 1, 16, 27, 43, 44}) {
    Note const note("split", split);
    GradientRun<M> earlier(c, keep, 0), later(c, keep, 0);
    earlier.offsets = {0, split}, later.offsets = {split, 44};
    earlier.forward();
    later.states = earlier.states;
    later.forward().backward();
    earlier.dstates = later.dstates;
    earlier.backward();
    auto sum = earlier.result(), more = later.result();
    auto const to = named_fields<R>(sum.dx), from = named_fields<R>(more.dx);
    for (std::size_t f = 0; f < to.size(); ++f)
      for (std::size_t i = 0; i < to[f].numbers->size(); ++i) (*to[f].numbers)[i] += (*from[f].numbers)[i];
    check_gradients(sum, whole, 2 * matrix_bound<typename M::T>);
  }
}

TEST_CASE_TEMPLATE("backward: padding changes no gradient of other tokens", M, Memory<float>, Memory<double>,
                   MatrixMemory<AnyRule<Gate::scalar, Erase::along_key, Read::before>, float, 16, 24>) {
  using R = typename M::Rule;
  auto const c = case_of<R>({0, 36});
  for (Index const every : {1, 3}) {
    Note const note("tokens between padding", every);
    check_gradients(without_padding(c, every, gradients_of<M>(padded(c, every))), gradients_of<M>(c),
                    2 * matrix_bound<typename M::T>);
  }
}

TEST_CASE_TEMPLATE("backward: extremes stay finite and right", M, Memory<float>, Memory<double>, HeadMemory<float>,
                   HeadMemory<double>,
                   MatrixMemory<AnyRule<Gate::scalar, Erase::along_key, Read::before>, float, 16, 24>,
                   MatrixMemory<AnyRule<Gate::vector, Erase::none, Read::before>, float, 16, 24>) {
  using R = typename M::Rule;
  for (Decay const decay : {Decay::none, Decay::wide, Decay::extremes}) {
    Note const note("decay", name(decay));
    auto c = case_of<R>({16, 24, 4, {0, 300}}, decay);
    std::fill_n(c.x.p.begin() + 100 * 2 * 16, 8 * 16, 0);  // probes and removal keys of length 0
    auto g = gradients_of<M>(c), expected = reference_gradients(c);
    for (NamedNumbers const& field : named_gradients<R>(g))
      check_that(std::ranges::all_of(*field.numbers, [](double e) { return std::isfinite(e); }), field.name);
    check_gradients(g, expected, matrix_bound<typename M::T>);
    Index forgotten = 0;  // where w is 0 in either type
    for (std::size_t i = 0; i < c.x.log_w.size(); ++i)
      if (c.x.log_w[i] < -800) {
        ++forgotten;
        check_that(std::abs(g.dx.log_w[i]) <= 0, "where w is 0, the gradient of log_w is 0");
      }
    check_that(decay != Decay::extremes || forgotten > 0, "extremes have decays of 0");
  }
}

TEST_CASE_TEMPLATE("backward: the gradient of log_w keeps its digits where w is nearly 0", M, Memory<float>,
                   Memory<double>, MatrixMemory<AnyRule<Gate::vector, Erase::none, Read::before>, float, 16, 24>) {
  using R = typename M::Rule;
  auto const c = case_of<R>({16, 24, 4, {0, 64}}, Decay::wide);
  auto const of_logarithm = [&](GradientResult<R> const& g) {  // of log(-log_w), the decay before its activation
    std::vector<double> numbers = g.dx.log_w;
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] *= c.x.log_w[i];
    return numbers;
  };
  check_l2(of_logarithm(gradients_of<M>(c)), of_logarithm(reference_gradients(c)), matrix_bound<typename M::T>);
}

TEST_CASE_TEMPLATE("backward: the same bits whatever the executor", M, Memory<float, 64, 192>, Memory<double>,
                   Memory<float, dynamic, dynamic>, HeadMemory<float, 64, 192>, HeadMemory<float, dynamic, dynamic>) {
  using R = typename M::Rule;
  Index const keys = M::keys == dynamic ? 21 : M::keys, values = M::values == dynamic ? 100 : M::values;
  for (Index const heads : {1, 3, 4}) {
    Note const note_heads("heads", heads);
    auto const c = case_of<R>({0, 2, 2, 35, 41}, keys, values, heads);
    GradientRun<M> forwarded(c, {.every = 5, .readings = true});
    forwarded.forward();
    auto const by = [&](auto&& executor) {
      GradientRun<M> run = forwarded;
      return run.backward(executor).result();
    };
    auto const serial = by(Serial());
    for (Index const concurrency : {2, 3, 8, 64}) {
      Note const note("concurrency", concurrency);
      check_same_gradients(by(Backwards{concurrency}), serial);
    }
#if defined(_OPENMP)
    check_same_gradients(by(Eager(OpenMp(4))), serial);
#endif
  }
}

TEST_CASE_TEMPLATE("backward: a call has the bits of one call for each sequence", M, Memory<float>, Memory<double>) {
  auto const c = case_of<Rule>({0, 0, 1, 9, 40});
  GradientRun<M> packed(c), apart(c);
  packed.forward().backward();
  for (std::size_t s = 0; s + 1 < c.shape.offsets.size(); ++s) {
    GradientRun<M> one(c);
    one.offsets = {c.shape.offsets[s], c.shape.offsets[s + 1]};
    std::size_t const heads = to_size(c.shape.heads);
    auto const own = [&](auto const& all) {
      return std::vector(all.begin() + Index(s * heads), all.begin() + Index((s + 1) * heads));
    };
    one.states = own(one.states), one.dstates = own(one.dstates);
    one.dx = apart.dx;
    one.forward().backward();
    apart.dx = one.dx;
    std::ranges::copy(one.dstates, apart.dstates.begin() + Index(s * heads));
  }
  apart.dx.numbers().u = packed.dx.numbers().u;  // the sum over all sequences
  check_same_gradients(apart.result(), packed.result());
}

TEST_CASE_TEMPLATE("backward: what is not wanted changes no bit of what is", M, Memory<float>, HeadMemory<float>,
                   Memory<double, dynamic, dynamic>) {
  using R = typename M::Rule;
  auto const c = case_of<R>({0, 3, 30});
  GradientRun<M> forwarded(c, {.every = 8});
  forwarded.forward();
  GradientRun<M> all = forwarded;
  all.backward();
  auto const expected = all.result();
  constexpr int fields = aviary::detail::field_count<R>;
  for (int i = -1; i < fields; ++i)
    for (bool const alone : {true, false}) {
      Note const note("field", i), note_alone("alone", alone);
      GradientRun<M> run = forwarded;
      auto const is_wanted = [&](int field) { return (field == i) == alone; };
      run.make_room();
      auto call = run.call();
      call.dx = some_of<R>(call.dx, is_wanted);
      require_empty(M::check(call));
      M::backward(call);
      auto got = run.result(), wanted = expected;
      auto const to = named_fields<R>(wanted.dx);
      for (int field = 0; field < fields; ++field)  // the others stay as they were
        if (!is_wanted(field)) to[to_size(field)].numbers->assign(to[to_size(field)].numbers->size(), -77);
      check_same_gradients(got, wanted);
    }
  // Without dstates the gradients of the final states are 0.
  GradientRun<M> none = forwarded, zero = forwarded;
  for (auto& state : zero.dstates) state.clear();
  zero.backward();
  none.make_room();
  auto call = none.call();
  call.dstates = {};
  require_empty(M::check(call));
  M::backward(call);
  none.dstates = zero.dstates;
  check_same_gradients(none.result(), zero.result());
}

TEST_CASE_TEMPLATE("backward: inputs and gradients in 16 bits, and in double", S, bf16, f16, double) {
  auto const check = [&]<class M>() {
    using R = typename M::Rule;
    auto c = case_of<R>({0, 1, 40});
    for (NamedNumbers const& field : named_fields<R>(c.x))
      for (double& e : *field.numbers) e = double{widen(narrow<S>(e))};
    for (double& e : c.dy) e = double{widen(narrow<S>(e))};
    GradientRun<M, S, float> wide(c);
    GradientRun<M, float, S> narrowed(c);
    wide.forward().backward();
    narrowed.forward().backward();
    check_gradients(wide.result(), reference_gradients(c), matrix_bound<float>);
    // one rounding more, of sums that are made before it
    check_same_gradients(narrowed.result(), rounded<S>(wide.result()));
  };
  check.template operator()<Memory<float>>();
  check.template operator()<HeadMemory<float>>();
}

TEST_CASE_TEMPLATE("backward: states in 16 bits keep gradients to their roundoff", S, bf16, f16) {
  using M = MatrixMemory<Rule, float, 16, 24, S>;
  auto const c = case_of<Rule>({0, 1, 40});
  check_gradients(gradients_of<M>(c), reference_gradients(c), 3 * roundoff<S>);
}

TEST_CASE_TEMPLATE("backward: tokens outside of all sequences are neither read nor written", M, Memory<float>,
                   Memory<double, dynamic, dynamic>) {
  Index const begin = 7, end = 19, tokens = 30;
  auto c = case_of<Rule>({0, tokens});
  auto const outside = [&](Index i, std::size_t numbers) {
    Index const t = i / (static_cast<Index>(numbers) / tokens);
    return t < begin || t >= end;
  };
  auto const poison = [&](std::vector<double>& x) {
    for (std::size_t i = 0; i < x.size(); ++i)
      if (outside(static_cast<Index>(i), x.size())) x[i] = std::numeric_limits<double>::quiet_NaN();
  };
  for (NamedNumbers const& field : named_fields<Rule>(c.x))
    if (per_token(field.axis)) poison(*field.numbers);
  poison(c.dy);
  GradientRun<M> run(c, {.every = 5, .readings = true});
  run.offsets = {begin, end};
  run.forward().backward();
  auto g = run.result();
  for (NamedNumbers const& field : named_fields<Rule>(g.dx)) {
    Note const note("gradient of", field.name);
    auto const& x = *field.numbers;
    check_that(std::ranges::all_of(x, [](double e) { return std::isfinite(e); }), "no gradient is NaN");
    Index wrong = 0;
    if (per_token(field.axis))
      for (std::size_t i = 0; i < x.size(); ++i)
        wrong += (x[i] <= -77 && x[i] >= -77) != outside(static_cast<Index>(i), x.size());
    check_that(wrong == 0, "a gradient is written if its token is in the sequence");
  }
}

TEST_CASE_TEMPLATE("backward: writes with strides, and nothing beside its sinks", M, Memory<float>, HeadMemory<double>,
                   Memory<float, dynamic, dynamic>) {
  using R = typename M::Rule;
  using T = typename M::T;
  auto const c = case_of<R>({0, 1, 20}, M::keys == dynamic ? 9 : 16, M::values == dynamic ? 17 : 24);
  GradientRun<M> packed(c);
  packed.forward();
  GradientRun<M> wide = packed;
  packed.backward();
  // Five numbers after each head, seven after each token, and 32 before and after all; of a head_ field these alone.
  constexpr Index after_head = 5, after_token = 7, band = 32;
  FieldNumbers<R, T> rows;
  std::vector<std::vector<T>*> at;
  aviary::detail::with_members<aviary::detail::field_count<R>>(rows,
                                                               [&](auto&... field) { (at.push_back(&field), ...); });
  int f = 0;
  wide.make_room();
  auto call = wide.call();
  call.dx = aviary::detail::transform_fields<R, typename M::Gradients>(
      call.dx, [&]<Axis A, class S>(aviary::detail::AxisTag<A>, S const& sink) {
        auto& to = *at[to_size(f++)];
        Index const heads = sink.heads(), size = sink.size();
        if constexpr (per_token(A)) {
          Index const token = heads * (size + after_head) + after_token;
          to.assign(to_size(sink.tokens() * token + 2 * band), T(-77));
          return S(to.data() + band, sink.tokens(), heads, size, token, size + after_head);
        } else {
          to.assign(to_size(heads * size + 2 * band), T(-77));
          return S(to.data() + band, heads, size);
        }
      });
  require_empty(M::check(call));
  M::backward(call);
  auto expected = packed.result();
  auto const fields = named_fields<R>(expected.dx);
  f = 0;
  aviary::detail::for_each_field<R>(call.dx, [&]<Axis A>(aviary::detail::AxisTag<A>, auto const& sink) {
    Note const note("gradient of", fields[to_size(f)].name);
    auto& numbers = *at[to_size(f)];
    Index const heads = sink.heads(), size = sink.size(), step = per_token(A) ? size + after_head : size;
    Index const token = heads * step + (per_token(A) ? after_token : 0);
    std::vector<T> inside;
    for (Index t = 0; t < sink.tokens(); ++t)
      for (Index h = 0; h < heads; ++h)
        for (Index i = 0; i < size; ++i)
          inside.push_back(std::exchange(numbers[to_size(band + t * token + h * step + i)], T(-77)));
    check_equal(inside, *fields[to_size(f)].numbers);
    check_that(std::ranges::all_of(numbers, [](T e) { return e <= T(-77) && e >= T(-77); }), "nothing beside it");
    ++f;
  });
  for (auto const& state : wide.dstates) {
    auto const padding = RuleRun<M>::padding(state);
    check_that(std::ranges::all_of(padding, [](double e) { return std::abs(e) <= 0; }), "padding of states is 0");
  }
}

TEST_CASE("backward: takes no more workspace than it is given") {
  auto const check = [&]<class M>(Index concurrency) {
    GradientRun<M> run(case_of<typename M::Rule>({0, 3, 40}), {.every = 5});
    run.forward().make_room(concurrency);
    std::size_t const given = run.workspace.size();
    run.workspace.resize(given + 64, -77);
    auto call = run.call();
    call.workspace = std::span(run.workspace).subspan(1, given);  // wherever it begins
    M::backward(call, Backwards{concurrency});
    check_that(std::all_of(run.workspace.begin() + Index(given) + 1, run.workspace.end(),
                           [](auto e) { return e <= -77 && e >= -77; }),
               "what follows the workspace");
  };
  for (Index const concurrency : {1, 5}) {
    check.template operator()<Memory<float>>(concurrency);
    check.template operator()<HeadMemory<double, dynamic, dynamic>>(concurrency);
  }
}

TEST_CASE("backward: allocates nothing") {
  using M = Memory<float>;
  GradientRun<M> run(case_of<Rule>({0, 1, 40}), {.every = 8, .readings = true});
  run.forward().make_room();
  auto const call = run.call();
  AllocationCounter const allocations;
  M::backward(call);
  CHECK(allocations.count() == 0);
}

TEST_CASE_TEMPLATE("backward: sequences without tokens hand state gradients through", M, HeadMemory<float>,
                   HeadMemory<double, dynamic, dynamic>) {
  auto c = case_of<HeadRule>({0, 10});
  GradientRun<M> run(c);
  run.offsets = {4, 4};
  auto const before = run.dstates;
  run.forward().backward();
  check_that(run.dstates == before, "gradients of initial states are those of final states");
  auto const g = run.result();
  check_equal(g.dx.u, std::vector<double>(g.dx.u.size()));  // a sum of nothing
  check_equal(g.dx.log_w, std::vector<double>(g.dx.log_w.size()));
  check_equal(g.dx.k, std::vector<double>(g.dx.k.size(), -77));
}

TEST_CASE_TEMPLATE("forward: the tape keeps readings", M, Memory<float>, Memory<double>,
                   MatrixMemory<AnyRule<Gate::none, Erase::rank_one, Read::before>, float, dynamic, dynamic>) {
  using R = typename M::Rule;
  auto const c = case_of<R>({0, 0, 1, 9, 41});
  GradientRun<M> with(c, {.readings = true}), without(c);
  with.forward(), without.forward();
  Terms read = terms_of<R>(c);  // y = S r, with the probe for r, is the reading
  read.r = read.p, read.read = Read::before;
  read.u.assign(read.u.size(), 0);
  check_close(with.readings, reference_result(read, c.state).y, matrix_bound<typename M::T>);
  check_close(with.y, without.y, 2 * matrix_bound<typename M::T>);
}

TEST_CASE("check: says what is wrong with a call of backward") {
  using M = Memory<float, dynamic, dynamic>;
  GradientRun<M> run(case_of<Rule>({0, 6}), {.every = 2, .readings = true});
  run.forward().make_room();
  auto const good = run.call();
  CHECK(M::check(good) == "");
  float* const other = run.y.data();
  auto bad = good;
  bad.dy = {run.dy.data(), 5, 4, 24};
  says(M::check(bad), {"any: backward: ", " has 6 tokens, dy has 5"});
  bad.dy = {run.dy.data(), 6, 3, 24};
  says(M::check(bad), {"backward: ", "heads", "dy"});
  bad.dy = {run.dy.data(), 6, 4, 23};
  says(M::check(bad), {"backward: v has 24 values, expected 23"});
  bad = good;
  bad.x.k = {run.x.numbers().k.data(), 6, 3, 16};
  says(M::check(bad), {"backward: k has 3 heads", "a divisor of 4", "dy"});
  bad = good;
  bad.dx.k = {other, 5, 2, 16};
  says(M::check(bad), {"backward: dx.k has 5 tokens", "6"});
  bad.dx.k = {other, 6, 4, 16};  // k has 2
  says(M::check(bad), {"backward: dx.k has 4 heads, expected 2"});
  bad.dx.k = {other, 6, 2, 15};
  says(M::check(bad), {"backward: dx.k has 15 keys, expected 16"});
  bad = good;
  bad.dx.u = {other, 3, 16};
  says(M::check(bad), {"backward: dx.u has 3 heads, expected 4"});
  bad = good;
  bad.tape.states = {};
  says(M::check(bad), {"backward: tape has 0 elements, expected 12"});
  bad.tape.states = std::span(run.kept).first(11);
  says(M::check(bad), {"backward: tape has 11 elements, expected 12"});
  bad.tape = good.tape;
  bad.tape.every = 0;
  says(M::check(bad), {"tape.every is 0", "at least 1"});
  bad = good;
  bad.tape.readings = {run.readings.data(), 5, 4, 24};
  says(M::check(bad), {"backward: tape.readings has 5 tokens", "6"});
  bad = good;
  bad.dstates = std::span(run.dstates).first(3);
  says(M::check(bad), {"backward: dstates has 3 elements, expected 4"});
  bad = good;
  std::vector<M::StateGradient> small(4, M::StateGradient{16, 23});
  bad.dstates = small;
  says(M::check(bad), {"backward: dstates has a size of 16 x 23", "expected 16 x 24"});
  bad = good;
  bad.workspace = good.workspace.first(good.workspace.size() - 1);
  says(M::check(bad), {"backward: workspace has ", " numbers, expected at least "});
  bad = good;
  std::vector<Index> const beyond{0, 7};
  bad.offsets = beyond;
  says(M::check(bad), {"sequence 0", "[0, 7)", "6 tokens"});
}
