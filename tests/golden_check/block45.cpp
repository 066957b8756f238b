#include "golden_check/block_layers.hpp"
#include "models/rwkv4.hpp"
#include "models/rwkv5.hpp"

namespace aviary::golden_check {

template void check_block<test::Rwkv4>(std::filesystem::path const&, Report&);
template void check_block<test::Rwkv5_0>(std::filesystem::path const&, Report&);
template void check_block<test::Rwkv5_1>(std::filesystem::path const&, Report&);
template void check_block<test::Rwkv5_2>(std::filesystem::path const&, Report&);

}  // namespace aviary::golden_check
