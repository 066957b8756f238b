#pragma once
/// How much memory a program has had.
#if defined(__unix__) || defined(__APPLE__)
#include <sys/resource.h>
#endif

namespace models {

/// The most bytes that the program has had in memory; 0 where that is not known.
inline double peak_memory() {
#if defined(__unix__) || defined(__APPLE__)
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#if defined(__APPLE__)
  return static_cast<double>(usage.ru_maxrss);
#else
  return 1024 * static_cast<double>(usage.ru_maxrss);
#endif
#else
  return 0;
#endif
}

}  // namespace models
