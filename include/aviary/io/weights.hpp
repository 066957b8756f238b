#pragma once
/// Tensors of files as the weights of layers.
///
///     Linear<float> const head(TensorWeights(file.tensor("head.weight")));
#include <memory>
#include <vector>

#include "aviary/dense/weights.hpp"
#include "aviary/io/tensor.hpp"

namespace AVIARY_NAMESPACE {

/// The matrix (rows, columns) that a tensor of a floating dtype holds: where its numbers lie, so that the tensor's bytes must
/// outlive this object; or, if their address or strides do not allow that, in a copy of the same dtype. Layers copy what they
/// are made of, so a temporary will do.
class TensorWeights {
 public:
  /// Throws std::runtime_error for another shape or dtype. Sizes of 1 may stand before the others in the shape.
  explicit TensorWeights(Tensor const& tensor) {
    Tensor const found = tensor.expect_dimensions(2);
    found.check_readable_as<double>();
    with_element(found.dtype, [&]<class S>() {
      if constexpr (Stored<S>) matrix_ = found.obstacle_to_rows<S>().empty() ? found.matrix<S>() : copy<S>(found);
    });
  }

  operator WeightMatrix() const noexcept { return matrix_; }
  Index rows() const noexcept { return matrix_.rows(); }
  Index columns() const noexcept { return matrix_.columns(); }
  bool is_copy() const noexcept { return copy_ != nullptr; }

 private:
  template <class S> MatView<S const> copy(Tensor const& tensor) {
    auto const numbers = std::make_shared<std::vector<S> const>(tensor.read<S>());
    copy_ = numbers;
    return {numbers->data(), tensor.shape[0], tensor.shape[1]};
  }

  std::shared_ptr<void const> copy_;
  WeightMatrix matrix_;
};

}  // namespace AVIARY_NAMESPACE
