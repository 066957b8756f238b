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

/// A block takes a head: its threads share the lanes of prepare, then each has columns of advance.
template <class M>
__global__ void block(typename M::StateNumber* s, typename M::T const* x, typename M::T* y, Index tokens) {
  using T = typename M::T;
  using Kernel = typename M::template Kernel<T>;
  constexpr Index n = M::keys;
  __shared__ T numbers[to_size(M::Prepared::length(padded<T>(n)))];
  typename M::Prepared const token(numbers, padded<T>(n));
  typename M::View const state{s + blockIdx.x * n * padded<T>(n), {}, {}};
  for (Index t = 0; t < tokens; ++t) {
    T const* const row = x + (t * gridDim.x + blockIdx.x) * 6 * n;
    Kernel::prepare(typename M::Token{row, row + n, row + 2 * n, row + 3 * n, row + 4 * n, row + 5 * n}, token, n, n,
                    threadIdx.x, blockDim.x);
    __syncthreads();
    for (Index i = threadIdx.x; i < n; i += blockDim.x) {
      T z = Kernel::template probe<T>(state.s + i, state.stride(), token.p(), n);
      y[(t * gridDim.x + blockIdx.x) * n + i] =
          Kernel::template advance<T, false>(state.s + i, state.stride(), token, token.v()[i], z, n, token);
    }
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
  auto const reading = Kernel::advance(sums, Kernel::prepare(x[c], x[n + c]), x[2 * n + c], x[3 * n + c]);
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
