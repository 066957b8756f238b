#include "aviary/wkv5.hpp"

#include "support/memories_of.hpp"

namespace aviary::test {

template struct Memories<Wkv5<float, 16>::Rule>;
template struct Memories<Wkv5PerHead<float, 16>::Rule>;

}  // namespace aviary::test
