/// The subset that CUDA compiles: views, states, and the kernels of every rule, with T itself as the pack.
#include "aviary/dplr.hpp"
#include "aviary/wkv4.hpp"
#include "aviary/wkv7.hpp"

using namespace aviary;

/// One thread takes a whole step.
template <class M> __global__ void whole(typename M::StateNumber* s, typename M::T const* x, typename M::T* y) {
  constexpr Index n = M::keys;
  M::template step<typename M::T>(typename M::View{s, {}, {}},
                                  typename M::Token{x, x + n, x + 2 * n, x + 3 * n, x + 4 * n, x + 5 * n},
                                  VecView<typename M::T, M::values>(y));
}

/// A thread's share of the lanes.
struct Share {
  Index thread, threads;
};

/// A block takes a head: its threads share the lanes of prepare, then each has columns of the passes.
template <class M>
__global__ void block(typename M::StateNumber* s, typename M::T const* x, typename M::T* y, Index tokens) {
  using T = typename M::T;
  using Group = typename M::template Group<1>;
  constexpr Index n = M::keys;
  __shared__ T numbers[to_size(Group::length(padded<T>(n)))];
  Group const group(numbers, padded<T>(n));
  typename M::View const state{s + blockIdx.x * n * padded<T>(n), {}, {}};
  for (Index t = 0; t < tokens; ++t) {
    Index const head = t * gridDim.x + blockIdx.x;
    T const* const row = x + head * 6 * n;
    T products[to_size(Group::pairs)];
    if (threadIdx.x < Group::pairs) group.pair_products()[threadIdx.x] = T(0);
    __syncthreads();
    typename M::Token const token{row, row + n, row + 2 * n, row + 3 * n, row + 4 * n, row + 5 * n};
    aviary::prepare<typename M::Rule, T>(&token, group, products, Extent<n>(), Extent<n>(),
                                         Share{static_cast<Index>(threadIdx.x), static_cast<Index>(blockDim.x)});
    for (int i = 0; i < Group::pairs; ++i) atomicAdd(group.pair_products() + i, products[i]);
    __syncthreads();
    T* const out = y + head * n;
    for (Index i = threadIdx.x; i < n; i += blockDim.x)
      M::template Passes<T, 1>::run(state.s, state.stride(), n, group, &out, i, i + 1, {});
    __syncthreads();
  }
}

template __global__ void whole<Wkv7<float, 64>>(float*, float const*, float*);
template __global__ void whole<Dplr<double, 16>>(double*, double const*, double*);
template __global__ void block<Wkv7<float, 64>>(float*, float const*, float*, Index);
template __global__ void block<Dplr<float, 128>>(float*, float const*, float*, Index);

/// A thread takes a channel.
template <class M> __global__ void channel(typename M::View s, typename M::T const* x, typename M::T* y) {
  using Kernel = aviary::detail::ChannelKernel<typename M::T>;
  constexpr Index n = M::channels;
  Index const c = threadIdx.x;
  typename Kernel::Sums sums{s.num[c], s.den[c], s.exponent[c]};
  auto const reading =
      Kernel::advance(sums, Kernel::prepare(x[c], x[n + c]), Kernel::weigh(x[2 * n + c]), x[3 * n + c]);
  y[c] = reading.num / reading.den;
  s.num[c] = sums.num;
  s.den[c] = sums.den;
  s.exponent[c] = sums.exponent;
}

/// One thread takes a whole step.
template <class M> __global__ void all_channels(typename M::View s, typename M::T const* x, typename M::T* y) {
  constexpr Index n = M::channels;
  M::template step<typename M::T>(s, typename M::Token{x, x + n, x + 2 * n, x + 3 * n}, VecView<typename M::T, n>(y));
}

template __global__ void channel<Wkv4<float, 64>>(Wkv4<float, 64>::View, float const*, float*);
template __global__ void all_channels<Wkv4<double, 64>>(Wkv4<double, 64>::View, double const*, double*);
