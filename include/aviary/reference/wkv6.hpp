#pragma once
/// WKV-6 ("Finch") and Finch-C2 word for word, one head, slow and obvious: to debug other code against.
///
///     Wkv6       y = S r + (r . (u*k)) v          S' = S diag(w) + v k^T
///     FinchC2    y = S r                          S' = S diag(w) + v ((1 - w)*k)^T
///
/// with w = exp(log_w) of every token. S is V x K, as in the papers. Papers: "Eagle and Finch", arXiv 2404.05892, and
/// "GoldFinch", arXiv 2407.12077.
#include "aviary/reference/memory.hpp"

namespace AVIARY_NAMESPACE::reference {
namespace detail {

struct Wkv6Equation {
  static constexpr char const* model = "Wkv6";
  static constexpr std::array names{"r", "log_w", "k", "v", "u"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r, log_w, k;  // (K) each, log_w <= 0
    Per<Axis::value> v;          // (V)
    Per<Axis::head_key> u;       // (K)
  };
  template <class T> static void step(Matrix<T>& S, auto const& x, Matrix<T>& y) {
    auto const& [r, log_w, k, v, u] = x;
    auto const w = exp(log_w);
    y = S * r + dot(r, elementwise(u, k)) * v;
    S = S * diag(w) + v * transpose(k);
  }
};

struct FinchC2Equation {
  static constexpr char const* model = "FinchC2";
  static constexpr std::array names{"r", "log_w", "k", "v"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r, log_w, k;  // (K) each, log_w <= 0
    Per<Axis::value> v;          // (V)
  };
  template <class T> static void step(Matrix<T>& S, auto const& x, Matrix<T>& y) {
    auto const& [r, log_w, k, v] = x;
    auto const I = identity<T>(S.columns());
    auto const w = exp(log_w);
    y = S * r;
    S = S * diag(w) + v * transpose((I - diag(w)) * k);
  }
};

}  // namespace detail

template <class T = double> using Wkv6 = detail::Memory<detail::Wkv6Equation, T>;
template <class T = double> using FinchC2 = detail::Memory<detail::FinchC2Equation, T>;

}  // namespace AVIARY_NAMESPACE::reference
