#include "golden_check/block_layers.hpp"
#include "models/rwkv6.hpp"
#include "models/rwkv7.hpp"

namespace aviary::golden_check {

template void check_block<test::Rwkv6>(std::filesystem::path const&, Report&);
template void check_block<test::Rwkv7>(std::filesystem::path const&, Report&);

}  // namespace aviary::golden_check
