#pragma once
/// The attention layer of GoldFinch word for word, slow and obvious: to debug other code against. Paper: "GoldFinch", arXiv
/// 2407.12077; what is not in it follows the published code.
///
/// Of every position s of the sequence, from e_s = LayerNorm_ln0(embedding) and the compressed key c_s, with zeros before
/// the first:
///
///     kd_s = rms(W_b concat(e_s, c_s))     eh_s = rms(e_s)     rms(x) = x / (sqrt(|x|^2 / C) + 1e-8)
///     m    = tanh((eh_s + (eh_{s-1} - eh_s)*maa_v_cache) maa_kv_w1), two halves m_k and m_v
///     k    = kd_s + (kd_{s-1} - kd_s)*(maa_k + m_k maa_kv_w2_k)        k_s = LN_k(k + tanh(k key_w1) key_w2)
///     v    = eh_s + (eh_{s-1} - eh_s)*(maa_v + m_v maa_kv_w2_v)        v_s = LN_v(v + tanh(v value_w1) value_w2)
///
/// Of every query, the layer's input x_t at the last positions:
///
///     m    = tanh((x_t + (x_{t-1} - x_t)*maa_x) maa_q_w1) maa_q_w2
///     q_t  = LN_q(W_q (x_t + (x_{t-1} - x_t)*(maa_q + m)))
///     y_t  = W_o LN_x(attention(q_t; k_0 ... k_t, v_0 ... v_t))        per head, softmax(q . k / sqrt(N))
///
/// With a rotary embedding the pairs (2i, 2i + 1) of q_t and k_s in each head turn by position * base^(-2i/N).
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "aviary/reference/algebra.hpp"
#include "aviary/reference/check.hpp"

namespace AVIARY_NAMESPACE::reference {

template <class T = double> struct Gold {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// Names of the released files without time_ and weight. W_b, query and output are (out, in), the factors (in, out).
  struct Weights {
    Vector maa_x, maa_q, maa_v_cache, maa_k, maa_v;                  // (C) each
    Matrix maa_q_w1, maa_q_w2, maa_kv_w1, maa_kv_w2_k, maa_kv_w2_v;  // (C, D), (D, C), (C, 2D), (D, C), (D, C)
    Matrix key_w1, key_w2, value_w1, value_w2;                       // (C, L), (L, C), (C, L), (L, C)
    Matrix w_b, query, output;                                       // (C, C + R), (C, C), (C, C)
    Vector ln_q_weight, ln_q_bias, ln_k_weight, ln_k_bias;           // (C) each
    Vector ln_v_weight, ln_v_bias, ln_x_weight, ln_x_bias;           // (C) each
    Index heads;
    std::optional<T> rotary_base;
  };

  /// n positions, of which the last m are queries.
  struct Inputs {
    Matrix e, c;    // (n, C), (n, R)
    Matrix x;       // (m, C)
    Vector before;  // (C): x of the position before the first query, zeros if there is none
  };

  /// y (m, C), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: about 12 n C^2 + 4 n m C flops.
  static void forward(Weights const& w, Inputs const& in, MatView<T> y) {
    check(w, in, y);
    Index const n = in.e.rows(), m = in.x.rows();
    std::vector<Column> k, v;
    for (Index s = 0; s < n; ++s) {
      auto const [key, value] = key_and_value(w, in, s);
      k.push_back(key);
      v.push_back(value);
    }
    for (Index t = 0; t < m; ++t) {
      Column const q = query(w, in, t, n - m + t);
      Column const read = attention(q, k, v, n - m + t + 1, w.heads);
      detail::store(matrix(w.output) * layer_norm(read, w.ln_x_weight, w.ln_x_bias), y[t]);
    }
  }

  /// kd and eh of position s, zeros for s = -1.
  struct Expanded {
    detail::Matrix<T> kd, eh;
  };
  static Expanded expand(Weights const& w, Inputs const& in, Index s) {
    Index const c = in.e.columns(), r = in.c.columns();
    if (s < 0) return {Column(c, 1), Column(c, 1)};
    Column const both = detail::make<T>(c + r, 1, [&](Index i, Index) { return i < c ? in.e(s, i) : in.c(s, i - c); });
    return {rms(matrix(w.w_b) * both), rms(detail::column(in.e[s]))};
  }

 private:
  using Column = detail::Matrix<T>;
  struct Pair {
    Column key, value;
  };

  static Pair key_and_value(Weights const& w, Inputs const& in, Index s) {
    auto const [kd, eh] = expand(w, in, s);
    auto const [kd_before, eh_before] = expand(w, in, s - 1);
    Column const mixed = eh + elementwise(eh_before - eh, column(w.maa_v_cache));
    Column const hidden = tanh(row_times(mixed, w.maa_kv_w1));
    Index const d = hidden.rows() / 2;
    Column const m_k = row_times(slice(hidden, 0, d), w.maa_kv_w2_k),
                 m_v = row_times(slice(hidden, d, d), w.maa_kv_w2_v);
    Column k = kd + elementwise(kd_before - kd, column(w.maa_k) + m_k);
    Column v = eh + elementwise(eh_before - eh, column(w.maa_v) + m_v);
    k = layer_norm(k + row_times(tanh(row_times(k, w.key_w1)), w.key_w2), w.ln_k_weight, w.ln_k_bias);
    v = layer_norm(v + row_times(tanh(row_times(v, w.value_w1)), w.value_w2), w.ln_v_weight, w.ln_v_bias);
    return {turned(k, w, s), v};
  }

  static Column query(Weights const& w, Inputs const& in, Index t, Index position) {
    Column const x = column(in.x[t]), before = column(t > 0 ? Vector(in.x[t - 1]) : in.before);
    Column const hidden = tanh(row_times(x + elementwise(before - x, column(w.maa_x)), w.maa_q_w1));
    Column const mixed = x + elementwise(before - x, column(w.maa_q) + row_times(hidden, w.maa_q_w2));
    return turned(layer_norm(matrix(w.query) * mixed, w.ln_q_weight, w.ln_q_bias), w, position);
  }

  /// Of the first n positions.
  static Column attention(Column const& q, std::vector<Column> const& k, std::vector<Column> const& v, Index n,
                          Index heads) {
    Index const size = q.rows() / heads;
    Column y(q.rows(), 1);
    for (Index h = 0; h < heads; ++h) {
      std::vector<T> score;
      T largest = -std::numeric_limits<T>::infinity(), sum = 0;
      for (Index s = 0; s < n; ++s) {
        score.push_back(dot(slice(q, h * size, size), slice(k[to_size(s)], h * size, size)) /
                        std::sqrt(static_cast<T>(size)));
        largest = std::max(largest, score.back());
      }
      for (T& e : score) sum += e = std::exp(e - largest);
      for (Index s = 0; s < n; ++s)
        for (Index i = h * size; i < (h + 1) * size; ++i) y(i, 0) += score[to_size(s)] / sum * v[to_size(s)](i, 0);
    }
    return y;
  }

  static Column turned(Column x, Weights const& w, Index position) {
    if (!w.rotary_base) return x;
    Index const size = x.rows() / w.heads;
    for (Index at = 0; at < x.rows(); at += 2) {
      T const exponent = -static_cast<T>(at % size) / static_cast<T>(size);
      T const angle = static_cast<T>(position) * std::pow(*w.rotary_base, exponent);
      T const a = x(at, 0), b = x(at + 1, 0);
      x(at, 0) = std::cos(angle) * a - std::sin(angle) * b;
      x(at + 1, 0) = std::sin(angle) * a + std::cos(angle) * b;
    }
    return x;
  }

  static Column rms(Column const& x) {
    T const root = std::sqrt(dot(x, x) / static_cast<T>(x.rows()));
    return (T(1) / (root + T(1e-8))) * x;
  }
  static Column layer_norm(Column const& x, Vector weight, Vector bias) {
    T const n = static_cast<T>(x.rows());
    Column const ones = detail::make<T>(x.rows(), 1, [](Index, Index) { return T(1); });
    Column const centred = x - (dot(x, ones) / n) * ones;
    T const variance = dot(centred, centred) / n;
    return elementwise((T(1) / std::sqrt(variance + T(1e-5))) * centred, column(weight)) + column(bias);
  }
  static Column tanh(Column const& x) {
    return detail::make<T>(x.rows(), 1, [&](Index i, Index) { return std::tanh(x(i, 0)); });
  }
  static Column slice(Column const& x, Index first, Index n) {
    return detail::make<T>(n, 1, [&](Index i, Index) { return x(first + i, 0); });
  }
  static Column row_times(Column const& x, Matrix w) { return transpose(matrix(w)) * x; }
  static Column column(Vector x) { return detail::column(x); }
  static Column matrix(Matrix x) { return detail::matrix(x); }

  static void check(Weights const& w, Inputs const& in, MatView<T> y) {
    auto const expect = [](char const* name, Index have, Index want) { detail::expect_size("Gold", name, have, want); };
    auto const shape = [&](char const* name, Matrix x, Index rows, Index columns) {
      expect(name, x.rows(), rows);
      expect(name, x.columns(), columns);
    };
    Index const c = in.e.columns(), m = y.rows(), d = w.maa_q_w1.columns(), d_kv = w.maa_kv_w2_k.rows();
    shape("e", in.e, std::max(in.e.rows(), m), c);
    shape("c", in.c, in.e.rows(), in.c.columns());
    shape("x", in.x, m, c);
    shape("y", y, m, c);
    expect("before", in.before.size(), c);
    for (Vector const& x : {w.maa_x, w.maa_q, w.maa_v_cache, w.maa_k, w.maa_v}) expect("a maa", x.size(), c);
    for (Vector const& x : {w.ln_q_weight, w.ln_q_bias, w.ln_k_weight, w.ln_k_bias, w.ln_v_weight, w.ln_v_bias,
                            w.ln_x_weight, w.ln_x_bias})
      expect("a norm", x.size(), c);
    shape("maa_q_w1", w.maa_q_w1, c, d);
    shape("maa_q_w2", w.maa_q_w2, d, c);
    shape("maa_kv_w1", w.maa_kv_w1, c, 2 * d_kv);
    shape("maa_kv_w2_k", w.maa_kv_w2_k, d_kv, c);
    shape("maa_kv_w2_v", w.maa_kv_w2_v, d_kv, c);
    shape("key_w2", w.key_w2, w.key_w1.columns(), c);
    shape("key_w1", w.key_w1, c, w.key_w1.columns());
    shape("value_w2", w.value_w2, w.value_w1.columns(), c);
    shape("value_w1", w.value_w1, c, w.value_w1.columns());
    shape("w_b", w.w_b, c, c + in.c.columns());
    shape("query", w.query, c, c);
    shape("output", w.output, c, c);
    expect("heads (C % heads)", c % std::max(w.heads, Index{1}), 0);
    if (w.rotary_base) expect("head (N % 2)", c / w.heads % 2, 0);
  }
};

}  // namespace AVIARY_NAMESPACE::reference
