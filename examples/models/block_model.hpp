#pragma once
/// The body of all RWKV models: x = Block_i(x) for every i.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "aviary/layers/block.hpp"
#include "models/language_model.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// Blocks of one type (aviary::Block<...>), one after another.
template <class BlockType> class BlockStack {
 public:
  using Block = BlockType;
  using T = typename Block::T;
  using Context = std::vector<typename Block::State>;  ///< one per block

  /// What calls compute with.
  struct Workspace {
    aviary::AlignedVector<T> shared;
    aviary::Scratch<T> scratch;
  };

  /// At least one block.
  explicit BlockStack(std::vector<Block> blocks) : blocks_(std::move(blocks)) {}

  Index channels() const noexcept { return blocks_.front().channels(); }
  Index size() const noexcept { return static_cast<Index>(blocks_.size()); }
  Context empty_context() const {
    Context context;
    for (Block const& block : blocks_) context.push_back(block.empty_state());
    return context;
  }

  /// For at most `tokens` at once.
  Workspace make_workspace(Index tokens) const {
    return {aviary::AlignedVector<T>(aviary::to_size(tokens * shared_channels())),
            aviary::Scratch<T>(tokens * most_scratch())};
  }

  template <class Ids, class Wants>
  void run(Ids const&, aviary::MatView<T> x, aviary::Packed<Context> const& contexts, Wants const&,
           Workspace& workspace, Threads threads) const {
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      auto const state = [&](Index s) { return &contexts.state(s)[i]; };
      auto const states = contexts.template with_states<typename Block::State>(state);
      if constexpr (Block::TimeMix::shares_values)
        blocks_[i](x, states, workspace.scratch,
                   aviary::MatView<T>(workspace.shared.data(), x.rows(), shared_channels()), threads);
      else
        blocks_[i](x, states, workspace.scratch, threads);
    }
  }

  bool same_shape(Context const& a, Context const& b) const {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](auto const& one, auto const& other) {
      auto const& s = one.time_mix.s;
      auto const& t = other.time_mix.s;
      return one.time_mix.x.size() == other.time_mix.x.size() &&
             std::equal(s.begin(), s.end(), t.begin(), t.end(), same_size<typename Block::TimeMix::Memory::State>) &&
             one.channel_mix.x.size() == other.channel_mix.x.size();
    });
  }

  /// @name For files of contexts
  ///@{
  std::string description() const {
    return std::string(Block::TimeMix::Memory::name) + ", " + std::to_string(size()) + " layers, " +
           std::to_string(channels()) + " channels";
  }
  void write(aviary::StateWriter& to, Context const& context) const {
    for (std::size_t i = 0; i < context.size(); ++i) write_block(to, i, context[i]);
  }
  void read(aviary::StateFile const& from, Context& context) const {
    for (std::size_t i = 0; i < context.size(); ++i) read_block(from, i, context[i]);
  }
  ///@}

 private:
  template <class S> static bool same_size(S const& a, S const& b) noexcept {
    if constexpr (requires { a.channels(); })
      return a.channels() == b.channels();
    else
      return a.keys() == b.keys() && a.values() == b.values();
  }

  /// Columns of what blocks share: v_first in RWKV-7, nothing elsewhere.
  Index shared_channels() const noexcept {
    if constexpr (Block::TimeMix::shares_values)
      return blocks_.front().time_mix().inner_channels();
    else
      return 0;
  }
  Index most_scratch() const noexcept {
    Index most = 0;
    for (Block const& block : blocks_) most = std::max(most, block.scratch_size());
    return most;
  }

  std::vector<Block> blocks_;
};

/// A whole model of such blocks.
template <class Block> using BlockModel = LanguageModel<BlockStack<Block>>;

}  // namespace AVIARY_ISA
}  // namespace models
