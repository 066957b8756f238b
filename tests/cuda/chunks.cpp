/// Chunks on tensor cores. In builds with one size only the hardest traits.
#include "cuda/matrix_suite.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {
template <Gate G, Erase E, Read D, Index K, Index V, bool constant = false>
using Memory = MatrixMemory<AnyRule<G, E, D, constant>, float, K, V>;

/// Several blocks share a head, and neither keys nor values fill matrices.
using Hardest = Memory<Gate::vector, Erase::rank_one, Read::before, 24, 136>;
}  // namespace

TEST_CASE("matrix kernels, chunks: the hardest traits") {
  static_assert(cuda::WideChunks<Hardest, void>::slices > 1);
  auto const c = gradient_case<Hardest::Rule>(Hardest::keys, Hardest::values, packed_tokens);
  check_chunks<Hardest>(c);
  check_chunk_widths<Hardest>(c);
  check_chunk_gradients<Hardest>(c);
}

#if !defined(AVIARY_TEST_ONE_SIZE)
TEST_CASE_TEMPLATE("matrix kernels, chunks: other traits", M,  //
                   Memory<Gate::none, Erase::none, Read::after, 32, 16>,
                   Memory<Gate::scalar, Erase::along_key, Read::before, 64, 32, true>,
                   Memory<Gate::scalar, Erase::rank_one, Read::after, 16, 48>,
                   Memory<Gate::vector, Erase::none, Read::before, 40, 24, true>) {
  auto const c = gradient_case<typename M::Rule>(M::keys, M::values, packed_tokens);
  check_chunks<M>(c);
  check_chunk_gradients<M>(c);
}
#endif

TEST_CASE_TEMPLATE("matrix kernels, chunks: rows of 16 bits", S, bf16, f16) {
  using M = Hardest;
  auto c = gradient_case<M::Rule>(M::keys, M::values, {0, 1, 1, 40});
  for (NamedNumbers const& field : named_fields<M::Rule>(c.x))
    for (double& e : *field.numbers) e = double{widen(narrow<S>(e))};
  for (double& e : c.dy) e = double{widen(narrow<S>(e))};
  GradientRun<Device<M>, S, float> stored(c);
  RuleRun<Device<M>> run(c), any(c);
  auto call = run.call();
  call.x = stored.inputs();
  Device<M>::template forward_by<cuda::WideChunks<M, S>>(call);
  Device<M>::template forward_by<cuda::WideChunks<M, void>>(any.call());
  check_bits(run, any);

  stored.forward();
  GradientRun<Device<M>> floats(c);
  floats.forward();
  check_same_gradients(back_in_chunks<M, S>(stored, 40).result(), back_in_chunks<M>(floats, 40).result());
}

TEST_CASE("matrix kernels, chunks: outputs that tokens share are those of the last one") {
  using M = Memory<Gate::scalar, Erase::along_key, Read::after, 16, 16>;
  constexpr Index tokens = 37, n = 3;
  auto c = gradient_case<M::Rule>(16, 16, {0, tokens * n});
  RuleRun<Device<M>> every(c), shared(c);
  auto call = every.call();
  Device<M>::forward_by<cuda::WideChunks<M, void>>(call);
  auto sparse = shared.call();
  Index const heads = sparse.y.heads();
  std::vector<float> y(to_size(tokens * heads * 16));
  sparse.y = Sink<16>(y.data(), tokens, heads, 16).repeated(n);
  Device<M>::forward_by<cuda::WideChunks<M, void>>(sparse);
  std::vector<float> last;
  Index const row = heads * 16;
  for (Index t = n - 1; t < tokens * n; t += n)
    last.insert(last.end(), every.y.begin() + t * row, every.y.begin() + (t + 1) * row);
  check_equal(y, last);
  check_that(shared.states == every.states, "final states have the same bits");
}
