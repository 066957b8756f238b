#pragma once
/// Golden files of blocks through the layers of a generation.
#include <string>
#include <type_traits>
#include <vector>

#include "golden_check/block.hpp"
#include "models/load.hpp"
#include "support/block_case.hpp"

namespace aviary::golden_check {

/// max|x - ref| / max|ref| of a few layers in arithmetic T.
template <class T> inline constexpr double layers_bound = std::is_same_v<T, float> ? 2e-5 : 1e-12;

/// The blocks of a file, through the reader of its generation.
template <class Generation> std::vector<typename Generation::Block> read_blocks(test::BlockGolden const& file) {
  using T = typename Generation::T;
  models::LoadOptions const options;
  models::WeightReader<T, SafeTensors> read(file.tensors());
  std::vector<typename Generation::Block> blocks;
  for (Index layer = 0; layer < models::count_layers(file.tensors()); ++layer) {
    models::BlockReader<T, SafeTensors> reader(file.tensors(), read, layer, file.channels(), options);
    blocks.push_back(Generation::read_block(reader));
  }
  return blocks;
}

/// All tokens in one call per layer.
template <class Generation> void check_layers(test::BlockGolden const& file, std::string const& type, Report& report) {
  using T = typename Generation::T;
  Index const tokens = file.tokens(), channels = file.channels();
  test::BlockCase<typename Generation::Block> blocks(read_blocks<Generation>(file), tokens);
  for (std::size_t i = 0; i < blocks.states.size(); ++i) file.read_state(static_cast<Index>(i), blocks.states[i]);
  auto x = file.tensors().tensor("x").template read<T>();
  blocks.run({x.data(), tokens, channels});
  report.compare(file.path(), "y", type, x, file.numbers("y"), layers_bound<T>);
  for (std::size_t i = 0; i < blocks.states.size(); ++i)
    for (auto const& part : file.compare_state(static_cast<Index>(i), blocks.states[i]))
      report.compare(file.path(), part.tensor, type, part.got, part.expected, layers_bound<T>);
}

/// A generation with heads.
template <template <class T, Index Size> class Generation>
void check_heads(std::filesystem::path const& path, Report& report) {
  test::BlockGolden const file(path);
  check_layers<Generation<float, dynamic>>(file, "float", report);
  check_layers<Generation<double, dynamic>>(file, "double", report);
  if (Generation<float, dynamic>::heads(file.tensors()).size != 16) return;
  check_layers<Generation<float, 16>>(file, "float<16>", report);
  check_layers<Generation<double, 16>>(file, "double<16>", report);
}

}  // namespace aviary::golden_check
