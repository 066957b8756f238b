/// Backward in chunks on tensor cores. In builds with one size only the hardest traits.
#include "cuda/chunk_case.hpp"

using namespace aviary;
using namespace aviary::test;

TEST_CASE("matrix kernels, backward in chunks: the hardest traits") {
  static_assert(cuda::ChunkBackward<Hardest, void>::slices > 1);
  check_chunk_gradients<Hardest>(chunk_case<Hardest>());
}

#if !defined(AVIARY_TEST_ONE_SIZE)
TEST_CASE_TEMPLATE("matrix kernels, backward in chunks: other traits", M, AVIARY_OTHER_CHUNK_MEMORIES) {
  check_chunk_gradients<M>(chunk_case<M>());
}
#endif

TEST_CASE("matrix kernels, backward in chunks: one stage, where there is no room for two") {
  GradientRun<Device<Hardest>> run(chunk_case<Hardest>());
  run.forward();
  check_same_gradients(back_in_chunks<Hardest, void, cuda::ChunkBackwardWith<Hardest, void, 1>>(run, 48).result(),
                       back_in_chunks<Hardest, void, cuda::ChunkBackwardWith<Hardest, void, 2>>(run, 48).result());
}

TEST_CASE("matrix kernels, backward in chunks: rows of bf16") {
  auto const c = case_of_bf16<Hardest>();
  GradientRun<Device<Hardest>, bf16, float> stored(c);
  GradientRun<Device<Hardest>> floats(c);
  stored.forward(), floats.forward();
  check_same_gradients(back_in_chunks<Hardest, bf16>(stored, 40).result(),
                       back_in_chunks<Hardest>(floats, 40).result());
}
