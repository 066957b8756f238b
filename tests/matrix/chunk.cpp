#include "aviary/matrix/chunk.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "support/allocation_counter.hpp"
#include "support/compare.hpp"
#include "support/matrix_case.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

template <class M, Index L> MatrixResult run_chunked(MatrixCase const& c) {
  MatrixCall<M> call(c);
  std::vector<typename M::T> workspace(M::template chunk_workspace<L>(c.shape.keys, c.shape.values));
  M::template chunk<L>(call.call(), workspace);
  return call.result();
}

/// Against the reference, in chunks of L tokens.
template <class M, class R, Index L = 16> void check_chunks(MatrixCase const& c) {
  MatrixResult const expected = reference_result(c, R::read);
  MatrixResult const result = run_chunked<M, L>(c);
  check_close(result, expected, matrix_bound<typename M::T>);
}

template <class T, Index K, Index V> struct CheckTraits {
  Index keys, values;

  template <Gate G, Erase E, Read D> void operator()() const {
    Note const gate("gate", name(G)), erase("erase", name(E)), read("read", name(D));
    // Sequences of 0 and 1 tokens, whole chunks and ragged last ones.
    MatrixCase const c(31, {keys, values, 2, {0, 0, 1, 17, 33, 110}}, G, E, false, Decay::wkv7);
    using R = AnyRule<G, E, D>;
    check_chunks<MatrixMemory<R, T, K, V>, R>(c);
  }
};

using Free = AnyRule<Gate::vector, Erase::rank_one, Read::after>;

}  // namespace

TEST_CASE("chunk: all traits agree with the reference, float") {
  for_each_combination_in_turn(CheckTraits<float, 16, 24>{16, 24});
}
TEST_CASE("chunk: all traits agree with the reference, double, sizes known at run time") {
  for_each_pair_of_traits(CheckTraits<double, dynamic, dynamic>{11, 19});
}

TEST_CASE_TEMPLATE("chunk: any length, and decays of 0 and 1", T, float, double) {
  using M = MatrixMemory<Free, T, 16, 24>;
  for (Decay const decay : {Decay::none, Decay::slow, Decay::wide, Decay::extremes}) {
    Note const note("decay", name(decay));
    MatrixCase const c(32, {16, 24, 2, {0, 200}}, Gate::vector, Erase::rank_one, false, decay);
    MatrixResult const expected = reference_result(c, Free::read);
    // A product of decays over a chunk has a relative error of up to half an eps for each: see chunk::pairs.
    auto const bound = [](Index length) {
      return matrix_bound<T> +
             0.5 * static_cast<double>(length) * static_cast<double>(std::numeric_limits<T>::epsilon());
    };
    check_close(run_chunked<M, 1>(c), expected, bound(1));
    check_close(run_chunked<M, 16>(c), expected, bound(16));
    check_close(run_chunked<M, 23>(c), expected, bound(23));
    check_close(run_chunked<M, 32>(c), expected, bound(32));
    check_close(run_chunked<M, 64>(c), expected, bound(64));
    check_close(run_chunked<M, 256>(c), expected, bound(256));
  }
}

TEST_CASE_TEMPLATE("chunk: a constant slow decay keeps its digits", T, float, double) {
  using R = AnyRule<Gate::vector, Erase::none, Read::before, true>;
  MatrixCase const c(33, {16, 24, 2, {0, 1024}}, Gate::vector, Erase::none, true, Decay::slow);
  check_chunks<MatrixMemory<R, T, 16, 24>, R, 64>(c);
  using Scalar = AnyRule<Gate::scalar, Erase::along_key, Read::after, true>;
  MatrixCase const s(34, {16, 24, 2, {0, 1024}}, Gate::scalar, Erase::along_key, true, Decay::slow);
  check_chunks<MatrixMemory<Scalar, T, 16, 24>, Scalar, 64>(s);
}

TEST_CASE("chunk: keeps a tape, and allocates nothing") {
  using M = MatrixMemory<Free, float, 16, 24>;
  MatrixCase const c(35, {16, 24, 2, {0, 50}}, Gate::vector, Erase::rank_one, false, Decay::wkv7);
  MatrixCall<M> call(c), stepped(c);
  auto chunked = call.call(), forward = stepped.call();
  std::vector<M::State> kept(M::tape_size(chunked.x, {}, 20)), expected(kept);
  chunked.tape = {.every = 20, .states = kept};
  forward.tape = {.every = 20, .states = expected};
  std::vector<float> workspace(M::chunk_workspace<16>());
  aviary::detail::Chunked<M, simd::Native<float>, 16> const engine(workspace);
  Serial serial;
  {
    AllocationCounter const allocations;
    aviary::detail::ForwardPass<M, std::remove_const_t<decltype(engine)>>::run(chunked, serial, engine);
    CHECK(allocations.count() == 0);
  }
  M::forward(forward);
  CHECK(max_error(call.result().state, stepped.result().state) <= 2 * matrix_bound<float>);
  for (std::size_t s = 0; s < kept.size(); ++s)
    for (Index j = 0; j < 16; ++j)
      for (Index i = 0; i < 24; ++i) CHECK(kept[s].s[j][i] == doctest::Approx(expected[s].s[j][i]).epsilon(1e-4));
}

TEST_CASE_TEMPLATE("chunk: pairs are products over what lies between", P, float, double, simd::Native<float>) {
  using T = typename simd::Pack<P>::value_type;
  Random random(36);
  Index const keys = 21;
  for (Index const n : {1, 2, 3, 7, 16, 37})
    for (bool const inclusive : {false, true}) {
      auto const x = random.normals<T>(n * keys), y = random.normals<T>(n * keys);
      auto w = random.rates<T>(n * keys);
      for (std::size_t i = 0; i < w.size(); i += 7) w[i] = 0;
      std::vector<T> out(to_size(n * n), T(9)), scratch(to_size(((n + 1) / 2 + 2) * keys));
      chunk::pairs<P>(MatView<T const>(x.data(), n, keys), MatView<T const>(y.data(), n, keys),
                      MatView<T const>(w.data(), n, keys), inclusive, MatView<T>(scratch.data(), (n + 1) / 2 + 2, keys),
                      MatView<T>(out.data(), n, n));
      for (Index t = 0; t < n; ++t)
        for (Index s = 0; s < n; ++s) {
          double sum = 0, size = 0;
          for (Index j = 0; j < keys && s < t; ++j) {
            double e = static_cast<double>(x[to_size(t * keys + j)]) * static_cast<double>(y[to_size(s * keys + j)]);
            for (Index i = s + 1; i < t + inclusive; ++i) e *= static_cast<double>(w[to_size(i * keys + j)]);
            sum += e;
            size += std::abs(e);
          }
          // (t - s) roundings of each product, and those of the sum over the keys
          double const eps = static_cast<double>(std::numeric_limits<T>::epsilon());
          CHECK(std::abs(static_cast<double>(out[to_size(t * n + s)]) - sum) <=
                static_cast<double>(t - s + keys) * eps * size);
        }
    }
}

TEST_CASE_TEMPLATE("chunk: solve undoes a unit lower triangular product", P, float, double, simd::Native<double>) {
  using T = typename simd::Pack<P>::value_type;
  Random random(37);
  Index const n = 19, values = 13;
  auto a = random.normals<T>(n * n, 0.2);
  for (Index t = 0; t < n; ++t)
    for (Index s = t; s < n; ++s) a[to_size(t * n + s)] = 0;
  auto const z = random.normals<T>(n * values);
  std::vector<T> b(z);
  for (Index t = 0; t < n; ++t)
    for (Index s = 0; s < t; ++s)
      for (Index i = 0; i < values; ++i)
        b[to_size(t * values + i)] -= a[to_size(t * n + s)] * z[to_size(s * values + i)];
  chunk::solve<P>(MatView<T const>(a.data(), n, n), MatView<T>(b.data(), n, values));
  CHECK(max_error(b, z) <=
        100 * static_cast<double>(std::numeric_limits<T>::epsilon()));  // n^2 / 2 products of order 1
}
