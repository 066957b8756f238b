#pragma once
/// Gradients of causal softmax attention over blocks of keys and values.
///
///   p_ts = exp(q_t . k_s - log_sum_t)      log_sum_t = log sum_s exp(q_t . k_s), s = 0 ... t      y_t = sum_s p_ts v_s
///
///   dv_s = sum_t p_ts dy_t      g_ts = p_ts (dy_t . v_s - dy_t . y_t)
///   dk_s = sum_t g_ts q_t       dq_t = sum_s g_ts k_s                                 per head
///
/// Beside what the attention has read and its gradient, a query needs one number of each head, log_sum. With it every block
/// makes its p again (Dao et al. 2022, arXiv:2205.14135), so that neither scores nor probabilities are kept: memory is that of
/// a block, however many positions there are.
///
///     cache.attend(q, position, y, log_sums, scratch);                   forward, with a sum for each query and head
///     AttentionBackward<float> const backward({q, y, dy, log_sums, position, dq}, heads, scratch);
///     for (Index first = 0; first < position + q.rows(); first += count)
///       backward.add(k, v, first, dk, dv, workspace);                    (count, C): at most 128 positions
///
/// Everything is added to. A number of dk and dv is a sum over queries, one of dq over positions, in their order and one
/// product after another: no bit depends on the executor.
#include <algorithm>

#include "aviary/cache/attention.hpp"
#include "aviary/core/executor.hpp"
#include "aviary/core/scratch.hpp"
#include "aviary/dense/linear.hpp"
#include "aviary/dense/product.hpp"

namespace AVIARY_NAMESPACE {

/// The gradients of the attention of some queries, to keys and values that come in blocks. It refers to its arguments.
///   Cost: 5 C multiply-adds for each position that a query sees, where forward has 2. Stack: 80 KiB at most.
///   Error: as that of forward, relative to the largest numbers of sums that may cancel (see g).
template <class T> class AttentionBackward {
 public:
  /// All (m, C), but for log_sums: (m, heads), as attend() has written them. The caller has scaled q as for attend().
  struct Queries {
    MatView<T const> q, y, dy, log_sums;
    Index position;  ///< of the first query
    MatView<T> dq;   ///< is added to
  };

  /// The numbers of scratch that a query needs.
  static Index scratch_size(Index heads) noexcept { return padded<T>(heads); }
  /// The numbers of workspace that add() needs.
  static Index workspace_size(Index channels) noexcept { return 2 * channels * padded<T>(block); }

  /// @param scratch  is in use as long as this object
  AttentionBackward(Queries const& queries, Index heads, Scratch<T>& scratch) noexcept
      : queries_(queries),
        dots_(scratch.rows(queries.q.rows(), heads)),
        heads_(heads),
        size_(queries.q.columns() / heads) {
    AVIARY_ASSERT(queries.q.columns() == heads * size_ && queries.log_sums.columns() == heads);
    for (Index t = 0; t < queries.q.rows(); ++t)
      for (Index h = 0; h < heads; ++h)
        dots_(t, h) = simd::sum(
            size_, [](auto const& a, auto const& b) { return a * b; }, &queries.y(t, h * size_),
            &queries.dy(t, h * size_));
  }

  /// Adds what the positions first, first + 1 ... contribute, at most 128: with keys and values k, v (count, C) to dq, and
  /// the whole of these queries to dk, dv (count, C). The executor shares out the heads; only it may throw.
  template <Executor E = Serial>
  void add(MatView<T const> k, MatView<T const> v, Index first, MatView<T> dk, MatView<T> dv, Scratch<T>& workspace,
           E&& executor = {}) const {
    AVIARY_ASSERT(k.rows() <= block && v.rows() == k.rows() && dk.rows() == k.rows() && dv.rows() == k.rows());
    AVIARY_ASSERT(k.columns() == heads_ * size_ && v.columns() == k.columns());
    typename Scratch<T>::Frame const frame(workspace);
    Index const channels = heads_ * size_;
    Block const positions{k, v, dk, dv, workspace.rows(channels, block), workspace.rows(channels, block), first};
    detail::share_out(executor, heads_, 5 * queries_.q.rows() * k.rows() * channels,
                      [&](Index begin, Index end) noexcept {
                        for (Index h = begin; h < end; ++h) add_head(h, positions);
                      });
  }

 private:
  static constexpr Index block = detail::attention_block;
  static constexpr Index tile = 32;  // queries at once

  struct Block {
    MatView<T const> k, v;
    MatView<T> dk, dv;
    MatView<T> columns_of_k, columns_of_v;  // (C, positions)
    Index first;
  };

  void add_head(Index h, Block const& b) const noexcept {
    // Queries before the block see nothing of it.
    Index const begin = std::max(Index{0}, b.first - queries_.position);
    if (begin >= queries_.q.rows()) return;
    transpose(head(b.k, h), b.columns_of_k.rows(h * size_, size_));
    transpose(head(b.v, h), b.columns_of_v.rows(h * size_, size_));
    for (Index t = begin; t < queries_.q.rows(); t += tile) add_tile(h, b, t, std::min(tile, queries_.q.rows() - t));
  }

  void add_tile(Index h, Block const& b, Index t, Index rows) const noexcept {
    alignas(64) T numbers_of_p[to_size(tile * block)], numbers_of_g[to_size(tile * block)];
    Index const count = b.k.rows();
    MatView<T> const p(numbers_of_p, rows, count, block), g(numbers_of_g, rows, count, block);
    MatView<T const> const q = head(queries_.q.rows(t, rows), h), dy = head(queries_.dy.rows(t, rows), h);
    product(q, b.columns_of_k.rows(h * size_, size_), p);
    product(dy, b.columns_of_v.rows(h * size_, size_), g);
    for (Index r = 0; r < rows; ++r) {
      Index const seen = std::min(count, queries_.position + t + r + 1 - b.first);
      soften(p[r].data(), g[r].data(), seen, queries_.log_sums(t + r, h), dots_(t + r, h));
      std::fill(p[r].data() + seen, p[r].data() + count, T(0));
      std::fill(g[r].data() + seen, g[r].data() + count, T(0));
    }
    add(head(b.dv, h), Coefficients<T>(p).transposed(), dy);
    add(head(b.dk, h), Coefficients<T>(g).transposed(), q);
    add(head(queries_.dq.rows(t, rows), h), Coefficients<T>(g), head(b.k, h));
  }

  /// Makes probabilities of scores, and what reaches the scores of what reaches the probabilities.
  static void soften(T* p, T* g, Index n, T log_sum, T dot) noexcept {
    simd::transform(
        n, p,
        [log_sum](auto const& e) {
          using P = std::remove_cvref_t<decltype(e)>;
          return simd::Pack<P>::exp(e - P(log_sum));
        },
        p);
    simd::transform(
        n, g, [dot](auto const& e, auto const& d) { return e * (d - std::remove_cvref_t<decltype(e)>(dot)); }, p, g);
  }

  /// c = a b, c += a b
  static void product(MatView<T const> a, MatView<T> b, MatView<T> c) noexcept {
    for (Index r = 0; r < c.rows(); ++r) std::fill_n(c[r].data(), c.columns(), T(0));
    add(c, Coefficients<T>(a), MatView<T const>(b.data(), b.rows(), c.columns(), b.stride()));
  }
  static void add(MatView<T> c, Coefficients<T> a, MatView<T const> b) noexcept {
    add_product<simd::Native<T>>(c, a, b);
  }

  static void transpose(MatView<T const> x, MatView<T> to) noexcept {
    for (Index s = 0; s < x.rows(); ++s)
      for (Index n = 0; n < x.columns(); ++n) to(n, s) = x(s, n);
  }

  template <class U> MatView<U> head(MatView<U> x, Index h) const noexcept {
    return {x.data() + h * size_, x.rows(), size_, x.stride()};
  }

  Queries queries_;
  MatView<T> dots_;  // (m, heads): dy . y
  Index heads_, size_;
};

}  // namespace AVIARY_NAMESPACE
