#include "aviary/cache/token_cache.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <limits>

#include "support/allocation_counter.hpp"
#include "support/layer_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Matrix;
using test::Random;

namespace {

constexpr Index vocab = 100;

/// Ids and keys of some tokens.
struct Tokens {
  std::vector<std::int32_t> ids;
  Matrix<float> keys;

  Tokens(Index n, Index width, std::uint64_t seed = 1) : keys(0, width) {
    Random random(seed);
    keys = Matrix<float>(n, width, random);
    for (Index t = 0; t < n; ++t) ids.push_back(static_cast<std::int32_t>(random.below(vocab)));
  }
  template <class S> void append_to(TokenCache<S>& cache, Index first, Index n) const {
    cache.append(std::span(ids).subspan(to_size(first), to_size(n)), keys.rows_of(first, n));
  }
};

template <class S> Matrix<float> keys_of(TokenCache<S> const& cache) {
  Matrix<float> keys(cache.size(), cache.width());
  cache.read(0, keys.view());
  return keys;
}

/// What storing a number may change: half a step of its type, of a q8 key that of its largest number.
template <class S> double error_of(double x, double largest) {
  if (std::is_same_v<S, float>) return 0;
  if (std::is_same_v<S, bf16>) return std::abs(x) * 0x1p-8;
  if (std::is_same_v<S, f16>) return std::abs(x) * 0x1p-11 + 0x1p-25;
  return 0.004 * largest;
}

template <class Call> std::string refusal(Call&& call) { return test::message_of<std::invalid_argument>(call); }

}  // namespace

TEST_CASE_TEMPLATE("token cache: gives back ids, and keys within the rounding of their storage", S, float, bf16, f16,
                   q8) {
  Tokens const tokens(40, 9);
  TokenCache<S> cache(9, vocab);
  CHECK(cache.empty());
  CHECK(cache.capacity() == 0);
  for (Index first = 0, n = 1; first < 40; first += n, n = std::min(Index{7}, 40 - first))
    tokens.append_to(cache, first, n);
  REQUIRE(cache.size() == 40);
  CHECK(std::vector(cache.ids().begin(), cache.ids().end()) == tokens.ids);
  CHECK(cache.ids(3, 2)[1] == tokens.ids[4]);
  Matrix<float> const keys = keys_of(cache);
  for (Index t = 0; t < 40; ++t) {
    double largest = 0;
    for (Index i = 0; i < 9; ++i) largest = std::max(largest, std::abs(double{tokens.keys(t, i)}));
    for (Index i = 0; i < 9; ++i) {
      double const x = double{tokens.keys(t, i)};
      CHECK(std::abs(double{keys(t, i)} - x) <= error_of<S>(x, largest));
    }
  }
  Matrix<double> part(2, 9);
  cache.read(38, part.view());
  for (Index i = 0; i < 9; ++i) CHECK(part(1, i) == double{keys(39, i)});
}

TEST_CASE("token cache: takes 2 + C/16 numbers of 16 bits a token, 756.2 and 2550.0 times fewer than keys and values") {
  struct Model {
    Index layers, channels;
    char const* ratio;
  };
  for (Model const& m :
       {Model{24, 2048, "756.2"}, Model{32, 4096, "1016.1"}, Model{40, 5120, "1272.0"}, Model{80, 8192, "2550.0"}}) {
    Tokens const tokens(3, m.channels / 16);
    TokenCache<bf16> cache(m.channels / 16, vocab);
    tokens.append_to(cache, 0, 3);
    CHECK(cache.size_bytes() == 3 * 2 * (m.channels / 16 + 2));
    double const full =
        2.0 * static_cast<double>(3 * 2 * m.layers * m.channels);  // bytes of keys and values in 16 bits
    double const formula =
        2.0 * static_cast<double>(m.layers * m.channels) / (static_cast<double>(m.channels) / 16 + 2);
    double const measured = full / static_cast<double>(cache.size_bytes());
    CHECK(measured == doctest::Approx(formula).epsilon(1e-15));
    char text[32];
    std::snprintf(text, sizeof(text), "%.1f", measured);
    CHECK(std::string(text) == m.ratio);
    MESSAGE(m.layers << " layers, " << m.channels << " channels: " << cache.bytes_per_token() << " bytes a token, "
                     << text << " times fewer");
  }
}

TEST_CASE("token cache: counts the bytes of every storage") {
  CHECK(TokenCache<float>(128, vocab).bytes_per_token() == 4 + 512);
  CHECK(TokenCache<f16>(128, vocab).bytes_per_token() == 4 + 256);
  CHECK(TokenCache<q8>(256, vocab).bytes_per_token() == 4 + 256 + 2);
  Tokens const tokens(5, 8);
  TokenCache<q8> cache(8, vocab);
  tokens.append_to(cache, 0, 5);
  CHECK(cache.size_bytes() == 5 * 14);
  CHECK(cache.ids().size_bytes() + cache.stored_keys().size_bytes() + cache.scales().size_bytes() == 5 * 14);
}

TEST_CASE_TEMPLATE("token cache: truncated and appended again is as if never appended", S, float, bf16, f16, q8) {
  Tokens const tokens(30, 6), others(9, 6, 2);
  TokenCache<S> straight(6, vocab), back(6, vocab);
  tokens.append_to(straight, 0, 30);
  tokens.append_to(back, 0, 12);
  others.append_to(back, 0, 9);
  CHECK_FALSE(back == straight);
  back.truncate(12);
  CHECK(back.size() == 12);
  tokens.append_to(back, 12, 18);
  CHECK(back == straight);
  back.truncate(0);
  CHECK(back.empty());
  CHECK(back.size_bytes() == 0);
}

TEST_CASE_TEMPLATE("token cache: allocates nothing within its capacity, and rarely beyond", S, float, bf16, q8) {
  Tokens const tokens(1000, 6);
  TokenCache<S> cache(6, vocab);
  cache.reserve(1000);
  CHECK(cache.capacity() >= 1000);
  {
    test::AllocationCounter const allocations;
    for (Index t = 0; t < 1000; ++t) cache.append(tokens.ids[to_size(t)], tokens.keys.view()[t]);
    cache.truncate(10);
    tokens.append_to(cache, 0, 990);
    cache.reserve(1000);
    CHECK(allocations.count() == 0);
  }
  TokenCache<S> grown(6, vocab);
  test::AllocationCounter const allocations;
  for (Index t = 0; t < 1000; ++t) grown.append(tokens.ids[to_size(t)], tokens.keys.view()[t]);
  CHECK(allocations.count() <= 3 * 11);  // three blocks, doubled ten times
}

TEST_CASE("token cache: a copy is independent, and knows its own capacity") {
  Tokens const tokens(4, 6);
  TokenCache<float> cache(6, vocab);
  cache.reserve(100);
  tokens.append_to(cache, 0, 2);
  TokenCache<float> copy = cache;
  CHECK(copy == cache);
  tokens.append_to(copy, 2, 2);
  CHECK(cache.size() == 2);
  CHECK(copy.size() == 4);
  CHECK(copy.capacity() >= 4);
}

TEST_CASE("token cache: stored numbers move from cache to cache as they are") {
  Tokens const tokens(20, 5);
  TokenCache<q8> from(5, vocab), to(5, vocab);
  tokens.append_to(from, 0, 20);
  tokens.append_to(to, 0, 20);
  to.truncate(8);
  to.append_stored(from.ids(8, 12), from.stored_keys().subspan(40), from.scales().subspan(8));
  CHECK(to == from);
  CHECK(refusal([&] { to.append_stored(from.ids(), from.stored_keys().first(99), from.scales()); }) ==
        "aviary: TokenCache: 99 numbers, expected 100");
  CHECK(refusal([&] { to.append_stored(from.ids(), from.stored_keys()); }) ==
        "aviary: TokenCache: 0 scales, expected 20");
  CHECK(to == from);
}

TEST_CASE("token cache: what q8 cannot hold is NaN, and what is next to nothing 0") {
  float const nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (float const odd : {nan, infinity, -infinity}) {
    TokenCache<q8> cache(3, vocab);
    std::vector<float> const odd_key{1, odd, 2}, key{1, -2, 0}, tiny{1e-40f, 0, -1e-40f};
    cache.append(1, VecView<float const>(odd_key));
    cache.append(1, VecView<float const>(key));
    cache.append(1, VecView<float const>(tiny));
    Matrix<float> const keys = keys_of(cache);
    for (Index i = 0; i < 3; ++i) {
      CHECK(std::isnan(keys(0, i)));
      CHECK(std::abs(keys(1, i) - key[to_size(i)]) <= 0.008f);
      CHECK(keys(2, i) == 0);
    }
  }
}

TEST_CASE_TEMPLATE("token cache: what does not fit is refused, and changes nothing", S, float, q8) {
  Tokens const tokens(6, 4), wide(2, 5);
  TokenCache<S> cache(4, vocab);
  tokens.append_to(cache, 0, 4);
  TokenCache<S> const before = cache;
  CHECK(refusal([&] { wide.append_to(cache, 0, 2); }) == "aviary: TokenCache: keys have 5 numbers, expected 4");
  CHECK(refusal([&] { cache.append(std::span(tokens.ids).first(3), tokens.keys.rows_of(0, 2)); }) ==
        "aviary: TokenCache: 2 keys for 3 ids");
  for (std::int32_t const id : {-1, 100}) {
    std::vector<std::int32_t> const ids{5, id};
    CHECK(refusal([&] { cache.append(std::span(ids), tokens.keys.rows_of(0, 2)); }) ==
          "aviary: TokenCache: token 1 has id " + std::to_string(id) + ", expected 0 to 99");
  }
  CHECK(refusal([&] { cache.truncate(5); }) == "aviary: TokenCache: truncated to 5 tokens, expected 0 to 4");
  CHECK(refusal([&] { cache.truncate(-1); }) == "aviary: TokenCache: truncated to -1 tokens, expected 0 to 4");
  CHECK(cache == before);
}

TEST_CASE("token cache: holds more than 2^31 tokens, and refuses more than 63 bits of bytes") {
  TokenCache<bf16> cache(128, vocab);  // 260 bytes
  CHECK(cache.max_size() == PTRDIFF_MAX / 260);
  CHECK(cache.max_size() > Index{1} << 31);
  std::string const limit = std::to_string(PTRDIFF_MAX / 260);
  CHECK(refusal([&] { cache.reserve(PTRDIFF_MAX / 260 + 1); }) == "aviary: TokenCache: room for " +
                                                                      std::to_string(PTRDIFF_MAX / 260 + 1) +
                                                                      " tokens asked for, expected at most " + limit);
  std::vector<std::int32_t> const id(1);
  std::vector<float> const key(128);
  cache.append(std::span(id), MatView<float const>(key.data(), 1, 128));
  Index const huge = PTRDIFF_MAX / 260;  // one too many; nothing of them is read
  CHECK(refusal([&] {
          cache.append(std::span(id.data(), to_size(huge)), MatView<float const>(key.data(), huge, 128));
        }) == "aviary: TokenCache: " + limit + " tokens after 1, expected at most " + limit + " in all");
  CHECK(cache.size() == 1);
}

TEST_CASE("token cache: impossible sizes are refused") {
  CHECK(refusal([] { TokenCache<float>(0, 5); }) == "aviary: TokenCache: the width is 0, expected 1 to 2147483648");
  CHECK(refusal([] { TokenCache<float>(4, 0); }) ==
        "aviary: TokenCache: the vocabulary has 0 tokens, expected 1 to 2147483648");
  CHECK(refusal([] { TokenCache<float>(4, Index{1} << 32); }) ==
        "aviary: TokenCache: the vocabulary has 4294967296 tokens, expected 1 to 2147483648");
}
