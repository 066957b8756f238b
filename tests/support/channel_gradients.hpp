#pragma once
/// Gradients of the cases of channel_case.hpp, and how far they may be from the reference.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "aviary/channel/memory.hpp"
#include "support/channel_case.hpp"
#include "support/check.hpp"

namespace aviary::test {

/// A case that went through `forward` with a tape, and its gradients.
template <class M> struct BackwardRun {
  using T = typename M::T;
  using State = typename M::State;
  ChannelRun<M> run;
  Index every;
  std::vector<State> initial, kept, dstates;
  std::vector<T> dy, dlog_w, dk, dv, du, workspace;

  BackwardRun(ChannelCase const& c, ChannelLoss const& loss, Index every_ = 16)
      : run(c),
        every(every_),
        initial(run.states),
        kept(M::tape_size(run.inputs(), c.offsets, every), channel_state<State>(c.channels)),
        dstates(run.states.size(), channel_state<State>(c.channels)),
        dy(loss.dy.begin(), loss.dy.end()),
        dlog_w(c.log_w.size(), T(-77)),
        dk(c.k.size(), T(-77)),
        dv(dk),
        du(dlog_w),
        workspace(M::backward_workspace(run.inputs(), c.offsets, every), std::numeric_limits<T>::quiet_NaN()) {
    auto forward = run.call();
    forward.tape = tape();
    require_empty(M::check(forward));
    M::forward(forward);
    for (std::size_t s = 0; s < dstates.size(); ++s)
      for (Index i = 0; i < c.channels; ++i) {
        auto const state = run.states[s].view();
        std::size_t const at = s * to_size(c.channels) + to_size(i);
        T const den = state.den[i], dmean = static_cast<T>(loss.dmean[at]), dweight = static_cast<T>(loss.dweight[at]);
        if (!(den > 0)) continue;
        dstates[s].num[i] = dmean / den;
        dstates[s].den[i] = (dweight - dmean * (state.num[i] / den)) / den;
        dstates[s].exponent[i] = -state.exponent[i];
      }
  }

  typename M::Tape tape() { return {.every = every, .states = kept}; }
  typename M::BackwardCall call() {
    ChannelCase const& c = run.c;
    return {.x = run.inputs(),
            .dy = {dy.data(), c.tokens(), 1, c.channels},
            .tape = tape(),
            .dx = {.log_w = {dlog_w.data(), 1, c.channels},
                   .k = {dk.data(), c.tokens(), 1, c.channels},
                   .v = {dv.data(), c.tokens(), 1, c.channels},
                   .u = {du.data(), 1, c.channels}},
            .dstates = dstates,
            .workspace = workspace,
            .offsets = c.offsets};
  }

  ChannelGradients result() const {
    ChannelGradients out{
        {dlog_w.begin(), dlog_w.end()}, {dk.begin(), dk.end()}, {dv.begin(), dv.end()}, {du.begin(), du.end()}, {}, {}};
    for (std::size_t s = 0; s < dstates.size(); ++s)
      for (Index i = 0; i < run.c.channels; ++i) {
        long double const unit = channel_unit(run.c, static_cast<Index>(s), i),
                          power = std::numbers::ln2_v<long double> * static_cast<long double>(dstates[s].exponent[i]),
                          scale = std::exp(unit + power);
        out.num.push_back(static_cast<double>(static_cast<long double>(dstates[s].num[i]) * scale));
        out.den.push_back(static_cast<double>(static_cast<long double>(dstates[s].den[i]) * scale));
      }
    return out;
  }
};

template <class M, class P = simd::Native<typename M::T>, class E = Serial>
BackwardRun<M> backward(BackwardRun<M> run, E&& executor = {}) {
  auto const call = run.call();
  require_empty(M::check(call));
  M::template backward<P>(call, executor);
  return run;
}

template <class M> BackwardRun<M> backward(ChannelCase const& c, Index every = 16) {
  return backward(BackwardRun<M>(c, ChannelLoss(23, c), every));
}

/// The bounds of dk, dv and du, by max_error, of dlog_w, a sum of what nearly cancels, by l2_error, and of gradients of states.
/// Among the huge numbers are u = -1e6, in which one rounding, where there is no fma, moves e^u, and with it the gradient
/// of an empty state.
struct GradientBounds {
  double gradients, dlog_w, states;
};
template <class T> GradientBounds bounds_of(ChannelCase const& c, Keys keys) {
  double const bound = keys == Keys::natural ? channel_bound<T> : channel_bound_of<T>(c);
  double const one_rounding = 1e6 * static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
  return {bound, sizeof(T) == 4 ? 10 * bound : bound, keys == Keys::huge ? std::max(bound, one_rounding) : bound};
}

inline void check_gradients(ChannelGradients const& x, ChannelGradients const& expected, GradientBounds const& bounds) {
  auto const check = [&](char const* name, auto const& one, auto const& other, double bound) {
    Note const note("gradient", name);
    check_close(one, other, bound);
  };
  check("k", x.k, expected.k, bounds.gradients);
  check("v", x.v, expected.v, bounds.gradients);
  check("u", x.u, expected.u, bounds.gradients);
  check("num", x.num, expected.num, bounds.states);
  check("den", x.den, expected.den, bounds.states);
  check_l2(x.log_w, expected.log_w, bounds.dlog_w);
}

template <class M> void check_same(BackwardRun<M> const& x, BackwardRun<M> const& expected) {
  check_equal(x.dk, expected.dk);
  check_equal(x.dv, expected.dv);
  check_equal(x.dlog_w, expected.dlog_w);
  check_equal(x.du, expected.du);
  check_that(x.dstates == expected.dstates, "gradients of states have the same bits");
}

}  // namespace aviary::test
