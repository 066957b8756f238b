#include "aviary/wkv6.hpp"

#include "support/memories_of.hpp"

namespace aviary::test {

template struct Memories<Wkv6<float, 16>::Rule>;
template struct Memories<FinchC2<float, 16>::Rule>;

}  // namespace aviary::test
