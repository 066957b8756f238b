#pragma once
/// Token caches in a safetensors file, alone or beside the states of the recurrent layers, with every bit.
///
///     save_token_cache("tokens.safetensors", cache);
///     load_token_cache("tokens.safetensors", cache);
///
/// A cache called NAME is two tensors or three: NAME.ids, I32 (tokens); NAME.keys (tokens, width) in the format of the
/// cache's numbers, those of q8 as the bytes of U8; and with q8 NAME.scales, BF16 (tokens). The file's metadata say the rest:
///
///     aviary.token_cache.NAME               "2", the version of all this
///     aviary.token_cache.NAME.storage       "F32", "F64", "BF16", "F16" or "Q8", which older files call "I8"
///     aviary.token_cache.NAME.vocab_size    "65536"
///
/// and, for the whole file, a checksum of its content, and the fingerprint of the weights that the keys come from, where the
/// writer was told it (fingerprint.hpp). Files of version 1, which have neither, are read as ever, without that check.
///
/// What a file holds must be what the reader expects: else every difference is named, and the cache stays as it was.
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "aviary/cache/token_cache.hpp"
#include "aviary/io/fingerprint.hpp"
#include "aviary/io/safetensors.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {

inline constexpr std::string_view token_cache_key = "aviary.token_cache.";
inline constexpr char const* token_cache_name = "cache";  // in a file of its own

/// How keys lie in a file: safetensors has no dtype for q8.
template <KeyStorage S> using StoredKey = std::conditional_t<TokenCache<S>::has_scales, std::uint8_t, S>;

/// The numbers of a tensor where they lie, or, where that is on no boundary of theirs, copied.
template <Element T> class TensorNumbers {
 public:
  explicit TensorNumbers(Tensor const& tensor) {
    auto const in_place = tensor.in_place<T>();
    if (!in_place) copy_ = tensor.read<T>();
    numbers_ = in_place ? *in_place : std::span<T const>(copy_);
  }
  TensorNumbers(TensorNumbers const&) = delete;
  TensorNumbers& operator=(TensorNumbers const&) = delete;
  std::span<T const> span() const noexcept { return numbers_; }

 private:
  std::vector<T> copy_;
  std::span<T const> numbers_;
};

/// Reads the cache of one name, step by step, and blames the file.
template <KeyStorage S> class TokenCacheReader {
 public:
  TokenCacheReader(TensorFile const& file, std::string name, TokenCache<S>& cache)
      : file_(file), name_(std::move(name)), key_(std::string(token_cache_key) + name_), cache_(cache) {}

  void read() const {
    Tensor const ids = file_.tensor(name_ + ".ids", {dynamic});
    Index const tokens = ids.size();
    check_metadata(ids);
    Tensor const keys = file_.tensor(name_ + ".keys", {tokens, cache_.width()});
    ids.expect_dtype(NumberFormat::i32);
    keys.expect_dtype(format_of<StoredKey<S>>);
    TensorNumbers<std::int32_t> const id_numbers(ids);
    TensorNumbers<StoredKey<S>> const key_numbers(keys);
    check_ids(ids, id_numbers.span());
    auto const key_span = key_numbers.span();
    std::span const stored(reinterpret_cast<S const*>(key_span.data()), key_span.size());
    if constexpr (TokenCache<S>::has_scales) {
      Tensor const scales = file_.tensor(name_ + ".scales", {tokens});
      scales.expect_dtype(NumberFormat::bf16);
      replace(tokens, id_numbers.span(), stored, TensorNumbers<bf16>(scales).span());
    } else {
      replace(tokens, id_numbers.span(), stored, {});
    }
  }

 private:
  /// Everything has been checked; only memory may be missing.
  void replace(Index tokens, std::span<std::int32_t const> ids, std::span<S const> keys,
               std::span<bf16 const> scales) const {
    cache_.reserve(tokens);
    cache_.truncate(0);
    cache_.append_stored(ids, keys, scales);
  }

  void check_metadata(Tensor const& ids) const {
    Differences differences;
    auto const text = [&](std::string const& key) { return file_.text(key, ids.message("belongs to no token cache")); };
    std::string_view const version = text(key_), storage = text(key_ + ".storage");
    expect_version(differences, "a token cache of version", version);
    differences.expect("keys stored as", safetensors_name(format_of<S>), storage == "I8" ? "Q8" : storage);
    differences.expect("ids of a vocabulary of", std::to_string(cache_.vocab_size()), text(key_ + ".vocab_size"));
    differences.throw_any(ids);
    if (version != state_version_before) file_.expect_checksum();
  }
  void check_ids(Tensor const& tensor, std::span<std::int32_t const> ids) const {
    for (std::size_t t = 0; t < ids.size(); ++t)
      if (ids[t] < 0 || ids[t] >= cache_.vocab_size())
        throw std::runtime_error(tensor.message("token " + std::to_string(t) + " has id " + std::to_string(ids[t]) +
                                                ", expected 0 to " + std::to_string(cache_.vocab_size() - 1)));
  }

  TensorFile const& file_;
  std::string name_, key_;
  TokenCache<S>& cache_;
};

}  // namespace detail

/// Adds a cache to a file that is being made, say that of StateWriter::tensors(). Its numbers are not copied: the cache must
/// outlive the writer, and not change.
/// Throws std::invalid_argument for a name that is given already.
template <KeyStorage S>
void add_token_cache(SafeTensorsWriter& to, std::string const& name, TokenCache<S> const& cache) {
  using Key = detail::StoredKey<S>;
  std::string const key = std::string(detail::token_cache_key) + name;
  auto const stored = cache.stored_keys();
  to.add(name + ".ids", {cache.size()}, cache.ids());
  to.add(name + ".keys", {cache.size(), cache.width()},
         std::span(reinterpret_cast<Key const*>(stored.data()), stored.size()));
  if constexpr (TokenCache<S>::has_scales) to.add(name + ".scales", {cache.size()}, cache.scales());
  to.set_metadata(key, std::string(detail::state_version)).add_checksum();
  to.set_metadata(key + ".storage", detail::safetensors_name(format_of<S>));
  to.set_metadata(key + ".vocab_size", std::to_string(cache.vocab_size()));
}

/// Replaces what the cache holds by the cache of that name in a file; it must have the cache's width, number type and size
/// of vocabulary.
/// Throws std::runtime_error that names file, tensor, expected and found; std::bad_alloc. The cache stays as it was then.
/// Whoever opened the file compares it with its checksum, as StateFile does and file.verify().
///   Cost: a copy of the file's numbers.
template <KeyStorage S> void read_token_cache(TensorFile const& file, std::string const& name, TokenCache<S>& cache) {
  detail::TokenCacheReader<S>(file, name, cache).read();
}

/// Writes a file that holds the cache alone: the old one, if any, is replaced when all is written, and stays if anything
/// fails. `weights` are those that made the keys. Throws std::runtime_error with path and reason.
template <KeyStorage S>
void save_token_cache(std::filesystem::path const& path, TokenCache<S> const& cache,
                      std::optional<Fingerprint> weights = {}) {
  SafeTensorsWriter writer;
  if (weights) add_fingerprint(writer, *weights);
  add_token_cache(writer, detail::token_cache_name, cache);
  writer.write(path);
}

/// Reads such a file, as read_token_cache(); one that is damaged, or says that other `weights` made the keys, is refused.
template <KeyStorage S>
void load_token_cache(std::filesystem::path const& path, TokenCache<S>& cache,
                      std::optional<Fingerprint> weights = {}) {
  SafeTensors const file(path);
  file.verify();
  if (weights) expect_fingerprint(file, *weights);
  read_token_cache(file, detail::token_cache_name, cache);
}

}  // namespace AVIARY_NAMESPACE
