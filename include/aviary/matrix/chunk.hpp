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
#include "aviary/matrix/tile.hpp"

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

/// Takes tiles of up to L tokens of a head through a state as chunks, in the caller's workspace: an engine of ForwardPass.
template <class M, class P, Index L> class Chunked {
  using R = typename M::Rule;
  using T = typename M::T;
  using Lane = simd::Pack<P>;
  using Prepared = typename M::Prepared;
  using Matrix = MatView<T>;
  using Rows = MatView<T const>;
  static constexpr bool after = R::read == Read::after;

 public:
  explicit Chunked(std::span<T> workspace) noexcept : workspace_(workspace) {}

  static constexpr Index tokens(Index, Index) noexcept { return L; }
  /// Numbers of workspace.
  static Index workspace(Index keys, Index values) noexcept {
    Index const prepared = Prepared::length(TileSizes<M>::row(keys, values));
    return L * prepared + 2 * L * keys + (L / 2 + 3) * keys + 4 * L * L + 3 * L * values + 2 * keys;
  }

  void operator()(typename M::Inputs const& x, Sink<M::values> const& sink, Index h, Index t, Index n,
                  typename M::View s, Index, Index) noexcept {
    Index const keys = s.keys(), values = s.values();
    AVIARY_ASSERT(static_cast<Index>(workspace_.size()) >= workspace(keys, values));
    used_ = 0;
    prepare(x, t, n, keys, values);
    Matrix const r_k = pairs_of(term(&Prepared::r), term(&Prepared::k), after);
    Matrix const y = take(n, values), u = take(n, values);
    clear(y);
    for (Index m = 0; m < n; ++m) {
      T const* const v = token(m).v();
      for (Index i = 0; i < values; ++i) {
        u(m, i) = v[i];
        if constexpr (!after) y(m, i) = token(m).bonus() * v[i];
      }
    }
    if constexpr (after) add_diagonal(r_k, &Prepared::k);
    if constexpr (R::erase == Erase::none) {
      VecView<T const> const decay = decay_terms(n, keys);
      chunk::advance<P>(as_matrix(s), decay, Rows(term(&Prepared::r)), y, write(r_k, &Prepared::k, u));
    } else if constexpr (R::erase == Erase::along_key) {  // u = v - z, so (I + [p|k]) u = v - p S
      Matrix const p_k = pairs_of(term(&Prepared::p), term(&Prepared::k), false);
      negate(p_k);
      VecView<T const> const decay = decay_terms(n, keys);
      negate(term(&Prepared::p));
      add_product<P>(u, Coefficients<T>(Rows(term(&Prepared::p))), as_matrix(s));
      chunk::solve<P>(Rows(p_k), u);
      chunk::advance<P>(as_matrix(s), decay, Rows(term(&Prepared::r)), y, write(r_k, &Prepared::k, u));
    } else {
      Matrix const r_q = pairs_of(term(&Prepared::r), term(&Prepared::q), after);
      if constexpr (after) add_diagonal(r_q, &Prepared::q);
      Matrix const p_k = pairs_of(term(&Prepared::p), term(&Prepared::k), false);
      Matrix const p_q = pairs_of(term(&Prepared::p), term(&Prepared::q), false);
      Matrix const z = take(n, values);
      clear(z);
      VecView<T const> const decay = decay_terms(n, keys);
      add_product<P>(z, Coefficients<T>(Rows(term(&Prepared::p))), as_matrix(s));
      add_product<P>(z, Coefficients<T>(Rows(p_k)), Rows(u));
      chunk::solve<P>(Rows(p_q), z);
      chunk::advance<P>(as_matrix(s), decay, Rows(term(&Prepared::r)), y, write(r_k, &Prepared::k, u),
                        write(r_q, &Prepared::q, z));
    }
    if (!sink) return;
    for (Index m = 0; m < n; ++m) sink.put(t + m, h, 0, values, &y(m, 0));
  }

 private:
  using Term = T* (Prepared::*)() const noexcept;

  Matrix take(Index rows, Index columns) noexcept {
    Matrix const m(workspace_.data() + used_, rows, columns);
    used_ += rows * columns;
    return m;
  }
  static void clear(Matrix m) noexcept { std::fill(m.data(), m.data() + m.rows() * m.columns(), T(0)); }
  static void negate(Matrix m) noexcept {
    for (Index i = 0; i < m.rows(); ++i)
      for (Index j = 0; j < m.columns(); ++j) m(i, j) = -m(i, j);
  }
  Prepared token(Index m) const noexcept {
    return Prepared(prepared_ + m * length_, Extent<TileSizes<M>::fixed_row>(row_));
  }
  /// A term of all tokens, (n, K).
  Matrix term(Term which) const noexcept { return {(token(0).*which)(), log_w_.rows(), log_w_.columns(), length_}; }
  chunk::Write<T> write(Matrix pairs, Term keys, Matrix values) const noexcept { return {pairs, term(keys), values}; }

  /// The terms of the tokens as rows, their log decays and decays.
  void prepare(typename M::Inputs const& x, Index t, Index n, Index keys, Index values) noexcept {
    row_ = TileSizes<M>::row(keys, values);
    length_ = Prepared::length(Extent<TileSizes<M>::fixed_row>(row_));
    prepared_ = take(n, length_).data();
    log_w_ = take(n, keys);
    w_ = take(n, keys);
    for (Index m = 0; m < n; ++m)
      with_token<M>(x, t + m, [&](typename M::Token const& one) {
        token(m).bonus() = M::template Kernel<P>::prepare(one, token(m), keys, values);
        for (Index j = 0; j < keys; j += Lane::lanes) {
          P const log_w = log_decay<R, P>(one, j, keys);
          simd::store_part(&log_w_(m, 0), j, keys, log_w);
          simd::store_part(&w_(m, 0), j, keys, Lane::exp(log_w));
        }
      });
  }

  Matrix pairs_of(Matrix x, Matrix y, bool inclusive) noexcept {
    Index const n = x.rows(), mark = used_ + n * n;
    Matrix const out = take(n, n);
    chunk::pairs<P>(Rows(x), Rows(y), Rows(w_), inclusive, take((n + 1) / 2 + 2, x.columns()), out);
    used_ = mark;  // the scratch is free again
    return out;
  }
  /// out(t, t) = r_t . of_t: y reads the state after its own token's write.
  void add_diagonal(Matrix out, Term of) const noexcept {
    for (Index m = 0; m < out.rows(); ++m) {
      T const *const a = token(m).r(), *const b = (token(m).*of)();
      P sum(T(0));
      for (Index j = 0; j < log_w_.columns(); j += Lane::lanes)
        sum = Lane::fma(simd::load_part<P>(a, j, log_w_.columns()), simd::load_part<P>(b, j, log_w_.columns()), sum);
      out(m, m) = Lane::sum(sum);
    }
  }

  /// Decays r and p from the chunk's begin, and k and q to its end, in place; the decay of the whole chunk. Factors are
  /// exponentials of sums of log_w, all of one sign: a product would repeat the rounding of a constant decay.
  VecView<T const> decay_terms(Index n, Index keys) noexcept {
    Matrix const sum = take(1, keys), whole = take(1, keys);
    clear(sum);
    for (Index m = 0; m < n; ++m) {
      if constexpr (R::erase != Erase::none) decay(token(m).p(), sum);
      if constexpr (!after) decay(token(m).r(), sum);
      for (Index j = 0; j < keys; ++j) sum(0, j) += log_w_(m, j);
      if constexpr (after) decay(token(m).r(), sum);
    }
    std::fill(whole.data(), whole.data() + keys, T(1));
    decay(whole.data(), sum);
    clear(sum);
    for (Index m = n; m-- > 0;) {
      decay(token(m).k(), sum);
      if constexpr (R::erase == Erase::rank_one) decay(token(m).q(), sum);
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
  Index used_ = 0, row_ = 0, length_ = 0;
  T* prepared_ = nullptr;
  Matrix log_w_{nullptr, 0, 0}, w_{nullptr, 0, 0};
};

}  // namespace detail
}  // namespace AVIARY_NAMESPACE
