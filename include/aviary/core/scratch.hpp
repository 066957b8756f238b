#pragma once
/// Memory for the intermediate rows of layers, made once and lent out as a stack. Layers allocate nothing, and all layers
/// of a model share the same few cached kilobytes.
#include <algorithm>
#include <string>

#include "aviary/core/aligned.hpp"
#include "aviary/core/error.hpp"
#include "aviary/core/view.hpp"

namespace AVIARY_NAMESPACE {

/// A stack of matrices of T. A layer says what a token needs (`scratch_size()`). With a scratch of n times that, it takes n
/// tokens at once, and longer sequences in stretches. Threads must not share a scratch.
template <class T> class Scratch {
 public:
  explicit Scratch(Index numbers) : numbers_(to_size(numbers)) {}

  /// How many numbers are not lent out.
  Index left() const noexcept { return static_cast<Index>(numbers_.size()) - used_; }

  /// Lends a matrix whose rows begin on 64-byte boundaries; its numbers are not set. It takes rows * padded(columns)
  /// numbers.
  MatView<T> rows(Index rows, Index columns) noexcept {
    Index const stride = padded<T>(columns), size = rows * stride;
    AVIARY_ASSERT(size <= left());
    T* const data = numbers_.data() + used_;
    used_ += size;
    return {data, rows, columns, stride};
  }

  /// Gives back at its end what was lent during its life.
  class Frame {
   public:
    explicit Frame(Scratch& scratch) noexcept : scratch_(scratch), used_(scratch.used_) {}
    Frame(Frame const&) = delete;
    Frame& operator=(Frame const&) = delete;
    ~Frame() { scratch_.used_ = used_; }

   private:
    Scratch& scratch_;
    Index used_;
  };

  /// How many tokens it has room for, at so many numbers a token.
  /// @throws std::invalid_argument if there is none
  Index tokens(Index numbers_per_token) const {
    Index const most = left() / numbers_per_token;
    if (most == 0)
      detail::refuse("scratch has " + std::to_string(left()) + " numbers left, one token needs " +
                     std::to_string(numbers_per_token));
    return most;
  }

  /// Calls f(first, count) for stretches of so many tokens, each as long as the scratch allows.
  /// @throws std::invalid_argument if it holds less than one token
  template <class F> void for_stretches(Index tokens, Index numbers_per_token, F&& f) {
    Index const most = this->tokens(numbers_per_token);
    for (Index first = 0; first < tokens; first += most) {
      Frame const frame(*this);
      f(first, std::min(most, tokens - first));
    }
  }

 private:
  AlignedVector<T> numbers_;
  Index used_ = 0;
};

}  // namespace AVIARY_NAMESPACE
