#pragma once
/// Functions of the part of the library that kernels call, on a device or, in programs of other compilers, on the host.
#include <vector>

#include "aviary/core/config.hpp"

#if AVIARY_DEVICE_COMPILER
#include "support/on_device.hpp"
#endif

namespace aviary::test {

#if AVIARY_DEVICE_COMPILER
template <class F> __global__ void call_on_device(F f, double const* x, double* y) { f(x, y); }
#endif

/// What f(x, y) writes to the F::results numbers of y, on one thread of a device.
template <class F> std::vector<double> run_on_device(F const& f, std::vector<double> const& x) {
  std::vector<double> y(to_size(F::results));
#if AVIARY_DEVICE_COMPILER
  DeviceMemory memory;
  auto const from = memory.of(std::span(x));
  auto const to = memory.of(std::span(y));
  call_on_device<<<1, 1>>>(f, from.data(), to.data());
  memory.finish({cudaGetLastError(), "run_on_device"});
#else
  f(x.data(), y.data());
#endif
  return y;
}

}  // namespace aviary::test
