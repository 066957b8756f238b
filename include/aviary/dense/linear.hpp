#pragma once
/// Linear maps y = W x of rows of numbers, for one token or many, without allocation.
#include <variant>

#include "aviary/core/aligned.hpp"
#include "aviary/core/executor.hpp"
#include "aviary/dense/panels.hpp"
#include "aviary/dense/rows.hpp"
#include "aviary/dense/step_product.hpp"
#include "aviary/dense/tile_product.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {
/// f(begin, end) over the parts of 0 ... n - 1, one if there is little to do or nobody to share it with.
template <class E, class F> void share_out(E& executor, Index n, Index multiplies, F const& f) {
  Index const tasks = std::clamp(n, Index{1}, tasks_worth(executor, multiplies));
  run_tasks(executor, tasks, [&](Index task) noexcept { f(n * task / tasks, n * (task + 1) / tasks); });
}
}  // namespace detail

/// How a matrix of weights lies: (out, in), as layers of most frameworks keep it, or (in, out), as LoRA factors lie.
enum class WeightLayout { out_in, in_out };

/// y = W x, or y = W x + bias. T, float or double, is the type of x, y and the sums.
///   Cost: in * out multiply-adds a token, at about 80% of the machine's peak for many tokens; one token costs the time of
///   reading the weights. A token has the same bits alone and among others, and whatever the executor. Stack: 96 KiB at most.
///
/// Its products are most of what a file that uses it compiles. A program of several files can compile them once: define
/// AVIARY_LINEAR_SEPARATE for all of them, and write in one alone (in one for each instruction set, if it has several)
///
///   #include "aviary/dense/linear.hpp"
///   template class aviary::Linear<float>;
///   template class aviary::Linear<double>;
template <class T> class Linear {
 public:
  Linear() = default;

  /// Copies the weights and keeps them in the format.
  /// @throws std::invalid_argument if the format is q8 and a weight is not finite, or if no layer of T keeps the format
  explicit Linear(WeightMatrix weight, WeightFormat format = WeightFormat::exact,
                  WeightLayout layout = WeightLayout::out_in);
  /// Takes a bias (out) as well, and keeps it as T.
  /// @throws std::invalid_argument for a bias of another size, and as the other constructor
  Linear(WeightMatrix weight, VecView<T const> bias, WeightFormat format = WeightFormat::exact,
         WeightLayout layout = WeightLayout::out_in)
      : Linear(weight, format, layout) {
    detail::ExpectShapes{"Linear"}("bias", bias, out_);
    bias_ = detail::copy_of(bias);
  }

  Index in() const noexcept { return in_; }
  Index out() const noexcept { return out_; }
  /// The bytes of the weights and the bias, which a token has to read.
  std::size_t bytes() const noexcept {
    return std::visit([](auto const& w) { return w.bytes(); }, weights_) + bias_.size() * sizeof(T);
  }

  /// Maps one token. y must not overlap x.
  void operator()(VecView<T const> x, VecView<T> y) const noexcept {
    (*this)(MatView<T const>{x.data(), 1, x.size()}, MatView<T>{y.data(), 1, y.size()});
  }

  /// Maps x (tokens, in) to y (tokens, out). y must not overlap x. The executor shares out large products; only it may
  /// throw.
  template <Executor E = Serial> void operator()(MatView<T const> x, MatView<T> y, E&& executor = {}) const {
    AVIARY_ASSERT(x.columns() == in() && y.columns() == out() && x.rows() == y.rows());
    detail::share_out(executor, panels(), x.rows() * in() * out(),
                      [&](Index begin, Index end) noexcept { outputs(x, y, begin, end); });
  }

 private:
  using Weights = std::variant<detail::NumberPanels<T>, detail::WordPanels<bf16>, detail::NumberPanels<f16>,
                               detail::WordPanels<q8>, detail::WordPanels<q4>>;

  static Weights empty(Index in, Index panels, NumberFormat format) {
    switch (format) {
      case NumberFormat::bf16:
        return detail::WordPanels<bf16>(in, panels);
      case NumberFormat::f16:
        return detail::NumberPanels<f16>(in, panels);
      case NumberFormat::q8:
        return detail::WordPanels<q8>(in, panels);
      case NumberFormat::q4:
        return detail::WordPanels<q4>(in, panels);
      default:
        return detail::NumberPanels<T>(in, panels);
    }
  }

  /// Writes the weights of outputs first ... first + 31 as (output, input), with zeros after the last output.
  void gather(WeightMatrix const& weight, WeightLayout layout, Index first, T* to) const noexcept {
    Index const n = std::min(detail::panel_outputs, out_ - first);
    std::fill(to + n * in_, to + detail::panel_outputs * in_, T(0));
    if (layout == WeightLayout::out_in) {
      for (Index o = 0; o < n; ++o) weight.read(first + o, 0, in_, to + o * in_);
      return;
    }
    T row[detail::panel_outputs];
    for (Index i = 0; i < in_; ++i) {
      weight.read(i, first, n, row);
      for (Index o = 0; o < n; ++o) to[o * in_ + i] = row[o];
    }
  }

  Index panels() const noexcept { return (out_ + detail::panel_outputs - 1) / detail::panel_outputs; }

  /// Computes the outputs of panels first ... last - 1 for all rows.
  void outputs(MatView<T const> x, MatView<T> y, Index first, Index last) const noexcept;

  template <class Panels>
  void product(Panels const& w, MatView<T const> x, MatView<T> y, Index first, Index last) const noexcept {
    using P = simd::Native<T>;
    if constexpr (std::is_same_v<T, float> && Panels::has_scales && simd::Dot<P>::is_fast)
      if (arithmetic_ == Arithmetic::bits8) return detail::StepProduct<P>::run(w, x, y, first, last);
#if AVIARY_HAS_TILES
    if constexpr (std::is_same_v<T, float> && Panels::Slice::in_word > 1)
      if (arithmetic_ != Arithmetic::full && simd::tiles_granted()) return on_tiles(w, x, y, first, last);
#endif
    detail::PanelProduct<P>::run(w, x, y, first, last);
  }

#if AVIARY_HAS_TILES
  template <class S>
  void on_tiles(detail::WordPanels<S> const& w, MatView<T const> x, MatView<T> y, Index first,
                Index last) const noexcept {
    if constexpr (std::is_same_v<S, bf16>)
      if (arithmetic_ == Arithmetic::bits16) return detail::TileProduct<S, 2>::run(w, x, y, first, last);
    detail::TileProduct<S, 1>::run(w, x, y, first, last);
  }
#endif

  Index in_ = 0, out_ = 0;
  Arithmetic arithmetic_ = Arithmetic::full;
  Weights weights_{detail::NumberPanels<T>(0, 0)};
  AlignedVector<T> bias_;  // (out), or none
};

// Not in the class, where they would be inline: those are instantiated in spite of AVIARY_LINEAR_SEPARATE.
template <class T>
Linear<T>::Linear(WeightMatrix weight, WeightFormat format, WeightLayout layout)
    : in_(layout == WeightLayout::out_in ? weight.columns() : weight.rows()),
      out_(layout == WeightLayout::out_in ? weight.rows() : weight.columns()),
      arithmetic_(format.arithmetic()),
      weights_(empty(in_, panels(), format.resolve<T>(weight))) {
  AlignedVector<T> numbers(to_size(in_ * detail::panel_outputs));
  for (Index p = 0; p < panels(); ++p) {
    gather(weight, layout, p * detail::panel_outputs, numbers.data());
    std::visit([&](auto& w) { w.set(p, numbers.data()); }, weights_);
  }
}

template <class T> void Linear<T>::outputs(MatView<T const> x, MatView<T> y, Index first, Index last) const noexcept {
  std::visit([&](auto const& w) { product(w, x, y, first, last); }, weights_);
  if (bias_.empty() || first == last) return;
  Index const begin = first * detail::panel_outputs, count = std::min(last * detail::panel_outputs, out_) - begin;
  MatView<T> const part(y.data() + begin, y.rows(), count, y.stride());
  detail::transform_rows(
      part, [](auto const& e, auto const& b) { return e + b; }, part, VecView<T const>(bias_).segment(begin, count));
}

#if defined(AVIARY_LINEAR_SEPARATE)
extern template class Linear<float>;
extern template class Linear<double>;
#endif

}  // namespace AVIARY_NAMESPACE
