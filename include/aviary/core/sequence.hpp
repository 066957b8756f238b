#pragma once
/// Packed sequences: (tokens, heads, size) numbers of any floating format, the last index contiguous. The format is chosen
/// at run time, so mixed formats need no further instantiation of a kernel: a row is converted as it is read or written.
///
/// An Eigen matrix, map or block converts to a sequence. A column-major one, (heads * size, tokens), has its tokens in
/// columns; a row-major one, (tokens, heads * size), has them in rows. The outer stride leads to the next token. An
/// Eigen vector is one token. With Eigen::MatrixXf q, k and v of 768 x tokens and a memory of head size 64:
///
///   Memory::Inputs x{.q = q, .k = k, .v = v};     // 768 / 64 = 12 heads
///
/// The numbers of a token must be contiguous, and must fill whole heads. A matrix that does not fit does not compile if
/// its type shows it; else an assertion fails, as for the views of view.hpp.
#include <cstddef>

#include "aviary/core/convert.hpp"
#include "aviary/core/view.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {
/// As far as its type shows, the lines of an Eigen matrix M may hold heads of N numbers. These may be const if Void is.
template <class M, Index N, class Void>
concept HeadsOf = EigenLines<M> && Stored<std::remove_const_t<EigenNumber<M>>> && may_be_multiple(fixed_length<M>, N) &&
    (std::is_const_v<Void> || !std::is_const_v<EigenNumber<M>>);

/// The rows of one head of a sequence, token after token, wherever they lie and whatever numbers they hold.
class RowCursor {
 public:
  constexpr RowCursor() = default;
  /// From row `first` on; `step` bytes from a row to the next. Each serves `repeat` tokens.
  AVIARY_HOST_DEVICE RowCursor(std::byte const* first, Index step, Index repeat) noexcept
      : at_(first), step_(step), repeat_(repeat), left_(repeat) {}

  AVIARY_HOST_DEVICE std::byte const* at() const noexcept { return at_; }
  /// To a later token.
  AVIARY_HOST_DEVICE void move(Index tokens) noexcept {
    if (repeat_ > 1) {
      Index const in_row = repeat_ - left_ + tokens;
      left_ = repeat_ - in_row % repeat_;
      tokens = in_row / repeat_;
    }
    at_ += tokens * step_;
  }
  /// On by some bytes, to another head.
  AVIARY_HOST_DEVICE void shift(Index bytes) noexcept { at_ += bytes; }
  /// Bytes from a token to the next; 0 where tokens share rows.
  AVIARY_HOST_DEVICE Index step() const noexcept { return repeat_ == 1 ? step_ : 0; }
  /// The rows of the next n tokens.
  template <class T> AVIARY_INLINE void next(Index n, T** rows) noexcept {
    auto const row = [](std::byte const* at)
                         AVIARY_INLINE_LAMBDA { return reinterpret_cast<T*>(const_cast<std::byte*>(at)); };
    if (repeat_ == 1) {
      for (Index m = 0; m < n; ++m) rows[m] = row(at_ + m * step_);
      at_ += n * step_;
    } else {
      for (Index m = 0; m < n; ++m) {
        rows[m] = row(at_);
        if (--left_ > 0) continue;
        at_ += step_;
        left_ = repeat_;
      }
    }
  }

 private:
  std::byte const* at_ = nullptr;
  Index step_ = 0, repeat_ = 1, left_ = 1;
};

/// Where the numbers of a sequence lie. Source and Sink have this in common.
template <Index N, class Void> class Sequence {
 public:
  AVIARY_HOST_DEVICE Index tokens() const noexcept { return tokens_; }
  AVIARY_HOST_DEVICE Index heads() const noexcept { return heads_; }
  AVIARY_HOST_DEVICE Index size() const noexcept { return size_; }
  AVIARY_HOST_DEVICE NumberFormat format() const noexcept { return format_; }
  AVIARY_HOST_DEVICE Void* data() const noexcept { return data_; }
  /// Numbers from a row to the next, and from a head to the next.
  AVIARY_HOST_DEVICE Index token_stride() const noexcept { return token_stride_; }
  AVIARY_HOST_DEVICE Index head_stride() const noexcept { return head_stride_; }
  /// Tokens that share a row.
  AVIARY_HOST_DEVICE Index repeat() const noexcept { return repeat_; }
  /// The rows of a head from some token on.
  AVIARY_HOST_DEVICE RowCursor rows(Index token, Index head) const noexcept {
    Index const bytes = static_cast<Index>(size_of(format_));
    RowCursor rows(static_cast<std::byte const*>(data_) + head * head_stride_ * bytes, token_stride_ * bytes, repeat_);
    rows.move(token);
    return rows;
  }

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
  /// The lines of an Eigen matrix as tokens.
  template <class T>
  constexpr Sequence(Lines<T> tokens, Index heads) noexcept
      : Sequence(tokens.data, format_of<std::remove_const_t<T>>, tokens.count, heads, size_in(tokens.length, heads),
                 tokens.stride, size_in(tokens.length, heads)) {
    AVIARY_ASSERT(heads * size() == tokens.length);
  }
  /// How many heads `length` numbers hold, and the size of a head if they hold `heads`. For a run-time size `length`
  /// numbers are one head.
  static constexpr Index heads_in(Index length) noexcept { return N == dynamic ? 1 : length / N; }
  static constexpr Index size_in(Index length, [[maybe_unused]] Index heads) noexcept {
    if constexpr (N != dynamic) return N;
    AVIARY_ASSERT(heads > 0);
    return length / heads;
  }
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

/// (tokens, heads, N) numbers to read: float, double, bf16 or f16. Strides count numbers and may have any value.
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

  /// The tokens of an Eigen matrix. Every N numbers of a token are a head; for a run-time size there is one head.
  template <detail::HeadsOf<N, void const> M>
  constexpr Source(M&& m) noexcept : Base(detail::lines_of(m), Base::heads_in(detail::lines_of(m).length)) {}
  /// The tokens of an Eigen matrix with this number of heads.
  template <detail::HeadsOf<N, void const> M>
  constexpr Source(M&& m, Index heads) noexcept : Base(detail::lines_of(m), heads) {}

  /// Head h, as a sequence with one head.
  Source head(Index h) const noexcept {
    Source one = *this;
    one.move_to_head(h);
    return one;
  }
  /// The same sequence with n micro-steps a token, all of which read the numbers of the token.
  Source repeated(Index n) const noexcept {
    Source slower = *this;
    slower.repeat(n);
    return slower;
  }
  /// The numbers of one token and head as T. If they are stored as T, the view shows them where they lie; else they are
  /// converted into scratch, which has room for size() numbers.
  template <class T> VecView<T const, N> row(Index token, Index head, T* scratch) const noexcept {
    return {part(token, head, 0, this->size_, scratch).data(), this->size_};
  }
  /// The same for the n numbers from number `first` on; scratch has room for n numbers.
  template <class T> VecView<T const> part(Index token, Index head, Index first, Index n, T* scratch) const noexcept {
    Index const at = this->at(token, head) + first;
    if (this->format_ == format_of<T>) return {static_cast<T const*>(this->data_) + at, n};
    with_type(this->format_, this->data_, [&](auto const* from) noexcept { convert(from + at, scratch, n); });
    return {scratch, n};
  }
};

/// (heads, N) numbers to read that are the same for every token.
template <Index N = dynamic> class HeadSource : public Source<N> {
 public:
  template <Stored T>
  constexpr HeadSource(T const* data, Index heads) noexcept requires(N != dynamic) : HeadSource(data, heads, N) {}
  template <Stored T>
  constexpr HeadSource(T const* data, Index heads, Index size) noexcept : Source<N>(data, 1, heads, size, 0, size) {}

  /// An Eigen vector with all heads, or a matrix with one head in each column (if it is column-major) or row (if it is
  /// row-major).
  template <detail::HeadsOf<N, void const> M>
  constexpr HeadSource(M&& m) noexcept
      : HeadSource(detail::lines_of(m), HeadSource::size_in(detail::lines_of(m).length, 1)) {}

  HeadSource head(Index h) const noexcept {
    HeadSource one = *this;
    one.move_to_head(h);
    return one;
  }

 private:
  template <class T>
  constexpr HeadSource(detail::Lines<T> lines, Index size) noexcept
      : Source<N>(lines.data, 1, lines.count * lines.length / size, size, 0, lines.count > 1 ? lines.stride : size) {
    AVIARY_ASSERT(lines.length == (lines.count > 1 ? size : this->heads() * size));
  }
};

/// (tokens, heads, N) numbers to write. A default-constructed sink says that they are not wanted. Strides count numbers
/// and may have any value.
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

  /// The tokens of an Eigen matrix. Every N numbers of a token are a head; for a run-time size there is one head.
  template <detail::HeadsOf<N, void> M>
  constexpr Sink(M&& m) noexcept : Base(detail::lines_of(m), Base::heads_in(detail::lines_of(m).length)) {}
  /// The tokens of an Eigen matrix with this number of heads.
  template <detail::HeadsOf<N, void> M>
  constexpr Sink(M&& m, Index heads) noexcept : Base(detail::lines_of(m), heads) {}

  AVIARY_HOST_DEVICE explicit operator bool() const noexcept { return this->data_ != nullptr; }

  /// The same sequence with n micro-steps a token. All of them write to the token's place, so the last one stays.
  Sink repeated(Index n) const noexcept {
    Sink slower = *this;
    slower.repeat(n);
    return slower;
  }
  /// Where the numbers of one token and head lie if they are stored as T, else a null pointer.
  template <class T> T* row(Index token, Index head) const noexcept {
    return this->format_ == format_of<T> ? static_cast<T*>(this->data_) + this->at(token, head) : nullptr;
  }
  /// Writes the n numbers of one token and head from number `first` on.
  template <class T> void put(Index token, Index head, Index first, Index n, T const* from) const noexcept {
    Index const at = this->at(token, head) + first;
    with_type(this->format_, this->data_, [&](auto* to) noexcept { convert(from, to + at, n); });
  }
};

/// (heads, N) numbers to write that belong to no token: the gradient of a HeadSource. A default-constructed one says that they
/// are not wanted.
template <Index N = dynamic> class HeadSink : public Sink<N> {
 public:
  constexpr HeadSink() = default;
  template <Stored T>
  requires(!std::is_const_v<T>) constexpr HeadSink(T* data, Index heads) noexcept requires(N != dynamic)
      : HeadSink(data, heads, N) {}
  template <Stored T>
  requires(!std::is_const_v<T>) constexpr HeadSink(T* data, Index heads, Index size) noexcept
      : Sink<N>(data, 1, heads, size, 0, size) {}

  /// An Eigen vector with all heads, or a matrix with one head in each column (if it is column-major) or row (if it is
  /// row-major).
  template <detail::HeadsOf<N, void> M>
  constexpr HeadSink(M&& m) noexcept
      : HeadSink(detail::lines_of(m), HeadSink::size_in(detail::lines_of(m).length, 1)) {}

 private:
  template <class T>
  constexpr HeadSink(detail::Lines<T> lines, Index size) noexcept
      : Sink<N>(lines.data, 1, lines.count * lines.length / size, size, 0, lines.count > 1 ? lines.stride : size) {
    AVIARY_ASSERT(lines.length == (lines.count > 1 ? size : this->heads() * size));
  }
};

}  // namespace AVIARY_NAMESPACE
