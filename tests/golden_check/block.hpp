#pragma once
/// Golden files of blocks: a few layers and their states, through the library's layers and the models' readers.
#include <filesystem>
#include <string>
#include <type_traits>
#include <vector>

#include "golden_check/report.hpp"
#include "models/rwkv7.hpp"
#include "support/golden.hpp"

namespace aviary::golden_check {

/// max|x - ref| / max|ref| of a few layers in arithmetic T.
template <class T> inline constexpr double layers_bound = std::is_same_v<T, float> ? 2e-5 : 1e-12;

/// The numbers of a block's state that lie in one tensor of a file, in its order.
template <class T> struct StatePart {
  std::string tensor;
  std::vector<T*> numbers;

  StatePart(std::string name, AlignedVector<T>& row) : tensor(std::move(name)) {
    for (T& number : row) numbers.push_back(&number);
  }
  /// Heads: (heads, values, keys) in the file.
  template <class State> StatePart(std::string name, std::vector<State>& heads) : tensor(std::move(name)) {
    for (State& head : heads)
      for (Index i = 0; i < head.values(); ++i)
        for (Index j = 0; j < head.keys(); ++j) numbers.push_back(&head.view()(j, i));
  }
};

template <class T, class Block> std::vector<StatePart<T>> parts_of(std::vector<typename Block::State>& states) {
  std::vector<StatePart<T>> parts;
  for (std::size_t layer = 0; layer < states.size(); ++layer) {
    std::string const name = "." + std::to_string(layer) + ".";
    parts.emplace_back(name + "att_x", states[layer].time_mix.x);
    parts.emplace_back(name + "S", states[layer].time_mix.s);
    parts.emplace_back(name + "ffn_x", states[layer].channel_mix.x);
  }
  return parts;
}

/// RWKV-7 with heads of Size numbers; all tokens in one call per layer.
template <class T, Index Size>
void check_rwkv7_layers(test::GoldenFile const& file, std::string const& type, Report& report) {
  using Block = models::Rwkv7Block<T, Size>;
  Index const tokens = file.size("x", 0), channels = file.size("x", 1);
  models::WeightReader<T, SafeTensors> read(file.tensors());
  std::vector<Block> blocks;
  for (Index layer = 0; layer < models::count_layers(file.tensors()); ++layer)
    blocks.push_back(models::read_rwkv7_block<T, Size>(read, layer, channels, {}));

  std::vector<typename Block::State> states;
  for (Block const& block : blocks) states.push_back(block.empty_state());
  auto const parts = parts_of<T, Block>(states);
  for (StatePart<T> const& part : parts) {
    auto const stored = file.numbers("state0" + part.tensor);
    if (stored.size() != part.numbers.size())
      throw std::runtime_error("tensor 'state0" + part.tensor + "' holds " + std::to_string(stored.size()) +
                               " numbers, expected " + std::to_string(part.numbers.size()));
    for (std::size_t i = 0; i < stored.size(); ++i) *part.numbers[i] = static_cast<T>(stored[i]);
  }

  auto x = file.tensors().tensor("x").template read<T>();
  Index const inner = blocks.front().time_mix().inner_channels();
  std::vector<T> v_first(to_size(tokens * inner));
  for (std::size_t layer = 0; layer < blocks.size(); ++layer) {
    Scratch<T> scratch(tokens * blocks[layer].scratch_size());
    blocks[layer](MatView<T>(x.data(), tokens, channels), states[layer], scratch, Serial{},
                  MatView<T>(v_first.data(), tokens, inner));
  }

  report.compare(file.path(), "y", type, x, file.numbers("y"), layers_bound<T>);
  for (StatePart<T> const& part : parts) {
    std::vector<T> numbers;
    for (T const* const number : part.numbers) numbers.push_back(*number);
    std::string const tensor = "stateT" + part.tensor;
    report.compare(file.path(), tensor, type, numbers, file.numbers(tensor), layers_bound<T>);
  }
}

inline void check_rwkv7_block(std::filesystem::path const& path, Report& report) {
  test::GoldenFile const file(path);
  check_rwkv7_layers<float, dynamic>(file, "float", report);
  check_rwkv7_layers<double, dynamic>(file, "double", report);
  if (file.size("blocks.0.att.r_k", 1) != 16) return;
  check_rwkv7_layers<float, 16>(file, "float<16>", report);
  check_rwkv7_layers<double, 16>(file, "double<16>", report);
}

}  // namespace aviary::golden_check
