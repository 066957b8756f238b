/// Models that are special cases of others: the one's kernel computes what the other's does.
#include "rules/check_model.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

constexpr Index keys = 16, values = 24, heads = 2;
Shape const shape{keys, values, heads, {0, 0, 1, 4, 44}};
Index const rows = shape.tokens() * heads;

/// The inputs of a model in numbers T.
template <class Model, class T> FieldNumbers<typename Model::Rule, T> draw(Decay decay = Decay::wkv7) {
  return CaseFields<typename Model::Rule, T>(draw_case<Model>(23, shape, decay)).numbers();
}

template <class T> std::vector<T> initial() { return Random(41).normals<T>(shape.sequences() * heads * values * keys); }

template <class Model, class T> MatrixResult run(FieldNumbers<typename Model::Rule, T> const& x) {
  RuleCase<typename Model::Rule, T> const c{shape, x, initial<T>()};
  return RuleRun<typename Model::template Memory<T, keys, values>>(c).forward().result();
}

/// Special with inputs x is General with inputs y.
template <class Special, class General, class T>
void check_included(FieldNumbers<typename Special::Rule, T> const& x,
                    FieldNumbers<typename General::Rule, T> const& y) {
  check_close(run<General, T>(y), run<Special, T>(x), matrix_bound<T>);
}

template <class T> std::vector<T> constant(Index n, T value) { return std::vector<T>(to_size(n), value); }
template <class T> std::vector<T> zeros(Index n) { return constant(n, T(0)); }

/// Each number n times: one of a token and head for all its keys or values.
template <class T> std::vector<T> spread(std::vector<T> const& x, Index n) {
  std::vector<T> out;
  for (T const e : x) out.insert(out.end(), to_size(n), e);
  return out;
}
/// All of them for every token: those of a head.
template <class T> std::vector<T> over_time(std::vector<T> const& x) {
  std::vector<T> out;
  for (Index t = 0; t < shape.tokens(); ++t) out.insert(out.end(), x.begin(), x.end());
  return out;
}
template <class T> std::vector<T> times(std::vector<T> x, std::vector<T> const& y) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] *= y[i];
  return x;
}
template <class T> std::vector<T> negative(std::vector<T> x) {
  for (T& e : x) e = -e;
  return x;
}
template <class T> std::vector<T> exps(std::vector<T> x) {
  for (T& e : x) e = std::exp(e);
  return x;
}

}  // namespace

TEST_CASE_TEMPLATE("inclusions: DPLR covers the delta rules", T, float, double) {
  {
    auto const x = draw<DeltaNetModel, T>();
    auto const write = times(spread(x.beta, keys), x.k);
    check_included<DeltaNetModel, DplrModel, T>(
        x, {.q = x.q, .log_w = zeros<T>(rows * keys), .k = write, .v = x.v, .alpha = x.k, .beta = negative(write)});
  }
  {
    auto const x = draw<GatedDeltaNetModel, T>();
    auto const log_w = spread(x.log_w, keys), write = times(spread(x.beta, keys), x.k);
    check_included<GatedDeltaNetModel, DplrModel, T>(
        x, {.q = x.q, .log_w = log_w, .k = write, .v = x.v, .alpha = times(exps(log_w), x.k), .beta = negative(write)});
  }
  {
    auto const x = draw<KdaModel, T>();
    auto const write = times(spread(x.beta, keys), x.k);
    check_included<KdaModel, DplrModel, T>(x, {.q = x.q,
                                               .log_w = x.log_w,
                                               .k = write,
                                               .v = x.v,
                                               .alpha = times(exps(x.log_w), x.k),
                                               .beta = negative(write)});
  }
  {
    auto const x = draw<GatedDeltaNet2Model, T>();
    check_included<GatedDeltaNet2Model, DplrModel, T>(x, {.q = x.q,
                                                          .log_w = x.log_w,
                                                          .k = x.k,
                                                          .v = times(x.c, x.v),
                                                          .alpha = times(times(exps(x.log_w), x.b), x.k),
                                                          .beta = negative(x.k)});
  }
  {
    auto const x = draw<CombaModel, T>();
    auto const log_w = spread(x.log_w, keys), write = times(spread(x.beta, keys), x.k);
    check_included<CombaModel, DplrModel, T>(
        x, {.q = x.q, .log_w = log_w, .k = write, .v = x.v, .alpha = times(exps(log_w), x.p), .beta = negative(write)});
  }
}

TEST_CASE_TEMPLATE("inclusions: DPLR covers IPLR and WKV-7", T, float, double) {
  {
    auto const x = draw<IplrModel, T>();
    check_included<IplrModel, DplrModel, T>(
        x, {.q = x.q, .log_w = zeros<T>(rows * keys), .k = x.k, .v = x.v, .alpha = x.alpha, .beta = x.beta});
  }
  auto const x = draw<Wkv7Model, T>();
  MatrixResult const special = run<Wkv7Model, T>(x);
  MatrixResult const general = run<DplrModel, T>({.q = x.r,
                                                  .log_w = x.log_w,
                                                  .k = x.k,
                                                  .v = x.v,
                                                  .alpha = negative(x.kappa_hat),
                                                  .beta = times(x.a, x.kappa_hat)});
  CHECK(special.y == general.y);  // the same terms, so the same bits
  CHECK(special.state == general.state);
}

TEST_CASE_TEMPLATE("inclusions: WKV-7 without decay, with kappa_hat = k and a = beta, is DeltaNet", T, float, double) {
  auto const x = draw<DeltaNetModel, T>();
  auto const beta = spread(x.beta, keys);
  check_included<DeltaNetModel, Wkv7Model, T>(
      x, {.r = x.q, .log_w = zeros<T>(rows * keys), .k = times(beta, x.k), .v = x.v, .kappa_hat = x.k, .a = beta});
}

TEST_CASE_TEMPLATE("inclusions: KDA with equal gates is Gated DeltaNet, without gates DeltaNet", T, float, double) {
  {
    auto const x = draw<GatedDeltaNetModel, T>();
    check_included<GatedDeltaNetModel, KdaModel, T>(
        x, {.q = x.q, .k = x.k, .v = x.v, .log_w = spread(x.log_w, keys), .beta = x.beta});
  }
  auto const x = draw<DeltaNetModel, T>();
  check_included<DeltaNetModel, KdaModel, T>(
      x, {.q = x.q, .k = x.k, .v = x.v, .log_w = zeros<T>(rows * keys), .beta = x.beta});
}

TEST_CASE_TEMPLATE("inclusions: Gated DeltaNet-2 with b = c = beta is KDA", T, float, double) {
  auto const x = draw<KdaModel, T>();
  check_included<KdaModel, GatedDeltaNet2Model, T>(
      x, {.q = x.q, .k = x.k, .v = x.v, .log_w = x.log_w, .b = spread(x.beta, keys), .c = spread(x.beta, values)});
}

TEST_CASE_TEMPLATE("inclusions: Comba with p = k is Gated DeltaNet", T, float, double) {
  auto const x = draw<GatedDeltaNetModel, T>();
  check_included<GatedDeltaNetModel, CombaModel, T>(
      x, {.q = x.q, .k = x.k, .v = x.v, .log_w = x.log_w, .p = x.k, .beta = x.beta});
}

TEST_CASE_TEMPLATE("inclusions: WKV-6 with a constant decay is WKV-5.2, that with equal channels 5.0", T, float,
                   double) {
  {
    auto const x = draw<Wkv5Model, T>();
    check_included<Wkv5Model, Wkv6Model, T>(x, {.r = x.r, .log_w = over_time(x.log_w), .k = x.k, .v = x.v, .u = x.u});
  }
  auto const x = draw<Wkv5PerHeadModel, T>();
  check_included<Wkv5PerHeadModel, Wkv5Model, T>(
      x, {.r = x.r, .log_w = spread(x.log_w, keys), .k = x.k, .v = x.v, .u = spread(x.u, keys)});
}

TEST_CASE_TEMPLATE("inclusions: Finch-C2 is WKV-6 with u = 0 and the key (1 - w) k", T, float, double) {
  auto const x = draw<FinchC2Model, T>();
  auto rest = x.log_w;
  for (T& e : rest) e = -std::expm1(e);
  check_included<FinchC2Model, Wkv6Model, T>(
      x, {.r = x.r, .log_w = x.log_w, .k = times(rest, x.k), .v = x.v, .u = zeros<T>(heads * keys)});
}

TEST_CASE_TEMPLATE("inclusions: GLA, simple GLA, RetNet, linear attention, each a case of the one before", T, float,
                   double) {
  {
    auto const x = draw<SimpleGlaModel, T>();
    check_included<SimpleGlaModel, GlaModel, T>(x, {.q = x.q, .k = x.k, .v = x.v, .log_w = spread(x.log_w, keys)});
  }
  {
    auto const x = draw<RetNetModel, T>();
    check_included<RetNetModel, SimpleGlaModel, T>(x, {.q = x.q, .k = x.k, .v = x.v, .log_w = over_time(x.log_w)});
  }
  auto const x = draw<LinearAttentionModel, T>();
  check_included<LinearAttentionModel, RetNetModel, T>(x, {.q = x.q, .k = x.k, .v = x.v, .log_w = zeros<T>(heads)});
}

/// The state after S diag(w) + v k^T, read by q, is S diag(w) read by q with the bonus (q . k) v. As two micro-steps of
/// WKV-6: one that decays and writes nothing, one that does not decay, with u = 1.
TEST_CASE_TEMPLATE("inclusions: reading after the update is reading the decayed state with u = 1", T, float, double) {
  auto const x = draw<GlaModel, T>();
  auto const micro_steps = [](std::vector<T> const& numbers, Index size, Index kept) {  // on one of two, else zeros
    std::vector<T> out(2 * numbers.size());
    Index const n = heads * size;
    for (Index t = 0; t < shape.tokens(); ++t)
      std::copy_n(numbers.begin() + t * n, n, out.begin() + (2 * t + kept) * n);
    return out;
  };
  auto const log_w = micro_steps(x.log_w, keys, 0), k = micro_steps(x.k, keys, 1), v = micro_steps(x.v, values, 1);
  auto const u = constant(heads * keys, T(1));

  RuleCase<GlaModel::Rule, T> const after{shape, x, initial<T>()};
  RuleRun<Gla<T, keys, values>> expected(after);
  auto const call = expected.call();  // for its initial states
  std::vector<typename Wkv6<T, keys, values>::State> states(call.states.begin(), call.states.end());
  std::vector<T> y(to_size(rows * values));
  std::vector<Index> offsets = shape.offsets;
  for (Index& offset : offsets) offset *= 2;
  Index const tokens = shape.tokens();
  Wkv6<T, keys, values>::forward({.x = {.r = Source<keys>(x.q.data(), tokens, heads).repeated(2),
                                        .log_w = {log_w.data(), 2 * tokens, heads},
                                        .k = {k.data(), 2 * tokens, heads},
                                        .v = {v.data(), 2 * tokens, heads},
                                        .u = {u.data(), heads}},
                                  .y = Sink<values>(y.data(), tokens, heads).repeated(2),
                                  .states = states,
                                  .offsets = offsets});
  expected.forward();
  CHECK(max_error(y, expected.result().y) <= matrix_bound<T>);
  CHECK(std::equal(states.begin(), states.end(), call.states.begin(), [](auto const& a, auto const& b) {
    return max_error(VecView<T const>(&a.s[0][0], keys * values), VecView<T const>(&b.s[0][0], keys * values)) <=
           matrix_bound<T>;
  }));
}
