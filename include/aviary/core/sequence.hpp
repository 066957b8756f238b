#pragma once
/// Packed sequences: (tokens, heads, size) numbers of any floating format, last index contiguous. The format is known at
/// run time, so that mixing formats costs no instantiation of a kernel; a row is converted as it is read or written.
#include <cstddef>

#include "aviary/core/convert.hpp"
#include "aviary/core/view.hpp"

namespace aviary {

namespace detail {
/// Where the numbers of a sequence lie: what Source and Sink have in common.
template <Index N, class Void> class Sequence {
 public:
  Index tokens() const noexcept { return tokens_; }
  Index heads() const noexcept { return heads_; }
  Index size() const noexcept { return size_; }
  NumberFormat format() const noexcept { return format_; }
  Void* data() const noexcept { return data_; }

 protected:
  constexpr Sequence() = default;
  constexpr Sequence(Void* data, NumberFormat format, Index tokens, Index heads, Index size, Index token_stride,
                     Index head_stride) noexcept
      : data_(data),
        tokens_(tokens),
        heads_(heads),
        token_stride_(token_stride),
        head_stride_(head_stride),
        size_(size),
        format_(format) {}
  void move_to_head(Index h) noexcept {
    using Byte = std::conditional_t<std::is_const_v<Void>, std::byte const, std::byte>;
    data_ = static_cast<Byte*>(data_) + h * head_stride_ * static_cast<Index>(size_of(format_));
    heads_ = 1;
  }
  void repeat(Index n) noexcept {
    AVIARY_ASSERT(n > 0);
    tokens_ *= n;
    repeat_ *= n;
  }
  Index at(Index token, Index head) const noexcept {
    return (repeat_ > 1 ? token / repeat_ : token) * token_stride_ + head * head_stride_;
  }

  Void* data_ = nullptr;
  Index tokens_ = 0, heads_ = 0, token_stride_ = 0, head_stride_ = 0, repeat_ = 1;
  [[no_unique_address]] Extent<N> size_;
  NumberFormat format_ = NumberFormat::f32;
};
}  // namespace detail

/// (tokens, heads, N) numbers to read: float, double, bf16 or f16. Strides are in numbers, and free.
template <Index N = dynamic> class Source : public detail::Sequence<N, void const> {
  using Base = detail::Sequence<N, void const>;

 public:
  template <Stored T>
  constexpr Source(T const* data, Index tokens, Index heads) noexcept requires(N != dynamic)
      : Source(data, tokens, heads, N) {}
  template <Stored T>
  constexpr Source(T const* data, Index tokens, Index heads, Index size) noexcept
      : Source(data, tokens, heads, size, heads * size, size) {}
  template <Stored T>
  constexpr Source(T const* data, Index tokens, Index heads, Index size, Index token_stride, Index head_stride) noexcept
      : Base(data, format_of<T>, tokens, heads, size, token_stride, head_stride) {}

  /// One head of it, as a sequence with one head.
  Source head(Index h) const noexcept {
    Source one = *this;
    one.move_to_head(h);
    return one;
  }
  /// The same numbers for n micro-steps of every token.
  Source repeated(Index n) const noexcept {
    Source slower = *this;
    slower.repeat(n);
    return slower;
  }
  /// The numbers of one token and head as T: where they lie if they are T, else converted into scratch (size numbers).
  template <class T> VecView<T const, N> row(Index token, Index head, T* scratch) const noexcept {
    return {part(token, head, 0, this->size_, scratch).data(), this->size_};
  }
  /// The n of them that begin with number first, likewise; scratch for n numbers.
  template <class T> VecView<T const> part(Index token, Index head, Index first, Index n, T* scratch) const noexcept {
    Index const at = this->at(token, head) + first;
    if (this->format_ == format_of<T>) return {static_cast<T const*>(this->data_) + at, n};
    with_type(this->format_, this->data_, [&](auto const* from) noexcept { convert(from + at, scratch, n); });
    return {scratch, n};
  }
};

/// The same for numbers of a head that do not change with time: (heads, N).
template <Index N = dynamic> class HeadSource : public Source<N> {
 public:
  template <Stored T>
  constexpr HeadSource(T const* data, Index heads) noexcept requires(N != dynamic) : HeadSource(data, heads, N) {}
  template <Stored T>
  constexpr HeadSource(T const* data, Index heads, Index size) noexcept : Source<N>(data, 1, heads, size, 0, size) {}

  HeadSource head(Index h) const noexcept {
    HeadSource one = *this;
    one.move_to_head(h);
    return one;
  }
};

/// (tokens, heads, N) numbers to write; a default-constructed one is "not wanted". Strides are in numbers, and free.
template <Index N = dynamic> class Sink : public detail::Sequence<N, void> {
  using Base = detail::Sequence<N, void>;

 public:
  constexpr Sink() = default;
  template <Stored T>
  requires(!std::is_const_v<T>) constexpr Sink(T* data, Index tokens, Index heads) noexcept requires(N != dynamic)
      : Sink(data, tokens, heads, N) {}
  template <Stored T>
  requires(!std::is_const_v<T>) constexpr Sink(T* data, Index tokens, Index heads, Index size) noexcept
      : Sink(data, tokens, heads, size, heads * size, size) {}
  template <Stored T>
  requires(!std::is_const_v<T>) constexpr Sink(T* data, Index tokens, Index heads, Index size, Index token_stride,
                                               Index head_stride) noexcept
      : Base(data, format_of<T>, tokens, heads, size, token_stride, head_stride) {}

  explicit operator bool() const noexcept { return this->data_ != nullptr; }

  /// One place for n micro-steps of every token: the last of them stays.
  Sink repeated(Index n) const noexcept {
    Sink slower = *this;
    slower.repeat(n);
    return slower;
  }
  /// Where the numbers of one token and head lie, if they are T; else a null pointer.
  template <class T> T* row(Index token, Index head) const noexcept {
    return this->format_ == format_of<T> ? static_cast<T*>(this->data_) + this->at(token, head) : nullptr;
  }
  /// Writes the n numbers of one token and head that begin with number first.
  template <class T> void put(Index token, Index head, Index first, Index n, T const* from) const noexcept {
    Index const at = this->at(token, head) + first;
    with_type(this->format_, this->data_, [&](auto* to) noexcept { convert(from, to + at, n); });
  }
};

}  // namespace aviary
