/// A kernel of one's own around a step of Gated DeltaNet, as a layer decodes: unit queries and keys before it and a gate after it,
/// none of which goes through memory. A block takes a head. The host's step checks it.
#include <aviary/core/math.hpp>
#include <aviary/delta_rule.hpp>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>

using Memory = aviary::GatedDeltaNet<float, 64>;
using aviary::Index;
constexpr Index size = Memory::keys, heads = 32, inputs = 4,
                tokens = 100;  // q, k, v and the gate of each token and head

/// A thread's share of x / |x|, for both sides.
__host__ __device__ void make_unit(float const* x, float* unit, Index thread, Index threads) {
  float sum = 1e-6f;
  for (Index i = 0; i < size; ++i) sum = fmaf(x[i], x[i], sum);
  for (Index i = thread; i < size; i += threads) unit[i] = x[i] / sqrtf(sum);
}
__host__ __device__ Memory::Token token_of(float const* q, float const* k, float const* v) {
  return {.q = q, .k = k, .v = v, .log_w = -0.1f, .beta = 0.5f};
}

/// Head blockIdx.x advances by one token. x: (heads, inputs, size)
__global__ void fused_step(Memory::State* states, float const* x, float* y) {
  using Group = Memory::Group<1>;
  __shared__ alignas(aviary::alignment) float numbers[Group::length(size)], q[size], k[size];
  struct {
    Index thread, threads;
  } const share{threadIdx.x, blockDim.x};
  x += blockIdx.x * inputs * size, y += blockIdx.x * size;
  make_unit(x, q, share.thread, share.threads);
  make_unit(x + size, k, share.thread, share.threads);
  Group const group(numbers, {});
  if (share.thread < Group::pairs) group.pair_products()[share.thread] = 0;
  __syncthreads();
  Memory::Token const token = token_of(q, k, x + 2 * size);
  float products[Group::pairs];  // of the keys that are the thread's own
  aviary::prepare<Memory::Rule, float>(&token, group, products, aviary::Extent<size>(), aviary::Extent<size>(), share);
  for (Index i = 0; i < Group::pairs; ++i) atomicAdd(group.pair_products() + i, products[i]);
  __syncthreads();
  Memory::View const state = states[blockIdx.x];
  for (Index i = share.thread; i < size; i += share.threads) {  // columns never meet
    Memory::Passes<float, 1>::run(state.s, state.stride(), size, group, &y, i, i + 1, {});
    y[i] *= aviary::silu(x[3 * size + i]);
  }
}

__managed__ Memory::State states[heads];
__managed__ float x[heads * inputs * size], y[heads * size];
int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return std::puts("no CUDA device"), 77;
  static Memory::State expected[heads];
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  double error = 0, largest = 0;
  for (Index t = 0; t < tokens; ++t) {
    for (Index i = 0; i < heads * inputs * size; ++i) x[i] = normal(random);
    fused_step<<<heads, size>>>(states, x, y);
    if (cudaError_t const e = cudaDeviceSynchronize(); e != cudaSuccess)
      return std::fprintf(stderr, "cuda_step: %s\n", cudaGetErrorString(e)), 1;
    for (Index i = 0; i < heads * size; ++i) {
      float const* const row = x + i / size * inputs * size;
      static float q[size], k[size], out[size];  // of a head, whose first number makes them
      if (i % size == 0) {
        make_unit(row, q, 0, 1), make_unit(row + size, k, 0, 1);
        Memory::step(expected[i / size], token_of(q, k, row + 2 * size), out);
      }
      double const exact = out[i % size] * aviary::silu(row[3 * size + i % size]), difference = std::fabs(y[i] - exact);
      if (!(difference <= error) && !std::isnan(error)) error = difference;  // NaN stays
      largest = std::fmax(largest, std::fabs(exact));
    }
  }
  bool const ok = error <= 8 * size * std::numeric_limits<float>::epsilon() * largest;  // the bound of a step
  std::printf("largest difference %.1e of the largest output: %s\n", error / largest, ok ? "ok" : "WRONG");
  return ok ? 0 : 1;
}
