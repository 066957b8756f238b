#pragma once
/// What the views need to know of Eigen's matrices, arrays, maps and blocks. It is read from their members: the library
/// does not include Eigen. An expression such as a + b does not lie in memory, and nothing here takes it.
///
/// Eigen stores a matrix as lines of numbers: a column-major matrix as its columns, a row-major one as its rows. The
/// inner stride is the distance between the numbers of a line, the outer stride the distance between lines. A view
/// needs lines whose numbers are contiguous.
#include <type_traits>
#include <utility>

#include "aviary/core/config.hpp"

namespace AVIARY_NAMESPACE::detail {

/// n equals m, or one of them is known only at run time.
constexpr bool may_agree(Index n, Index m) noexcept { return n == m || n == dynamic || m == dynamic; }
/// n is a multiple of m, or one of them is known only at run time.
constexpr bool may_be_multiple(Index n, Index m) noexcept { return n == dynamic || m == dynamic || n % m == 0; }

/// A matrix of Eigen, or a reference to one, here and below. Eigen writes -1 for a dynamic size or stride, as we do.
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

/// What the type of a matrix shows: its order, its sizes, and whether the numbers of a line may be contiguous.
template <class M> inline constexpr bool row_major = static_cast<bool>(std::remove_reference_t<M>::IsRowMajor);
template <class M> inline constexpr Index fixed_rows = std::remove_reference_t<M>::RowsAtCompileTime;
template <class M> inline constexpr Index fixed_columns = std::remove_reference_t<M>::ColsAtCompileTime;
template <class M> inline constexpr Index fixed_length = row_major<M> ? fixed_columns<M> : fixed_rows<M>;
template <class M>
inline constexpr bool may_be_contiguous = fixed_length<M> == 1 ||
                                          may_agree(std::remove_reference_t<M>::InnerStrideAtCompileTime, 1);

template <class M>
concept EigenLines = EigenMatrix<M> && may_be_contiguous<M>;

/// Not an Eigen matrix, or one that is a vector: it has one row or one column.
template <class M>
concept OneDimensional = !EigenMatrix<M> || (EigenLines<M> && (fixed_rows<M> == 1 || fixed_columns<M> == 1));

/// The lines of a matrix: `count` of them, with `length` contiguous numbers each; `stride` is the distance between
/// lines.
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

}  // namespace AVIARY_NAMESPACE::detail
