#pragma once
/// Token shift: each channel takes a share of the token before. Here a weight says how much; in low_rank_token_shift.hpp it
/// depends on the token.
#include <algorithm>

#include "aviary/dense/rows.hpp"
#include "aviary/layers/packed.hpp"

namespace AVIARY_NAMESPACE {

/// Which token the weights of a token shift are the share of.
enum class ShareOf : unsigned char {
  previous,  ///< as RWKV-6 and 7 store them: time_maa, x_r ...
  current,   ///< as RWKV-4 and 5 store them: time_mix
};

/// Writes the row before each row of x (tokens, C), those of one sequence, to `before` (tokens, C). The first one is `first`
/// (C), zeros at the beginning of a sequence.
template <class T> void rows_before(MatView<T const> x, VecView<T const> first, MatView<T> before) noexcept {
  AVIARY_ASSERT(before.columns() == x.columns() && before.rows() == x.rows() && first.size() == x.columns());
  for (Index t = 0; t < x.rows(); ++t)
    std::copy_n(t == 0 ? first.data() : x[t - 1].data(), x.columns(), before[t].data());
}

namespace detail {
/// The same for packed sequences, whose states keep the last row of each as x.
template <class T, class State>
void shift_rows(MatView<T const> x, Packed<State> const& sequences, MatView<T> before) noexcept {
  for (Index s = sequences.first(); s < sequences.end(); ++s) {
    Index const begin = sequences.begin_of(s), count = sequences.end_of(s) - begin;
    if (count == 0) continue;
    AlignedVector<T>& last = sequences.state(s).x;
    rows_before(x.rows(begin, count), VecView<T const>(last), before.rows(begin, count));
    std::copy_n(x[begin + count - 1].data(), x.columns(), last.data());
  }
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

  /// Maps x (tokens, channels) to y (tokens, channels), which may be x. `before` (tokens, channels) has the row before each:
  /// see rows_before().
  void operator()(MatView<T const> x, MatView<T const> before, MatView<T> y) const noexcept {
    AVIARY_ASSERT(x.columns() == channels() && y.columns() == channels() && before.columns() == channels());
    AVIARY_ASSERT(y.rows() == x.rows() && before.rows() == x.rows());
    detail::transform_rows(
        y,
        [](auto const& now, auto const& past, auto const& mix) {
          return simd::Pack<std::remove_cvref_t<decltype(now)>>::fma(past - now, mix, now);
        },
        x, before, mix_);
  }
  /// Maps one token.
  void operator()(VecView<T const> x, VecView<T const> before, VecView<T> y) const noexcept {
    auto const row = [](auto view) { return MatView(view.data(), 1, view.size()); };
    (*this)(row(x), row(before), row(y));
  }

 private:
  AlignedVector<T> mix_;
};

}  // namespace AVIARY_NAMESPACE
