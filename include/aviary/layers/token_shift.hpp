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
/// The same for packed sequences, whose states keep the last row of each as x. States that are const stay as they are.
template <class T, class State>
void shift_rows(MatView<T const> x, Packed<State> const& sequences, MatView<T> before) noexcept {
  for (Index s = sequences.first(); s < sequences.end(); ++s) {
    Index const begin = sequences.begin_of(s), count = sequences.end_of(s) - begin;
    if (count == 0) continue;
    auto& last = sequences.state(s).x;
    rows_before(x.rows(begin, count), VecView<T const>(last), before.rows(begin, count));
    if constexpr (!std::is_const_v<State>) std::copy_n(x[begin + count - 1].data(), x.columns(), last.data());
  }
}

/// Of y = x + (before - x) mix with a mix for every row or for each: adds to dx and dbefore what reaches them from dy, and
/// leaves in dy what reaches mix. dx and dbefore may be rows of one matrix, one row apart.
template <class T, class Mix>
void shift_backward(MatView<T const> x, MatView<T const> before, Mix const& mix, MatView<T> dy, MatView<T> dx,
                    MatView<T> dbefore) noexcept {
  transform_rows(
      dx,
      [](auto const& sum, auto const& d, auto const& m) {
        using P = std::remove_cvref_t<decltype(d)>;
        return simd::Pack<P>::fma(d, P(1) - m, sum);
      },
      dx, dy, mix);
  transform_rows(
      dbefore,
      [](auto const& sum, auto const& d, auto const& m) {
        return simd::Pack<std::remove_cvref_t<decltype(d)>>::fma(d, m, sum);
      },
      dbefore, dy, mix);
  transform_rows(
      dy, [](auto const& d, auto const& now, auto const& past) { return d * (past - now); }, dy, x, before);
}
}  // namespace detail

/// The gradient of rows_before(): adds row t + 1 of dbefore (tokens, C) to row t of dx (tokens, C), and row 0 to dfirst (C).
template <class T> void rows_before_backward(MatView<T const> dbefore, MatView<T> dx, VecView<T> dfirst) noexcept {
  AVIARY_ASSERT(dbefore.columns() == dx.columns() && dbefore.rows() == dx.rows() && dfirst.size() == dx.columns());
  if (dx.rows() == 0) return;
  detail::add_rows(MatView<T>(dfirst.data(), 1, dfirst.size()), dbefore.rows(0, 1));
  detail::add_rows(dx.rows(0, dx.rows() - 1), dbefore.rows(1, dx.rows() - 1));
}

namespace detail {
/// The gradient of shift_rows(): adds to dx (tokens, C) what reaches it from dbefore (tokens, C) and from the gradients of
/// the states after the tokens. These become those of the states before.
template <class T, class State, class StateGradient>
void shift_rows_backward(MatView<T const> dbefore, Packed<State> const& sequences, MatView<T> dx,
                         States<StateGradient> const& dstates) noexcept {
  for (Index s = sequences.first(); s < sequences.end(); ++s) {
    Index const begin = sequences.begin_of(s), count = sequences.end_of(s) - begin;
    if (count == 0) continue;
    VecView<T> const dlast = dstates.of(s, 1)->x;
    MatView<T> const row(dlast.data(), 1, dlast.size());
    add_rows<T>(dx.rows(begin + count - 1, 1), row);
    fill_rows(row, T(0));
    rows_before_backward<T>(dbefore.rows(begin, count), dx.rows(begin, count), dlast);
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

  /// Adds what reaches x, `before` and the shares of the previous token from dy; all (tokens, channels), dmix (channels).
  /// (What reaches shares of the current token is minus that.)
  /// @param dx, dbefore  may be rows of one matrix, one row apart, and overlap nothing else
  /// @param dy  becomes dy (before - x), what reaches the shares of each token
  void backward(MatView<T const> x, MatView<T const> before, MatView<T> dy, MatView<T> dx, MatView<T> dbefore,
                VecSink<T> dmix) const noexcept {
    detail::shift_backward(x, before, mix_, dy, dx, dbefore);
    detail::add_sum_of_rows<T>(dmix, dy);
  }

 private:
  AlignedVector<T> mix_;
};

}  // namespace AVIARY_NAMESPACE
