/// Forward in chunks on tensor cores. In builds with one size only the hardest traits.
#include "cuda/chunk_case.hpp"

using namespace aviary;
using namespace aviary::test;

TEST_CASE("matrix kernels, chunks: the hardest traits") {
  static_assert(cuda::WideChunks<Hardest, void>::slices > 1);
  check_chunks<Hardest>(chunk_case<Hardest>());
  check_chunk_widths<Hardest>(chunk_case<Hardest>());
}

#if !defined(AVIARY_TEST_ONE_SIZE)
TEST_CASE_TEMPLATE("matrix kernels, chunks: other traits", M, AVIARY_OTHER_CHUNK_MEMORIES) {
  check_chunks<M>(chunk_case<M>());
}
#endif

TEST_CASE("matrix kernels, chunks: rows of bf16") {
  auto const c = case_of_bf16<Hardest>();
  GradientRun<Device<Hardest>, bf16, float> const stored(c);
  RuleRun<Device<Hardest>> run(c), any(c);
  auto call = run.call();
  call.x = stored.inputs();
  Device<Hardest>::forward_by<cuda::WideChunks<Hardest, bf16>>(call);
  Device<Hardest>::forward_by<cuda::WideChunks<Hardest, void>>(any.call());
  check_bits(run, any);
}

TEST_CASE("matrix kernels, chunks: outputs that tokens share are those of the last one") {
  using M = ChunkMemory<Gate::scalar, Erase::along_key, Read::after, 16, 16>;
  constexpr Index tokens = 37, n = 3;
  auto c = chunk_case<M>({0, tokens * n});
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
