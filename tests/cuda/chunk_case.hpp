#pragma once
/// Memories whose tokens go in chunks.
#include "cuda/matrix_suite.hpp"

namespace aviary::test {

template <Gate G, Erase E, Read D, Index K, Index V, bool constant = false>
using ChunkMemory = MatrixMemory<AnyRule<G, E, D, constant>, float, K, V>;

/// The hardest traits: several blocks share a head, and neither keys nor values fill matrices.
using Hardest = ChunkMemory<Gate::vector, Erase::rank_one, Read::before, 24, 136>;

/// Others, for builds with all sizes; golden files have more.
#define AVIARY_OTHER_CHUNK_MEMORIES                                                      \
  aviary::test::ChunkMemory<Gate::scalar, Erase::along_key, Read::before, 64, 32, true>, \
      aviary::test::ChunkMemory<Gate::none, Erase::none, Read::after, 40, 16>

template <class M> GradientCase<typename M::Rule> chunk_case(std::vector<Index> offsets = packed_tokens) {
  return gradient_case<typename M::Rule>(M::keys, M::values, std::move(offsets));
}

/// A case with numbers of bf16.
template <class M> GradientCase<typename M::Rule> case_of_bf16() {
  auto c = chunk_case<M>({0, 1, 1, 40});
  for (NamedNumbers const& field : named_fields<typename M::Rule>(c.x))
    for (double& e : *field.numbers) e = double{widen(narrow<bf16>(e))};
  for (double& e : c.dy) e = double{widen(narrow<bf16>(e))};
  return c;
}

}  // namespace aviary::test
