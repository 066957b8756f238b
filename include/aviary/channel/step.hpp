#pragma once
/// One token through the channels of a pack:
///
///     y    = (num + e^(u + k) v) / (den + e^(u + k))
///     num' = w num + e^k v            den' = w den + e^k          w = exp(log_w)
///
/// Every e^x is taken apart into a factor between 0.7 and 1.42 and a whole power of two, and the sums are kept relative to
/// a power of two, which changes rarely. So a token costs one polynomial, for e^k; nothing overflows; and no exponent is
/// ever rounded: the error does not depend on how far keys are from 0.
#include <limits>

#include "aviary/channel/state.hpp"
#include "aviary/simd/pack.hpp"

namespace AVIARY_NAMESPACE::detail {

/// Distances between powers of two. They are multiples of a sixteenth of the range of T, which is 8 for float and 64 for
/// double: what is neglected is by at least three of these smaller than what it would be added to.
template <class T> struct PowerLimits {
  static constexpr int unit = std::numeric_limits<T>::max_exponent / 16;
  static constexpr T rise = T(3 * unit);      ///< keys this far above the exponent of the sums lift it
  static constexpr T reach = T(10 * unit);    ///< weights further off than this count as this far off
  static constexpr T slowest = T(-4 * unit);  ///< decays stronger than this are applied to the exponent
  static constexpr T most = T(std::numeric_limits<T>::max_exponent - 2);  ///< 2^n and 2^-n are normal up to here
  static constexpr T largest = T(1e6);                                    ///< k, u and log_w beyond count as this
  static constexpr T smallest = std::numeric_limits<T>::min();            ///< sums of weights below it are none
  static constexpr T halved(int times) noexcept { return times == 0 ? T(1) : halved(times - 1) / 2; }
  static constexpr T least = halved(3 * unit);  ///< sums of weights below it lower the exponent
};

/// The sums of a pack of channels.
template <class P> struct ChannelSums { P num, den, exponent; };

/// What a pack of channels needs of log_w and u: both are constant in time.
template <class P> struct ChannelConstants {
  P w, w_low;    ///< the decay w, or its factor where w is too small for a T
  P w_power;     ///< and then its power; 0 otherwise
  P rise;        ///< how far above the exponent a key may be
  P u, u_power;  ///< e^u
};

/// A key as a weight: e^k = factor 2^power.
template <class P> struct ChannelWeight { P factor, power; };

/// What a token finds and does.
template <class P> struct ChannelReading {
  P num, den;  ///< its output before the division: num / den, in units of the exponent before the token
  P bonus;     ///< e^(u + k), its own weight there, in the same units
  P weight;    ///< e^k, its weight in the sums, in units of the exponent after the token
  P moved;     ///< 2^n, by which the sums went from the one exponent to the other
};

/// The kernel for packs P. Channels never meet.
template <class P> struct ChannelKernel {
  using L = simd::Pack<P>;
  using T = typename L::value_type;
  using Limits = PowerLimits<T>;
  using Sums = ChannelSums<P>;
  using Constants = ChannelConstants<P>;
  using Weight = ChannelWeight<P>;

  /// What of a token does not depend on the sums.
  AVIARY_HOST_DEVICE static AVIARY_INLINE Weight weigh(P const& k) noexcept {
    P const n = power(k);
    return {P(T(1)) + growth(k, n), n};
  }

  /// Advances the sums by one token, and returns what it reads and adds.
  AVIARY_HOST_DEVICE static AVIARY_INLINE ChannelReading<P> advance(Sums& s, Constants const& c, Weight const& k,
                                                                    P const& v) noexcept {
    P distance = k.power - s.exponent;
    P const bonus = L::scale(c.u * k.factor, bounded(distance + c.u_power, Limits::reach));
    ChannelReading<P> x;
    x.num = L::fma(bonus, v, s.num);
    x.den = s.den + bonus;
    x.bonus = bonus;
    x.moved = P(T(1));
    if (L::any((c.rise < distance) || (s.den < P(Limits::least)))) [[unlikely]]
      distance = move_exponent(s, c, k.power, x.moved);
    x.weight = L::scale(k.factor, L::max(P(-Limits::reach), distance));
    s.num = L::fma(s.num, c.w, L::fma(s.num, c.w_low, x.weight * v));
    s.den = L::fma(s.den, c.w, L::fma(s.den, c.w_low, x.weight));
    return x;
  }

  /// The exponent of sums before a token with key k. Where they are empty, which leaves it open, one at which no weight of
  /// the token's is far above 1: neither its bonus, nor what it would leave of the sums relative to its key.
  AVIARY_HOST_DEVICE static AVIARY_INLINE P exponent_before(Sums const& s, Constants const& c, P const& k) noexcept {
    return L::select(s.den < P(Limits::smallest), power(k) + L::min(c.u_power, P(T(0)) - c.w_power), s.exponent);
  }

  /// x 2^n for whole numbers n, from the smallest to the largest x.
  AVIARY_HOST_DEVICE static AVIARY_INLINE P rescale(P const& x, P const& n) noexcept {
    P const half = bounded(n, Limits::most);
    return L::scale(L::scale(x, half), bounded(n - half, Limits::most));
  }

  AVIARY_HOST_DEVICE static AVIARY_INLINE Constants prepare(P const& log_w, P const& u) noexcept {
    P const one(T(1)), zero(T(0));
    P const n = power(log_w), grown = growth(log_w, n), factor = L::opaque(one + grown),
            low = grown - L::opaque(factor - one);
    auto const small = n < P(Limits::slowest);
    P const scale = L::select(small, zero, n), u_power = power(u);
    return {.w = L::scale(factor, scale),
            .w_low = L::scale(low, scale),
            .w_power = L::select(small, n, zero),
            .rise = L::select(small, P(-Limits::most * Limits::largest), P(Limits::rise)),
            .u = one + growth(u, u_power),
            .u_power = u_power};
  }

  /// The sums after `later`, over a stretch with decay e^log_w, if it began with the sums `earlier`.
  AVIARY_HOST_DEVICE static AVIARY_INLINE Sums join(Sums earlier, P const& log_w, Sums const& later) noexcept {
    P const one(T(1)), n = power(log_w);
    earlier.exponent = earlier.exponent + n;
    P const top = L::max(own_exponent(earlier), own_exponent(later));
    P const exponent = L::select(P(none) < top, top, P(T(0)));
    P const e = L::scale(one + growth(log_w, n), bounded(earlier.exponent - exponent, Limits::most)),
            l = L::scale(one, bounded(later.exponent - exponent, Limits::most));
    return {L::fma(earlier.num, e, later.num * l), L::fma(earlier.den, e, later.den * l), exponent};
  }

  /// @name e^x = (1 + growth(x, n)) 2^n with n = power(x), a whole number
  /// x beyond +-1e6 counts as that; NaN gives NaN.
  ///@{
  AVIARY_HOST_DEVICE static AVIARY_INLINE P power(P const& x) noexcept {
    return simd::Exponential<P>::power(bounded(x, Limits::largest));
  }
  AVIARY_HOST_DEVICE static AVIARY_INLINE P growth(P const& x, P const& n) noexcept {
    return simd::Exponential<P>::growth(bounded(x, Limits::largest), n);
  }
  ///@}

 private:
  static constexpr T none = T(-1e30);  // the exponent of what is empty

  /// x between -limit and limit; NaN stays NaN.
  AVIARY_HOST_DEVICE static AVIARY_INLINE P bounded(P const& x, T limit) noexcept {
    return L::max(P(-limit), L::min(P(limit), x));
  }

  /// The exponent with which den lies in [1, 2).
  AVIARY_HOST_DEVICE static AVIARY_INLINE P own_exponent(Sums const& s) noexcept {
    return L::select(s.den < P(Limits::smallest), P(none), s.exponent + L::exponent(s.den));
  }

  /// Moves the sums to another exponent where a key is far above or den has become small, and applies those decays that
  /// are powers of two: `moved` is what the sums were multiplied by. Returns how far above the exponent the key is then.
  AVIARY_HOST_DEVICE static AVIARY_INLINE P move_exponent(Sums& s, Constants const& c, P const& key,
                                                          P& moved) noexcept {
    s.exponent = s.exponent + c.w_power;
    auto const moves = (P(Limits::rise) < key - s.exponent) || (s.den < P(Limits::least));
    P const exponent = L::select(moves, L::max(own_exponent(s), key), s.exponent);
    moved = L::scale(P(T(1)), bounded(s.exponent - exponent, Limits::most));
    s = {s.num * moved, s.den * moved, exponent};
    return key - exponent;
  }
};

}  // namespace AVIARY_NAMESPACE::detail
