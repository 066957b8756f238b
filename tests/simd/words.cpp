#include "aviary/simd/words.hpp"

#include <doctest/doctest.h>

#include "aviary/simd/instruction_sets.hpp"

using namespace aviary;

namespace {

/// Number k of a word, from the description of words.hpp.
template <class S> double number(std::uint32_t word, int k) {
  if (std::is_same_v<S, bf16>) return static_cast<double>(widen(bf16{static_cast<std::uint16_t>(word >> 16 * k)}));
  if (std::is_same_v<S, q8>) {
    int const byte = static_cast<int>(word >> 8 * k & 255u);
    return byte < 128 ? byte : byte - 256;
  }
  return static_cast<int>(word >> (8 * (k % 4) + 4 * (k / 4)) & 15u) - 8;
}

}  // namespace

TEST_CASE_TEMPLATE("words: every pack takes every number from them", S, bf16, q8, q4) {
  auto const check = [](auto set) {
    using P = typename decltype(set)::Pack;
    using Wide = simd::Wide<P, 2>;
    using T = typename simd::Pack<P>::value_type;
    CAPTURE(set.name);
    constexpr Index lanes = simd::Pack<Wide>::lanes;
    std::uint32_t words[to_size(lanes)];
    for (std::uint32_t first = 0; first < 256; first += lanes) {
      for (Index i = 0; i < lanes; ++i) words[i] = (first + static_cast<std::uint32_t>(i)) * 0x01030107u ^ 0x3f803f80u;
      for (int k = 0; k < simd::numbers_per_word<S>; ++k) {
        T numbers[to_size(lanes)];
        simd::Pack<Wide>::store(numbers, simd::load_from_words<Wide, S>(words, k));
        bool same = true;
        for (Index i = 0; i < lanes; ++i) {
          double const expected = number<S>(words[i], k), found = static_cast<double>(numbers[i]);
          same = same && (found == expected || (found != found && expected != expected));
        }
        CHECK(same);
      }
    }
  };
  simd::for_each_instruction_set<float>(check);
  simd::for_each_instruction_set<double>(check);
}
