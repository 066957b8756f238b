#pragma once
/// Token shift: each channel looks a little at the token before.
#include "aviary/layers/rows.hpp"

namespace aviary {

/// y_t = x_t + (x_{t-1} - x_t) mix,  a weight for each channel. mix is the share of the *previous* token: RWKV-6 and 7
/// store it so (time_maa, x_r ...), RWKV-4 and 5 store time_mix = 1 - mix.
template <class T> class TokenShift {
 public:
  explicit TokenShift(VecView<T const> mix) : mix_(detail::copy_of(mix)) {}

  Index channels() const noexcept { return static_cast<Index>(mix_.size()); }

  /// x, y (tokens, channels); before: what x was one token earlier (zeros before the first). y must not overlap x.
  void operator()(MatView<T const> x, VecView<T const> before, MatView<T> y) const noexcept {
    AVIARY_ASSERT(x.columns() == channels() && y.columns() == channels() && before.size() == channels());
    for (Index t = 0; t < x.rows(); ++t) {
      simd::transform(
          channels(), y[t].data(),
          [](auto const& now, auto const& past, auto const& mix) {
            return simd::Pack<std::remove_cvref_t<decltype(now)>>::fma(past - now, mix, now);
          },
          x[t].data(), before.data(), mix_.data());
      before = x[t];
    }
  }

 private:
  AlignedVector<T> mix_;
};

namespace detail {
/// What the token shift of the next call starts from: the last row, if there is one.
template <class T> void keep_last_row(MatView<T const> x, AlignedVector<T>& to) noexcept {
  if (x.rows() > 0) std::copy_n(x[x.rows() - 1].data(), x.columns(), to.data());
}
}  // namespace detail

}  // namespace aviary
