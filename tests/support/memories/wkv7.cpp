#include "aviary/wkv7.hpp"

#include "support/memories_of.hpp"

namespace aviary::test {

template struct Memories<Wkv7<float, 16>::Rule>;

}  // namespace aviary::test
