#pragma once
/// Linear maps y = W x of rows of numbers, one token or many, through Eigen and without allocation.
#if !defined(EIGEN_DONT_PARALLELIZE)
#define EIGEN_DONT_PARALLELIZE  // threads are the caller's: an executor is passed in
#endif
#include <Eigen/Core>
#include <algorithm>

#include "aviary/core/executor.hpp"
#include "aviary/core/view.hpp"

namespace aviary {

namespace detail {
/// Work of about ten microseconds: from there on a task is worth handing to another thread.
inline constexpr Index multiplies_per_task = Index{1} << 18;
}  // namespace detail

/// How a matrix of weights lies: (out, in), as layers of most frameworks keep it, or (in, out), as LoRA factors lie.
enum class WeightLayout { out_in, in_out };

/// y = W x, without bias.
///   Cost: in * out multiply-adds a token. The same call has the same bits whatever the executor; a row alone and the same
///   row among others differ by rounding.
template <class T> class Linear {
 public:
  Linear() = default;

  /// Copies the weights.
  explicit Linear(MatView<T const> weight, WeightLayout layout = WeightLayout::out_in) {
    Rows const given(weight.data(), weight.rows(), weight.columns(), Stride(weight.stride()));
    if (layout == WeightLayout::out_in)
      weight_ = given;
    else
      weight_ = given.transpose();
  }

  Index in() const noexcept { return weight_.cols(); }
  Index out() const noexcept { return weight_.rows(); }

  /// One token. y must not overlap x.
  void operator()(VecView<T const> x, VecView<T> y) const noexcept {
    (*this)(MatView<T const>{x.data(), 1, x.size()}, MatView<T>{y.data(), 1, y.size()});
  }

  /// x (tokens, in), y (tokens, out). y must not overlap x. Large products are shared out through the executor, which
  /// alone may throw.
  template <Executor E = Serial> void operator()(MatView<T const> x, MatView<T> y, E&& executor = {}) const {
    AVIARY_ASSERT(x.columns() == in() && y.columns() == out() && x.rows() == y.rows());
    Index const blocks = (out() + block - 1) / block;
    Index const tasks =
        std::min({blocks, Index{executor.concurrency()}, x.rows() * in() * out() / detail::multiplies_per_task});
    if (tasks <= 1) return outputs(x, y, 0, out());
    executor(tasks, [&](Index task) noexcept {
      outputs(x, y, blocks * task / tasks * block, std::min(out(), blocks * (task + 1) / tasks * block));
    });
  }

 private:
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;  // (out, in), an input's weights contiguous
  using Stride = Eigen::OuterStride<>;
  using Rows = Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> const, 0, Stride>;

  /// A product is taken in blocks whose packed copies Eigen keeps on the stack: 128 outputs, 128 inputs (64 of double) and
  /// 64 tokens are 64 and 32 KiB. Larger ones it would allocate.
  static constexpr Index block = 128, depth = 512 / static_cast<Index>(sizeof(T)), tokens = 64;

  /// Outputs first ... last - 1 of all rows.
  void outputs(MatView<T const> x, MatView<T> y, Index first, Index last) const noexcept {
    using Column = Eigen::Matrix<T, Eigen::Dynamic, 1>;
    if (x.rows() == 1) {
      Eigen::Map<Column const> const row(x.data(), in());
      for (Index o = first; o < last; o += block) {
        Index const n = std::min(block, last - o);
        Eigen::Map<Column>(y.data() + o, n).noalias() = weight_.middleRows(o, n) * row;
      }
      return;
    }
    Eigen::Map<Matrix const, 0, Stride> const from(x.data(), in(), x.rows(), Stride(x.stride()));
    Eigen::Map<Matrix, 0, Stride> to(y.data(), out(), y.rows(), Stride(y.stride()));
    for (Index t = 0; t < x.rows(); t += tokens)
      for (Index o = first; o < last; o += block) {
        auto part = to.block(o, t, std::min(block, last - o), std::min(tokens, x.rows() - t));
        part.setZero();
        for (Index i = 0; i < in(); i += depth) {
          Index const n = std::min(depth, in() - i);
          part.noalias() += weight_.block(o, i, part.rows(), n) * from.block(i, t, n, part.cols());
        }
      }
  }

  Matrix weight_;
};

}  // namespace aviary
