#pragma once
/// Cuts a text into byte strings, always the longest one that fits, in time that grows with the text and nothing else.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "aviary/io/vocabulary.hpp"

namespace AVIARY_NAMESPACE {

/// A double-array trie (Aoe, IEEE Transactions on Software Engineering 15(9), 1989), with exclusive or in place of the sum:
/// the child of a node by byte c lies in cell base ^ c, and is there if that cell names the node as its parent.
///
/// Where the text leaves the trie, the bytes since the root are known, so the entries into which they fall are known in
/// advance, and so is the node from which the rest of them goes on (Song et al. 2021, arXiv:2012.15524, section 3.3): no
/// byte is looked at twice.
/// Memory: 16 bytes a cell, little more than one cell for each distinct prefix.
class ByteTrie {
 public:
  struct Entry {
    std::string_view bytes;  ///< not empty
    TokenId id;
  };

  /// Makes the trie of distinct entries. It keeps no reference to their bytes. Cost: linear in all their bytes.
  explicit ByteTrie(std::vector<Entry> entries) {
    std::ranges::sort(entries, {}, &Entry::bytes);
    grow();
    unlink(root);
    auto const order = place_all(entries);
    previous_ = next_ = {};
    for (auto const& [depth, cell] : order)
      if (cells_[cell].cut == none) find_fallback(cell);
  }

  /// Appends the ids of the entries into which the text falls. False if none begins the rest of the text: then the ids are
  /// those in front of it.
  bool cut(std::string_view text, std::vector<TokenId>& ids) const {
    Cell const* const cells = cells_.data();
    std::uint32_t node = root;
    for (char const c : text) {
      std::uint32_t next = child(node, static_cast<unsigned char>(c));
      while (next == none) {
        append(cells[node].cut, ids);
        node = cells[node].fallback;
        if (node == none) return false;
        next = child(node, static_cast<unsigned char>(c));
      }
      node = next;
    }
    while (node != root && node != none) {
      append(cells[node].cut, ids);
      node = cells[node].fallback;
    }
    return node == root;
  }

 private:
  static constexpr std::uint32_t root = 0, none = UINT32_MAX, block = 256;
  static constexpr std::uint32_t one_entry = 1u << 31;

  struct Cell {
    std::uint32_t base = 0;  // a leaf has one too: no cell names a leaf as its parent
    std::uint32_t parent = none;
    std::uint32_t cut = none;       // the list of entries into which the bytes since the root fall
    std::uint32_t fallback = none;  // the node of the bytes behind these; none: no entry begins them
  };
  /// A list is one_entry and its id, or the place of its last link. Lists share their beginnings.
  struct Link {
    TokenId id;
    std::uint32_t previous;
  };
  struct Child {
    std::uint32_t byte;
    std::size_t first, last;  // its entries
  };
  struct Node {
    std::uint32_t cell;
    std::size_t depth, first, last;
  };

  std::uint32_t child(std::uint32_t node, std::uint32_t byte) const noexcept {
    std::uint32_t const cell = cells_[node].base ^ byte;
    return cells_[cell].parent == node ? cell : none;
  }

  void append(std::uint32_t list, std::vector<TokenId>& ids) const {
    if (list == none) return;
    if ((list & one_entry) != 0) return ids.push_back(static_cast<TokenId>(list ^ one_entry));
    auto const before = static_cast<std::ptrdiff_t>(ids.size());
    for (; (list & one_entry) == 0; list = links_[list].previous) ids.push_back(links_[list].id);
    append(list, ids);
    std::reverse(ids.begin() + before, ids.end());
  }

  /// Returns the nodes but the root, those of smaller depth first. A path lies in one place, as far as that goes: subtree by
  /// subtree, with a list of nodes yet to do instead of recursion, as tokens may be longer than the stack is deep.
  std::vector<std::pair<std::size_t, std::uint32_t>> place_all(std::vector<Entry> const& entries) {
    std::vector<std::pair<std::size_t, std::uint32_t>> order;  // depth, cell
    std::vector<Node> open{{root, 0, 0, entries.size()}};
    std::vector<Child> children;
    while (!open.empty()) {
      Node node = open.back();
      open.pop_back();
      if (node.depth > 0) order.emplace_back(node.depth, node.cell);
      if (node.first < node.last && entries[node.first].bytes.size() == node.depth)
        add_entry(node.cell, entries[node.first++].id);
      find_children(entries, node, children);
      if (!children.empty()) place(node, children, open);
    }
    std::ranges::sort(order);
    return order;
  }

  void add_entry(std::uint32_t cell, TokenId id) {
    cells_[cell].cut = one_entry | static_cast<std::uint32_t>(id);
    cells_[cell].fallback = root;
  }

  static void find_children(std::vector<Entry> const& entries, Node const& node, std::vector<Child>& children) {
    children.clear();
    for (std::size_t i = node.first; i < node.last; ++i) {
      std::uint32_t const byte = static_cast<unsigned char>(entries[i].bytes[node.depth]);
      if (children.empty() || children.back().byte != byte) children.push_back({byte, i, i});
      children.back().last = i + 1;
    }
  }

  void place(Node const& node, std::vector<Child> const& children, std::vector<Node>& open) {
    std::uint32_t const base = find_base(children);
    cells_[node.cell].base = base;
    for (Child const& child : children) {
      unlink(base ^ child.byte);
      cells_[base ^ child.byte].parent = node.cell;
      open.push_back({base ^ child.byte, node.depth + 1, child.first, child.last});
    }
  }

  /// Of a node that is no entry: its parent's, as long as that does not go on with the node's byte, and then what the rest
  /// falls into. All of these are nearer to the root.
  void find_fallback(std::uint32_t cell) {
    std::uint32_t const parent = cells_[cell].parent, byte = cell ^ cells_[parent].base;
    std::uint32_t cut = cells_[parent].cut, rest = cells_[parent].fallback, next = none;
    while (rest != none && (next = child(rest, byte)) == none) {
      cut = joined(cut, cells_[rest].cut);
      rest = cells_[rest].fallback;
    }
    cells_[cell].cut = cut;
    cells_[cell].fallback = next;
  }

  std::uint32_t joined(std::uint32_t before, std::uint32_t after) {
    if (before == none) return after;
    std::vector<TokenId> ids;
    append(after, ids);
    for (TokenId const id : ids) {
      links_.push_back({id, before});
      before = static_cast<std::uint32_t>(links_.size() - 1);
    }
    return before;
  }

  /// A base for which all children fall on vacant cells. An only child fits the first vacant cell; large families look
  /// at a bounded number of places, so that building stays linear, and get a new block if none fits.
  std::uint32_t find_base(std::vector<Child> const& children) {
    constexpr int attempts = 64;
    std::uint32_t cell = first_;
    for (int i = 0; i < attempts && cell != none; ++i, cell = next_[cell]) {
      std::uint32_t const base = cell ^ children.front().byte;
      auto const fits = [&](Child const& child) { return is_vacant(base ^ child.byte); };
      if (std::ranges::all_of(children, fits)) return base;
    }
    return grow();
  }

  bool is_vacant(std::uint32_t cell) const { return cell != root && cells_[cell].parent == none; }

  /// Appends a block of vacant cells and links them behind the others; returns the first.
  /// A base never leaves its block by exclusive or with a byte, so that every lookup stays inside.
  std::uint32_t grow() {
    auto const begin = static_cast<std::uint32_t>(cells_.size());
    cells_.resize(cells_.size() + block);
    next_.resize(cells_.size());
    previous_.resize(cells_.size());
    for (std::uint32_t cell = begin; cell < begin + block; ++cell) {
      previous_[cell] = last_;
      next_[cell] = none;
      (last_ == none ? first_ : next_[last_]) = cell;
      last_ = cell;
    }
    return begin;
  }

  void unlink(std::uint32_t cell) {
    (previous_[cell] == none ? first_ : next_[previous_[cell]]) = next_[cell];
    (next_[cell] == none ? last_ : previous_[next_[cell]]) = previous_[cell];
  }

  std::vector<Cell> cells_;
  std::vector<Link> links_;
  std::vector<std::uint32_t> next_, previous_;  // vacant cells, as a list; while building
  std::uint32_t first_ = none, last_ = none;
};

}  // namespace AVIARY_NAMESPACE
