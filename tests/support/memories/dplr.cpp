#include "aviary/dplr.hpp"

#include "support/memories_of.hpp"

namespace aviary::test {

template struct Memories<Dplr<float, 16>::Rule>;
template struct Memories<Iplr<float, 16>::Rule>;

}  // namespace aviary::test
