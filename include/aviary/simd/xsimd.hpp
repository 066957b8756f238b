#pragma once
/// xsimd, without what g++ 12 says of it in every program for AVX-512: that the intrinsics, which begin with an undefined
/// register on purpose, use what is not initialised. A warning is off where any of the functions that were inlined into one
/// another stands in a region like this one. Include it before xsimd's own header.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <xsimd/xsimd.hpp>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
