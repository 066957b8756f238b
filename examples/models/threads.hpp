#pragma once
/// An executor whose number of threads is chosen when a program runs.
#include "aviary/core/executor.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// Whether the build can use more threads than one.
#if defined(_OPENMP)
inline constexpr bool has_threads = true;
#else
inline constexpr bool has_threads = false;
#endif

/// One thread, or several where the compiler has OpenMP switched on.
class Threads {
 public:
  explicit constexpr Threads(aviary::Index threads = 1) noexcept : threads_(has_threads ? threads : 1) {}
  constexpr aviary::Index concurrency() const noexcept { return threads_; }
  template <class Task> void operator()(aviary::Index count, Task&& task) const {
#if defined(_OPENMP)
    if (threads_ > 1) return aviary::OpenMp(threads_)(count, task);
#endif
    aviary::Serial{}(count, task);
  }

 private:
  aviary::Index threads_;
};

}  // namespace AVIARY_ISA
}  // namespace models
