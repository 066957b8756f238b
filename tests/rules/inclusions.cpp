/// Models that are special cases of others: the one's kernel computes what the other's does.
#include "rules/check_model.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

constexpr Index keys = 16, values = 24, heads = 2;
Shape const shape{keys, values, heads, {0, 0, 1, 4, 44}};
Index const rows = shape.tokens() * heads;

using Numbers = std::vector<double>;

template <class Model> FieldNumbers<typename Model::Rule> draw() { return draw_case<Model>(23, shape, Decay::wkv7).x; }
Numbers initial() { return Random(41).normals<double>(shape.sequences() * heads * values * keys); }

template <class Model> MatrixResult run(FieldNumbers<typename Model::Rule> const& x, Arithmetic number) {
  return Memories<typename Model::Rule>::forward({shape, x, initial()}, number, Sizes::k16_v24);
}

/// Special with inputs x is General with inputs y, in float and in double.
template <class Special, class General>
void check_included(FieldNumbers<typename Special::Rule> const& x, FieldNumbers<typename General::Rule> const& y) {
  for (Arithmetic const number : {Arithmetic::float32, Arithmetic::float64}) {
    Note const note("arithmetic", name(number));
    check_close(run<General>(y, number), run<Special>(x, number), matrix_bound_of(number));
  }
}

Numbers constant(Index n, double value) { return Numbers(to_size(n), value); }
Numbers zeros(Index n) { return constant(n, 0); }

/// Each number n times: one of a token and head for all its keys or values.
Numbers spread(Numbers const& x, Index n) {
  Numbers out;
  for (double const e : x) out.insert(out.end(), to_size(n), e);
  return out;
}
/// All of them for every token: those of a head.
Numbers over_time(Numbers const& x) {
  Numbers out;
  for (Index t = 0; t < shape.tokens(); ++t) out.insert(out.end(), x.begin(), x.end());
  return out;
}
Numbers times(Numbers x, Numbers const& y) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] *= y[i];
  return x;
}
Numbers negative(Numbers x) {
  for (double& e : x) e = -e;
  return x;
}
Numbers exps(Numbers x) {
  for (double& e : x) e = std::exp(e);
  return x;
}

}  // namespace

TEST_CASE("inclusions: DPLR covers the delta rules") {
  {
    auto const x = draw<DeltaNetModel>();
    auto const write = times(spread(x.beta, keys), x.k);
    check_included<DeltaNetModel, DplrModel>(
        x, {.q = x.q, .log_w = zeros(rows * keys), .k = write, .v = x.v, .alpha = x.k, .beta = negative(write)});
  }
  {
    auto const x = draw<GatedDeltaNetModel>();
    auto const log_w = spread(x.log_w, keys), write = times(spread(x.beta, keys), x.k);
    check_included<GatedDeltaNetModel, DplrModel>(
        x, {.q = x.q, .log_w = log_w, .k = write, .v = x.v, .alpha = times(exps(log_w), x.k), .beta = negative(write)});
  }
  {
    auto const x = draw<KdaModel>();
    auto const write = times(spread(x.beta, keys), x.k);
    check_included<KdaModel, DplrModel>(x, {.q = x.q,
                                            .log_w = x.log_w,
                                            .k = write,
                                            .v = x.v,
                                            .alpha = times(exps(x.log_w), x.k),
                                            .beta = negative(write)});
  }
  {
    auto const x = draw<GatedDeltaNet2Model>();
    check_included<GatedDeltaNet2Model, DplrModel>(x, {.q = x.q,
                                                       .log_w = x.log_w,
                                                       .k = x.k,
                                                       .v = times(x.c, x.v),
                                                       .alpha = times(times(exps(x.log_w), x.b), x.k),
                                                       .beta = negative(x.k)});
  }
  {
    auto const x = draw<CombaModel>();
    auto const log_w = spread(x.log_w, keys), write = times(spread(x.beta, keys), x.k);
    check_included<CombaModel, DplrModel>(
        x, {.q = x.q, .log_w = log_w, .k = write, .v = x.v, .alpha = times(exps(log_w), x.p), .beta = negative(write)});
  }
}

TEST_CASE("inclusions: DPLR covers IPLR and WKV-7") {
  {
    auto const x = draw<IplrModel>();
    check_included<IplrModel, DplrModel>(
        x, {.q = x.q, .log_w = zeros(rows * keys), .k = x.k, .v = x.v, .alpha = x.alpha, .beta = x.beta});
  }
  auto const x = draw<Wkv7Model>();
  for (Arithmetic const number : {Arithmetic::float32, Arithmetic::float64}) {
    Note const note("arithmetic", name(number));
    MatrixResult const special = run<Wkv7Model>(x, number);
    MatrixResult const general = run<DplrModel>({.q = x.r,
                                                 .log_w = x.log_w,
                                                 .k = x.k,
                                                 .v = x.v,
                                                 .alpha = negative(x.kappa_hat),
                                                 .beta = times(x.a, x.kappa_hat)},
                                                number);
    check_equal(special.y, general.y);  // the same terms, so the same bits
    check_equal(special.state, general.state);
  }
}

TEST_CASE("inclusions: WKV-7 without decay, with kappa_hat = k and a = beta, is DeltaNet") {
  auto const x = draw<DeltaNetModel>();
  auto const beta = spread(x.beta, keys);
  check_included<DeltaNetModel, Wkv7Model>(
      x, {.r = x.q, .log_w = zeros(rows * keys), .k = times(beta, x.k), .v = x.v, .kappa_hat = x.k, .a = beta});
}

TEST_CASE("inclusions: KDA with equal gates is Gated DeltaNet, without gates DeltaNet") {
  {
    auto const x = draw<GatedDeltaNetModel>();
    check_included<GatedDeltaNetModel, KdaModel>(
        x, {.q = x.q, .k = x.k, .v = x.v, .log_w = spread(x.log_w, keys), .beta = x.beta});
  }
  auto const x = draw<DeltaNetModel>();
  check_included<DeltaNetModel, KdaModel>(x,
                                          {.q = x.q, .k = x.k, .v = x.v, .log_w = zeros(rows * keys), .beta = x.beta});
}

TEST_CASE("inclusions: Gated DeltaNet-2 with b = c = beta is KDA") {
  auto const x = draw<KdaModel>();
  check_included<KdaModel, GatedDeltaNet2Model>(
      x, {.q = x.q, .k = x.k, .v = x.v, .log_w = x.log_w, .b = spread(x.beta, keys), .c = spread(x.beta, values)});
}

TEST_CASE("inclusions: Comba with p = k is Gated DeltaNet") {
  auto const x = draw<GatedDeltaNetModel>();
  check_included<GatedDeltaNetModel, CombaModel>(
      x, {.q = x.q, .k = x.k, .v = x.v, .log_w = x.log_w, .p = x.k, .beta = x.beta});
}

TEST_CASE("inclusions: WKV-6 with a constant decay is WKV-5.2, that with equal channels 5.0") {
  {
    auto const x = draw<Wkv5Model>();
    check_included<Wkv5Model, Wkv6Model>(x, {.r = x.r, .log_w = over_time(x.log_w), .k = x.k, .v = x.v, .u = x.u});
  }
  auto const x = draw<Wkv5PerHeadModel>();
  check_included<Wkv5PerHeadModel, Wkv5Model>(
      x, {.r = x.r, .log_w = spread(x.log_w, keys), .k = x.k, .v = x.v, .u = spread(x.u, keys)});
}

TEST_CASE("inclusions: Finch-C2 is WKV-6 with u = 0 and the key (1 - w) k") {
  auto const x = draw<FinchC2Model>();
  auto rest = x.log_w;
  for (double& e : rest) e = -std::expm1(e);
  check_included<FinchC2Model, Wkv6Model>(
      x, {.r = x.r, .log_w = x.log_w, .k = times(rest, x.k), .v = x.v, .u = zeros(heads * keys)});
}

TEST_CASE("inclusions: GLA, simple GLA, RetNet, linear attention, each a case of the one before") {
  {
    auto const x = draw<SimpleGlaModel>();
    check_included<SimpleGlaModel, GlaModel>(x, {.q = x.q, .k = x.k, .v = x.v, .log_w = spread(x.log_w, keys)});
  }
  {
    auto const x = draw<RetNetModel>();
    check_included<RetNetModel, SimpleGlaModel>(x, {.q = x.q, .k = x.k, .v = x.v, .log_w = over_time(x.log_w)});
  }
  auto const x = draw<LinearAttentionModel>();
  check_included<LinearAttentionModel, RetNetModel>(x, {.q = x.q, .k = x.k, .v = x.v, .log_w = zeros(heads)});
}

/// The state after S diag(w) + v k^T, read by q, is S diag(w) read by q with the bonus (q . k) v. As two micro-steps of
/// WKV-6: one that decays and writes nothing, one that does not decay, with u = 1.
TEST_CASE_TEMPLATE("inclusions: reading after the update is reading the decayed state with u = 1", T, float, double) {
  auto const x = draw<GlaModel>();
  auto const micro_steps = [](Numbers const& numbers, Index size, Index kept) {  // on one of two, else zeros
    std::vector<T> out(2 * numbers.size());
    Index const n = heads * size;
    for (Index t = 0; t < shape.tokens(); ++t)
      for (Index i = 0; i < n; ++i) out[to_size((2 * t + kept) * n + i)] = static_cast<T>(numbers[to_size(t * n + i)]);
    return out;
  };
  std::vector<T> const q(x.q.begin(), x.q.end());
  auto const log_w = micro_steps(x.log_w, keys, 0), k = micro_steps(x.k, keys, 1), v = micro_steps(x.v, values, 1);
  std::vector<T> const u(to_size(heads * keys), T(1));

  using M = Wkv6<T, keys, values>;
  auto states = states_of<typename M::State>(initial(), keys, values);
  std::vector<T> y(to_size(rows * values));
  std::vector<Index> offsets = shape.offsets;
  for (Index& offset : offsets) offset *= 2;
  Index const tokens = shape.tokens();
  M::forward({.x = {.r = Source<keys>(q.data(), tokens, heads).repeated(2),
                    .log_w = {log_w.data(), 2 * tokens, heads},
                    .k = {k.data(), 2 * tokens, heads},
                    .v = {v.data(), 2 * tokens, heads},
                    .u = {u.data(), heads}},
              .y = Sink<values>(y.data(), tokens, heads).repeated(2),
              .states = states,
              .offsets = offsets});
  MatrixResult const expected = run<GlaModel>(x, sizeof(T) == 4 ? Arithmetic::float32 : Arithmetic::float64);
  check_close(y, expected.y, matrix_bound<T>);
  for (std::size_t s = 0; s < states.size(); ++s) {
    std::size_t const size = to_size(keys * values);
    check_close(numbers_of(std::vector{states[s]}, keys, values), std::span(expected.state).subspan(s * size, size),
                matrix_bound<T>);
  }
}
