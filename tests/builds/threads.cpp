/// Verbs on threads that start and end as they like, for the thread sanitizer: no two tasks of a call touch the same number,
/// and all have the bits of one thread.
#include <atomic>
#include <cstdio>
#include <thread>
#include <tuple>
#include <vector>

#include "aviary/dense/linear.hpp"
#include "aviary/wkv4.hpp"
#include "aviary/wkv6.hpp"
#include "aviary/wkv7.hpp"
#include "support/random.hpp"
#include "support/same_numbers.hpp"

namespace {

using namespace aviary;

/// `concurrency` threads, each of which takes the next task.
class Threads {
 public:
  static constexpr Index multiplies_per_task = 1;

  explicit Threads(Index concurrency) : concurrency_(concurrency) {}
  Index concurrency() const noexcept { return concurrency_; }
  template <class Task> void operator()(Index count, Task&& task) const {
    std::atomic<Index> next{0};
    std::vector<std::thread> threads;
    for (Index i = 0; i < concurrency_; ++i)
      threads.emplace_back([&] {
        for (Index at = next++; at < count; at = next++) task(at);
      });
    for (auto& thread : threads) thread.join();
  }

 private:
  Index concurrency_;
};

constexpr Index tokens = 40, size = 32;
int failed = 0;

void expect(bool so, char const* what, Index heads) {
  if (so) return;
  std::printf("%s, %td heads: other bits than one thread\n", what, heads);
  ++failed;
}

/// In heads of 32 x 32. The inputs are small numbers below 0, which are log decays as well.
template <class M> void check_matrix_memory(char const* name, Index heads) {
  std::vector<float> x = test::Random(3).normals<float>(tokens * heads * size, 0.1);
  for (float& e : x) e = e < 0 ? e : -e;
  std::vector<Index> const offsets{0, 1, 1, tokens};
  auto const result = [&](auto executor) {
    std::vector<float> y(x.size()), m(x.size());
    std::vector<typename M::State> states(to_size(3 * heads)), before(states.size());
    std::vector<typename M::Segment> segments(states.size());
    typename M::Inputs const in = test::same_inputs<M>(x.data(), tokens, heads, size);
    Sink<size> const out(y.data(), tokens, heads), weights(m.data(), tokens, heads);
    M::forward({.x = in, .y = out, .states = states, .offsets = offsets}, executor);
    std::vector<float> all = y;
    M::summarize({.x = in, .segments = segments, .y = out, .state_weights = weights, .offsets = offsets}, executor);
    std::span<typename M::State const> const initial(states);
    M::add_initial_state({.state_weights = Source<size>(m.data(), tokens, heads),
                          .y0 = Source<size>(y.data(), tokens, heads),
                          .y = out,
                          .states = initial,
                          .offsets = offsets},
                         executor);
    all.insert(all.end(), y.begin(), y.end());
    std::vector<typename M::StateGradient> dstates(states.size());
    M::pull_outputs({.state_weights = Source<size>(m.data(), tokens, heads),
                     .dy = Source<size>(y.data(), tokens, heads),
                     .dstates = dstates,
                     .offsets = offsets},
                    executor);
    return std::tuple(all, states, segments, dstates);
  };
  expect(result(Threads(4)) == result(Serial()), name, heads);
}

void check_channel_memory() {
  constexpr Index channels = 300;
  std::vector<float> const x = test::Random(5).normals<float>(tokens * channels);
  std::vector<float> const log_w(to_size(channels), -0.1f);
  using M = Wkv4<float>;
  auto const result = [&](auto executor) {
    std::vector<float> y(x.size());
    std::vector<M::State> states(1, M::State(channels));
    Source<> const row(x.data(), tokens, 1, channels);
    M::forward({.x = {.log_w = {log_w.data(), 1, channels}, .k = row, .v = row, .u = {x.data(), 1, channels}},
                .y = {y.data(), tokens, 1, channels},
                .states = states},
               executor);
    return std::pair(y, states);
  };
  expect(result(Threads(4)) == result(Serial()), "wkv4", 1);
}

void check_linear() {
  constexpr Index in = 256, out = 640;
  std::vector<float> const w = test::Random(7).normals<float>(in * out),
                           x = test::Random(8).normals<float>(tokens * in);
  Linear<float> const linear(MatView<float const>{w.data(), out, in});
  auto const result = [&](auto executor) {
    std::vector<float> y(to_size(tokens * out));
    linear({x.data(), tokens, in}, MatView<float>{y.data(), tokens, out}, executor);
    return y;
  };
  expect(result(Threads(4)) == result(Serial()), "linear", 1);
}

}  // namespace

int main() {
  for (Index const heads : {1, 3}) {
    check_matrix_memory<Wkv7<float, size>>("wkv7", heads);
    check_matrix_memory<Wkv6<float, size>>("wkv6", heads);
  }
  check_channel_memory();
  check_linear();
  std::puts(failed == 0 ? "the same bits" : "FAILED");
  return failed == 0 ? 0 : 1;
}
