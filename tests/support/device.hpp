#pragma once
/// Device<M>: memory M by the kernels for a device. They run there in programs of a compiler for it, else on the host.
#include "aviary/core/namespace.hpp"

#if AVIARY_DEVICE_COMPILER
#include "support/on_device.hpp"
namespace aviary::test {
template <class M> using Device = OnDevice<M>;
/// Whether chunks can go through tensor cores; the emulation has them.
inline bool has_tensor_cores() { return static_cast<bool>(cuda::tensor_cores("test_cuda_device")); }
}  // namespace aviary::test
#else
#include "support/emulated_matrix.hpp"
namespace aviary::test {
template <class M> using Device = Emulated<M>;
inline bool has_tensor_cores() { return true; }
}  // namespace aviary::test
#endif
