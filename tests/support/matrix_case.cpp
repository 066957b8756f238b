#include "support/matrix_case.hpp"

#include <cmath>
#include <type_traits>
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
  auto const doubles = [](std::vector<float> const& x) { return std::vector<double>(x.begin(), x.end()); };
  Index const keys = c.shape.keys, rows = c.shape.tokens() * c.shape.heads;
  Terms x{c.shape, c.gate, c.erase, read, doubles(c.r), {}, doubles(c.p), doubles(c.q), doubles(c.k), doubles(c.v), {}};
  for (Index row = 0; row < rows; ++row)
    for (Index j = 0; j < keys; ++j) {
      Index const decay_row = c.constant ? row % c.shape.heads : row;
      x.log_w.push_back(double{c.log_w[to_size(c.gate == Gate::vector ? decay_row * keys + j : decay_row)]});
      x.u.push_back(double{c.u[to_size(row % c.shape.heads * keys + j)]});
    }
  return reference_result(x, doubles(c.state));
}

namespace {

using Reference = reference::Recurrence<double>;

/// The terms of one sequence and head as the reference takes them. It keeps those that have to be made.
struct HeadTerms {
  Terms const& x;
  Index first, count, head;
  std::vector<double> w, q;

  HeadTerms(Terms const& x_, Index sequence, Index head_)
      : x(x_),
        first(x.shape.offsets[to_size(sequence)]),
        count(x.shape.offsets[to_size(sequence + 1)] - first),
        head(head_) {
    for (Index t = 0; t < count; ++t)
      for (Index j = 0; j < x.shape.keys; ++j) {
        std::size_t const i = at(t, x.shape.keys) + to_size(j);
        w.push_back(std::exp(x.log_w[i]));
        q.push_back(x.erase == Erase::along_key ? -x.k[i] : x.q[i]);
      }
  }

  /// Where the numbers of token t begin.
  std::size_t at(Index t, Index size) const { return to_size(((first + t) * x.shape.heads + head) * size); }
  /// The rows of the tokens, of numbers that lie as the terms do.
  template <class X> auto rows(X& numbers, Index size) const {
    using Number = std::remove_reference_t<decltype(numbers[0])>;
    return MatView<Number>(&numbers[at(0, size)], count, size, x.shape.heads * size);
  }
  Reference::Inputs inputs() const {
    Index const keys = x.shape.keys;
    Reference::Inputs in{.r = rows(x.r, keys), .k = rows(x.k, keys), .v = rows(x.v, x.shape.values)};
    if (x.gate != Gate::none) in.w = MatView<double const>(w.data(), count, keys);
    if (x.erase != Erase::none) in.p = rows(x.p, keys), in.q = MatView<double const>(q.data(), count, keys);
    if (x.read == Read::before) in.u = VecView<double const>(&x.u[at(0, keys)], keys);
    return in;
  }
};

/// f(terms of a head, its state among `states`) for each head of each sequence that has a token.
template <class F> void for_each_head(Terms const& x, std::vector<double>& states, F&& f) {
  Index const size = x.shape.keys * x.shape.values;
  for (Index s = 0; s < x.shape.sequences(); ++s)
    for (Index h = 0; h < x.shape.heads; ++h)
      if (HeadTerms const head(x, s, h); head.count > 0)
        f(head, MatView<double>(&states[to_size((s * x.shape.heads + h) * size)], x.shape.values, x.shape.keys));
}

}  // namespace

MatrixResult reference_result(Terms const& x, std::vector<double> const& state) {
  MatrixResult out{std::vector<double>(x.v.size()), state};
  for_each_head(x, out.state, [&](HeadTerms const& head, MatView<double> s) {
    Reference::forward(s, head.inputs(), head.rows(out.y, x.shape.values));
  });
  return out;
}

std::pair<Terms, std::vector<double>> reference_gradients(Terms const& x, std::vector<double> const& state,
                                                          std::vector<double> const& dy,
                                                          std::vector<double> const& dstates) {
  Index const keys = x.shape.keys, values = x.shape.values;
  Terms d = x;
  for (auto* const term : {&d.r, &d.log_w, &d.p, &d.q, &d.k, &d.v, &d.u}) term->assign(term->size(), 0);
  std::vector<double> initial = state, reached = dstates;
  for_each_head(x, initial, [&](HeadTerms const& head, MatView<double> s) {
    std::vector<double> dw(head.w.size()), dq(head.q.size());
    Reference::Gradients dx{.r = head.rows(d.r, keys), .k = head.rows(d.k, keys), .v = head.rows(d.v, values)};
    if (x.gate != Gate::none) dx.w = MatView<double>(dw.data(), head.count, keys);
    if (x.erase != Erase::none) dx.p = head.rows(d.p, keys), dx.q = MatView<double>(dq.data(), head.count, keys);
    if (x.read == Read::before)
      dx.u = VecView<double>(&d.u[head.at(0, keys)], keys);  // the sum over tokens, as the first's
    Reference::backward(s, head.inputs(), head.rows(dy, values),
                        MatView<double>(reached.data() + (s.data() - initial.data()), values, keys), dx);
    for (Index t = 0; t < head.count; ++t)
      for (Index j = 0; j < keys; ++j) {
        std::size_t const i = head.at(t, keys) + to_size(j), own = to_size(t * keys + j);
        d.log_w[i] = head.w[own] * dw[own];
        if (x.erase == Erase::along_key)  // q = -k
          d.k[i] -= dq[own];
        else
          d.q[i] = dq[own];
      }
  });
  return {std::move(d), std::move(reached)};
}

}  // namespace aviary::test
