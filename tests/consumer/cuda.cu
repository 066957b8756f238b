/// The component compiles and links device code. Without a GPU the call says what it lacks.
#include <aviary/cuda/matrix.hpp>
#include <aviary/linear_attention.hpp>

using Memory = aviary::LinearAttention<float, 16>;

int main() {
  int devices = 0;
  bool const there = cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
  Memory::State* states = nullptr;
  if (there && cudaMalloc(&states, 2 * sizeof(Memory::State)) != cudaSuccess) return 1;
  float const* const none = nullptr;
  aviary::cuda::Status const status = aviary::cuda::forward<Memory>(
      {.x = {.q = {none, 0, 2}, .k = {none, 0, 2}, .v = {none, 0, 2}}, .states = {states, 2}}, nullptr);
  return there == static_cast<bool>(status) ? 0 : 1;
}
