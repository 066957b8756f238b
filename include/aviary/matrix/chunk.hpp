#pragma once
/// A chunk of L tokens as matrix products (Yang et al. 2024, arXiv:2406.06484, with decays), and its parts for people who
/// write their own kernels.
///
/// When it pays: in low precision and on a GPU, where matrix products run on units that vectors cannot use. On a CPU in
/// float it does not: it has no fewer operations than the recurrence (with an erasure 8 d^2 + 8 L d flops a token against
/// 9 d^2), and `forward` is faster. There it is an oracle for `forward`, computed in another way.
///
/// Nothing is divided by a decay and no exponential of a positive number is taken: pair matrices are made of products that
/// run outwards from midpoints, so that every factor lies in [0, 1]. Decays of 0 are exact.
#include <algorithm>
#include <span>

#include "aviary/core/executor.hpp"
#include "aviary/dense/product.hpp"
#include "aviary/matrix/forward.hpp"

namespace AVIARY_NAMESPACE {

namespace chunk {

/// The decayed pair matrix of the rows of x and y (L x K each), strictly lower triangular, zeros elsewhere:
///
///   out(t, s) = sum_j x(t, j) y(s, j) prod_i w(i, j)     over s < i < t, with `inclusive` over s < i <= t;     s < t
///
/// @param w  decay factors (L x K)     @param scratch  (L / 2 rounded up + 2) x K     @param out  L x L
/// Error:  each product has a relative error of at most (t - s) eps.     Cost:  L^2 K + 2 L K log2(L) flops.
template <class P, class T>
AVIARY_HOST_DEVICE void pairs(MatView<T const> x, MatView<T const> y, MatView<T const> w, bool inclusive,
                              MatView<T> scratch, MatView<T> out) noexcept {
  using Lane = simd::Pack<P>;
  Index const tokens = x.rows(), keys = x.columns();
  AVIARY_ASSERT(scratch.rows() >= (tokens + 1) / 2 + 2 && scratch.columns() >= keys);
  for (Index t = 0; t < tokens; ++t)
    for (Index s = 0; s < tokens; ++s) out(t, s) = T(0);
  T* const factor = &scratch(scratch.rows() - 1, 0);
  T* const scaled = &scratch(scratch.rows() - 2, 0);
  auto const multiply = [&](T const* a, T const* b, T* to) {
    for (Index j = 0; j < keys; j += Lane::lanes)
      simd::store_part(to, j, keys, simd::load_part<P>(a, j, keys) * simd::load_part<P>(b, j, keys));
  };
  auto const reset = [&] {
    for (Index j = 0; j < keys; ++j) factor[j] = T(1);
  };
  for (Index half = 1; half < tokens; half *= 2)
    for (Index low = 0; low + half < tokens; low += 2 * half) {
      Index const middle = low + half, high = middle + half < tokens ? middle + half : tokens;
      reset();  // rows t of the right half, at most L / 2 of them, decayed from the middle up to t
      for (Index t = middle; t < high; ++t) {
        if (inclusive) multiply(factor, &w(t, 0), factor);
        multiply(factor, &x(t, 0), &scratch(t - middle, 0));
        if (!inclusive) multiply(factor, &w(t, 0), factor);
      }
      reset();  // rows s of the left half, decayed from after s up to the middle
      for (Index s = middle; s-- > low;) {
        multiply(factor, &y(s, 0), scaled);
        multiply(factor, &w(s, 0), factor);
        for (Index t = middle; t < high; ++t) {
          P sum(T(0));
          for (Index j = 0; j < keys; j += Lane::lanes)
            sum = Lane::fma(simd::load_part<P>(scaled, j, keys), simd::load_part<P>(&scratch(t - middle, 0), j, keys),
                            sum);
          out(t, s) = Lane::sum(sum);
        }
      }
    }
}

/// Solves (I - a) z = b in place of b, with a strictly lower triangular (L x L) and b of L x V.
/// Cost:  L^2 V flops.
template <class P, class T> AVIARY_HOST_DEVICE void solve(MatView<T const> a, MatView<T> b) noexcept {
  for (Index t = 1; t < b.rows(); ++t)
    add_product<P>(b.rows(t, 1), Coefficients<T>(&a(t, 0), 1, t, a.stride(), 1), b.rows(0, t));
}

/// What a chunk writes: values (L x V) under keys (L x K) that are decayed to its end already; `pairs` (L x L) is what the
/// chunk's own outputs see of them.
template <class T> struct Write { MatView<T const> pairs, keys, values; };

/// Takes a state over a chunk:  y += r s + sum pairs values,  then  s = diag(decay) s + sum keys^T values.
/// @param s  state as K x V     @param decay  of the whole chunk (K)     @param r  L x K, decayed from the chunk's begin
template <class P, class S, class T, class... Writes>
AVIARY_HOST_DEVICE void advance(MatView<S> s, VecView<T const> decay, MatView<T const> r, MatView<T> y,
                                Writes const&... writes) noexcept {
  using Lane = simd::Pack<P>;
  add_product<P>(y, Coefficients<T>(r), s);
  (add_product<P>(y, Coefficients<T>(writes.pairs), writes.values), ...);
  for (Index j = 0; j < s.rows(); ++j)
    for (Index i = 0; i < s.columns(); i += Lane::lanes)
      simd::store_part(&s(j, 0), i, s.columns(), simd::load_part<P>(&s(j, 0), i, s.columns()) * P(decay[j]));
  (add_product<P>(s, Coefficients<T>(writes.keys).transposed(), writes.values), ...);
}

}  // namespace chunk

namespace detail {

/// Takes turns of up to L tokens of a head through a state as chunks, in the caller's workspace: an engine of ForwardPass.
template <class M, class P, Index L> class Chunked {
  using R = typename M::Rule;
  using T = typename M::T;
  using Lane = simd::Pack<P>;
  using Matrix = MatView<T>;
  using Rows = MatView<T const>;
  static constexpr bool after = R::read == Read::after;

 public:
  explicit Chunked(std::span<T> workspace) noexcept : workspace_(workspace) {}

  static constexpr Index most() noexcept { return L; }
  static constexpr Index block = 1;
  /// Numbers of workspace.
  static Index workspace(Index keys, Index values) noexcept {
    Index const row = GroupsOf<M>::row(keys, values);
    return 7 * L * row + 2 * L + (L / 2 + 3) * keys + 4 * L * L + 3 * L * values + 2 * keys;
  }

  void operator()(Turn<M> const& turn) noexcept {
    typename M::View const s = turn.state;
    Index const n = turn.tokens, keys = s.keys(), values = s.values();
    AVIARY_ASSERT(static_cast<Index>(workspace_.size()) >= workspace(keys, values));
    used_ = 0;
    read(turn);
    read_decays(turn);
    Matrix const r_k = pairs_of(r_, k_);
    Matrix const y = take(n, values), u = take(n, values);
    for (Index m = 0; m < n; ++m)
      for (Index i = 0; i < values; ++i) {
        u(m, i) = v_(m, i);
        y(m, i) = after ? T(0) : own_(m, 0) * v_(m, i);
      }
    if constexpr (after) set_diagonal(r_k, 0);
    if constexpr (R::erase == Erase::none) {
      VecView<T const> const decay = decay_terms(n, keys);
      chunk::advance<P>(as_matrix(s), decay, Rows(r_), y, write(r_k, k_, u));
    } else if constexpr (R::erase == Erase::along_key) {  // u = v - z, so (I + [p|k]) u = v - p S
      Matrix const p_k = pairs_of(p_, k_);
      negate(p_k);
      VecView<T const> const decay = decay_terms(n, keys);
      negate(p_);
      add_product<P>(u, Coefficients<T>(Rows(p_)), as_matrix(s));
      chunk::solve<P>(Rows(p_k), u);
      put(turn, turn.call.tape.readings, u);
      chunk::advance<P>(as_matrix(s), decay, Rows(r_), y, write(r_k, k_, u));
    } else {
      Matrix const r_q = pairs_of(r_, q_);
      if constexpr (after) set_diagonal(r_q, 1);
      Matrix const p_k = pairs_of(p_, k_);
      Matrix const p_q = pairs_of(p_, q_);
      Matrix const z = take(n, values);
      clear(z);
      VecView<T const> const decay = decay_terms(n, keys);
      add_product<P>(z, Coefficients<T>(Rows(p_)), as_matrix(s));
      add_product<P>(z, Coefficients<T>(Rows(p_k)), Rows(u));
      chunk::solve<P>(Rows(p_q), z);
      put(turn, turn.call.tape.readings, z);
      chunk::advance<P>(as_matrix(s), decay, Rows(r_), y, write(r_k, k_, u), write(r_q, q_, z));
    }
    put(turn, turn.call.y, y);
  }

 private:
  Matrix take(Index rows, Index columns) noexcept {
    Matrix const m(workspace_.data() + used_, rows, columns);
    used_ += rows * columns;
    return m;
  }
  static void put(Turn<M> const& turn, Sink<M::values> const& to, Matrix rows) noexcept {
    if (!to) return;
    for (Index m = 0; m < rows.rows(); ++m) to.put(turn.token + m, turn.head, 0, rows.columns(), &rows(m, 0));
  }
  static void clear(Matrix m) noexcept { std::fill(m.data(), m.data() + m.rows() * m.columns(), T(0)); }
  static void negate(Matrix m) noexcept {
    for (Index i = 0; i < m.rows(); ++i)
      for (Index j = 0; j < m.columns(); ++j) m(i, j) = -m(i, j);
  }
  /// Rows that whole packs may be stored to.
  Matrix take_rows(Index n, Index columns, Index row) noexcept { return {take(n, row).data(), n, columns, row}; }
  static chunk::Write<T> write(Matrix pairs, Matrix keys, Matrix values) noexcept { return {pairs, keys, values}; }

  /// The tokens as rows, each prepared as a group of its own; r of Read::after is decayed by its own token already.
  AVIARY_NO_INLINE void read(Turn<M> const& turn) noexcept {
    Index const n = turn.tokens, keys = turn.state.keys(), values = turn.state.values();
    Index const row = GroupsOf<M>::row(keys, values);
    for (Matrix* const rows : {&r_, &k_, &p_, &q_, &log_w_, &w_}) *rows = take_rows(n, keys, row);
    v_ = take_rows(n, values, row);
    own_ = take(n, 2);
    HeadTokens<M, P> tokens(turn.inputs, turn.head, keys, values);
    for (Index m = 0; m < n; ++m) {
      auto const token = tokens.template next<1>();
      std::copy_n(token.read(0), keys, &r_(m, 0));
      std::copy_n(token.write(0), keys, &k_(m, 0));
      if constexpr (token.erases) std::copy_n(token.read(1), keys, &p_(m, 0));
      if constexpr (token.rank_one) std::copy_n(token.write(1), keys, &q_(m, 0));
      std::copy_n(token.value(0), values, &v_(m, 0));
      std::copy_n(token.pair_products(), token.pairs, &own_(m, 0));
    }
  }
  /// Their log decays and decays. (Not inlined: its scratch and that of `read` have the same place on the stack.)
  AVIARY_NO_INLINE void read_decays(Turn<M> const& turn) noexcept {
    for (Index m = 0; m < turn.tokens; ++m)
      for_log_decays<M, P>(turn.call.x, turn.token + m, turn.head, turn.heads, turn.state.keys(),
                           [&](Index j, P const& log_w) {
                             Lane::store(&log_w_(m, 0) + j, log_w);
                             Lane::store(&w_(m, 0) + j, Lane::decay(log_w));
                           });
  }

  Matrix pairs_of(Matrix x, Matrix y) noexcept {
    Index const n = x.rows(), mark = used_ + n * n;
    Matrix const out = take(n, n);
    chunk::pairs<P>(Rows(x), Rows(y), Rows(w_), false, take((n + 1) / 2 + 2, x.columns()), out);
    used_ = mark;  // the scratch is free again
    return out;
  }
  /// out(t, t) = r_t . k_t, or r_t . q_t: y reads the state after its own token's write.
  void set_diagonal(Matrix out, Index which) const noexcept {
    for (Index m = 0; m < out.rows(); ++m) out(m, m) = own_(m, which);
  }

  /// Decays r and p from the chunk's begin, and k and q to its end, in place; the decay of the whole chunk. Factors are
  /// exponentials of sums of log_w, all of one sign: a product would repeat the rounding of a constant decay.
  VecView<T const> decay_terms(Index n, Index keys) noexcept {
    Matrix const sum = take(1, keys), whole = take(1, keys);
    clear(sum);
    for (Index m = 0; m < n; ++m) {
      if constexpr (R::erase != Erase::none) decay(&p_(m, 0), sum);
      decay(&r_(m, 0), sum);
      for (Index j = 0; j < keys; ++j) sum(0, j) += log_w_(m, j);
    }
    std::fill(whole.data(), whole.data() + keys, T(1));
    decay(whole.data(), sum);
    clear(sum);
    for (Index m = n; m-- > 0;) {
      decay(&k_(m, 0), sum);
      if constexpr (R::erase == Erase::rank_one) decay(&q_(m, 0), sum);
      for (Index j = 0; j < keys; ++j) sum(0, j) += log_w_(m, j);
    }
    return {whole.data(), keys};
  }
  static void decay(T* x, Matrix log_factor) noexcept {
    Index const keys = log_factor.columns();
    for (Index j = 0; j < keys; j += Lane::lanes)
      simd::store_part(x, j, keys,
                       simd::load_part<P>(x, j, keys) * Lane::exp(simd::load_part<P>(log_factor.data(), j, keys)));
  }

  std::span<T> workspace_;
  Index used_ = 0;
  Matrix r_{nullptr, 0, 0}, k_ = r_, p_ = r_, q_ = r_, v_ = r_, log_w_ = r_, w_ = r_;
  Matrix own_ = r_;  // what r meets of its own token: pair products of its group
};

}  // namespace detail
}  // namespace AVIARY_NAMESPACE
