/// The main function of the tests on a device: where there is none it says so and exits with 77. Where it has no tensor cores for
/// chunks it leaves out their cases.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "aviary/cuda/launch.hpp"

int main(int argc, char** argv) {
  int devices = 0;
  if (cudaError_t const e = cudaGetDeviceCount(&devices); e != cudaSuccess || devices == 0) {
    std::printf("test_cuda_device: no GPU to test on: %s\n", cudaGetErrorString(e));
    return 77;
  }
  doctest::Context context(argc, argv);
  if (aviary::cuda::Status const status = aviary::cuda::tensor_cores("chunks"); !status) {
    std::printf("test_cuda_device: left out: %s\n", status.message().c_str());
    context.addFilter("test-case-exclude", "*chunks:*");
  }
  return context.run();
}
