#pragma once
/// Golden files of blocks through the layers of a generation.
#include <string>
#include <type_traits>
#include <vector>

#include "golden_check/block.hpp"
#include "models/load.hpp"
#include "support/block_case.hpp"
#include "support/generations.hpp"

namespace aviary::golden_check {

/// max|x - ref| / max|ref| of a few layers in arithmetic T.
template <class T> inline constexpr double layers_bound = std::is_same_v<T, float> ? 2e-5 : 1e-12;

/// The blocks of a file, through the reader of its generation.
template <class Model> std::vector<typename Model::Block> read_blocks(test::BlockGolden const& file) {
  using T = typename Model::T;
  models::WeightReader<T> read(file.tensors());
  std::vector<typename Model::Block> blocks;
  for (Index layer = 0; layer < models::count_layers(file.tensors()); ++layer) {
    models::BlockReader<models::WeightReader<T>> reader(file.tensors(), read, layer, file.channels(), {});
    blocks.emplace_back(Model::parameters(reader));
  }
  return blocks;
}

/// All tokens in one call per layer.
template <class Model> void check_layers(test::BlockGolden const& file, std::string const& type, Report& report) {
  using T = typename Model::T;
  Index const tokens = file.tokens(), channels = file.channels();
  test::BlockCase<typename Model::Block> blocks(read_blocks<Model>(file), tokens);
  for (std::size_t i = 0; i < blocks.states.size(); ++i) file.read_state(static_cast<Index>(i), blocks.states[i]);
  auto x = file.tensors().tensor("x").template read<T>();
  blocks.run({x.data(), tokens, channels});
  report.compare(file.path(), "y", type, x, file.numbers("y"), layers_bound<T>);
  for (std::size_t i = 0; i < blocks.states.size(); ++i)
    for (auto const& part : file.compare_state(static_cast<Index>(i), blocks.states[i]))
      report.compare(file.path(), part.tensor, type, part.got, part.expected, layers_bound<T>);
}

template <class Generation> void check_block(std::filesystem::path const& path, Report& report) {
  test::BlockGolden const file(path);
  using Floats = typename Generation::template Model<float, dynamic>;
  check_layers<Floats>(file, "float", report);
  check_layers<typename Generation::template Model<double, dynamic>>(file, "double", report);
  if constexpr (requires { Floats::heads(file.tensors()); }) {
    if (Floats::heads(file.tensors()).size != 16) return;
    check_layers<typename Generation::template Model<float, 16>>(file, "float<16>", report);
    check_layers<typename Generation::template Model<double, 16>>(file, "double<16>", report);
  }
}

}  // namespace aviary::golden_check
