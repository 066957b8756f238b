#pragma once
/// Token shift: each channel takes a share of the token before. Here a weight says how much; in low_rank_token_shift.hpp it
/// depends on the token.
#include "aviary/dense/rows.hpp"

namespace AVIARY_NAMESPACE {

/// Which token the weights of a token shift are the share of.
enum class ShareOf : unsigned char {
  previous,  ///< as RWKV-6 and 7 store them: time_maa, x_r ...
  current,   ///< as RWKV-4 and 5 store them: time_mix
};

namespace detail {
/// y_t = f(x_t, x_{t-1}, from_t...) for all rows, with `before` as x_{-1}. Vectors among `from` are the same for every
/// row. y must not overlap x, and may be one of `from`.
template <class T, class F, class... From>
void transform_with_previous(MatView<T const> x, VecView<T const> before, MatView<T> y, F&& f,
                             From const&... from) noexcept {
  AVIARY_ASSERT(y.columns() == x.columns() && y.rows() == x.rows() && before.size() == x.columns());
  for (Index t = 0; t < x.rows(); ++t) {
    simd::transform(x.columns(), y[t].data(), f, x[t].data(), before.data(), row_of(from, t)...);
    before = x[t];
  }
}

/// Keeps the last row, if there is one, for the token shift of the next call.
template <class T> void keep_last_row(MatView<T const> x, AlignedVector<T>& to) noexcept {
  if (x.rows() > 0) std::copy_n(x[x.rows() - 1].data(), x.columns(), to.data());
}
}  // namespace detail

/// y_t = x_t + (x_{t-1} - x_t) mix, where mix is the share of the previous token, a weight for each channel.
template <class T> class TokenShift {
 public:
  /// Copies the shares. A share of the current token becomes 1 - share, rounded once.
  explicit TokenShift(VecView<T const> shares, ShareOf of = ShareOf::previous) : mix_(detail::copy_of(shares)) {
    if (of == ShareOf::current)
      for (T& mix : mix_) mix = T(1) - mix;
  }

  Index channels() const noexcept { return static_cast<Index>(mix_.size()); }

  /// Maps x (tokens, channels) to y (tokens, channels). `before` is the row before the first one of x, zeros at the
  /// beginning of a sequence. y must not overlap x.
  void operator()(MatView<T const> x, VecView<T const> before, MatView<T> y) const noexcept {
    AVIARY_ASSERT(x.columns() == channels());
    detail::transform_with_previous(
        x, before, y,
        [](auto const& now, auto const& past, auto const& mix) {
          return simd::Pack<std::remove_cvref_t<decltype(now)>>::fma(past - now, mix, now);
        },
        mix_);
  }
  /// Maps one token.
  void operator()(VecView<T const> x, VecView<T const> before, VecView<T> y) const noexcept {
    (*this)(MatView<T const>(x.data(), 1, x.size()), before, MatView<T>(y.data(), 1, y.size()));
  }

 private:
  AlignedVector<T> mix_;
};

}  // namespace AVIARY_NAMESPACE
