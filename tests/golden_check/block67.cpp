#include "golden_check/block_layers.hpp"
#include "models/rwkv6.hpp"
#include "models/rwkv7.hpp"

namespace aviary::golden_check {

void check_rwkv6_block(std::filesystem::path const& path, Report& report) { check_heads<models::Rwkv6>(path, report); }

void check_rwkv7_block(std::filesystem::path const& path, Report& report) { check_heads<models::Rwkv7>(path, report); }

}  // namespace aviary::golden_check
