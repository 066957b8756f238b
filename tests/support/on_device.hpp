#pragma once
/// Memories whose verbs run on a device: what a call points to is copied there, and back.
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "aviary/cuda/matrix.hpp"
#include "support/check.hpp"
#include "support/device_calls.hpp"
#include "support/eager.hpp"

namespace aviary::test {

/// Memory of a device with the numbers of a call.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(DeviceMemory const&) = delete;
  DeviceMemory& operator=(DeviceMemory const&) = delete;
  ~DeviceMemory() {
    for (Copy const& copy : copies_) check_error(cudaFree(copy.there), "cudaFree");
  }

  /// Numbers as they are here, there.
  template <class X> std::span<X> of(std::span<X> here) {
    return {reinterpret_cast<X*>(copy_of(here.data(), here.size_bytes())), here.size()};
  }
  template <Index N> Source<N> of(Source<N> const& x) { return moved<Source<N>>(x); }
  template <Index N> Sink<N> of(Sink<N> const& x) { return x ? moved<Sink<N>>(x) : x; }
  template <Index N> HeadSource<N> of(HeadSource<N> const& x) { return moved_head<HeadSource<N>>(x); }
  template <Index N> HeadSink<N> of(HeadSink<N> const& x) { return x ? moved_head<HeadSink<N>>(x) : x; }
  template <class R, class Fields> Fields of_fields(Fields const& x) {
    return aviary::detail::transform_fields<R, Fields>(x, [this](auto, auto const& field) { return of(field); });
  }

  /// Waits for a verb, and brings back what it wrote.
  void finish(cuda::Status const& status) {
    require_empty(status ? "" : status.message());
    check_error(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    for (Copy const& copy : copies_)
      if (!copy.constant)
        check_error(cudaMemcpy(copy.here, copy.there, copy.bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
  }

 private:
  struct Copy {
    void *here, *there;
    std::size_t bytes;
    bool constant;
  };
  static void check_error(cudaError_t error, char const* function) {
    require_empty(error == cudaSuccess ? "" : std::string(function) + ": " + cudaGetErrorString(error));
  }
  template <class X> std::byte* copy_of(X* here, std::size_t bytes) {
    if (here == nullptr) return nullptr;
    void* there = nullptr;
    check_error(cudaMalloc(&there, bytes + 1), "cudaMalloc");
    check_error(cudaMemcpy(there, here, bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
    copies_.push_back({const_cast<std::remove_const_t<X>*>(here), there, bytes, std::is_const_v<X>});
    return static_cast<std::byte*>(there);
  }
  /// How many numbers lie from the first of a sequence to its last, and between two tokens or heads.
  template <class Sequence> static Index stride(Sequence const& x, Index token, Index head) {
    return (x.rows(token, head).at() - x.rows(0, 0).at()) / static_cast<Index>(size_of(x.format()));
  }
  template <class Sequence> std::byte* numbers_of(Sequence const& x) {
    bool const empty = x.tokens() == 0 || x.heads() == 0;
    Index const numbers = empty ? 0 : stride(x, x.tokens() - 1, x.heads() - 1) + x.size();
    return copy_of(x.data(), to_size(numbers) * size_of(x.format()));
  }
  template <class Sequence> Sequence moved(Sequence const& x) {
    Sequence there = x;
    with_type(x.format(), static_cast<void*>(numbers_of(x)), [&](auto* numbers) {
      there = Sequence(numbers, x.tokens(), x.heads(), x.size(), stride(x, 1, 0), stride(x, 0, 1));
    });
    return there;
  }
  template <class Sequence> Sequence moved_head(Sequence const& x) {
    Sequence there = x;
    with_type(x.format(), static_cast<void*>(numbers_of(x)),
              [&](auto* numbers) { there = Sequence(numbers, x.heads(), x.size()); });
    return there;
  }

  std::vector<Copy> copies_;
};

/// Blocks run in the order of the device, whatever the executor.
template <class M_> struct OnDevice : DeviceCalls<M_> {
  using M = M_;
  using R = typename M::Rule;
  using T = typename M::T;

  template <class P = T, class E = Serial> static void forward(typename M::ForwardCall const& call, E&& = {}) {
    run(call, [](auto const& there, Index, DeviceMemory&) { return cuda::forward<M>(there, nullptr); });
  }
  /// By blocks of some width.
  template <class Kernel> static void forward_by(typename M::ForwardCall const& call, bool = false) {
    run(call, [](auto const& there, Index heads, DeviceMemory&) {
      return cuda::launch<Kernel>("forward", cuda::forward_arguments<Kernel, M>(there, heads), nullptr);
    });
  }
  /// In pieces of so many tokens, which go as Way says.
  template <class Way = cuda::Wide<M>, class E = Serial>
  static void forward_in_pieces(typename M::ForwardCall const& call, Index piece, E&& = {}) {
    run(call, [&](auto const& there, Index heads, DeviceMemory& memory) {
      Index const sequences = aviary::detail::Packing{there.offsets, there.tokens()}.sequences();
      std::vector<T> workspace(cuda::pieces_workspace<M>(there.x, heads, piece, sequences));
      std::span<T> const room = memory.of(std::span(workspace));
      if constexpr (std::is_same_v<Way, cuda::Wide<M>>)
        return cuda::forward_in_pieces<M>(there, piece, room, nullptr);
      else
        return cuda::runtime::forward_in_pieces<Way>("forward_in_pieces", there, cuda::runtime::Heads<M>(there), piece,
                                                     room, nullptr);
    });
  }
  template <class P = T, class E = Serial> static void backward(typename M::BackwardCall const& call, E&& = {}) {
    backward_by<cuda::Backward<M>>(call);
  }
  /// By some kernel that walks back.
  template <class Walk> static void backward_by(typename M::BackwardCall call, bool = false) {
    DeviceMemory memory;
    call.x = memory.of_fields<R>(call.x);
    call.dy = memory.of(call.dy);
    call.dx = memory.of_fields<R>(call.dx);
    call.tape.states = memory.of(call.tape.states);
    if constexpr (R::erase != Erase::none) call.tape.readings = memory.of(call.tape.readings);
    if (!call.dstates.empty()) call.dstates = memory.of(std::span(call.dstates.data(), call.dstates.size()));
    call.workspace = memory.of(call.workspace);
    call.offsets = memory.of(call.offsets);
    memory.finish(cuda::runtime::backward<Walk, M>("backward", call, nullptr));
  }

 private:
  template <class F> static void run(typename M::ForwardCall const& call, F&& f) {
    OnDevice::with_states(call, [&](auto there, Index heads) {
      DeviceMemory memory;
      there.x = memory.of_fields<R>(there.x);
      there.y = memory.of(there.y);
      there.states = memory.of(std::span(there.states.of(0, heads), there.states.size()));
      there.tape.states = memory.of(there.tape.states);
      if constexpr (R::erase != Erase::none) there.tape.readings = memory.of(there.tape.readings);
      there.offsets = memory.of(there.offsets);
      auto status = f(there, heads, memory);
      memory.finish(status);
    });
  }
};

}  // namespace aviary::test
