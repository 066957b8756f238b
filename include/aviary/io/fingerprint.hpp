#pragma once
/// Which weights a state or a token cache comes from. Others of the same shapes would go on from it without complaint, and
/// make garbage: so a file of states says whose they are, and a reader compares.
///
///     aviary.weights    "91f3c2a8d04b7e65", a text in the metadata of the file
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "aviary/io/message.hpp"
#include "aviary/io/safetensors.hpp"
#include "aviary/io/tensor.hpp"
#include "aviary/io/tensor_file.hpp"

namespace AVIARY_NAMESPACE {

/// A number of 64 bits made of all weights: every name, number format, shape and number that was taken in, in any order.
/// It does not depend on the format of the file, nor on what a model keeps its weights as. The same numbers in another
/// format are other weights. It tells weights apart that somebody trained; it does not keep out who wants to deceive.
///   Cost: a pass over the bytes at about 5 GB/s, after which a file lies in memory for its loader.
class Fingerprint {
 public:
  /// That of no weights.
  Fingerprint() = default;

  /// That of all tensors of a file.
  explicit Fingerprint(TensorFile const& file) {
    for (std::string_view const name : file.names()) add(file.tensor(name));
  }

  /// Takes in a tensor, which was not taken in before.
  void add(Tensor const& tensor) {
    Mixer mixer;
    for (std::string_view const text : {tensor.name, name_of(tensor.dtype)}) mixer.take(std::as_bytes(std::span(text)));
    mixer.take(std::as_bytes(tensor.shape));
    detail::for_each_piece(tensor, [&](auto bytes) { mixer.take(bytes); });
    sum_ += mixer.number();
  }

  /// 16 hexadecimal digits.
  std::string text() const { return hexadecimal(sum_); }

  friend bool operator==(Fingerprint, Fingerprint) = default;

 private:
  /// Eight sums side by side, so that no multiplication waits for another.
  class Mixer {
   public:
    /// Bytes that are not the last of a tensor come in blocks.
    void take(std::span<std::byte const> bytes) noexcept {
      length_ += bytes.size();
      for (; bytes.size() >= block; bytes = bytes.subspan(block)) mix(bytes.data());
      if (bytes.empty()) return;
      std::array<std::byte, block> last{};
      std::ranges::copy(bytes, last.begin());
      mix(last.data());
    }
    std::uint64_t number() const noexcept {
      std::uint64_t all = length_;
      for (std::uint64_t const sum : sums_) all = mixed(all ^ sum);
      return mixed(all);
    }

   private:
    static constexpr std::size_t lanes = 8, block = lanes * sizeof(std::uint64_t);

    /// A change of a bit reaches all others: upper ones go down, all go up with carries, which nobody foresees, and down again.
    static constexpr std::uint64_t mixed(std::uint64_t x) noexcept {
      x ^= x >> 32;
      x *= 0x9e3779b97f4a7c15u;
      return x ^ (x >> 29);
    }
    void mix(std::byte const* bytes) noexcept {
      std::array<std::uint64_t, lanes> words;
      std::memcpy(words.data(), bytes, block);
      for (std::size_t i = 0; i < lanes; ++i) sums_[i] = mixed(sums_[i] ^ words[i]);
    }

    std::array<std::uint64_t, lanes> sums_{1, 2, 3, 4, 5, 6, 7, 8};
    std::uint64_t length_ = 0;
  };

  std::uint64_t sum_ = 0;
};

namespace detail {
inline constexpr std::string_view weights_key = "aviary.weights";
}

/// Has a file say from which weights its content comes.
inline void add_fingerprint(SafeTensorsWriter& to, Fingerprint weights) {
  to.set_metadata(std::string(detail::weights_key), weights.text());
}

/// Throws std::runtime_error if a file says that its content comes from other weights. Older files say nothing, and pass.
inline void expect_fingerprint(TensorFile const& file, Fingerprint weights) {
  auto const found = file.metadata().find(detail::weights_key);
  if (found == file.metadata().end() || found->second == weights.text()) return;
  throw std::runtime_error(file.message("comes from other weights of the same shapes: expected those of fingerprint " +
                                        weights.text() + ", found " + in_quotes(found->second)));
}

}  // namespace AVIARY_NAMESPACE
