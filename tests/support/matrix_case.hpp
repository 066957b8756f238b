#pragma once
/// Random packed sequences through any rule of the matrix family, and what the reference makes of them.
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "aviary/matrix/memory.hpp"
#include "aviary/reference/recurrence.hpp"
#include "support/random.hpp"

namespace aviary::test {

/// A rule with these traits whose fields are the terms themselves. The decay is of every token or, with `constant`, of a
/// head.
template <Gate G, Erase E, Read D, bool constant = false> struct AnyRule {
  static constexpr char const* name = "any";
  static constexpr Erase erase = E;
  static constexpr Read read = D;
  static constexpr Axis decay =
      constant ? (G == Gate::vector ? Axis::head_key : Axis::head_one) : (G == Gate::vector ? Axis::key : Axis::one);
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r;
    Per<decay> log_w;
    Per<Axis::key> p, q, k;
    Per<Axis::value> v;
    Per<Axis::head_key> u;
  };
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    if constexpr (E == Erase::none && D == Read::before)
      return {.r = x.r, .k = x.k, .v = x.v, .u = x.u};
    else if constexpr (E == Erase::none)
      return {.r = x.r, .k = x.k, .v = x.v};
    else if constexpr (E == Erase::along_key && D == Read::before)
      return {.r = x.r, .p = x.p, .k = x.k, .v = x.v, .u = x.u};
    else if constexpr (E == Erase::along_key)
      return {.r = x.r, .p = x.p, .k = x.k, .v = x.v};
    else if constexpr (D == Read::before)
      return {.r = x.r, .p = x.p, .q = x.q, .k = x.k, .v = x.v, .u = x.u};
    else
      return {.r = x.r, .p = x.p, .q = x.q, .k = x.k, .v = x.v};
  }
};

template <class M> typename M::State empty_state(Index keys, Index values) {
  if constexpr (M::keys == dynamic || M::values == dynamic)
    return typename M::State{keys, values};
  else
    return typename M::State{};
}

/// Which of the gate's numbers a token has; Axis::key is K of them.
struct Shape {
  Index keys, values, heads;
  std::vector<Index> offsets;
  Index tokens() const { return offsets.back(); }
  Index sequences() const { return static_cast<Index>(offsets.size()) - 1; }
};

/// Inputs for AnyRule: probes of unit length that are written back nearly against themselves, so that no state explodes.
struct MatrixCase {
  Shape shape;
  std::vector<float> r, log_w, p, q, k, v, u, state;  // state (sequences, heads, V, K)

  MatrixCase(std::uint64_t seed, Shape shape_, Gate gate, Erase erase, bool constant, Decay decay)
      : shape(std::move(shape_)) {
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
};

struct MatrixResult {
  std::vector<double> y, state;  // (tokens, heads, V), (sequences, heads, V, K)
};

/// The reference in double, head by head.
template <class R> MatrixResult reference_result(MatrixCase const& c) {
  auto const& [K, V, H, offsets] = c.shape;
  Index const keys = K, values = V, heads = H;
  MatrixResult out{std::vector<double>(to_size(c.shape.tokens() * heads * values)),
                   std::vector<double>(c.state.begin(), c.state.end())};
  auto const take = [](std::vector<float> const& from, Index first, Index n) {
    return std::vector<double>(from.begin() + first, from.begin() + first + n);
  };
  for (Index s = 0; s < c.shape.sequences(); ++s)
    for (Index h = 0; h < heads; ++h)
      for (Index t = offsets[to_size(s)]; t < offsets[to_size(s + 1)]; ++t) {
        Index const row = t * heads + h;
        auto const r = take(c.r, row * keys, keys), p = take(c.p, row * keys, keys), k = take(c.k, row * keys, keys);
        auto const v = take(c.v, row * values, values), u = take(c.u, h * keys, keys);
        auto q = take(c.q, row * keys, keys);
        if (R::erase == Erase::along_key)
          for (std::size_t j = 0; j < q.size(); ++j) q[j] = -k[j];
        std::vector<double> w(to_size(keys), 1.0);
        if (gate_of<R> != Gate::none)
          for (Index j = 0; j < keys; ++j) {
            Index const at = R::decay == Axis::key        ? row * keys + j
                             : R::decay == Axis::one      ? row
                             : R::decay == Axis::head_key ? h * keys + j
                                                          : h;
            w[to_size(j)] = std::exp(static_cast<double>(c.log_w[to_size(at)]));
          }
        reference::Recurrence<double>::Token token{.r = r, .k = k, .v = v};
        if (gate_of<R> != Gate::none) token.w = w;
        if (R::erase != Erase::none) token.p = p, token.q = q;
        if (R::read == Read::before) token.u = u;
        reference::Recurrence<double>::step(
            MatView<double>(&out.state[to_size((s * heads + h) * values * keys)], values, keys), token,
            VecView<double>(&out.y[to_size(row * values)], values));
      }
  return out;
}

/// The inputs of a case in number type T, and the states of memory M: what a call of M::forward needs.
template <class M> struct MatrixCall {
  using T = typename M::T;
  using R = typename M::Rule;
  MatrixCase const& c;
  std::vector<T> r, log_w, p, q, k, v, u, y;
  std::vector<typename M::State> states;

  explicit MatrixCall(MatrixCase const& from)
      : c(from),
        r(from.r.begin(), from.r.end()),
        log_w(from.log_w.begin(), from.log_w.end()),
        p(from.p.begin(), from.p.end()),
        q(from.q.begin(), from.q.end()),
        k(from.k.begin(), from.k.end()),
        v(from.v.begin(), from.v.end()),
        u(from.u.begin(), from.u.end()),
        y(to_size(from.shape.tokens() * from.shape.heads * from.shape.values), T(-77)) {
    Index const keys = c.shape.keys, values = c.shape.values;
    states.assign(to_size(c.shape.sequences() * c.shape.heads), empty_state<M>(keys, values));
    for (std::size_t s = 0; s < states.size(); ++s)
      for (Index i = 0; i < values; ++i)
        for (Index j = 0; j < keys; ++j)
          states[s].view()(j, i) =
              narrow<typename M::StateNumber>(c.state[s * to_size(values * keys) + to_size(i * keys + j)]);
  }

  typename M::Inputs inputs() const {
    auto const& [keys, values, heads, offsets] = c.shape;
    Index const n = c.shape.tokens();
    if constexpr (R::decay == Axis::key || R::decay == Axis::one)
      return {.r = {r.data(), n, heads, keys},
              .log_w = {log_w.data(), n, heads, R::decay == Axis::key ? keys : 1},
              .p = {p.data(), n, heads, keys},
              .q = {q.data(), n, heads, keys},
              .k = {k.data(), n, heads, keys},
              .v = {v.data(), n, heads, values},
              .u = {u.data(), heads, keys}};
    else
      return {.r = {r.data(), n, heads, keys},
              .log_w = {log_w.data(), heads, R::decay == Axis::head_key ? keys : 1},
              .p = {p.data(), n, heads, keys},
              .q = {q.data(), n, heads, keys},
              .k = {k.data(), n, heads, keys},
              .v = {v.data(), n, heads, values},
              .u = {u.data(), heads, keys}};
  }
  typename M::ForwardCall call() {
    return {.x = inputs(),
            .y = {y.data(), c.shape.tokens(), c.shape.heads, c.shape.values},
            .states = states,
            .offsets = c.shape.offsets};
  }
  /// Token t of head h, for step.
  typename M::Token token(Index t, Index h) const {
    auto const& [K, V, heads, offsets] = c.shape;
    Index const keys = K, values = V, row = t * heads + h;
    auto const part = [](std::vector<T> const& x, Index i, Index n) {
      return std::span(x).subspan(to_size(i * n), to_size(n));
    };
    Index const decay_row = R::decay == Axis::key || R::decay == Axis::one ? row : h;
    auto const make = [&](auto const& decay) -> typename M::Token {
      return {.r = part(r, row, keys),
              .log_w = decay,
              .p = part(p, row, keys),
              .q = part(q, row, keys),
              .k = part(k, row, keys),
              .v = part(v, row, values),
              .u = part(u, h, keys)};
    };
    if constexpr (one_number(R::decay))
      return make(log_w[to_size(decay_row)]);
    else
      return make(part(log_w, decay_row, keys));
  }
  VecView<T, M::values> output(Index t, Index h) {
    Index const values = c.shape.values;
    return std::span(y).subspan(to_size((t * c.shape.heads + h) * values), to_size(values));
  }
  MatrixResult result() const {
    MatrixResult out{std::vector<double>(y.begin(), y.end()), {}};
    for (auto const& state : states)
      for (Index i = 0; i < c.shape.values; ++i)
        for (Index j = 0; j < c.shape.keys; ++j) out.state.push_back(static_cast<double>(widen(state.view()(j, i))));
    return out;
  }
};

/// f.operator()<G, E, D>() for all 18 combinations of traits.
template <class F> void for_each_combination(F&& f) {
  auto const reads = [&]<Gate G, Erase E>() {
    f.template operator()<G, E, Read::before>();
    f.template operator()<G, E, Read::after>();
  };
  auto const erases = [&]<Gate G>() {
    reads.template operator()<G, Erase::none>();
    reads.template operator()<G, Erase::along_key>();
    reads.template operator()<G, Erase::rank_one>();
  };
  erases.template operator()<Gate::none>();
  erases.template operator()<Gate::scalar>();
  erases.template operator()<Gate::vector>();
}

/// The bound on max|x - ref| / max|ref| for a kernel with numbers T over up to about 1000 tokens: that of a plain
/// implementation in T, three times its measured error.
template <class T> inline constexpr double matrix_bound = sizeof(T) == 4 ? 3e-6 : 1e-12;

}  // namespace aviary::test
