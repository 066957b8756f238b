#include "aviary/linear_attention.hpp"

#include "support/memories_of.hpp"

namespace aviary::test {

template struct Memories<LinearAttention<float, 16>::Rule>;
template struct Memories<RetNet<float, 16>::Rule>;
template struct Memories<SimpleGla<float, 16>::Rule>;
template struct Memories<Gla<float, 16>::Rule>;

}  // namespace aviary::test
