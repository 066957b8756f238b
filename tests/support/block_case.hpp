#pragma once
/// Blocks that are run one after another, and golden files of blocks.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "aviary/channel/state.hpp"
#include "aviary/io/safetensors.hpp"
#include "aviary/layers/block.hpp"
#include "aviary/matrix/state.hpp"
#include "support/golden.hpp"

namespace aviary::test {

/// The blocks of a model, the states of a sequence, and a scratch for some tokens.
template <class BlockType> struct BlockCase {
  using Block = BlockType;
  using T = typename Block::T;

  std::vector<Block> blocks;
  std::vector<typename Block::State> states;
  Scratch<T> scratch;

  BlockCase(std::vector<Block> made, Index tokens_at_once) : blocks(std::move(made)), scratch(0) {
    Index most = 0;
    for (Block const& block : blocks) {
      states.push_back(block.empty_state());
      most = std::max(most, block.scratch_size());
    }
    scratch = Scratch<T>(tokens_at_once * most);
  }

  /// Takes x through all blocks, in place. It allocates only if blocks share values.
  template <class E = Serial> void run(MatView<T> x, E&& executor = {}) {
    if constexpr (Block::TimeMix::shares_values) {
      Index const inner = blocks.front().time_mix().inner_channels();
      std::vector<T> v_first(to_size(x.rows() * inner));
      for (std::size_t i = 0; i < blocks.size(); ++i)
        blocks[i](x, states[i], scratch, MatView<T>(v_first.data(), x.rows(), inner), executor);
    } else {
      for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i](x, states[i], scratch, executor);
    }
  }
};

/// A golden file of one block or more, "block_rwkv6" for one. Tensors of states are called "state0.S", or "state0.1.S" with
/// the layer where there is more than one.
class BlockGolden : public GoldenFile {
 public:
  /// Numbers of a state: ours, and those of the file.
  struct Part {
    std::string tensor;
    std::vector<double> got, expected;
  };

  explicit BlockGolden(std::filesystem::path const& path) : GoldenFile(path) {}

  Index tokens() const { return size("x", 0); }
  Index channels() const { return size("x", 1); }

  /// Fills the state of a block with that before the first token.
  template <class BlockState> void read_state(Index layer, BlockState& to) const {
    std::string const prefix = state_name("state0", layer);
    copy(prefix + "att_x", to.time_mix.x);
    copy(prefix + "ffn_x", to.channel_mix.x);
    read_memory(prefix, to.time_mix.s);
  }

  /// All parts of the state of a block after the last token.
  template <class BlockState> std::vector<Part> compare_state(Index layer, BlockState const& state) const {
    std::string const prefix = state_name("stateT", layer);
    std::vector<Part> parts;
    if constexpr (requires { state.time_mix.s; }) parts = memory_parts(prefix, state.time_mix.s);
    for (auto const& [name, x] : {std::pair{"att_x", &state.time_mix.x}, {"ffn_x", &state.channel_mix.x}})
      parts.push_back({prefix + name, {x->begin(), x->end()}, numbers(prefix + name)});
    return parts;
  }

 private:
  std::string state_name(std::string const& when, Index layer) const {
    return when + (contains(when + ".att_x") ? "." : "." + std::to_string(layer) + ".");
  }
  template <class Row> void copy(std::string const& name, Row& to) const {
    auto const from = numbers(name);
    if (from.size() != to.size())
      throw std::runtime_error(path() + ": tensor '" + name + "' holds " + std::to_string(from.size()) +
                               " numbers, expected " + std::to_string(to.size()));
    std::transform(from.begin(), from.end(), to.begin(),
                   [](double x) { return static_cast<typename Row::value_type>(x); });
  }
  Orientation orientation() const {
    std::string const layout = text("state_layout");
    if (layout != "HKV" && layout != "HVK")
      throw std::runtime_error(path() + ": expected state_layout HKV or HVK, found '" + layout + "'");
    return layout == "HKV" ? Orientation::key_value : Orientation::value_key;
  }

  template <class S, Index K, Index V>
  void read_memory(std::string const& prefix, std::vector<State<S, K, V>>& heads) const {
    std::size_t const each = to_size(heads.front().keys() * heads.front().values());
    std::vector<S> all(heads.size() * each);
    copy(prefix + "S", all);
    for (std::size_t h = 0; h < heads.size(); ++h)
      import_state(heads[h].view(), std::span(all).subspan(h * each, each), orientation());
  }
  template <class T, Index C>
  void read_memory(std::string const& prefix, std::vector<ChannelState<T, C>>& states) const {
    std::vector<T> aa(to_size(states.front().channels())), bb = aa, pp = aa;
    copy(prefix + "aa", aa);
    copy(prefix + "bb", bb);
    copy(prefix + "pp", pp);
    import_state(states.front().view(), aa, bb, pp);
  }

  template <class S, Index K, Index V>
  std::vector<Part> memory_parts(std::string const& prefix, std::vector<State<S, K, V>> const& heads) const {
    Part part{prefix + "S", {}, numbers(prefix + "S")};
    std::vector<double> head(to_size(heads.front().keys() * heads.front().values()));
    for (auto const& state : heads) {
      export_state(state.view(), head, orientation());
      part.got.insert(part.got.end(), head.begin(), head.end());
    }
    return {part};
  }
  template <class T, Index C>
  std::vector<Part> memory_parts(std::string const& prefix, std::vector<ChannelState<T, C>> const& states) const {
    RelativeSums sums;
    sums.append(states.front(), numbers(prefix + "pp").data());
    return {{prefix + "aa", sums.aa, numbers(prefix + "aa")}, {prefix + "bb", sums.bb, numbers(prefix + "bb")}};
  }
};

}  // namespace aviary::test
