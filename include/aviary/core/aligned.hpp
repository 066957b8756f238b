#pragma once
/// Memory on 64-byte boundaries.
#include <new>
#include <vector>

#include "aviary/core/config.hpp"

namespace AVIARY_NAMESPACE {

template <class T> struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <class U> constexpr AlignedAllocator(AlignedAllocator<U> const&) noexcept {}
  T* allocate(std::size_t n) {
    return static_cast<T*>(::operator new (n * sizeof(T), std::align_val_t{static_cast<std::size_t>(alignment)}));
  }
  void deallocate(T* p, std::size_t) noexcept {
    ::operator delete (p, std::align_val_t{static_cast<std::size_t>(alignment)});
  }
  friend bool operator==(AlignedAllocator, AlignedAllocator) { return true; }
};

/// A std::vector whose numbers begin on a 64-byte boundary.
template <class T> using AlignedVector = std::vector<T, AlignedAllocator<T>>;

}  // namespace AVIARY_NAMESPACE
