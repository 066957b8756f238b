#pragma once
/// Views of memory that somebody else owns: a vector, a matrix. Each is a pointer and its sizes; copying one copies no
/// number. Sizes known at compile time take no room and are checked where the view is made.
#include <concepts>
#include <tuple>
#include <type_traits>

#include "aviary/core/config.hpp"

namespace aviary {

/// A size: N, or with N = dynamic a number that is kept.
template <Index N> struct Extent {
  constexpr Extent() = default;
  AVIARY_HOST_DEVICE constexpr Extent([[maybe_unused]] Index n) noexcept { AVIARY_ASSERT(n == N); }
  AVIARY_HOST_DEVICE constexpr operator Index() const noexcept { return N; }
  friend bool operator==(Extent, Extent) = default;
};

template <> struct Extent<dynamic> {
  Index n = 0;
  constexpr Extent() = default;
  AVIARY_HOST_DEVICE constexpr Extent(Index m) noexcept : n(m) {}
  AVIARY_HOST_DEVICE constexpr operator Index() const noexcept { return n; }
  friend bool operator==(Extent, Extent) = default;
};

/// n numbers of type T, rounded up to whole rows of 64 bytes.
template <class T> AVIARY_HOST_DEVICE constexpr Index padded(Index n) noexcept {
  constexpr Index m = alignment / static_cast<Index>(sizeof(T));
  return (n + m - 1) / m * m;
}

template <class T, Index N> class VecView;

namespace detail {
template <class C> inline constexpr bool is_vec_view = false;
template <class T, Index N> inline constexpr bool is_vec_view<VecView<T, N>> = true;
}  // namespace detail

/// N contiguous numbers. Made from anything that has data() and size() (array, vector, span, Eigen vector), or from a
/// pointer where N is known. The sizes must agree; an Eigen expression must have inner stride 1.
template <class T, Index N = dynamic> class VecView {
 public:
  using value_type = std::remove_cv_t<T>;

  AVIARY_HOST_DEVICE constexpr VecView(T* data) noexcept requires(N != dynamic) : data_(data) {}
  AVIARY_HOST_DEVICE constexpr VecView(T* data, Index size) noexcept : data_(data), size_(size) {}

  template <class U, Index M>
  requires(std::is_convertible_v<U (*)[], T (*)[]> && (M == N || M == dynamic || N == dynamic)) AVIARY_HOST_DEVICE
      constexpr VecView(VecView<U, M> other) noexcept
      : data_(other.data()), size_(other.size()) {}

  template <class C>
  requires(!detail::is_vec_view<std::remove_cvref_t<C>>) && requires(C& c) {
    { c.data() } -> std::convertible_to<T*>;
    { c.size() } -> std::convertible_to<Index>;
  }
  constexpr VecView(C&& c) noexcept : data_(c.data()), size_(static_cast<Index>(c.size())) {
    if constexpr (requires { std::tuple_size<std::remove_cvref_t<C>>::value; })
      static_assert(N == dynamic || static_cast<Index>(std::tuple_size<std::remove_cvref_t<C>>::value) == N,
                    "aviary: this array has another size than the view");
    if constexpr (requires { c.innerStride(); }) AVIARY_ASSERT(c.innerStride() == 1);
  }

  AVIARY_HOST_DEVICE constexpr T* data() const noexcept { return data_; }
  AVIARY_HOST_DEVICE constexpr Index size() const noexcept { return size_; }
  AVIARY_HOST_DEVICE constexpr T& operator[](Index i) const noexcept { return data_[i]; }
  AVIARY_HOST_DEVICE constexpr T* begin() const noexcept { return data_; }
  AVIARY_HOST_DEVICE constexpr T* end() const noexcept { return data_ + size_; }

  /// The n numbers that begin with number first.
  AVIARY_HOST_DEVICE constexpr VecView<T> segment(Index first, Index n) const noexcept {
    AVIARY_ASSERT(first >= 0 && n >= 0 && first + n <= size());
    return {data_ + first, n};
  }

 private:
  T* data_;
  [[no_unique_address]] Extent<N> size_;
};

/// Rows x Columns numbers, row-major; row i begins i * stride numbers after row 0.
template <class T, Index Rows = dynamic, Index Columns = dynamic> class MatView {
 public:
  using value_type = std::remove_cv_t<T>;

  AVIARY_HOST_DEVICE constexpr MatView(T* data, Index rows, Index columns) noexcept
      : MatView(data, rows, columns, columns) {}
  AVIARY_HOST_DEVICE constexpr MatView(T* data, Index rows, Index columns, Index stride) noexcept
      : data_(data), stride_(stride), rows_(rows), columns_(columns) {
    AVIARY_ASSERT(stride >= columns);
  }
  template <class U, Index R, Index C>
  requires(std::is_convertible_v<U (*)[], T (*)[]> && (R == Rows || R == dynamic || Rows == dynamic) &&
           (C == Columns || C == dynamic || Columns == dynamic)) AVIARY_HOST_DEVICE
      constexpr MatView(MatView<U, R, C> other) noexcept
      : MatView(other.data(), other.rows(), other.columns(), other.stride()) {}

  AVIARY_HOST_DEVICE constexpr T* data() const noexcept { return data_; }
  AVIARY_HOST_DEVICE constexpr Index rows() const noexcept { return rows_; }
  AVIARY_HOST_DEVICE constexpr Index columns() const noexcept { return columns_; }
  AVIARY_HOST_DEVICE constexpr Index stride() const noexcept { return stride_; }
  AVIARY_HOST_DEVICE constexpr T& operator()(Index i, Index j) const noexcept { return data_[i * stride_ + j]; }
  AVIARY_HOST_DEVICE constexpr VecView<T, Columns> operator[](Index i) const noexcept {
    return {data_ + i * stride_, columns_};
  }
  /// The n rows that begin with row first.
  AVIARY_HOST_DEVICE constexpr MatView<T, dynamic, Columns> rows(Index first, Index n) const noexcept {
    AVIARY_ASSERT(first >= 0 && n >= 0 && first + n <= rows());
    return {data_ + first * stride_, n, columns_, stride_};
  }

 private:
  T* data_;
  Index stride_;
  [[no_unique_address]] Extent<Rows> rows_;
  [[no_unique_address]] Extent<Columns> columns_;
};

/// A number that has to be given: an aggregate that leaves it out does not compile.
template <class T> struct Required {
  T value;
  template <class U>
  requires std::is_convertible_v<U, T> AVIARY_HOST_DEVICE constexpr Required(U const& v) noexcept
      : value(static_cast<T>(v)) {}
  AVIARY_HOST_DEVICE constexpr operator T const&() const noexcept { return value; }
};

}  // namespace aviary
