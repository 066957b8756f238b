#pragma once
/// Causal softmax attention over blocks of keys and values, and a cache of these blocks.
///
///   y_t = sum_s p_ts v_s / sum_s p_ts,   p_ts = exp(q_t . k_s)      s = 0 ... t, per head
///
/// It takes one block after another (online_softmax.hpp). For each query it keeps the largest score so far, the sum of the p
/// relative to that score, and y, so it never holds n scores or n keys.
/// A block is 128 positions and begins at a multiple of 128. The sums of a query run in the order of positions, and masked
/// positions add exact zeros. Hence a query has the same bits alone and among others, whatever the blocks hold after it,
/// and whatever the executor.
#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <vector>

#include "aviary/cache/online_softmax.hpp"
#include "aviary/core/error.hpp"
#include "aviary/core/executor.hpp"
#include "aviary/core/scratch.hpp"
#include "aviary/dense/linear.hpp"
#include "aviary/dense/panels.hpp"
#include "aviary/dense/rows.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {

/// The positions of a block: they fill a few panels, and a block stays in cache while many queries read it.
inline constexpr Index attention_block = 128;

/// How the keys and values of a block lie: as panels for PanelProduct. Each head has its keys (N inputs, positions as
/// outputs), then its values (positions as inputs, N outputs).
struct AttentionShape {
  Index heads, head_size;

  Index channels() const noexcept { return heads * head_size; }
  Index keys_size() const noexcept { return attention_block * head_size; }
  Index values_size() const noexcept { return value_panels() * attention_block * panel_outputs; }
  Index value_panels() const noexcept { return (head_size + panel_outputs - 1) / panel_outputs; }
  /// The numbers of a block.
  Index size() const noexcept { return heads * (keys_size() + values_size()); }

  template <class T> PanelsView<T> keys(T const* block, Index head) const noexcept {
    return {block + head * (keys_size() + values_size()), head_size};
  }
  template <class T> PanelsView<T> values(T const* block, Index head) const noexcept {
    return {keys(block, head).numbers + keys_size(), attention_block};
  }

  /// Writes the keys and values (positions, C) of positions first, first + 1 ... of the block.
  template <class T> void put(MatView<T const> k, MatView<T const> v, Index first, T* block) const noexcept {
    AVIARY_ASSERT(k.columns() == channels() && v.columns() == channels() && first + k.rows() <= attention_block);
    for (Index h = 0; h < heads; ++h, block += keys_size() + values_size())
      for (Index t = 0; t < k.rows(); ++t) {
        put_key(&k(t, h * head_size), first + t, block);
        put_value(&v(t, h * head_size), first + t, block + keys_size());
      }
  }

 private:
  template <class T> void put_key(T const* k, Index at, T* to) const noexcept {
    to += at / panel_outputs * head_size * panel_outputs + at % panel_outputs;
    for (Index n = 0; n < head_size; ++n) to[n * panel_outputs] = k[n];
  }
  template <class T> void put_value(T const* v, Index at, T* to) const noexcept {
    for (Index n = 0; n < head_size; n += panel_outputs)
      std::copy_n(v + n, std::min(panel_outputs, head_size - n), to + (n * attention_block + at * panel_outputs));
  }
};

/// The shape of attention with so many channels and heads.
/// @throws std::invalid_argument unless the channels are a multiple of the heads
inline AttentionShape attention_shape(char const* layer, Index channels, Index heads) {
  if (heads < 1 || channels < heads || channels % heads != 0)
    refuse(std::string(layer) + ": " + std::to_string(channels) + " channels do not make " + std::to_string(heads) +
           " heads");
  return {heads, channels / heads};
}

/// The attention of some queries to blocks that are added one after another.
template <class T> class OnlineAttention {
 public:
  /// The numbers of scratch that a query needs.
  static Index scratch_size(Index heads) noexcept { return 2 * padded<T>(heads); }

  /// @param q  queries (m, C) of positions `position`, position + 1 ..., scaled by the caller
  /// @param y  (m, C): partial sums until finish() makes them the result. It must not overlap q.
  OnlineAttention(MatView<T const> q, AttentionShape shape, Index position, MatView<T> y, Scratch<T>& scratch) noexcept
      : q_(q),
        y_(y),
        most_(scratch.rows(q.rows(), shape.heads)),
        sum_(scratch.rows(q.rows(), shape.heads)),
        shape_(shape),
        position_(position) {
    AVIARY_ASSERT(q.columns() == shape.channels() && y.columns() == shape.channels() && y.rows() == q.rows());
    for (Index t = 0; t < q.rows(); ++t) {
      std::fill_n(y[t].data(), y.columns(), T(0));
      std::fill_n(most_[t].data(), shape.heads, -std::numeric_limits<T>::infinity());
      std::fill_n(sum_[t].data(), shape.heads, T(0));
    }
  }

  /// Adds the next block: `count` positions from `first` on, a multiple of 128. The executor shares out the heads.
  template <class E> void add(T const* block, Index first, Index count, E& executor) const {
    share_out(executor, shape_.heads, 2 * q_.rows() * count * shape_.channels(), [&](Index begin, Index end) noexcept {
      for (Index h = begin; h < end; ++h) add_head(h, block, first, count);
    });
  }

  /// Call it after the last block. A query that has seen no position gives NaN.
  void finish() const noexcept {
    for (Index t = 0; t < y_.rows(); ++t)
      for (Index h = 0; h < shape_.heads; ++h) {
        T const factor = T(1) / sum_(t, h);
        T* const y = &y_(t, h * shape_.head_size);
        simd::transform(
            shape_.head_size, y, [factor](auto const& e) { return e * std::remove_cvref_t<decltype(e)>(factor); }, y);
      }
  }

  /// Writes the logarithm of the sum of exp(q . k) of each query and head (m, heads), if it is wanted.
  void log_sums(MatSink<T> to) const noexcept {
    if (!to.wanted()) return;
    AVIARY_ASSERT(to.rows() == y_.rows() && to.columns() == shape_.heads);
    for (Index t = 0; t < y_.rows(); ++t)
      for (Index h = 0; h < shape_.heads; ++h) to(t, h) = OnlineSoftmax<T>{most_(t, h), sum_(t, h)}.log_sum();
  }

 private:
  static constexpr Index tile = 48;   // queries at once: 24 KiB of scores in float
  static constexpr Index panels = 2;  // of values at once

  struct Block {
    T const* numbers;
    Index first, count;
  };

  void add_head(Index h, T const* block, Index first, Index count) const noexcept {
    // Queries before the block see nothing of it.
    for (Index t = std::max(Index{0}, first - position_); t < q_.rows(); t += tile)
      add_tile(h, {block, first, count}, t, std::min(tile, q_.rows() - t));
  }

  void add_tile(Index h, Block const& block, Index t, Index rows) const noexcept {
    alignas(64) T numbers[to_size(tile * attention_block)];
    std::array<T, to_size(tile)> rescale;
    MatView<T> const p(numbers, rows, block.count, attention_block);
    Product::run(shape_.keys(block.numbers, h), columns(q_, h, t, rows), p, 0, panels_of(block.count));
    for (Index r = 0; r < rows; ++r) {
      Index const seen = std::min(block.count, position_ + t + r + 1 - block.first);
      rescale[to_size(r)] = soften(p[r].data(), seen, most_(t + r, h), sum_(t + r, h));
      std::fill(p[r].data() + seen, p[r].data() + block.count, T(0));
    }
    for (Index first = 0; first < shape_.value_panels(); first += panels)
      add_values(h, block, p, rescale.data(), t, first);
  }

  /// Turns scores into p relative to the largest score so far. Returns the factor that rescales what was summed before.
  static T soften(T* scores, Index n, T& most, T& sum) noexcept {
    OnlineSoftmax<T> softmax{most, sum};
    T const factor = softmax.begin(simd::largest(n, scores));
    simd::transform(
        n, scores, [softmax](auto const& e) { return softmax.weigh(e); }, scores);
    T const more = simd::sum(
        n, [](auto const& e) { return e; }, scores);
    softmax.add(more, factor);
    most = softmax.most, sum = softmax.sum;
    return factor;
  }

  /// y = y rescale + p v, for some numbers of the head.
  void add_values(Index h, Block const& block, MatView<T const> p, T const* rescale, Index t,
                  Index first) const noexcept {
    alignas(64) T numbers[to_size(tile * panels * panel_outputs)];
    Index const begin = first * panel_outputs, size = std::min(panels * panel_outputs, shape_.head_size - begin);
    MatView<T> const more(numbers, p.rows(), size, panels * panel_outputs);
    PanelsView<T> const values = shape_.values(block.numbers, h);
    Product::run(PanelsView<T>{values.slice(first, 0).words, values.in}, p, more, 0, panels_of(size));
    for (Index r = 0; r < p.rows(); ++r) {
      T* const y = &y_(t + r, h * shape_.head_size + begin);
      simd::transform(
          size, y,
          [factor = rescale[r]](auto const& e, auto const& add) {
            using P = std::remove_cvref_t<decltype(e)>;
            return simd::Pack<P>::fma(e, P(factor), add);
          },
          y, more[r].data());
    }
  }

  using Product = PanelProduct<simd::Native<T>>;
  static Index panels_of(Index outputs) noexcept { return (outputs + panel_outputs - 1) / panel_outputs; }
  MatView<T const> columns(MatView<T const> x, Index h, Index t, Index rows) const noexcept {
    return {&x(t, h * shape_.head_size), rows, shape_.head_size, x.stride()};
  }

  MatView<T const> q_;
  MatView<T> y_, most_, sum_;  // (m, C), (m, heads) twice
  AttentionShape shape_;
  Index position_;
};

}  // namespace detail

/// The keys and values of a sequence, for attention by several heads. It is a value: copies are independent.
///   Memory: 2 C numbers of T a position, in blocks of 128 positions that stay where they are. Values are padded to a
///   multiple of 32 numbers a head.
template <class T> class KeyValueCache {
 public:
  /// @throws std::invalid_argument unless the channels are a multiple of the heads
  KeyValueCache(Index channels, Index heads) : shape_(detail::attention_shape("KeyValueCache", channels, heads)) {}

  Index size() const noexcept { return size_; }
  Index capacity() const noexcept { return static_cast<Index>(blocks_.size()) * detail::attention_block; }
  Index channels() const noexcept { return shape_.channels(); }
  Index heads() const noexcept { return shape_.heads; }
  /// The bytes of all blocks.
  std::size_t size_bytes() const noexcept { return blocks_.size() * to_size(shape_.size()) * sizeof(T); }

  /// Makes room for so many positions in all.
  void reserve(Index positions) {
    Index const block = detail::attention_block, wanted = positions / block + (positions % block != 0);
    if (wanted > static_cast<Index>(blocks_.capacity()))
      blocks_.reserve(std::max(to_size(wanted), 2 * blocks_.capacity()));
    while (static_cast<Index>(blocks_.size()) < wanted) blocks_.emplace_back(to_size(shape_.size()));
  }
  /// Appends positions: k, v (positions, C). It allocates only beyond capacity().
  /// @throws std::bad_alloc; the cache is then unchanged
  void append(MatView<T const> k, MatView<T const> v) {
    AVIARY_ASSERT(k.columns() == channels() && v.columns() == channels() && k.rows() == v.rows());
    reserve(size_ + k.rows());
    for (Index t = 0; t < k.rows();) {
      Index const at = size_ % detail::attention_block, n = std::min(k.rows() - t, detail::attention_block - at);
      shape_.put(k.rows(t, n), v.rows(t, n), at, blocks_[to_size(size_ / detail::attention_block)].data());
      t += n;
      size_ += n;
    }
  }
  /// Forgets all but the first `positions`, at most size(). The capacity stays.
  void truncate(Index positions) noexcept {
    AVIARY_ASSERT(positions >= 0 && positions <= size_);
    size_ = positions;
  }

  /// The numbers of scratch that attend() needs for a query.
  Index scratch_size() const noexcept { return detail::OnlineAttention<T>::scratch_size(heads()); }

  /// Computes y (m, C) for queries q (m, C) of positions `position`, position + 1 ... below size(). The caller has scaled q
  /// by 1/sqrt(N), or as its layer wants. y must not overlap q.
  ///   Cost: 2 C multiply-adds for each position that a query sees. It does not allocate, and only the executor may throw.
  ///   A NaN or infinity among the values of a block reaches all queries that see a part of the block.
  template <Executor E = Serial>
  void attend(MatView<T const> q, Index position, MatView<T> y, Scratch<T>& scratch, E&& executor = {}) const {
    attend(q, position, y, {}, scratch, executor);
  }
  /// The same, for gradients later (see attention_backward.hpp): it writes log_sums (m, heads), the logarithm of the sum of
  /// exp(q . k) of each query and head.
  template <Executor E = Serial>
  void attend(MatView<T const> q, Index position, MatView<T> y, MatSink<T> log_sums, Scratch<T>& scratch,
              E&& executor = {}) const {
    AVIARY_ASSERT(position >= 0 && position + q.rows() <= size_);
    typename Scratch<T>::Frame const frame(scratch);
    detail::OnlineAttention<T> const attention(q, shape_, position, y, scratch);
    Index const end = position + q.rows();
    for (Index first = 0; first < end; first += detail::attention_block)
      attention.add(blocks_[to_size(first / detail::attention_block)].data(), first,
                    std::min(detail::attention_block, end - first), executor);
    attention.finish();
    attention.log_sums(log_sums);
  }

 private:
  detail::AttentionShape shape_;
  Index size_ = 0;
  std::vector<AlignedVector<T>> blocks_;
};

}  // namespace AVIARY_NAMESPACE
