#pragma once
/// PyTorch's tensors as sequences and states of the library.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>
#include <string>
#include <vector>

#include "aviary/core/executor.hpp"
#include "aviary/core/sequence.hpp"

namespace aviary_torch {

using at::Tensor;
using aviary::Index;
using MaybeTensor = std::optional<Tensor>;

/// PyTorch's threads as an executor: as many as torch.set_num_threads says. Tasks know nothing of Python.
struct Threads {
  static Index concurrency() noexcept { return at::get_num_threads(); }
  template <class Task> void operator()(Index count, Task const& task) const {
    at::parallel_for(0, count, 1, [&](std::int64_t begin, std::int64_t end) {
      for (Index i = begin; i < end; ++i) task(i);
    });
  }
};

/// f(pointer), with a pointer to the numbers of x in the library's type for them.
template <class F> auto with_numbers(Tensor const& x, F&& f) {
  switch (x.scalar_type()) {
    case at::kFloat:
      return f(static_cast<float*>(x.data_ptr()));
    case at::kDouble:
      return f(static_cast<double*>(x.data_ptr()));
    case at::kBFloat16:
      return f(static_cast<aviary::bf16*>(x.data_ptr()));
    case at::kHalf:
      return f(static_cast<aviary::f16*>(x.data_ptr()));
    default:
      TORCH_CHECK_TYPE(false, "aviary: expected a tensor of float32, float64, bfloat16 or float16, found ",
                       x.scalar_type());
  }
}

/// The type of states and of all arithmetic: float64 where v is, else float32.
inline at::ScalarType arithmetic(Tensor const& v) { return v.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

/// (batch, tokens, ...) as (batch tokens, ...), its last axis contiguous: a view where strides allow it, else a copy.
inline Tensor packed(Tensor const& x) {
  Tensor const all = x.flatten(0, 1);
  return all.dim() < 3 || all.size(-1) < 2 || all.stride(-1) == 1 ? all : all.contiguous();
}

/// Where sequences begin and end, and how many states a tape keeps of them.
struct Packed {
  std::vector<Index> offsets;
  MaybeTensor given;  ///< as a tensor, where that says them

  /// The sequences of a batch of equal lengths; with given offsets, (sequences + 1), those of a batch of one.
  Packed(char const* rule, Index batch, Index length, MaybeTensor const& given_offsets) : given(given_offsets) {
    if (given) {
      TORCH_CHECK_VALUE(given->dim() == 1 && given->numel() > 0 && batch == 1, "aviary: ", rule,
                        ": offsets are a list of sequences + 1 positions in a batch of 1, found shape ", given->sizes(),
                        " and a batch of ", batch);
      Tensor const positions = given->to(at::kCPU, at::kLong).contiguous();
      offsets.assign(positions.const_data_ptr<std::int64_t>(),
                     positions.const_data_ptr<std::int64_t>() + positions.numel());
      TORCH_CHECK_VALUE(offsets.front() == 0 && offsets.back() == length, "aviary: ", rule, ": offsets go from 0 to ",
                        length, ", the number of tokens, found ", offsets.front(), " to ", offsets.back());
      for (std::size_t s = 0; s + 1 < offsets.size(); ++s)
        TORCH_CHECK_VALUE(offsets[s] <= offsets[s + 1] && offsets[s + 1] <= length, "aviary: ", rule, ": sequence ", s,
                          " is [", offsets[s], ", ", offsets[s + 1], "), not a range of the ", length, " tokens");
    } else {
      for (Index s = 0; s <= batch; ++s) offsets.push_back(s * length);
    }
  }
  /// Tokens of each sequence, where there is nothing given and any sequence.
  Index length() const { return sequences() > 0 ? offsets[1] : 0; }
  Index sequences() const { return static_cast<Index>(offsets.size()) - 1; }
  /// States of a tape for each head, as many as any offsets of so many tokens need; 0 where it keeps none (every = 0).
  Index kept(Index every) const {
    if (every <= 0) return 0;
    if (given) return offsets.back() / every + sequences();
    return sequences() * ((length() + every - 1) / every);
  }
};

/// What a call says of its shapes; it throws where something is wrong with them.
inline void require(std::string const& what_is_wrong) { TORCH_CHECK_VALUE(what_is_wrong.empty(), what_is_wrong); }

}  // namespace aviary_torch
