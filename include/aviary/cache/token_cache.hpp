#pragma once
/// The token cache of GoldFinch (Goldstein et al. 2024, arXiv:2407.12077). It keeps the id of every token and a compressed
/// key of a few numbers, C/16 for C channels, for all attention layers together. Layers rebuild keys and values of full
/// size from these when they need them.
///
///     TokenCache<bf16> cache(width, vocab_size);
///     cache.reserve(100'000);                             from here on the first 100'000 tokens allocate nothing
///     cache.append(ids, keys);                            (tokens), (tokens, width)
///     cache.truncate(cache.size() - 5);                   takes back the last five
///
/// How much smaller it is than a cache of keys and values in 16 bits, of L layers with C channels each:
///
///     2 L C numbers of 16 bits a token against C/16 + 2   756 times smaller for 24 layers of 2048 channels,
///                                                        2550 times for 80 layers of 8192
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "aviary/core/aligned.hpp"
#include "aviary/core/convert.hpp"
#include "aviary/core/error.hpp"
#include "aviary/core/steps.hpp"
#include "aviary/core/view.hpp"

namespace AVIARY_NAMESPACE {

/// The types that may hold the numbers of a key: float and double keep them as they are, bf16 and f16 round them, and
/// q8 holds -127 ... 127 times a bf16 scale of each key, within 0.4% of the key's largest number. The table shows
/// the largest difference of a logit from that with a cache of floats, over the largest logit:
///
///                                                                    bf16      f16       q8
///     6 layers of 32 channels, random weights, 20 tokens             2.5e-4    2.3e-5    3.8e-4
///     12 layers of 512 channels, random weights, 1024 tokens         6.1e-6    1.0e-6    2.0e-5
template <class S>
concept KeyStorage = Stored<S> || std::is_same_v<S, q8>;

/// A sequence of token ids, each with a key of `width` numbers of type S. It is a value: copies are independent.
///   Memory: bytes_per_token() for each token of the capacity, in two contiguous blocks, or three with q8.
template <KeyStorage S> class TokenCache {
 public:
  using Id = std::int32_t;
  static constexpr bool has_scales = std::is_same_v<S, q8>;

  /// Makes an empty cache with keys of `width` numbers, C/16 in GoldFinch, for ids 0 ... vocab_size - 1.
  /// @throws std::invalid_argument unless both are positive and ids fit 32 bits
  TokenCache(Index width, Index vocab_size) : width_(width), vocab_size_(vocab_size) {
    if (width < 1 || width > widest) fail("the width is " + text(width) + ", expected 1 to " + text(widest));
    if (vocab_size < 1 || vocab_size > most_ids)
      fail("the vocabulary has " + text(vocab_size) + " tokens, expected 1 to " + text(most_ids));
  }

  Index size() const noexcept { return static_cast<Index>(ids_.size()); }
  bool empty() const noexcept { return ids_.empty(); }
  Index width() const noexcept { return width_; }
  Index vocab_size() const noexcept { return vocab_size_; }
  /// How many tokens it can hold without allocating.
  Index capacity() const noexcept {
    std::size_t room = std::min(ids_.capacity(), keys_.capacity() / to_size(width_));
    if constexpr (has_scales) room = std::min(room, scales_.capacity());
    return static_cast<Index>(room);
  }
  /// How many tokens it can ever hold: an Index counts their bytes.
  Index max_size() const noexcept { return std::numeric_limits<Index>::max() / bytes_per_token(); }
  /// The bytes of an id, its key and, with q8, the scale.
  Index bytes_per_token() const noexcept {
    return static_cast<Index>(sizeof(Id)) + width_ * static_cast<Index>(sizeof(S)) + (has_scales ? 2 : 0);
  }
  /// The bytes of the tokens that it holds.
  Index size_bytes() const noexcept { return size() * bytes_per_token(); }

  /// Makes room for so many tokens in all. Only capacity() changes.
  /// @throws std::invalid_argument for more than max_size(); std::bad_alloc
  void reserve(Index tokens) {
    if (tokens > max_size())
      fail("room for " + text(tokens) + " tokens asked for, expected at most " + text(max_size()));
    if (tokens <= capacity()) return;
    ids_.reserve(to_size(tokens));
    keys_.reserve(to_size(tokens * width_));
    if constexpr (has_scales) scales_.reserve(to_size(tokens));
  }

  /// Appends tokens: ids (tokens), keys (tokens, width) of any floating format. With q8, a key with a NaN or an infinity
  /// becomes all NaN.
  ///   Cost: O(1) a token, amortised. It allocates only beyond capacity().
  /// @throws std::invalid_argument for other shapes, an id outside the vocabulary, or more than max_size() tokens;
  /// std::bad_alloc. The cache is then unchanged.
  template <class T>
  requires Stored<std::remove_const_t<T>>
  void append(std::span<Id const> ids, MatView<T> keys) {
    if (keys.columns() != width_) fail("keys have " + text(keys.columns()) + " numbers, expected " + text(width_));
    if (keys.rows() != static_cast<Index>(ids.size()))
      fail(text(keys.rows()) + " keys for " + text(static_cast<Index>(ids.size())) + " ids");
    make_room(keys.rows());
    check(ids);
    Index const first = size();
    extend(ids);
    for (Index t = 0; t < keys.rows(); ++t) put(first + t, keys[t].data());
  }
  /// Appends one token.
  template <class T>
  requires Stored<std::remove_const_t<T>>
  void append(Id id, VecView<T> key) { append(std::span(&id, 1), MatView<T>(key.data(), 1, key.size())); }

  /// Appends tokens as another cache holds them, without rounding: ids (tokens), keys (tokens, width) and, with q8,
  /// scales (tokens).
  /// @throws as append()
  void append_stored(std::span<Id const> ids, std::span<S const> keys, std::span<bf16 const> scales = {}) {
    Index const tokens = static_cast<Index>(ids.size());
    make_room(tokens);
    Index const numbers = static_cast<Index>(keys.size()), scaled = has_scales ? tokens : 0;
    if (numbers != tokens * width_) fail(text(numbers) + " numbers, expected " + text(tokens * width_));
    if (static_cast<Index>(scales.size()) != scaled)
      fail(text(static_cast<Index>(scales.size())) + " scales, expected " + text(scaled));
    check(ids);
    Index const first = size();
    extend(ids);
    std::copy(keys.begin(), keys.end(), keys_.begin() + first * width_);
    if constexpr (has_scales) std::copy(scales.begin(), scales.end(), scales_.begin() + first);
  }

  /// Forgets all but the first `tokens`. The capacity stays.
  /// @throws std::invalid_argument unless 0 <= tokens <= size()
  void truncate(Index tokens) {
    if (tokens < 0 || tokens > size()) fail("truncated to " + text(tokens) + " tokens, expected 0 to " + text(size()));
    ids_.resize(to_size(tokens));
    keys_.resize(to_size(tokens * width_));
    if constexpr (has_scales) scales_.resize(to_size(tokens));
  }

  /// @name What is held
  /// The spans are valid until the cache changes. They show numbers as they are stored: keys (size(), width), and with q8
  /// scales (size()).
  ///@{
  std::span<Id const> ids() const noexcept { return ids_; }
  std::span<Id const> ids(Index first, Index n) const noexcept {
    AVIARY_ASSERT(first >= 0 && n >= 0 && first + n <= size());
    return {ids_.data() + first, to_size(n)};
  }
  std::span<S const> stored_keys() const noexcept { return keys_; }
  std::span<bf16 const> scales() const noexcept { return scales_; }
  ///@}

  /// Writes the keys of the tokens from `first` on to `to` (tokens, width), as float or double.
  template <class T> void read(Index first, MatView<T> to) const noexcept {
    AVIARY_ASSERT(first >= 0 && first + to.rows() <= size() && to.columns() == width_);
    for (Index t = 0; t < to.rows(); ++t) get(first + t, to[t].data());
  }

  friend bool operator==(TokenCache const& a, TokenCache const& b) {
    return a.width_ == b.width_ && a.vocab_size_ == b.vocab_size_ && a.ids_ == b.ids_ && a.keys_ == b.keys_ &&
           a.scales_ == b.scales_;
  }

 private:
  static constexpr Index most_ids = Index{std::numeric_limits<Id>::max()} + 1, widest = Index{1} << 31;

  static std::string text(Index n) { return std::to_string(n); }
  [[noreturn]] static void fail(std::string const& what) { detail::refuse("TokenCache: " + what); }

  /// Makes room for more tokens. It doubles the capacity, so that a token costs O(1).
  void make_room(Index more) {
    if (more > max_size() - size())
      fail(text(more) + " tokens after " + text(size()) + ", expected at most " + text(max_size()) + " in all");
    Index const wanted = size() + more, room = capacity(), doubled = room <= max_size() / 2 ? 2 * room : max_size();
    if (wanted > room) reserve(std::max(wanted, doubled));
  }
  void check(std::span<Id const> ids) const {
    for (std::size_t t = 0; t < ids.size(); ++t)
      if (ids[t] < 0 || ids[t] >= vocab_size_)
        fail("token " + std::to_string(t) + " has id " + text(ids[t]) + ", expected 0 to " + text(vocab_size_ - 1));
  }
  /// Adds tokens, with keys that the caller fills in. There is room for them.
  void extend(std::span<Id const> ids) noexcept {
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    keys_.resize(ids_.size() * to_size(width_));
    if constexpr (has_scales) scales_.resize(ids_.size());
  }

  template <class T> void put(Index token, T const* key) noexcept {
    S* const to = keys_.data() + token * width_;
    if constexpr (has_scales)
      scales_[to_size(token)] = put_steps(key, to);
    else
      convert(key, to, width_);
  }
  template <class T> bf16 put_steps(T const* key, S* to) const noexcept {
    float most = 0;
    bool finite = true;
    for (Index i = 0; i < width_; ++i) {
      float const size = std::abs(static_cast<float>(widen(key[i])));
      finite = finite && size <= std::numeric_limits<float>::max();
      most = std::max(most, size);
    }
    bf16 const scale = finite ? detail::q8_scale(most) : narrow<bf16>(std::numeric_limits<float>::quiet_NaN());
    bool const zeros = !finite || scale == bf16{0};
    for (Index i = 0; i < width_; ++i)
      to[i].steps = zeros ? std::int8_t{0} : detail::q8_steps(static_cast<float>(widen(key[i])), scale);
    return scale;
  }
  template <class T> void get(Index token, T* to) const noexcept {
    S const* const key = keys_.data() + token * width_;
    if constexpr (has_scales) {
      float const scale = widen(scales_[to_size(token)]);
      for (Index i = 0; i < width_; ++i) to[i] = static_cast<T>(scale * static_cast<float>(key[i].steps));
    } else {
      convert(key, to, width_);
    }
  }

  Index width_, vocab_size_;
  std::vector<Id> ids_;
  AlignedVector<S> keys_;
  std::vector<bf16> scales_;
};

}  // namespace AVIARY_NAMESPACE
