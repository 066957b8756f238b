#include "aviary/delta_rule.hpp"

#include "support/memories_of.hpp"

namespace aviary::test {

template struct Memories<DeltaNet<float, 16>::Rule>;
template struct Memories<GatedDeltaNet<float, 16>::Rule>;
template struct Memories<Kda<float, 16>::Rule>;
template struct Memories<GatedDeltaNet2<float, 16>::Rule>;
template struct Memories<Comba<float, 16>::Rule>;

}  // namespace aviary::test
