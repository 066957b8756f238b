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

/// A quotient of numbers from 0 to 2^31: devices divide 64 bits by a hundred instructions.
AVIARY_HOST_DEVICE AVIARY_INLINE Index quotient(Index x, Index by) noexcept {
  return static_cast<Index>(static_cast<std::uint32_t>(x) / static_cast<std::uint32_t>(by));
}

/// Where the numbers of a token and head of a sequence begin; `heads` are those of the call.
template <class Sequence>
AVIARY_HOST_DEVICE AVIARY_INLINE std::byte* row_of(Sequence const& x, Index token, Index head, Index heads) noexcept {
  Index const row = x.repeat() == 1 ? token : quotient(token, x.repeat());
  Index const of_field = x.heads() == heads ? head : quotient(head * x.heads(), heads);
  auto* const numbers = static_cast<std::byte*>(const_cast<void*>(static_cast<void const*>(x.data())));
  return numbers + (row * x.token_stride() + of_field * x.head_stride()) * static_cast<Index>(size_of(x.format()));
}
/// Where a head's numbers of a sink go, if there is one.
template <Index V> struct HeadWriter {
  Sink<V> const& sink;
  Index head, heads;

  template <class T> AVIARY_HOST_DEVICE AVIARY_INLINE void operator()(Index token, Index column, T x) const noexcept {
    if (sink) store_number(row_of(sink, token, head, heads), sink.format(), column, x);
  }
  /// Where the numbers of token number m of `count` from `first` on go. Where tokens share a row, those of the last one go there, and
  /// those of others nowhere.
  AVIARY_HOST_DEVICE AVIARY_INLINE std::byte* row(Index first, Index m, Index count) const noexcept {
    if (!sink || m >= count) return nullptr;
    Index const repeat = sink.repeat(), next = first + m + 1;
    if (repeat != 1 && m + 1 != count && quotient(next, repeat) * repeat != next) return nullptr;
    return row_of(sink, first + m, head, heads);
  }
  /// f(store) for numbers of such rows: store(row, column, x) does not ask for their format again.
  template <class F> AVIARY_HOST_DEVICE AVIARY_INLINE void all(F&& f) const noexcept {
    if (!sink) return;
    detail::with_stored(sink.format(), [&]<class S>(S) {
      f([](std::byte* row, Index column, auto x) { reinterpret_cast<S*>(row)[column] = narrow<S>(x); });
    });
  }
};
/// It goes nowhere.
struct NoWriter {
  template <class T> AVIARY_HOST_DEVICE void operator()(Index, Index, T) const noexcept {}
  AVIARY_HOST_DEVICE std::byte* row(Index, Index, Index) const noexcept { return nullptr; }
  template <class F> AVIARY_HOST_DEVICE void all(F&&) const noexcept {}
};

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
