#pragma once
/// WKV-5 ("Eagle") word for word, one head, slow and obvious: to debug other code against.
///
///     y  = S r + (r . (u*k)) v
///     S' = S diag(w) + v k^T          w = exp(log_w)
///
/// The decay and the bonus u belong to the head and do not change with time: K of each (Wkv5, version 5.2), or one of each
/// (Wkv5PerHead, versions 5.0 and 5.1). S is V x K, as in the paper. Paper: "Eagle and Finch", arXiv 2404.05892.
#include "aviary/reference/memory.hpp"

namespace AVIARY_NAMESPACE::reference {
namespace detail {

struct Wkv5Equation {
  static constexpr char const* model = "Wkv5";
  static constexpr std::array names{"r", "log_w", "k", "v", "u"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r;           // (K)
    Per<Axis::head_key> log_w;  // (K), <= 0
    Per<Axis::key> k;           // (K)
    Per<Axis::value> v;         // (V)
    Per<Axis::head_key> u;      // (K)
  };
  template <class T> static void step(Matrix<T>& S, auto const& x, Matrix<T>& y) {
    auto const& [r, log_w, k, v, u] = x;
    auto const w = exp(log_w);
    y = S * r + dot(r, elementwise(u, k)) * v;
    S = S * diag(w) + v * transpose(k);
  }
};

struct Wkv5PerHeadEquation {
  static constexpr char const* model = "Wkv5PerHead";
  static constexpr std::array names{"r", "log_w", "k", "v", "u"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r;           // (K)
    Per<Axis::head_one> log_w;  // <= 0
    Per<Axis::key> k;           // (K)
    Per<Axis::value> v;         // (V)
    Per<Axis::head_one> u;
  };
  template <class T> static void step(Matrix<T>& S, auto const& x, Matrix<T>& y) {
    auto const& [r, log_w, k, v, u] = x;
    T const w = exp(log_w);
    y = S * r + (u * dot(r, k)) * v;
    S = w * S + v * transpose(k);
  }
};

}  // namespace detail

/// Version 5.2.
template <class T = double> using Wkv5 = detail::Memory<detail::Wkv5Equation, T>;

/// Versions 5.0 and 5.1.
template <class T = double> using Wkv5PerHead = detail::Memory<detail::Wkv5PerHeadEquation, T>;

}  // namespace AVIARY_NAMESPACE::reference
