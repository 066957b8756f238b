#pragma once
/// A small time mix of RWKV-7 for tests of gradients: its weights by name.
#include "aviary/layers/time_mix7.hpp"
#include "support/layer_gradients.hpp"

namespace aviary::test {

template <Index N, class T = double> struct Mix7 {
  using Layer = TimeMix<Wkv7<T, N>>;

  template <class As> static typename Layer::template Parameters<As> parameters(TensorsAs<As> const& t) {
    return {.x_r = t.row("x_r"),
            .x_w = t.row("x_w"),
            .x_k = t.row("x_k"),
            .x_v = t.row("x_v"),
            .x_a = t.row("x_a"),
            .x_g = t.row("x_g"),
            .receptance = t.matrix("receptance"),
            .key = t.matrix("key"),
            .value = t.matrix("value"),
            .output = t.matrix("output"),
            .w0 = t.row("w0"),
            .w1 = t.matrix("w1"),
            .w2 = t.matrix("w2"),
            .a0 = t.row("a0"),
            .a1 = t.matrix("a1"),
            .a2 = t.matrix("a2"),
            .g1 = t.matrix("g1"),
            .g2 = t.matrix("g2"),
            .k_k = t.row("k_k"),
            .k_a = t.row("k_a"),
            .r_k = t.table("r_k"),
            .ln_x_weight = t.row("ln_x_weight"),
            .ln_x_bias = t.row("ln_x_bias"),
            .v0 = t.row("v0"),
            .v1 = t.matrix("v1"),
            .v2 = t.matrix("v2"),
            .first_state = t.table("first_state")};
  }
};

/// 10 channels, two heads of n, ranks 3 to 6. The first layer has no v0, v1, v2.
inline Tensors mix7_tensors(Index n, bool first_layer) {
  constexpr Index c = 10, heads = 2;
  Index const a = heads * n;
  Random random(7);
  Tensors t;
  auto const put = [&](char const* name, Index rows, Index columns, double scale) {
    t.emplace(name, Matrix<double>(rows, columns, random, scale));
  };
  for (char const* name : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g"}) put(name, 1, c, 0.5);
  for (char const* name : {"w0", "a0", "k_k", "k_a", "ln_x_weight", "ln_x_bias"}) put(name, 1, a, 1);
  for (char const* name : {"receptance", "key", "value"}) put(name, a, c, 0.4);
  put("output", c, a, 0.4);
  put("r_k", heads, n, 0.5);
  auto const low_rank = [&](char const* first, char const* second, Index rank) {
    put(first, c, rank, 0.5);
    put(second, rank, a, 0.5);
  };
  low_rank("w1", "w2", 3);
  low_rank("a1", "a2", 4);
  low_rank("g1", "g2", 6);
  if (first_layer) return t;
  put("v0", 1, a, 1);
  low_rank("v1", "v2", 5);
  return t;
}

}  // namespace aviary::test
