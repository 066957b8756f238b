#pragma once
/// Kernels started on a stream. This header and those that include it need the CUDA runtime (or HIP's, with hipcc); the kernels
/// themselves do not.
///
/// A kernel is a struct with
///     Arguments                               what a call passes to it, trivially copyable
///     threads, shared_bytes                   of a block, constants
///     blocks(arguments)                       how many there are
///     run(block, arguments, index)            what block number `index` does
#include <cstdio>
#include <string>
#if defined(__HIPCC__)
#include <hip/hip_runtime.h>
#else
#include <cuda_runtime.h>
#endif

#include "aviary/cuda/block.hpp"

/// Marks a kernel's argument that threads refer to where it lies.
#if defined(__HIPCC__)
#define AVIARY_GRID_CONSTANT
#else
#define AVIARY_GRID_CONSTANT __grid_constant__
#endif

namespace AVIARY_NAMESPACE::cuda {

#if defined(__HIPCC__)
using Stream = hipStream_t;
using Error = hipError_t;
inline constexpr Error no_error = hipSuccess, invalid_value = hipErrorInvalidValue;
#else
using Stream = cudaStream_t;
using Error = cudaError_t;
inline constexpr Error no_error = cudaSuccess, invalid_value = cudaErrorInvalidValue;
#endif

/// How a call went. An error that a running kernel meets shows in a later call of the runtime, as ever.
struct [[nodiscard]] Status {
  Error error = no_error;
  char const* call = "";      ///< "forward", ...
  std::string argument = {};  ///< the name of what is wrong, or of the runtime's function
  std::string problem = {};   ///< what is wrong with it

  explicit operator bool() const noexcept { return error == no_error; }
  /// "forward: k has 5 tokens, y has 6"
  std::string message() const { return error == no_error ? "ok" : std::string(call) + ": " + argument + " " + problem; }
};

namespace runtime {

// The 1 allows it all registers: left alone, compilers spill some so that more small blocks fit on a processor.
template <class Kernel>
__global__ void __launch_bounds__(Kernel::threads, 1)
    run_kernel(AVIARY_GRID_CONSTANT typename Kernel::Arguments const arguments) {
  extern __shared__ int4 aviary_shared[];
  DeviceBlock<Kernel::threads> block(reinterpret_cast<std::byte*>(aviary_shared));
  Kernel::run(block, arguments, static_cast<Index>(blockIdx.x));
}

inline char const* words_of(Error error) noexcept {
#if defined(__HIPCC__)
  return hipGetErrorString(error);
#else
  return cudaGetErrorString(error);
#endif
}

/// A property of the device that is current.
enum class Property { processors, shared_bytes };
inline Error property(Property which, int& value) noexcept {
#if defined(__HIPCC__)
  int device = 0;
  if (Error const e = hipGetDevice(&device); e != no_error) return e;
  return hipDeviceGetAttribute(
      &value,
      which == Property::processors ? hipDeviceAttributeMultiprocessorCount : hipDeviceAttributeMaxSharedMemoryPerBlock,
      device);
#else
  int device = 0;
  if (Error const e = cudaGetDevice(&device); e != no_error) return e;
  return cudaDeviceGetAttribute(
      &value, which == Property::processors ? cudaDevAttrMultiProcessorCount : cudaDevAttrMaxSharedMemoryPerBlockOptin,
      device);
#endif
}

/// Shared memory that a block gets unasked.
inline constexpr std::size_t shared_bytes_unasked = 48 * 1024;

}  // namespace runtime

/// The status of a call whose shapes are wrong, from the words of a check: "aviary: MODEL: VERB: ARGUMENT PROBLEM", or nothing.
inline Status status_of(char const* call, std::string const& words) {
  if (words.empty()) return {};
  std::size_t const argument = words.rfind(": ") + 2, problem = words.find(' ', argument) + 1;
  return {invalid_value, call, words.substr(argument, problem - 1 - argument), words.substr(problem)};
}

/// Puts a kernel on a stream; waits for nothing.
template <class Kernel> Status launch(char const* call, typename Kernel::Arguments const& arguments, Stream stream) {
  Index const blocks = Kernel::blocks(arguments);
  if (blocks == 0) return {};
  if (blocks > 0x7fffffff) return {invalid_value, call, "states", "are more than a launch has blocks for"};
  auto* const kernel = &runtime::run_kernel<Kernel>;
  if constexpr (Kernel::shared_bytes > runtime::shared_bytes_unasked) {
    int most = 0;
    if (Error const e = runtime::property(runtime::Property::shared_bytes, most); e != no_error)
      return {e, call, "the device", runtime::words_of(e)};
    if (Kernel::shared_bytes > static_cast<std::size_t>(most))
      return {invalid_value, call, "the memory", "has heads that are too large for this device's shared memory"};
#if !defined(__HIPCC__)
    if (Error const e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                             static_cast<int>(Kernel::shared_bytes));
        e != no_error)
      return {e, call, "cudaFuncSetAttribute", runtime::words_of(e)};
#endif
  }
  kernel<<<static_cast<unsigned>(blocks), Kernel::threads, Kernel::shared_bytes, stream>>>(arguments);
#if defined(__HIPCC__)
  Error const e = hipGetLastError();
#else
  Error const e = cudaGetLastError();
#endif
  return e == no_error ? Status{} : Status{e, call, "the launch", runtime::words_of(e)};
}

namespace runtime {
/// It does nothing, and says what its program was compiled for.
struct Probe {
  struct Arguments {};
  static constexpr int threads = warp;
  static constexpr std::size_t shared_bytes = 0;
  template <class Block> AVIARY_HOST_DEVICE static void run(Block&, Arguments const&, Index) noexcept {}
};
}  // namespace runtime

/// Whether Kernel multiplies TF32 on the current device: what was compiled for an older one does not, wherever it runs.
template <class Kernel = runtime::Probe> Status tensor_cores(char const* call) {
#if defined(__HIPCC__)
  return {invalid_value, call, "the device", "has no tensor cores for TF32"};
#else
  cudaFuncAttributes compiled{};
  if (Error const e = cudaFuncGetAttributes(&compiled, &runtime::run_kernel<Kernel>); e != no_error)
    return {e, call, "cudaFuncGetAttributes", runtime::words_of(e)};
  int const major = compiled.ptxVersion / 10;
  if (major >= 8) return {};
  return {invalid_value, call, "the kernel",
          "was compiled for compute capability " + std::to_string(major) + ", expected 8 or more"};
#endif
}

/// Multiprocessors of the current device.
inline Status processors(char const* call, int& count) {
  Error const e = runtime::property(runtime::Property::processors, count);
  return e == no_error ? Status{} : Status{e, call, "the device", runtime::words_of(e)};
}

}  // namespace AVIARY_NAMESPACE::cuda
