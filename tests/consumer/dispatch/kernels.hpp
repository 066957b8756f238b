#pragma once
/// What main.cpp calls in kernels.cpp.
#include <span>

struct Kernels {
  /// Reads tokens of 64 numbers with a WKV-7 head whose inputs are all that token; y is the output of the last.
  void (*read)(std::span<float const> tokens, std::span<float> y);
};

/// The floats in a vector of the instruction set.
struct Lanes {
  int count;
};
