#include "aviary/channel/state.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "aviary/wkv4.hpp"

using namespace aviary;

// The layout is the same in every translation unit, whatever its instruction set.
static_assert(std::is_trivially_copyable_v<ChannelState<float, 64>>);
static_assert(sizeof(ChannelState<float, 64>) == 3 * 64 * 4 && alignof(ChannelState<float, 64>) == 64);
static_assert(sizeof(ChannelState<float, 5>) == 3 * 64 && sizeof(ChannelState<double, 9>) == 3 * 128);
static_assert(std::regular<ChannelState<float, 64>> && std::regular<ChannelState<float, dynamic>>);
static_assert(std::regular<ChannelSegment<float, 64>> && std::regular<ChannelSegment<double, dynamic>>);

// step is noexcept, the conversions of its arguments included.
template <class M>
constexpr bool quiet = noexcept(M::step(std::declval<typename M::State&>(), std::declval<typename M::Token const&>(),
                                        std::declval<std::vector<float>&>())) && noexcept(typename M::Token{
    .log_w = std::declval<std::vector<float>&>(),
    .k = std::declval<std::vector<float>&>(),
    .v = std::declval<std::vector<float>&>(),
    .u = std::declval<std::vector<float>&>()});
static_assert(quiet<Wkv4<float, 64>> && quiet<Wkv4<float>>);

TEST_CASE("state: fixed and dynamic numbers of channels lie in the same layout") {
  ChannelState<float, 20> fixed{};
  ChannelState<float, dynamic> run_time(20);
  CHECK(run_time.channels() == 20);
  CHECK(fixed.view().channels() == 20);
  for (float* const row : {run_time.view().num, run_time.view().den, run_time.view().exponent, fixed.view().num,
                           fixed.view().den, fixed.view().exponent}) {
    CHECK(reinterpret_cast<std::uintptr_t>(row) % 64 == 0);
    for (Index c = 0; c < 32; ++c) CHECK(row[c] == 0);
  }
}

TEST_CASE("state: is a value") {
  ChannelState<double, dynamic> a(5), b = a;
  CHECK(a == b);
  b.den[4] = 1;
  CHECK(a != b);
  a = b;
  CHECK(a == b);
  CHECK(a != ChannelState<double, dynamic>(4));
  ChannelState<float, 2> c{}, d{};
  CHECK(c == d);
  d.exponent[1] = 2;
  CHECK(c != d);
}

TEST_CASE_TEMPLATE("state: other implementations' states go in and out", T, float, double) {
  std::vector<T> const aa{0, 3, -1, T(1e-3), 7}, bb{0, 2, 1, T(1e-5), 1000}, pp{T(-1e30), 0, 300, -300, T(17.25)};
  ChannelState<T, 5> state{};
  import_state(state.view(), aa, bb, pp);
  double const bound = 4 * std::numeric_limits<T>::epsilon();
  for (Index c = 0; c < 5; ++c) {
    std::size_t const i = to_size(c);
    double const power = double{state.exponent[c]} * std::numbers::ln2;
    CHECK(state.exponent[c] == std::round(state.exponent[c]));
    if (bb[i] == 0) continue;
    CHECK(state.num[c] / state.den[c] == doctest::Approx(aa[i] / bb[i]).epsilon(bound));
    CHECK(power + std::log(double{state.den[c]}) ==
          doctest::Approx(double{pp[i]} + std::log(double{bb[i]})).epsilon(bound));
  }
  CHECK(state.num[0] == 0);
  CHECK(state.den[0] == 0);

  std::vector<T> a(5), b(5), p(5);
  export_state(std::as_const(state).view(), VecView<T>(a), VecView<T>(b), VecView<T>(p));
  CHECK(p[0] == T(-1e30));
  CHECK(b[0] == 0);
  ChannelState<T, 5> again{};
  import_state(again.view(), a, b, p);
  for (Index c = 0; c < 5; ++c) {
    CHECK(again.num[c] == doctest::Approx(state.num[c]).epsilon(bound));
    CHECK(again.den[c] == doctest::Approx(state.den[c]).epsilon(bound));
    CHECK(again.exponent[c] == state.exponent[c]);
  }
}
