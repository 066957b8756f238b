#pragma once
/// xsimd, but not under a CUDA compiler, with which version 13 and newer do not compile. And without what g++ 12 says of it in
/// every program for AVX-512: that the intrinsics, which begin with an undefined register on purpose, use what is not
/// initialised. A warning is off where any of the functions that were inlined into one another stands in a region like this
/// one. A program that includes xsimd's own header as well does so after aviary's.
#include "aviary/core/namespace.hpp"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#if !AVIARY_DEVICE_COMPILER
#include <xsimd/xsimd.hpp>
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
