#include <doctest/doctest.h>

#include <array>
#include <limits>

#include "aviary/cuda/channel_backward.hpp"
#include "aviary/cuda/channel_check.hpp"
#include "aviary/cuda/channel_forward.hpp"
#include "aviary/wkv4.hpp"
#include "support/channel_gradients.hpp"
#include "support/emulated.hpp"
#include "support/memory_suite.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

/// Sequences without a token, of one, of a few, and of several tiles with and without a rest.
std::vector<Index> const packed{0, 0, 1, 3, 10, 10, 26, 42, 75, 202, 202};

ChannelCase make_case(std::vector<Index> offsets, Index channels = 45, Keys keys = Keys::natural) {
  return ChannelCase(12, channels, std::move(offsets), keys);
}

template <class M> using Device = Emulated<M>;

/// A run on the host becomes one of the same inputs through another memory.
template <class T> ChannelRun<Device<Wkv4<T>>> device_run(std::vector<Index> offsets, Keys keys = Keys::natural) {
  return ChannelRun<Device<Wkv4<T>>>(make_case(std::move(offsets), 45, keys));
}

/// With one lane, as a thread has.
template <class T> ChannelRun<Wkv4<T>> on_host(ChannelCase const& c) {
  ChannelRun<Wkv4<T>> run(c);
  Wkv4<T>::template forward<T>(run.call());
  return run;
}

template <class X, class Y> void check_same_result(X const& x, Y const& expected) {
  check_equal(x.y, expected.y);
  check_that(x.states == expected.states, "final states have the same bits");
}

template <class X, class Y> void check_same_gradients(X const& x, Y const& expected) {
  check_equal(x.dk, expected.dk);
  check_equal(x.dv, expected.dv);
  check_equal(x.dlog_w, expected.dlog_w);
  check_equal(x.du, expected.du);
  check_that(x.dstates == expected.dstates, "gradients of states have the same bits");
}

/// The gradients of a case, on the host with one lane, or by the kernels.
template <class T> BackwardRun<Wkv4<T>> gradients_on_host(ChannelCase const& c) {
  BackwardRun<Wkv4<T>> run(c, ChannelLoss(23, c));
  Wkv4<T>::template forward<T>(ChannelRun<Wkv4<T>>(c).call());
  Wkv4<T>::template backward<T>(run.call());
  return run;
}
template <class T, class E = Serial>
BackwardRun<Device<Wkv4<T>>> gradients(ChannelCase const& c, Index every = 16, E&& executor = {}) {
  BackwardRun<Device<Wkv4<T>>> run(c, ChannelLoss(23, c), every);
  require_empty(Device<Wkv4<T>>::check(run.call()));
  Device<Wkv4<T>>::backward(run.call(), executor);
  return run;
}

/// Numbers of a row in some format, and room around them: rows begin where 16-bit numbers lie on no boundary of 4 bytes.
class Numbers {
  template <class F> auto with(F&& f) {
    return aviary::detail::with_stored(format_, [&]<class S>(S) { return f(reinterpret_cast<S*>(bytes_.data()) + 1); });
  }

 public:
  Numbers(NumberFormat format, Index tokens, Index channels)
      : format_(format),
        tokens_(tokens),
        channels_(channels),
        bytes_(to_size((tokens * stride() + 3) * 8), std::byte{0x5a}) {}
  template <class T>
  Numbers(NumberFormat format, Index channels, std::vector<T> const& x)
      : Numbers(format, static_cast<Index>(x.size()) / channels, channels) {
    with([&](auto* to) {
      for (Index i = 0; i < tokens_ * channels_; ++i)
        to[i / channels_ * stride() + i % channels_] = narrow<std::remove_pointer_t<decltype(to)>>(x[to_size(i)]);
    });
  }
  Index stride() const { return channels_ + 2; }
  operator Source<>() {
    return with([&](auto* x) { return Source<>(x, tokens_, 1, channels_, stride(), 0); });
  }
  operator HeadSource<>() {
    return with([&](auto* x) { return HeadSource<>(x, 1, channels_); });
  }
  operator Sink<>() {
    return with([&](auto* x) { return Sink<>(x, tokens_, 1, channels_, stride(), 0); });
  }
  operator HeadSink<>() {
    return with([&](auto* x) { return HeadSink<>(x, 1, channels_); });
  }
  friend bool operator==(Numbers const& a, Numbers const& b) { return a.bytes_ == b.bytes_; }

 private:
  NumberFormat format_;
  Index tokens_, channels_;
  std::vector<std::byte> bytes_;
};

constexpr NumberFormat formats[]{NumberFormat::f32, NumberFormat::bf16, NumberFormat::f16, NumberFormat::f64};

}  // namespace

TEST_CASE_TEMPLATE("channel kernels, forward: the bits of a lane of the host, and so within the bounds", T, float,
                   double) {
  for (Keys const keys : all_keys)
    for (Index const channels : {1, 45, 64}) {
      Note const note("keys", name(keys)), note_channels("channels", channels);
      ChannelCase const c = make_case(packed, channels, keys);
      auto const run = forwarded(ChannelRun<Device<Wkv4<T>>>(c));
      check_same_result(run, on_host<T>(c));
      check_bits(forwarded(ChannelRun<Device<Wkv4<T>>>(c), Backwards{}), run);
      auto const result = run.result(), expected = reference_result(c);
      double const bound = keys == Keys::natural ? channel_bound<T> : channel_bound_of<T>(c);
      check_close(result.y, expected.y, bound);
      check_close(result.mean, expected.mean, bound);
      check_that(log_error(result.weight, expected.weight) <= channel_bound_of<T>(c), "weights");
    }
}

TEST_CASE_TEMPLATE("channel kernels, forward: what every memory owes", T, float, double) {
  check_packed(device_run<T>(packed));
  check_splits(device_run<T>({0, 40}, Keys::strong));
  check_states_apart(device_run<T>(packed));
  check_tape(device_run<T>({0, 0, 1, 9, 41}));
  check_bands(device_run<T>({0, 23}));
  check_outside(device_run<T>({0, 30}), 7, 19, [](auto& run, Index t) {
    for (Index i = 0; i < 45; ++i) run.k[to_size(t * 45 + i)] = std::numeric_limits<T>::quiet_NaN();
  });
}

TEST_CASE_TEMPLATE("channel kernels, forward: any format, wherever rows begin", T, float, double) {
  using M = Wkv4<T>;
  ChannelCase const c = make_case({0, 11, 33});
  for (NumberFormat const in : formats)
    for (NumberFormat const out : formats) {
      Note const note("format of inputs", std::string(name_of(in))), other("of outputs", std::string(name_of(out)));
      Numbers log_w(in, 45, c.log_w), k(out, 45, c.k), v(in, 45, c.v), u(out, 45, c.u), y(out, 33, 45), expected = y;
      ChannelRun<M> host(c);
      ChannelRun<Device<M>> device(c);
      auto call = host.call();
      call.x = {.log_w = log_w, .k = k, .v = v, .u = u};
      call.y = expected;
      M::template forward<T>(call);
      auto device_call = device.call();
      device_call.x = call.x;
      device_call.y = y;
      Device<M>::forward(device_call, Backwards{});
      check_that(y == expected, "outputs have the same bits, and so has what lies between them");
      check_that(device.states == host.states, "final states have the same bits");
    }
}

TEST_CASE_TEMPLATE("channel kernels, backward: the bits of a lane of the host, however far apart the tape's states are",
                   T, float, double) {
  for (Keys const keys : all_keys) {
    Note const note("keys", name(keys));
    ChannelCase const c = make_case(packed, 45, keys);
    auto const expected = gradients_on_host<T>(c);
    for (Index const every : {1, 7, 16, 17, 50, 1000}) {
      Note const note_every("every", every);
      check_same_gradients(gradients<T>(c, every), expected);
      check_same_gradients(gradients<T>(c, every, Backwards{}), expected);
    }
    check_gradients(gradients<T>(c).result(), reference_gradients(c, ChannelLoss(23, c)), bounds_of<T>(c, keys));
  }
}

TEST_CASE_TEMPLATE("channel kernels, backward: any format, wherever rows begin, and a workspace of just the right size",
                   T, float, double) {
  using M = Wkv4<T>;
  ChannelCase const c = make_case({0, 11, 11, 50});
  for (NumberFormat const in : formats)
    for (NumberFormat const out : formats) {
      Note const note("format of inputs", std::string(name_of(in))), other("of outputs", std::string(name_of(out)));
      Index const every = 18;
      BackwardRun<M> host(c, ChannelLoss(23, c), every);
      BackwardRun<Device<M>> device(c, ChannelLoss(23, c), every);
      Numbers log_w(in, 45, c.log_w), k(out, 45, c.k), v(in, 45, c.v), u(out, 45, c.u), dy(in, 45, host.dy);
      std::vector<Numbers> expected{{out, 1, 45}, {out, 50, 45}, {in, 50, 45}, {in, 1, 45}}, found = expected;
      auto call = host.call();
      call.x = {.log_w = log_w, .k = k, .v = v, .u = u};
      call.dy = dy;
      call.dx = {.log_w = expected[0], .k = expected[1], .v = expected[2], .u = expected[3]};
      M::template backward<T>(call);
      std::vector<T> workspace(device.workspace.size() + 64, T(-77));
      auto device_call = device.call();
      device_call.x = call.x;
      device_call.dy = call.dy;
      device_call.dx = {.log_w = found[0], .k = found[1], .v = found[2], .u = found[3]};
      device_call.workspace = std::span(workspace).subspan(32, device.workspace.size());
      require_empty(Device<M>::check(device_call));
      Device<M>::backward(device_call, Backwards{});
      check_that(found == expected, "gradients have the same bits, and so has what lies between them");
      check_that(device.dstates == host.dstates, "gradients of states have the same bits");
      check_each(64, "nothing beside the workspace is written", [&](Index i) {
        return workspace[i < 32 ? to_size(i) : workspace.size() - 1 - to_size(i - 32)] == -77;
      });
    }
}

TEST_CASE_TEMPLATE("channel kernels, backward: what is not wanted changes no bit of what is", T, float, double) {
  using M = Device<Wkv4<T>>;
  ChannelCase const c = make_case({0, 3, 30});
  ChannelLoss const loss(23, c);
  BackwardRun<M> const given(c, loss), all = gradients<T>(c);
  for (int const wanted : {0, 1, 2, 4, 8, 5, 10}) {
    Note const note("wanted", wanted);
    BackwardRun<M> some = given;
    auto call = some.call();
    if ((wanted & 1) == 0) call.dx.log_w = {};
    if ((wanted & 2) == 0) call.dx.k = {};
    if ((wanted & 4) == 0) call.dx.v = {};
    if ((wanted & 8) == 0) call.dx.u = {};
    M::backward(call);
    check_equal(some.dlog_w, (wanted & 1) != 0 ? all.dlog_w : given.dlog_w);
    check_equal(some.dk, (wanted & 2) != 0 ? all.dk : given.dk);
    check_equal(some.dv, (wanted & 4) != 0 ? all.dv : given.dv);
    check_equal(some.du, (wanted & 8) != 0 ? all.du : given.du);
    check_that(some.dstates == all.dstates, "gradients of states have the same bits");
  }
  BackwardRun<M> zero = given, none = given;  // no gradients of final states
  for (auto& ds : zero.dstates) ds.clear();
  M::backward(zero.call());
  auto call = none.call();
  call.dstates = std::span<typename M::State>();
  M::backward(call);
  none.dstates = zero.dstates;
  check_same_gradients(none, zero);
}

TEST_CASE("channel kernels, backward: sequences without a token, and no sequence") {
  ChannelCase const c = make_case({0, 0, 0}), none = make_case({0});
  BackwardRun<Device<Wkv4<float>>> const given(c, ChannelLoss(23, c));
  auto const run = gradients<float>(c);
  CHECK(run.dstates == given.dstates);  // gradients go through
  for (auto const& x : {run, gradients<float>(none)}) {
    check_equal(x.dlog_w, std::vector<float>(45));
    check_equal(x.du, std::vector<float>(45));
  }
}

TEST_CASE("channel kernels, check: says what is wrong with shapes, and reads no position of a sequence") {
  using M = Wkv4<float, 24>;
  using Check = cuda::ChannelDeviceCheck<M>;
  ChannelCase const c = make_case({0, 6}, 24);
  BackwardRun<M> run(c, ChannelLoss(23, c), 2);
  std::vector<Index> const nowhere{-5, 1000, 7};  // as if these lay on a device
  std::vector<M::State> states(2);
  auto good = run.run.call();
  good.offsets = nowhere;
  good.states = states;
  CHECK(Check::forward(good) == "");
  auto bad = good;
  bad.x.v = {run.run.v.data(), 5, 1};
  CHECK(Check::forward(bad) == "aviary: wkv4: forward: v has 5 tokens, y has 6");
  bad = good;
  bad.states = std::span(states).first(1);
  CHECK(Check::forward(bad) == "aviary: wkv4: forward: states has 1 elements, expected 2");
  bad = good;
  auto const apart = [&](Index s) { return &states[1 - to_size(s)]; };
  bad.states = {apart, 2, 1};
  CHECK(Check::forward(bad).find("states are not in one place") != std::string::npos);
  bad = good;
  bad.tape.every = 0;
  CHECK(Check::forward(bad) == "aviary: wkv4: forward: tape.every is 0, expected at least 1");
  bad = good;
  bad.x.k = Source<24>(run.run.k.data(), 3, 1).repeated(2);
  CHECK(Check::forward(bad).find("k has rows that several tokens share") != std::string::npos);
  bad = run.run.call();
  bad.offsets = {};
  bad.tape = {.every = 2, .states = states};
  CHECK(Check::forward(bad) == "aviary: wkv4: forward: tape has 2 elements, expected 3");

  auto const backward = run.call();
  CHECK(Check::backward(backward) == "");
  auto wrong = backward;
  wrong.offsets = nowhere;
  CHECK(Check::backward(wrong) == "aviary: wkv4: backward: dstates has 1 elements, expected 2");
  wrong = backward;
  wrong.dx.k = {run.dk.data(), 7, 1};
  CHECK(Check::backward(wrong) == "aviary: wkv4: backward: dx.k has 7 tokens, dy has 6");
  wrong = backward;
  wrong.tape = {};
  wrong.offsets = {};
  CHECK(Check::backward(wrong) == "aviary: wkv4: backward: tape has 0 elements, expected 1");
  wrong.offsets = std::span(nowhere).first(2);
  CHECK(Check::backward(wrong) == "aviary: wkv4: backward: tape has 0 elements, expected what forward kept");
  wrong = backward;
  wrong.workspace = wrong.workspace.first(63);  // two rows of 24 channels, padded
  CHECK(Check::backward(wrong) == "aviary: wkv4: backward: workspace has 63 numbers, expected at least 64");
}
