#pragma once
/// What calls of all memories share on a GPU.
#include <ATen/ops/arange.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <span>

#include "aviary/cuda/launch.hpp"
#include "tensors.hpp"

namespace aviary_torch {

/// Makes the device of v the current one as long as it lives. Kernels go to PyTorch's current stream there. Nothing
/// waits for them: memory that a call gives back is for later work of that stream alone.
class CudaCall {
 public:
  CudaCall(char const* rule, Tensor const& v, Packed const& sequences) : rule_(rule), guard_(device_of(rule, v)) {
    if (sequences.sequences() == 1) return;  // of all tokens
    at::TensorOptions const options = v.options().dtype(at::kLong);
    positions_ = sequences.given ? sequences.given->to(options, /*non_blocking=*/true).contiguous()
                                 : at::arange(sequences.sequences() + 1, options).mul_(sequences.length());
  }

  aviary::cuda::Stream stream() const { return c10::cuda::getCurrentCUDAStream().stream(); }
  /// Where sequences begin and end, on the device.
  std::span<Index const> offsets() const {
    if (!positions_.defined()) return {};
    return {positions_.const_data_ptr<std::int64_t>(), aviary::to_size(positions_.numel())};
  }
  /// Throws what a verb says.
  void require(aviary::cuda::Status const& status) const {
    if (status) return;
    TORCH_CHECK_VALUE(status.error != aviary::cuda::invalid_value, "aviary: ", rule_, ": ", status.message());
    TORCH_CHECK(false, "aviary: ", rule_, ": ", status.message());
  }

 private:
  static at::Device device_of(char const* rule, Tensor const& v) {
    TORCH_CHECK_VALUE(v.is_cuda(), "aviary: ", rule, ": v is on ", v.device(), ", and another tensor on a GPU");
    TORCH_CHECK_TYPE(arithmetic(v) == at::kFloat, "aviary: ", rule, ": v is of ", v.scalar_type(),
                     ", expected float32, bfloat16 or float16 on a GPU, whose arithmetic is float32");
    return v.device();
  }

  char const* rule_;
  c10::cuda::CUDAGuard guard_;
  Tensor positions_;
};

/// x itself, or in float what has more digits than the arithmetic on a GPU.
inline Tensor in_float(Tensor const& x) { return x.scalar_type() == at::kDouble ? x.to(at::kFloat) : x; }

}  // namespace aviary_torch
