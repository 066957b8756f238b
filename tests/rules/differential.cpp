/// Random calls against the reference: every instruction set of the build, any shape, grouped heads, any packing, decays
/// from 0 to 1 exactly, numbers from 1e-12 to 1e12, with and without y and a tape, by executors that run tasks in any order
/// and at any time. AVIARY_TEST_CASES says how many calls, and AVIARY_TEST_SEED where they begin; a failure prints its seed.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "aviary/simd/instruction_sets.hpp"
#include "rules/models.hpp"
#include "support/check.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

/// Runs tasks in an order of its own, on this thread or on as many as there are tasks.
class AnyOrder {
 public:
  static constexpr Index multiplies_per_task = 1;

  AnyOrder(std::uint64_t seed, Index concurrency, bool threads)
      : random_(seed), concurrency_(concurrency), threads_(threads) {}
  Index concurrency() const noexcept { return concurrency_; }
  template <class Task> void operator()(Index count, Task&& task) {
    std::vector<Index> order;
    for (Index i = 0; i < count; ++i) order.insert(order.begin() + random_.below(i + 1), i);
    std::vector<std::thread> running;
    for (Index const i : order)
      if (threads_)
        running.emplace_back([&task, i] { task(i); });
      else
        task(i);
    for (auto& thread : running) thread.join();
  }

 private:
  Random random_;
  Index concurrency_;
  bool threads_;
};

struct Drawn {
  Shape shape;
  Decay decay;
  Index key_heads, concurrency, every;
  double v_scale, state_scale;
  bool with_y, threads;
};

Drawn draw(std::uint64_t seed) {
  Random random(seed);
  Drawn d{.shape = {1 + random.below(40), 1 + random.below(40), 1 + random.below(4), {0}},
          .decay = std::vector{Decay::none, Decay::slow, Decay::wkv7, Decay::wide,
                               Decay::extremes}[to_size(random.below(5))],
          .key_heads = 1,
          .concurrency = 1 + random.below(9),
          .every = 1 + random.below(40),
          .v_scale = std::pow(10.0, random.uniform(-12, 12)),
          .state_scale = 0,
          .with_y = random.below(4) != 0,
          .threads = random.below(8) == 0};
  d.state_scale = random.below(3) == 0 ? 0 : d.v_scale;  // far apart, the larger would hide the other's errors
  for (Index s = 1 + random.below(3); s > 0; --s)
    d.shape.offsets.push_back(d.shape.offsets.back() + (random.below(4) == 0 ? random.below(2) : random.below(80)));
  if (d.shape.tokens() == 0) d.shape.offsets.back() = 1;
  d.key_heads = d.shape.heads % 2 == 0 && random.below(2) == 0 ? d.shape.heads / 2 : d.shape.heads;
  return d;
}

template <class Model, class P>
void check_call(Drawn const& d, std::uint64_t seed, RuleCase<typename Model::Rule> const& c,
                MatrixResult const& expected) {
  using T = typename simd::Pack<P>::value_type;
  using M = typename Model::template Memory<T, dynamic, dynamic>;
  RuleRun<M> run(c);
  auto call = run.call();
  if (!d.with_y) call.y = {};
  std::vector<typename M::State> kept(M::tape_size(call.x, call.offsets, d.every),
                                      typename M::State(d.shape.keys, d.shape.values));
  if (seed % 3 == 0) call.tape = {.every = d.every, .states = kept};
  require_empty(M::check(call));
  M::template forward<P>(call, AnyOrder(seed, d.concurrency, d.threads));
  MatrixResult const result = run.result();
  // What a memory states for a step; and for many tokens of few keys, whose errors add up, the bound of the other tests.
  double const bound = std::max(
      matrix_bound<T>, 8 * static_cast<double>(std::numeric_limits<T>::epsilon() * static_cast<T>(d.shape.keys)));
  if (d.with_y) check_close(result.y, expected.y, bound);
  check_close(result.state, expected.state, bound);
}

template <class Model> void check_model(std::uint64_t seed) {
  Drawn const d = draw(seed);
  auto c = draw_case<Model>(seed, d.shape, d.decay, d.key_heads);
  for (double& e : c.x.v) e = static_cast<double>(static_cast<float>(e * d.v_scale));
  for (double& e : c.state) e = static_cast<double>(static_cast<float>(e * d.state_scale));
  MatrixResult const expected = reference_of<typename Model::Reference>(c);
  simd::for_each_instruction_set<float>([&]<class P>(simd::InstructionSet<P> set) {
    Note const note("instruction set", set.name);
    check_call<Model, P>(d, seed, c, expected);
  });
  check_call<Model, simd::Native<double>>(d, seed, c, expected);
}

std::uint64_t from_environment(char const* name, std::uint64_t otherwise) {
  char const* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::stoull(text);
}

}  // namespace

TEST_CASE("differential: random calls agree with the reference") {
  std::uint64_t const first = from_environment("AVIARY_TEST_SEED", 1),
                      count = from_environment("AVIARY_TEST_CASES", 120);
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    Note const note("seed", std::to_string(seed));
    switch (seed % 4) {
      case 0:
        check_model<Wkv7Model>(seed);
        break;
      case 1:
        check_model<Wkv6Model>(seed);
        break;
      case 2:
        check_model<GatedDeltaNetModel>(seed);
        break;
      default:
        check_model<RetNetModel>(seed);
    }
  }
}
