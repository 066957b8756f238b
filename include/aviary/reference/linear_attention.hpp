#pragma once
/// Linear attention and its gated kin word for word, one head, slow and obvious: to debug other code against.
///
///     LinearAttention    S' = S + v k^T                  y = S' q
///     RetNet             S' = w S + v k^T                y = S' q        w of a head, constant
///     SimpleGla          S' = w S + v k^T                y = S' q        w of every token
///     Gla                S' = S diag(w) + v k^T          y = S' q
///
/// with w = exp(log_w). S is V x K, as in the papers; the scale of q is the caller's. Papers: arXiv 2006.16236, 2307.08621,
/// 2405.21060 and 2312.06635.
#include "aviary/reference/memory.hpp"

namespace AVIARY_NAMESPACE::reference {
namespace detail {

struct LinearAttentionEquation {
  static constexpr char const* model = "LinearAttention";
  static constexpr std::array names{"q", "k", "v"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;  // (K) each
    Per<Axis::value> v;   // (V)
  };
  template <class T> static void step(Matrix<T>& S, auto const& x, Matrix<T>& y) {
    auto const& [q, k, v] = x;
    S = S + v * transpose(k);
    y = S * q;
  }
};

/// RetNet (Axis::head_one) and simple GLA (Axis::one).
template <Axis decay> struct OneGateEquation {
  static constexpr char const* model = decay == Axis::one ? "SimpleGla" : "RetNet";
  static constexpr std::array names{"q", "k", "v", "log_w"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;  // (K) each
    Per<Axis::value> v;   // (V)
    Per<decay> log_w;     // <= 0
  };
  template <class T> static void step(Matrix<T>& S, auto const& x, Matrix<T>& y) {
    auto const& [q, k, v, log_w] = x;
    T const w = exp(log_w);
    S = w * S + v * transpose(k);
    y = S * q;
  }
};

struct GlaEquation {
  static constexpr char const* model = "Gla";
  static constexpr std::array names{"q", "k", "v", "log_w"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;   // (K) each
    Per<Axis::value> v;    // (V)
    Per<Axis::key> log_w;  // (K), <= 0
  };
  template <class T> static void step(Matrix<T>& S, auto const& x, Matrix<T>& y) {
    auto const& [q, k, v, log_w] = x;
    auto const w = exp(log_w);
    S = S * diag(w) + v * transpose(k);
    y = S * q;
  }
};

}  // namespace detail

template <class T = double> using LinearAttention = detail::Memory<detail::LinearAttentionEquation, T>;
template <class T = double> using RetNet = detail::Memory<detail::OneGateEquation<detail::Axis::head_one>, T>;
template <class T = double> using SimpleGla = detail::Memory<detail::OneGateEquation<detail::Axis::one>, T>;
template <class T = double> using Gla = detail::Memory<detail::GlaEquation, T>;

}  // namespace AVIARY_NAMESPACE::reference
