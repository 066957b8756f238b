#pragma once
/// Device<M>: memory M by the kernels for a device, which run on the host.
#include "support/emulated_matrix.hpp"

namespace aviary::test {

template <class M> using Device = Emulated<M>;

}  // namespace aviary::test
