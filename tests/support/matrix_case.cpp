#include "support/matrix_case.hpp"

#include <cmath>
#include <utility>

#include "aviary/reference/recurrence.hpp"

namespace aviary::test {

MatrixCase::MatrixCase(std::uint64_t seed, Shape shape_, Gate gate_, Erase erase_, bool constant_, Decay decay)
    : shape(std::move(shape_)), gate(gate_), erase(erase_), constant(constant_) {
  Random random(seed);
  Index const rows = shape.tokens() * shape.heads, keys = shape.keys;
  Index const decays = (constant ? shape.heads : rows) * (gate == Gate::vector ? keys : 1);
  r = random.normals<float>(rows * keys);
  log_w = random.log_decays<float>(decays, gate == Gate::none ? Decay::none : decay);
  p = random.units<float>(rows, keys);
  k = random.normals<float>(rows * keys, erase == Erase::along_key ? 0.02 : 1);
  q = random.normals<float>(rows * keys, 0.02);
  for (std::size_t i = 0; i < p.size(); ++i) {
    q[i] -= 0.75f * p[i];
    if (erase == Erase::along_key) k[i] += 0.75f * p[i];
  }
  v = random.normals<float>(rows * shape.values);
  u = random.normals<float>(shape.heads * keys);
  state = random.normals<float>(shape.sequences() * shape.heads * shape.values * keys);
}

MatrixResult reference_result(MatrixCase const& c, Read read) {
  Index const keys = c.shape.keys, values = c.shape.values, heads = c.shape.heads;
  MatrixResult out{std::vector<double>(to_size(c.shape.tokens() * heads * values)),
                   std::vector<double>(c.state.begin(), c.state.end())};
  auto const take = [](std::vector<float> const& from, Index row, Index n) {
    return std::vector<double>(from.begin() + row * n, from.begin() + (row + 1) * n);
  };
  for (Index s = 0; s < c.shape.sequences(); ++s)
    for (Index h = 0; h < heads; ++h)
      for (Index t = c.shape.offsets[to_size(s)]; t < c.shape.offsets[to_size(s + 1)]; ++t) {
        Index const row = t * heads + h;
        auto const r = take(c.r, row, keys), p = take(c.p, row, keys), k = take(c.k, row, keys);
        auto const v = take(c.v, row, values), u = take(c.u, h, keys);
        auto q = take(c.q, row, keys);
        if (c.erase == Erase::along_key)
          for (std::size_t j = 0; j < q.size(); ++j) q[j] = -k[j];
        std::vector<double> w;
        for (Index j = 0; j < keys; ++j) {
          Index const decay_row = c.constant ? h : row;
          w.push_back(std::exp(double{c.log_w[to_size(c.gate == Gate::vector ? decay_row * keys + j : decay_row)]}));
        }
        reference::Recurrence<double>::Token token{.r = r, .k = k, .v = v};
        if (c.gate != Gate::none) token.w = w;
        if (c.erase != Erase::none) token.p = p, token.q = q;
        if (read == Read::before) token.u = u;
        reference::Recurrence<double>::step(
            MatView<double>(&out.state[to_size((s * heads + h) * values * keys)], values, keys), token,
            VecView<double>(&out.y[to_size(row * values)], values));
      }
  return out;
}

}  // namespace aviary::test
