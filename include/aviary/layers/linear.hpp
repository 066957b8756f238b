#pragma once
/// Linear maps y = W x of rows of numbers: one token or many, without allocation. Weights lie transposed and cut into
/// panels of a few SIMD registers of outputs, so that outputs run along the lanes, and nothing is packed, or summed
/// across lanes, when a product is taken.
#include <algorithm>
#include <utility>

#include "aviary/core/aligned.hpp"
#include "aviary/core/executor.hpp"
#include "aviary/core/view.hpp"
#include "aviary/simd/pack.hpp"

namespace aviary {

namespace detail {

/// Work of about ten microseconds: from there on a task is worth handing to another thread.
inline constexpr Index multiplies_per_task = Index{1} << 18;

/// One panel of transposed weights, (in, width), times rows of inputs. Inputs are summed in blocks of 32, each from
/// zero, and the blocks one after another: that lets one token run two blocks side by side, where it would wait for the
/// last addition of one, and gives one token the same bits as many.
template <class P> class PanelProduct {
  using L = simd::Pack<P>;
  using T = typename L::value_type;
  static constexpr Index block = 32;
  static constexpr bool widest = L::lanes * static_cast<Index>(sizeof(T)) == alignment;  // has 32 registers, else 16
  static constexpr int tokens_per_tile = 4, packs_per_tile = widest ? 4 : 2, packs_of_one = 4;

 public:
  /// Outputs of a panel: what one token takes at once, so that its weights are read from first to last.
  static constexpr Index width = std::max(packs_of_one * L::lanes, padded<T>(1));

  /// @param w  (in, stride) the weights     @param out  how many of the `stride` outputs exist
  PanelProduct(T const* w, Index stride, Index in, Index out) noexcept : w_(w), stride_(stride), in_(in), out_(out) {}

  void one_token(T const* x, T* y) const noexcept {
    for_packs<packs_of_one>([&]<int packs>(std::integral_constant<int, packs>, Index column) {
      using Row = simd::Wide<P, packs>;
      Row sum(T(0));
      for (Index i = 0; i < in_; i += 2 * block) {
        Index const here = std::min(block, in_ - i), next = std::min(block, in_ - i - here);
        auto const [a, b] = two_blocks<Row>(x + i, here, next, w_ + i * stride_ + column);
        sum = sum + a + b;
      }
      put(y, column, sum);
    });
  }

  void many_tokens(MatView<T const> x, MatView<T> y) const noexcept {
    for (Index i = 0; i < in_; i += block) {
      Index const here = std::min(block, in_ - i);
      for (Index t = 0; t < x.rows(); t += tokens_per_tile)
        with_number<tokens_per_tile>(x.rows() - t, [&]<int tokens>(std::integral_constant<int, tokens>) {
          for_packs<packs_per_tile>([&]<int packs>(std::integral_constant<int, packs>, Index column) {
            add_tile<simd::Wide<P, packs>>(std::make_integer_sequence<int, tokens>{}, &x(t, i), x.stride(), here,
                                           w_ + i * stride_ + column, i == 0, &y(t, 0), y.stride(), column);
          });
        });
    }
  }

 private:
  /// f(n) as a type, for n = min(number, most).
  template <int most, class F> static void with_number(Index number, F&& f) noexcept {
    if constexpr (most > 1)
      if (number < most) return with_number<most - 1>(number, f);
    f(std::integral_constant<int, most>{});
  }
  /// f(packs, column) for all columns of the panel, so many packs at a time.
  template <int most, class F> void for_packs(F&& f) const noexcept {
    for (Index column = 0; column < stride_; column += most * L::lanes)
      with_number<most>((stride_ - column) / L::lanes, [&](auto packs) { f(packs, column); });
  }

  template <class Row> struct Sums { Row a, b; };
  /// The sums of n inputs, and of the m <= n inputs that follow block places later.
  template <class Row> AVIARY_INLINE Sums<Row> two_blocks(T const* x, Index n, Index m, T const* w) const noexcept {
    using R = simd::Pack<Row>;
    Row a(T(0)), b(T(0));
    Index j = 0;
    for (; j < m; ++j) {
      a = R::fma(Row(x[j]), R::load(w + j * stride_), a);
      b = R::fma(Row(x[block + j]), R::load(w + (block + j) * stride_), b);
    }
    for (; j < n; ++j) a = R::fma(Row(x[j]), R::load(w + j * stride_), a);
    return {a, b};
  }

  /// Adds n inputs of tokens t... to one tile of the outputs. (Sums are named one by one: an array that is passed
  /// around, g++ keeps in memory.)
  template <class Row, int... t>
  AVIARY_INLINE void add_tile(std::integer_sequence<int, t...>, T const* x, Index x_stride, Index n, T const* w,
                              bool first, T* y, Index y_stride, Index column) const noexcept {
    using R = simd::Pack<Row>;
    Row sum[] = {(static_cast<void>(t), Row(T(0)))...};
    for (Index j = 0; j < n; ++j, w += stride_) {
      Row const row = R::load(w);
      ((sum[t] = R::fma(Row(x[t * x_stride + j]), row, sum[t])), ...);
    }
    (put(y + t * y_stride, column, first ? sum[t] : get<Row>(y + t * y_stride, column) + sum[t]), ...);
  }

  template <class Row> AVIARY_INLINE Row get(T const* y, Index column) const noexcept {
    if (column + simd::Pack<Row>::lanes <= out_) return simd::Pack<Row>::load(y + column);
    return Row::make([&](int n) { return simd::load_part<P>(y, column + n * L::lanes, out_); });
  }
  template <class Row> AVIARY_INLINE void put(T* y, Index column, Row const& sum) const noexcept {
    if (column + simd::Pack<Row>::lanes <= out_) return simd::Pack<Row>::store(y + column, sum);
    for (int n = 0; n < simd::Pack<Row>::lanes / L::lanes; ++n)
      simd::store_part<P>(y, column + n * L::lanes, out_, sum.part[n]);
  }

  T const* w_;
  Index stride_, in_, out_;
};

}  // namespace detail

/// How a matrix of weights lies: (out, in), as layers of most frameworks keep it, or (in, out), as LoRA factors lie.
enum class WeightLayout { out_in, in_out };

/// y = W x, without bias.
///   Cost: in * out multiply-adds a token. Products of a row of inputs have the same bits alone and among others,
///   whatever the executor.
template <class T> class Linear {
 public:
  Linear() = default;

  /// Copies the weights.
  explicit Linear(MatView<T const> weight, WeightLayout layout = WeightLayout::out_in)
      : in_(layout == WeightLayout::out_in ? weight.columns() : weight.rows()),
        out_(layout == WeightLayout::out_in ? weight.rows() : weight.columns()),
        weights_(to_size(in_ * padded<T>(out_))) {
    for (Index o = 0; o < out_; ++o)
      for (Index i = 0; i < in_; ++i) at(i, o) = layout == WeightLayout::out_in ? weight(o, i) : weight(i, o);
  }

  Index in() const noexcept { return in_; }
  Index out() const noexcept { return out_; }

  /// One token. y must not overlap x.
  void operator()(VecView<T const> x, VecView<T> y) const noexcept {
    (*this)(MatView<T const>{x.data(), 1, x.size()}, MatView<T>{y.data(), 1, y.size()});
  }

  /// x (tokens, in), y (tokens, out). y must not overlap x. Large products are shared out through the executor, which
  /// alone may throw.
  template <Executor E = Serial> void operator()(MatView<T const> x, MatView<T> y, E&& executor = {}) const {
    AVIARY_ASSERT(x.columns() == in_ && y.columns() == out_ && x.rows() == y.rows());
    Index const tasks = tasks_of(x.rows(), executor.concurrency());
    if (tasks <= 1) return panels_of_task(x, y, 0, panels());
    executor(tasks, [&](Index task) noexcept {
      panels_of_task(x, y, panels() * task / tasks, panels() * (task + 1) / tasks);
    });
  }

 private:
  using Panel = detail::PanelProduct<simd::Native<T>>;

  Index panels() const noexcept { return (out_ + Panel::width - 1) / Panel::width; }
  /// The numbers of a row of a panel; the last one may be narrower.
  Index stride(Index panel) const noexcept { return std::min(Panel::width, padded<T>(out_) - panel * Panel::width); }
  T& at(Index i, Index o) noexcept {
    Index const panel = o / Panel::width;
    return weights_[to_size(panel * Panel::width * in_ + i * stride(panel) + o % Panel::width)];
  }

  Index tasks_of(Index tokens, Index concurrency) const noexcept {
    return std::min({panels(), concurrency, tokens * in_ * padded<T>(out_) / detail::multiplies_per_task});
  }

  void panels_of_task(MatView<T const> x, MatView<T> y, Index first, Index last) const noexcept {
    for (Index p = first; p < last; ++p) {
      Index const column = p * Panel::width, out = std::min(Panel::width, out_ - column);
      Panel const panel(weights_.data() + column * in_, stride(p), in_, out);
      if (x.rows() == 1)
        panel.one_token(x.data(), y.data() + column);
      else
        panel.many_tokens(x, {y.data() + column, y.rows(), out, y.stride()});
    }
  }

  Index in_ = 0, out_ = 0;
  AlignedVector<T> weights_;  // panels of (in, width), outputs padded with zeros
};

}  // namespace aviary
