#pragma once
/// Numbers of packed sequences as threads of a block read and write them, in whatever format they are stored.
#include "aviary/cuda/block.hpp"
#include "aviary/matrix/rule.hpp"

namespace AVIARY_NAMESPACE {
namespace detail {

/// f(x) with some x of the type of a floating format.
template <class F> AVIARY_HOST_DEVICE AVIARY_INLINE decltype(auto) with_stored(NumberFormat format, F&& f) noexcept {
  switch (format) {
    case NumberFormat::f32:
      return f(float());
    case NumberFormat::bf16:
      return f(bf16());
    case NumberFormat::f16:
      return f(f16());
    default:
      return f(double());
  }
}

/// A row of numbers of some format, converted as they are read.
template <class T> struct StoredRow {
  std::byte const* numbers;
  NumberFormat format;

  AVIARY_HOST_DEVICE AVIARY_INLINE T operator[](Index i) const noexcept {
    return with_stored(format,
                       [&]<class S>(S) { return static_cast<T>(widen(reinterpret_cast<S const*>(numbers)[i])); });
  }
};

/// What `prepare` asks of a row.
template <class P, class T> AVIARY_HOST_DEVICE AVIARY_INLINE P load_lanes(StoredRow<T> row, Index first) noexcept {
  return row[first];
}

template <class T> struct StoredFields {
  template <Axis A> using Per = std::conditional_t<one_number(A), Required<T>, StoredRow<T>>;
};

}  // namespace detail

namespace cuda {

/// Number i of a row of some format becomes x.
template <class T>
AVIARY_HOST_DEVICE AVIARY_INLINE void store_number(std::byte* row, NumberFormat format, Index i, T x) noexcept {
  detail::with_stored(format, [&]<class S>(S) { reinterpret_cast<S*>(row)[i] = narrow<S>(x); });
}

/// Where the numbers of a token and head of a sequence begin; `heads` are those of the call.
template <class Sequence>
AVIARY_HOST_DEVICE AVIARY_INLINE std::byte* row_of(Sequence const& x, Index token, Index head, Index heads) noexcept {
  return const_cast<std::byte*>(x.rows(token, x.heads() == heads ? head : head * x.heads() / heads).at());
}

/// The threads of a block as shares of a loop.
struct Share {
  Index thread, threads;
};

/// Begins to copy a row of numbers to shared memory, in the largest pieces that its place allows. Numbers of 16 bits that lie on
/// no boundary of 4 bytes are copied at once.
template <class Block>
AVIARY_HOST_DEVICE AVIARY_INLINE void copy_row(Block& block, Share share, std::byte* to, std::byte const* from,
                                               Index bytes) noexcept {
  auto const in_pieces = [&](auto size) {
    constexpr int piece = size;
    AVIARY_KEEP_LOOP
    for (Index i = share.thread; i < bytes / piece; i += share.threads)
      block.template copy<piece>(to + i * piece, from + i * piece);
  };
  std::uintptr_t const place = reinterpret_cast<std::uintptr_t>(from) | static_cast<std::uintptr_t>(bytes);
  if (place % 16 == 0)
    in_pieces(detail::Constant<16>{});
  else if (place % 4 == 0)
    in_pieces(detail::Constant<4>{});
  else {
    AVIARY_KEEP_LOOP
    for (Index i = share.thread; i < bytes / 2; i += share.threads)
      reinterpret_cast<std::uint16_t*>(to)[i] = reinterpret_cast<std::uint16_t const*>(from)[i];
  }
}

}  // namespace cuda
}  // namespace AVIARY_NAMESPACE
