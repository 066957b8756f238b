#pragma once
/// A trie of byte strings that finds the longest one with which a text begins, one memory access a byte.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "aviary/io/vocabulary.hpp"

namespace AVIARY_NAMESPACE {

/// A double-array trie (Aoe, IEEE Transactions on Software Engineering 15(9), 1989), with exclusive or in place of the sum:
/// the child of a node by byte c lies in cell base ^ c, and is there if that cell names the node as its parent.
/// Memory: 12 bytes a cell, little more than one cell for each distinct prefix.
class ByteTrie {
 public:
  struct Entry {
    std::string_view bytes;  ///< not empty
    TokenId id;
  };
  struct Match {
    TokenId id = none;
    std::size_t length = 0;  ///< 0: no entry begins the text
  };

  /// Makes the trie of distinct entries. It keeps no reference to their bytes.
  explicit ByteTrie(std::vector<Entry> entries) {
    std::ranges::sort(entries, {}, &Entry::bytes);
    grow();
    unlink(root);
    place_all(entries);
    previous_ = next_ = {};
  }

  /// The longest entry that is a prefix of the text.
  Match longest_prefix(std::string_view text) const noexcept {
    Match match;
    Cell const* const cells = cells_.data();
    std::uint32_t node = root;
    for (std::size_t i = 0; i < text.size(); ++i) {
      std::uint32_t const child = cells[node].base ^ static_cast<unsigned char>(text[i]);
      if (cells[child].parent != node) break;
      node = child;
      if (cells[node].id != none) match = {cells[node].id, i + 1};
    }
    return match;
  }

 private:
  static constexpr TokenId none = -1;
  static constexpr std::uint32_t root = 0, vacant = UINT32_MAX, block = 256;

  struct Cell {
    std::uint32_t base = 0;  // a leaf has one too: no cell names a leaf as its parent
    std::uint32_t parent = vacant;
    TokenId id = none;
  };
  struct Child {
    std::uint32_t byte;
    std::size_t first, last;  // its entries
  };
  struct Node {
    std::uint32_t cell;
    std::size_t depth, first, last;
  };

  /// A list of nodes yet to do instead of recursion: tokens may be longer than the stack is deep.
  void place_all(std::vector<Entry> const& entries) {
    std::vector<Node> open{{root, 0, 0, entries.size()}};
    std::vector<Child> children;
    while (!open.empty()) {
      Node node = open.back();
      open.pop_back();
      if (node.first < node.last && entries[node.first].bytes.size() == node.depth)
        cells_[node.cell].id = entries[node.first++].id;
      find_children(entries, node, children);
      if (children.empty()) continue;
      std::uint32_t const base = find_base(children);
      cells_[node.cell].base = base;
      for (Child const& child : children) {
        unlink(base ^ child.byte);
        cells_[base ^ child.byte].parent = node.cell;
        open.push_back({base ^ child.byte, node.depth + 1, child.first, child.last});
      }
    }
  }

  static void find_children(std::vector<Entry> const& entries, Node const& node, std::vector<Child>& children) {
    children.clear();
    for (std::size_t i = node.first; i < node.last; ++i) {
      std::uint32_t const byte = static_cast<unsigned char>(entries[i].bytes[node.depth]);
      if (children.empty() || children.back().byte != byte) children.push_back({byte, i, i});
      children.back().last = i + 1;
    }
  }

  /// A base for which all children fall on vacant cells. An only child fits the first vacant cell; large families look
  /// at a bounded number of places, so that building stays linear, and get a new block if none fits.
  std::uint32_t find_base(std::vector<Child> const& children) {
    constexpr int attempts = 64;
    std::uint32_t cell = first_;
    for (int i = 0; i < attempts && cell != vacant; ++i, cell = next_[cell]) {
      std::uint32_t const base = cell ^ children.front().byte;
      auto const fits = [&](Child const& child) { return is_vacant(base ^ child.byte); };
      if (std::ranges::all_of(children, fits)) return base;
    }
    return grow();
  }

  bool is_vacant(std::uint32_t cell) const { return cell != root && cells_[cell].parent == vacant; }

  /// Appends a block of vacant cells and links them behind the others; returns the first.
  /// A base never leaves its block by exclusive or with a byte, so that every lookup stays inside.
  std::uint32_t grow() {
    auto const begin = static_cast<std::uint32_t>(cells_.size());
    cells_.resize(cells_.size() + block);
    next_.resize(cells_.size());
    previous_.resize(cells_.size());
    for (std::uint32_t cell = begin; cell < begin + block; ++cell) {
      previous_[cell] = last_;
      next_[cell] = vacant;
      (last_ == vacant ? first_ : next_[last_]) = cell;
      last_ = cell;
    }
    return begin;
  }

  void unlink(std::uint32_t cell) {
    (previous_[cell] == vacant ? first_ : next_[previous_[cell]]) = next_[cell];
    (next_[cell] == vacant ? last_ : previous_[next_[cell]]) = previous_[cell];
  }

  std::vector<Cell> cells_;
  std::vector<std::uint32_t> next_, previous_;  // vacant cells, as a list; while building
  std::uint32_t first_ = vacant, last_ = vacant;
};

}  // namespace AVIARY_NAMESPACE
