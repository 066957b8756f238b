#include "golden_check/block_layers.hpp"
#include "models/rwkv4.hpp"
#include "models/rwkv5.hpp"

namespace aviary::golden_check {

void check_rwkv4_block(std::filesystem::path const& path, Report& report) {
  test::BlockGolden const file(path);
  check_layers<models::Rwkv4<float>>(file, "float", report);
  check_layers<models::Rwkv4<double>>(file, "double", report);
}

void check_rwkv5_per_head_block(std::filesystem::path const& path, Report& report) {
  check_heads<models::Rwkv5PerHead>(path, report);
}

void check_rwkv5_block(std::filesystem::path const& path, Report& report) {
  check_heads<models::Rwkv5PerChannel>(path, report);
}

}  // namespace aviary::golden_check
