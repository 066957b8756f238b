#pragma once
/// What Eigen's matrices, arrays, maps and blocks say about themselves, for the views that are made from them. Eigen itself
/// is not included. Of an expression such as a + b nothing lies in memory, and nothing here takes it.
///
/// Eigen stores a matrix as lines of numbers: the columns of a column-major matrix, the rows of a row-major one. The inner
/// stride leads from one number of a line to the next, the outer stride from one line to the next. Views want the numbers
/// of a line side by side.
#include <type_traits>
#include <utility>

#include "aviary/core/config.hpp"

namespace aviary::detail {

/// Whether one size may be used where the other is wanted: they are equal, or one of them is known at run time only.
constexpr bool may_agree(Index n, Index m) noexcept { return n == m || n == dynamic || m == dynamic; }
constexpr bool may_be_multiple(Index n, Index m) noexcept { return n == dynamic || m == dynamic || n % m == 0; }

/// M may be a reference to a matrix, here and below. Dynamic sizes and strides are -1 in Eigen as they are here.
template <class M>
concept EigenMatrix = requires(M& m) {
  m.data();
  m.innerStride();
  m.outerStride();
  std::remove_reference_t<M>::IsRowMajor;
  std::remove_reference_t<M>::RowsAtCompileTime;
  std::remove_reference_t<M>::ColsAtCompileTime;
  std::remove_reference_t<M>::InnerStrideAtCompileTime;
};

/// What the type of a matrix says: the order, the sizes, whether the numbers of a line may lie side by side.
template <class M> inline constexpr bool row_major = static_cast<bool>(std::remove_reference_t<M>::IsRowMajor);
template <class M> inline constexpr Index fixed_rows = std::remove_reference_t<M>::RowsAtCompileTime;
template <class M> inline constexpr Index fixed_columns = std::remove_reference_t<M>::ColsAtCompileTime;
template <class M> inline constexpr Index fixed_length = row_major<M> ? fixed_columns<M> : fixed_rows<M>;
template <class M>
inline constexpr bool may_be_contiguous = fixed_length<M> == 1 ||
                                          may_agree(std::remove_reference_t<M>::InnerStrideAtCompileTime, 1);

template <class M>
concept EigenLines = EigenMatrix<M> && may_be_contiguous<M>;

/// Whatever is no Eigen matrix, and of these the vectors: a matrix with one row or one column.
template <class M>
concept OneDimensional = !EigenMatrix<M> || (EigenLines<M> && (fixed_rows<M> == 1 || fixed_columns<M> == 1));

/// The lines of a matrix: each of `length` numbers side by side, the next one `stride` numbers further.
template <class T> struct Lines {
  T* data;
  Index count, length, stride;
};
template <EigenLines M> using EigenNumber = std::remove_pointer_t<decltype(std::declval<M&>().data())>;
template <EigenLines M> constexpr Lines<EigenNumber<M>> lines_of(M& m) noexcept {
  Index const count = row_major<M> ? m.rows() : m.cols(), length = row_major<M> ? m.cols() : m.rows();
  AVIARY_ASSERT(m.innerStride() == 1 || length <= 1);
  return {m.data(), count, length, count > 1 ? m.outerStride() : length};
}

}  // namespace aviary::detail
