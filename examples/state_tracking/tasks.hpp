#pragma once
/// Word problems: symbols are elements of a group, and what is to be told after each of them is the product so far.
#include <algorithm>
#include <array>
#include <aviary/training/random.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace state_tracking {

using aviary::Index;
using aviary::to_size;

/// The word problem of a group whose elements are 0 ... order - 1, of which 0 is the neutral one.
struct Task {
  std::string name;
  Index order, symbols;
  std::vector<Index> next;  ///< (order, symbols): the product of an element and a symbol

  Index after(Index element, Index symbol) const { return next[to_size(element * symbols + symbol)]; }
};

/// Words of one length, one after another, and the products after their symbols.
struct Words {
  Index count, length;
  std::vector<Index> symbols, products;  ///< (count, length)

  Index size() const { return count * length; }
};

inline Words random_words(Task const& task, Index count, Index length, aviary::SplitMix64& random) {
  Words words{count, length, {}, {}};
  for (Index word = 0; word < count; ++word) {
    Index product = 0;
    for (Index t = 0; t < length; ++t) {
      auto const symbol = static_cast<Index>(random.next() % static_cast<std::uint64_t>(task.symbols));
      product = task.after(product, symbol);
      words.symbols.push_back(symbol);
      words.products.push_back(product);
    }
  }
  return words;
}

/// Which permutations are symbols.
enum class Symbols { all, swaps };

/// Products of permutations of n objects: (pi g)(i) = pi(g(i)). With Symbols::swaps the symbols are the exchanges of two
/// objects, and the permutation that exchanges none.
template <std::size_t n> Task permutations(std::string name, Symbols which = Symbols::all) {
  using Permutation = std::array<std::size_t, n>;
  Permutation p;
  for (std::size_t i = 0; i < n; ++i) p[i] = i;
  std::vector<Permutation> elements, symbols;
  do {
    elements.push_back(p);
    std::size_t moved = 0;
    for (std::size_t i = 0; i < n; ++i) moved += p[i] != i;
    if (which == Symbols::all || moved <= 2) symbols.push_back(p);
  } while (std::next_permutation(p.begin(), p.end()));  // in order, so that the neutral one is the first

  Task task{std::move(name), static_cast<Index>(elements.size()), static_cast<Index>(symbols.size()), {}};
  for (Permutation const& element : elements)
    for (Permutation const& symbol : symbols) {
      for (std::size_t i = 0; i < n; ++i) p[i] = element[symbol[i]];
      task.next.push_back(std::lower_bound(elements.begin(), elements.end(), p) - elements.begin());
    }
  return task;
}

inline std::vector<Task> all_tasks() {
  return {permutations<2>("parity"), permutations<3>("s3"), permutations<5>("s5-swaps", Symbols::swaps),
          permutations<5>("s5")};
}

}  // namespace state_tracking
