#pragma once
/// The state of a channel memory: for each of C channels two sums, relative to a power of two.
///
///     sum of weighted values  num 2^exponent          sum of weights  den 2^exponent
///
/// The exponent is a whole number, so that moving between exponents rounds nothing. num, den and exponent are only known
/// together: (2 num, 2 den, exponent - 1) is the same state. Compare num / den, and exponent + log2(den).
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "aviary/core/aligned.hpp"
#include "aviary/core/view.hpp"

namespace AVIARY_NAMESPACE {

/// A state where it lies. T may be const.
template <class T, Index C> struct ChannelView {
  T *num, *den, *exponent;  ///< rows of padded<T>(C) numbers on 64-byte boundaries; 0 from number C on
  [[no_unique_address]] Extent<C> extent;

  AVIARY_HOST_DEVICE constexpr Index channels() const noexcept { return extent; }
  /// Const is T const. A template: see StateView.
  template <class Const>
  requires(std::is_same_v<Const, T const>) AVIARY_HOST_DEVICE constexpr operator ChannelView<Const, C>()
      const noexcept {
    return {num, den, exponent, extent};
  }
};

/// A row of C numbers on a 64-byte boundary, with zeros up to the next one. ChannelRow(channels) is zeros, whatever the
/// number of channels; where it is fixed, so is ChannelRow().
template <class T, Index C> class ChannelRow {
 public:
  constexpr ChannelRow() = default;
  AVIARY_HOST_DEVICE constexpr explicit ChannelRow(Extent<C>) noexcept {}

  AVIARY_HOST_DEVICE static constexpr Index size() noexcept { return C; }
  AVIARY_HOST_DEVICE constexpr T* data() noexcept { return numbers_; }
  AVIARY_HOST_DEVICE constexpr T const* data() const noexcept { return numbers_; }
  AVIARY_HOST_DEVICE constexpr T& operator[](Index c) noexcept { return numbers_[c]; }
  AVIARY_HOST_DEVICE constexpr T const& operator[](Index c) const noexcept { return numbers_[c]; }
  AVIARY_HOST_DEVICE constexpr void clear() noexcept {
    for (T& number : numbers_) number = T{};
  }
  friend bool operator==(ChannelRow const&, ChannelRow const&) = default;

 private:
  alignas(alignment) T numbers_[to_size(padded<T>(C))] = {};
};

/// A number of channels known at run time: the row owns its memory, in the same layout. ChannelRow() has no size yet.
template <class T> class ChannelRow<T, dynamic> {
 public:
  ChannelRow() = default;
  explicit ChannelRow(Index channels) : size_(channels), numbers_(to_size(padded<T>(channels))) {}

  Index size() const noexcept { return size_; }
  T* data() noexcept { return numbers_.data(); }
  T const* data() const noexcept { return numbers_.data(); }
  T& operator[](Index c) noexcept { return numbers_[to_size(c)]; }
  T const& operator[](Index c) const noexcept { return numbers_[to_size(c)]; }
  void clear() noexcept { std::fill(numbers_.begin(), numbers_.end(), T(0)); }
  friend bool operator==(ChannelRow const&, ChannelRow const&) = default;

 private:
  Index size_ = 0;
  AlignedVector<T> numbers_;
};

/// A state as a value, trivially copyable if the number of channels is fixed. ChannelState(channels) is the empty context,
/// whatever the number of channels; where it is fixed, so is ChannelState().
template <class T, Index C> struct ChannelState {
  ChannelRow<T, C> num, den, exponent;

  constexpr ChannelState() = default;
  AVIARY_HOST_DEVICE constexpr explicit ChannelState(Extent<C> channels) noexcept(C != dynamic)
      : num(channels), den(channels), exponent(channels) {}

  AVIARY_HOST_DEVICE constexpr Index channels() const noexcept { return num.size(); }
  AVIARY_HOST_DEVICE constexpr ChannelView<T, C> view() noexcept {
    return {num.data(), den.data(), exponent.data(), num.size()};
  }
  AVIARY_HOST_DEVICE constexpr ChannelView<T const, C> view() const noexcept {
    return {num.data(), den.data(), exponent.data(), num.size()};
  }
  AVIARY_HOST_DEVICE constexpr operator ChannelView<T, C>() noexcept { return view(); }
  AVIARY_HOST_DEVICE constexpr operator ChannelView<T const, C>() const noexcept { return view(); }
  /// Makes it the empty context of its size, without an allocation.
  AVIARY_HOST_DEVICE constexpr void clear() noexcept { num.clear(), den.clear(), exponent.clear(); }
  friend bool operator==(ChannelState const&, ChannelState const&) = default;
};

namespace detail {
/// power ln 2 - x, where these nearly cancel.
inline double less_powers(double power, double x) noexcept {
  constexpr double ln_2_low = 2.3190468138462996e-17;  // ln 2 beyond a double
  return std::fma(power, std::numbers::ln2, -x) + power * ln_2_low;
}
}  // namespace detail

/// @name Other implementations' states
/// They keep (aa, bb, pp), with sums aa e^pp and bb e^pp; aa = bb = 0 and pp = -1e30 for the empty context.
/// Gradients of aa and bb at some pp become the gradient of a state by import_state(ds, daa, dbb, -pp).
///@{
template <class T, Index C>
void import_state(ChannelView<T, C> s, VecView<std::type_identity_t<T> const> aa,
                  VecView<std::type_identity_t<T> const> bb, VecView<std::type_identity_t<T> const> pp) noexcept {
  AVIARY_ASSERT(aa.size() == s.channels() && bb.size() == s.channels() && pp.size() == s.channels());
  for (Index c = 0; c < s.channels(); ++c) {
    s.num[c] = s.den[c] = s.exponent[c] = T(0);
    if (aa[c] == 0 && bb[c] == 0) continue;
    double const power = std::round(double{pp[c]} * std::numbers::log2e);
    double const rest = std::exp(-detail::less_powers(power, double{pp[c]}));
    int lift = 0;
    s.den[c] = static_cast<T>(std::frexp(bb[c] * rest, &lift));
    s.num[c] = static_cast<T>(std::ldexp(aa[c] * rest, -lift));
    s.exponent[c] = static_cast<T>(power + lift);
  }
}
template <class T, Index C>
void export_state(ChannelView<T const, C> s, VecView<T> aa, VecView<T> bb, VecView<T> pp) noexcept {
  AVIARY_ASSERT(aa.size() == s.channels() && bb.size() == s.channels() && pp.size() == s.channels());
  for (Index c = 0; c < s.channels(); ++c) {
    double const power{s.exponent[c]};
    pp[c] = s.den[c] == 0 ? T(-1e30) : static_cast<T>(power * std::numbers::ln2);
    double const rest = s.den[c] == 0 ? 1 : std::exp(detail::less_powers(power, double{pp[c]}));
    aa[c] = static_cast<T>(s.num[c] * rest);
    bb[c] = static_cast<T>(s.den[c] * rest);
  }
}
///@}

}  // namespace AVIARY_NAMESPACE
