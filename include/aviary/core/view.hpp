#pragma once
/// Views of vectors and matrices that somebody else owns. A view is a pointer and its sizes; copying one copies no
/// number. Sizes known at compile time take no room, and they are checked where the view is made.
#include <concepts>
#include <cstddef>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

#include "aviary/core/config.hpp"
#include "aviary/core/eigen.hpp"

namespace AVIARY_NAMESPACE {

/// The size N; for N = dynamic a size that is stored.
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

/// n, rounded up until that many numbers of type T fill whole lines of 64 bytes.
template <class T> AVIARY_HOST_DEVICE constexpr Index padded(Index n) noexcept {
  constexpr Index m = alignment / static_cast<Index>(sizeof(T));
  return (n + m - 1) / m * m;
}

template <class T, Index N> class VecView;

namespace detail {
/// A pointer to numbers of type U converts to one to numbers of type T: the same type, perhaps const.
template <class U, class T>
concept PointsTo = std::is_convertible_v<U (*)[], T (*)[]>;

template <class C> inline constexpr bool is_vec_view = false;
template <class T, Index N> inline constexpr bool is_vec_view<VecView<T, N>> = true;

/// The size of a container or an Eigen vector if its type shows it, else `dynamic`.
template <class C> constexpr Index fixed_size() noexcept {
  if constexpr (requires { std::tuple_size<C>::value; })  // std::array
    return static_cast<Index>(std::tuple_size<C>::value);
  else if constexpr (requires { typename std::integral_constant<std::size_t, C::extent>; })  // std::span
    return C::extent == std::size_t(-1) ? dynamic : static_cast<Index>(C::extent);
  else if constexpr (requires { C::SizeAtCompileTime; })  // Eigen
    return static_cast<Index>(C::SizeAtCompileTime);
  else
    return dynamic;
}

/// As far as its type shows, a C may hold N contiguous numbers of type T. An Eigen matrix must be a vector.
template <class C, class T, Index N>
concept VectorOf = !is_vec_view<std::remove_cvref_t<C>> && OneDimensional<C> &&
                   may_agree(fixed_size<std::remove_cvref_t<C>>(), N) && requires(C & c) {
  { c.data() } -> std::convertible_to<T*>;
  { c.size() } -> std::convertible_to<Index>;
};

/// As far as its type shows, an M may be a row-major Eigen matrix of R x C numbers of type T.
template <class M, class T, Index R, Index C>
concept RowMajorOf = EigenLines<M> && row_major<M> && may_agree(fixed_rows<M>, R) &&
    may_agree(fixed_columns<M>, C) && PointsTo<EigenNumber<M>, T>;
}  // namespace detail

/// N contiguous numbers. A view is made from anything that has data() and size() (an array, a vector, a span, an Eigen
/// vector, or a row, column or segment of an Eigen matrix), from a C array, or from a pointer if N is known.
///
/// A size or a stride that does not fit does not compile if the type shows it. If only the object shows it, an
/// assertion fails; there is no exception, because views are made on hot paths. Constant numbers convert to VecView<T
/// const> only.
template <class T, Index N = dynamic> class VecView {
 public:
  using value_type = std::remove_cv_t<T>;

  /// The N numbers that begin at `data`. (The pointer's type is deduced, so that no C array decays to a pointer.)
  template <class Pointer>
  requires(N != dynamic && std::is_pointer_v<Pointer> && std::is_convertible_v<Pointer, T*>) AVIARY_HOST_DEVICE
      constexpr VecView(Pointer const& data) noexcept
      : data_(data) {}
  AVIARY_HOST_DEVICE constexpr VecView(T* data, Index size) noexcept : data_(data), size_(size) {}

  template <detail::PointsTo<T> U, Index M>
  requires(detail::may_agree(M, N)) AVIARY_HOST_DEVICE constexpr VecView(VecView<U, M> other) noexcept
      : data_(other.data()), size_(other.size()) {}
  template <detail::PointsTo<T> U, std::size_t M>
  requires(detail::may_agree(static_cast<Index>(M), N)) AVIARY_HOST_DEVICE constexpr VecView(U (&array)[M]) noexcept
      : data_(array), size_(static_cast<Index>(M)) {}
  template <detail::VectorOf<T, N> C>
  constexpr VecView(C&& c) noexcept : data_(c.data()), size_(static_cast<Index>(c.size())) {
    if constexpr (requires { c.innerStride(); }) AVIARY_ASSERT(c.innerStride() == 1 || c.size() <= 1);
  }

  AVIARY_HOST_DEVICE constexpr T* data() const noexcept { return data_; }
  AVIARY_HOST_DEVICE constexpr Index size() const noexcept { return size_; }
  AVIARY_HOST_DEVICE constexpr T& operator[](Index i) const noexcept { return data_[i]; }
  AVIARY_HOST_DEVICE constexpr T* begin() const noexcept { return data_; }
  AVIARY_HOST_DEVICE constexpr T* end() const noexcept { return data_ + size_; }

  /// The n numbers from number `first` on.
  AVIARY_HOST_DEVICE constexpr VecView<T> segment(Index first, Index n) const noexcept {
    AVIARY_ASSERT(first >= 0 && n >= 0 && first + n <= size());
    return {data_ + first, n};
  }

 private:
  T* data_;
  [[no_unique_address]] Extent<N> size_;
};

/// Rows x Columns numbers, row-major. Row i begins i * stride numbers after row 0.
///
/// A row-major Eigen matrix, map or block converts to a MatView. A column-major one does not, because it would be read
/// as its transpose. If you want the transpose, write MatView<float>(m.transpose()).
template <class T, Index Rows = dynamic, Index Columns = dynamic> class MatView {
 public:
  using value_type = std::remove_cv_t<T>;

  AVIARY_HOST_DEVICE constexpr MatView(T* data, Index rows, Index columns) noexcept
      : MatView(data, rows, columns, columns) {}
  AVIARY_HOST_DEVICE constexpr MatView(T* data, Index rows, Index columns, Index stride) noexcept
      : data_(data), stride_(stride), rows_(rows), columns_(columns) {
    AVIARY_ASSERT(stride >= columns);
  }
  template <detail::PointsTo<T> U, Index R, Index C>
  requires(detail::may_agree(R, Rows) && detail::may_agree(C, Columns)) AVIARY_HOST_DEVICE
      constexpr MatView(MatView<U, R, C> other) noexcept
      : MatView(other.data(), other.rows(), other.columns(), other.stride()) {}
  template <detail::RowMajorOf<T, Rows, Columns> M> constexpr MatView(M&& m) noexcept : MatView(detail::lines_of(m)) {}

  AVIARY_HOST_DEVICE constexpr T* data() const noexcept { return data_; }
  AVIARY_HOST_DEVICE constexpr Index rows() const noexcept { return rows_; }
  AVIARY_HOST_DEVICE constexpr Index columns() const noexcept { return columns_; }
  AVIARY_HOST_DEVICE constexpr Index stride() const noexcept { return stride_; }
  AVIARY_HOST_DEVICE constexpr T& operator()(Index i, Index j) const noexcept { return data_[i * stride_ + j]; }
  AVIARY_HOST_DEVICE constexpr VecView<T, Columns> operator[](Index i) const noexcept {
    return {data_ + i * stride_, columns_};
  }
  /// The n rows from row `first` on.
  AVIARY_HOST_DEVICE constexpr MatView<T, dynamic, Columns> rows(Index first, Index n) const noexcept {
    AVIARY_ASSERT(first >= 0 && n >= 0 && first + n <= rows());
    return {data_ + first * stride_, n, columns_, stride_};
  }

 private:
  template <class U>
  constexpr MatView(detail::Lines<U> rows) noexcept : MatView(rows.data, rows.count, rows.length, rows.stride) {}

  T* data_;
  Index stride_;
  [[no_unique_address]] Extent<Rows> rows_;
  [[no_unique_address]] Extent<Columns> columns_;
};

/// A member of an aggregate that must be given: code that leaves it out does not compile.
template <class T> struct Required {
  T value;
  template <class U>
  requires std::is_convertible_v<U, T> AVIARY_HOST_DEVICE constexpr Required(U const& v) noexcept
      : value(static_cast<T>(v)) {}
  AVIARY_HOST_DEVICE constexpr operator T const&() const noexcept { return value; }
};

/// A span of the same kind.
template <class T> struct RequiredSpan : std::span<T> {
  template <class Range>
  requires std::is_convertible_v<Range, std::span<T>>
  constexpr RequiredSpan(Range&& range) noexcept : std::span<T>(std::forward<Range>(range)) {}
  constexpr RequiredSpan(T* data, std::size_t size) noexcept : std::span<T>(data, size) {}
};

}  // namespace AVIARY_NAMESPACE
