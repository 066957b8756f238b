#include "aviary/cuda/channel_forward.hpp"

#include <doctest/doctest.h>

#include "aviary/cuda/channel_backward.hpp"
#include "aviary/wkv4.hpp"
#include "support/channel_gradients.hpp"
#include "support/emulated.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {
template <class M> struct Case {
  ChannelCase c;
  ChannelLoss loss{23, c};
  BackwardRun<M> run{c, loss};
};
}

TEST_CASE_TEMPLATE("x", T, float) {
  ChannelCase const c(12, 45, {0, 0, 1, 3, 50, 50, 90}, Keys::natural);
  ChannelRun<Wkv4<T>> host(c);
  ChannelRun<Emulated<Wkv4<T>>> device(c);
  Wkv4<T>::template forward<T>(host.call());
  Emulated<Wkv4<T>>::forward(device.call());
  check_equal(device.y, host.y);
  check_that(device.states == host.states, "states");
  for (Index every : {1, 5, 16, 40, 100}) {
    Note const note("every", every);
  ChannelLoss const loss(23, c);
  BackwardRun<Wkv4<T>> b(c, loss, every);
  BackwardRun<Emulated<Wkv4<T>>> d(c, loss, every);
  check_that(b.kept == d.kept, "tape");
  Wkv4<T>::template backward<T>(b.call());
  Emulated<Wkv4<T>>::backward(d.call());
  check_equal(d.dk, b.dk);
  check_equal(d.dv, b.dv);
  check_equal(d.du, b.du);
  check_equal(d.dlog_w, b.dlog_w);
  check_that(b.dstates == d.dstates, "dstates");
  }
}
