#include "aviary/wkv7.hpp"

#include <doctest/doctest.h>

#include "aviary/dplr.hpp"
#include "aviary/reference/wkv7.hpp"
#include "support/compare.hpp"
#include "support/matrix_case.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

/// The reference in double on the same inputs, and its final states.
std::vector<double> reference_output(Wkv7Inputs<double> const& x, std::vector<double>& states) {
  std::vector<double> y(x.v.size());
  for (Index h = 0; h < x.heads; ++h) {
    MatView<double> const s(&states[to_size(h * x.values * x.keys)], x.values, x.keys);
    for (Index t = 0; t < x.tokens; ++t) {
      Index const row = t * x.heads + h;
      auto const keys = [&](std::vector<double> const& from) {
        return VecView<double const>(&from[to_size(row * x.keys)], x.keys);
      };
      reference::Wkv7<double>::step(s,
                                    {.r = keys(x.r),
                                     .log_w = keys(x.log_w),
                                     .k = keys(x.k),
                                     .v = {&x.v[to_size(row * x.values)], x.values},
                                     .kappa_hat = keys(x.kappa_hat),
                                     .a = keys(x.a)},
                                    {&y[to_size(row * x.values)], x.values});
    }
  }
  return y;
}

template <class M, class T> std::vector<typename M::State> states_of(Wkv7Inputs<T> const& x) {
  std::vector<typename M::State> states(to_size(x.heads), empty_state<M>(x.keys, x.values));
  for (Index h = 0; h < x.heads; ++h)
    for (Index i = 0; i < x.values; ++i)
      for (Index j = 0; j < x.keys; ++j)
        states[to_size(h)].view()(j, i) = x.state[to_size((h * x.values + i) * x.keys + j)];
  return states;
}

template <class M, class T>
std::vector<double> numbers_of(std::vector<typename M::State> const& states, Wkv7Inputs<T> const& x) {
  std::vector<double> out;
  for (auto const& state : states)
    for (Index i = 0; i < x.values; ++i)
      for (Index j = 0; j < x.keys; ++j) out.push_back(static_cast<double>(state.view()(j, i)));
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("wkv7: forward agrees with the reference", M, Wkv7<float, 64>, Wkv7<double, 64>, Wkv7<float, 8, 16>,
                   Wkv7<double, dynamic>) {
  using T = typename M::T;
  Index const keys = M::keys == dynamic ? 24 : M::keys, values = M::values == dynamic ? 10 : M::values;
  for (Decay const decay : {Decay::wkv7, Decay::none, Decay::extremes}) {
    CAPTURE(name(decay));
    Wkv7Inputs<T> const x(5, 100, 3, keys, values, decay);
    Wkv7Inputs<double> const exact(5, 100, 3, keys, values, decay);
    std::vector<double> final_states = exact.state;
    std::vector<double> const expected = reference_output(exact, final_states);
    auto states = states_of<M>(x);
    std::vector<T> y(x.v.size());
    typename M::Forward const call{.x = {.r = {x.r.data(), 100, 3, keys},
                                         .log_w = {x.log_w.data(), 100, 3, keys},
                                         .k = {x.k.data(), 100, 3, keys},
                                         .v = {x.v.data(), 100, 3, values},
                                         .kappa_hat = {x.kappa_hat.data(), 100, 3, keys},
                                         .a = {x.a.data(), 100, 3, keys}},
                                   .y = {y.data(), 100, 3, values},
                                   .states = states};
    REQUIRE(M::check(call) == "");
    M::forward(call);
    CHECK(max_error(y, expected) <= matrix_bound<T>);
    CHECK(max_error(numbers_of<M>(states, x), final_states) <= matrix_bound<T>);
  }
}

TEST_CASE_TEMPLATE("wkv7: is DPLR with alpha = -kappa_hat, beta = a kappa_hat", T, float, double) {
  Wkv7Inputs<T> const x(6, 50, 2, 16, 16);
  using Goose = Wkv7<T, 16>;
  using General = Dplr<T, 16>;
  std::vector<T> alpha, beta, y(x.v.size()), z(x.v.size());
  for (std::size_t i = 0; i < x.a.size(); ++i) {
    alpha.push_back(-x.kappa_hat[i]);
    beta.push_back(x.a[i] * x.kappa_hat[i]);
  }
  auto a = states_of<Goose>(x);
  auto b = states_of<General>(x);
  Goose::forward({.x = {.r = {x.r.data(), 50, 2},
                        .log_w = {x.log_w.data(), 50, 2},
                        .k = {x.k.data(), 50, 2},
                        .v = {x.v.data(), 50, 2},
                        .kappa_hat = {x.kappa_hat.data(), 50, 2},
                        .a = {x.a.data(), 50, 2}},
                  .y = {y.data(), 50, 2},
                  .states = a});
  General::forward({.x = {.q = {x.r.data(), 50, 2},
                          .log_w = {x.log_w.data(), 50, 2},
                          .k = {x.k.data(), 50, 2},
                          .v = {x.v.data(), 50, 2},
                          .alpha = {alpha.data(), 50, 2},
                          .beta = {beta.data(), 50, 2}},
                    .y = {z.data(), 50, 2},
                    .states = b});
  CHECK(y == z);  // the same terms, so the same bits
  CHECK(a == b);
}

TEST_CASE("wkv7: a zero removal key removes nothing") {
  using M = Wkv7<double, 4>;
  std::array<double, 4> const r{1, 2, 3, 4}, none{}, k{1, 0, 0, 0}, v{1, -1, 2, 0}, a{1, 1, 1, 1};
  M::State state{};
  std::array<double, 4> y{};
  for (int i = 0; i < 3; ++i) M::step(state, {.r = r, .log_w = none, .k = k, .v = v, .kappa_hat = none, .a = a}, y);
  for (Index i = 0; i < 4; ++i) {
    CHECK(state.s[0][i] == 3 * v[to_size(i)]);
    CHECK(y[to_size(i)] == 3 * v[to_size(i)]);
  }
}
