#pragma once
/// Packed sequences: (tokens, heads, size) numbers of any floating format, last index contiguous. The format is known at
/// run time, so that mixing formats costs no instantiation of a kernel; a row is converted as it is read or written.
///
/// An Eigen matrix, map or block is a sequence, too. Its tokens are columns if it is column-major, (heads * size, tokens),
/// and rows if it is row-major, (tokens, heads * size); the next token begins an outer stride further. An Eigen vector is
/// one token. With Eigen::MatrixXf q, k and v of 768 x tokens:
///
///   Memory::Inputs x{.q = q, .k = k, .v = v};     // a memory of head size 64: 768 / 64 = 12 heads
///
/// The numbers of a token must be contiguous and a whole number of heads. What the type says against it does not compile;
/// what only the object says fails an assertion, as for the views of view.hpp.
#include <cstddef>

#include "aviary/core/convert.hpp"
#include "aviary/core/view.hpp"

namespace aviary {

namespace detail {
/// An Eigen matrix whose lines may hold heads of N numbers, as far as its type says; of constant numbers if Void is.
template <class M, Index N, class Void>
concept HeadsOf = EigenLines<M> && Stored<std::remove_const_t<EigenNumber<M>>> && may_be_multiple(fixed_length<M>, N) &&
    (std::is_const_v<Void> || !std::is_const_v<EigenNumber<M>>);

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
  /// The lines of an Eigen matrix as tokens.
  template <class T>
  constexpr Sequence(Lines<T> tokens, Index heads) noexcept
      : Sequence(tokens.data, format_of<std::remove_const_t<T>>, tokens.count, heads, size_in(tokens.length, heads),
                 tokens.stride, size_in(tokens.length, heads)) {
    AVIARY_ASSERT(heads * size() == tokens.length);
  }
  /// How many heads `length` numbers are (of a run-time size, one), and how long each of `heads` is.
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

  /// The tokens of an Eigen matrix, of as many heads as N numbers fit into a token (of a run-time size: of one).
  template <detail::HeadsOf<N, void const> M>
  constexpr Source(M&& m) noexcept : Base(detail::lines_of(m), Base::heads_in(detail::lines_of(m).length)) {}
  /// The same, of that many heads.
  template <detail::HeadsOf<N, void const> M>
  constexpr Source(M&& m, Index heads) noexcept : Base(detail::lines_of(m), heads) {}

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

  /// An Eigen vector of all heads, or a matrix with one head a line: a column, or, row-major, a row.
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

  /// The tokens of an Eigen matrix, of as many heads as N numbers fit into a token (of a run-time size: of one).
  template <detail::HeadsOf<N, void> M>
  constexpr Sink(M&& m) noexcept : Base(detail::lines_of(m), Base::heads_in(detail::lines_of(m).length)) {}
  /// The same, of that many heads.
  template <detail::HeadsOf<N, void> M>
  constexpr Sink(M&& m, Index heads) noexcept : Base(detail::lines_of(m), heads) {}

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
