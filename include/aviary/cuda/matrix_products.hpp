#pragma once
/// States in the accumulators of warps, and products of matrices of their columns, keys and tokens on tensor cores (block.hpp,
/// multiply).
#include "aviary/cuda/tile.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// How the K x V numbers of a state, or those of `Width` columns, are dealt out to warps whose tensor cores add to them. A warp has 16
/// columns of the state as rows of its matrices, and all keys as their columns, in tiles of 8: columns 2 i and 2 i + 1 of the state's
/// matrices are keys 4 i and 4 i + 2 of 16 in even tiles, the odd keys in odd ones. So four neighbouring keys belong to one lane.
template <class T, Index K, Index V, int Width> struct MatrixTile {
  static_assert(std::is_same_v<T, float>, "aviary: tensor cores add up floats");
  static_assert(Width % 16 == 0 && K != dynamic && V != dynamic);
  /// Pairs of tiles, with 16 keys each.
  static constexpr int pairs = static_cast<int>((K + 15) / 16);
  static constexpr int numbers = 8 * pairs;
  /// Threads that have numbers; there are at least four warps, one for each group of a chunk.
  static constexpr int owners = Width / 16 * warp, threads = owners < 4 * warp ? 4 * warp : owners;

  /// Number i of tile n is s[4 n + i].
  using Numbers = T[to_size(numbers)];

  /// The key and the column in the block of number i of a thread.
  AVIARY_HOST_DEVICE static AVIARY_INLINE int key(int thread, int i) noexcept {
    return i / 8 * 16 + 4 * Lane{thread}.in_quad() + 2 * (i % 2) + i / 4 % 2;
  }
  AVIARY_HOST_DEVICE static AVIARY_INLINE int column(int thread, int i) noexcept {
    return thread / warp * 16 + Lane{thread}.quad() + i % 4 / 2 * 8;
  }
  /// f(i, key, column, there) for each number i of a thread, in a state whose column `first` is the block's first one.
  template <class F> AVIARY_HOST_DEVICE static AVIARY_INLINE void for_numbers(Index first, int thread, F&& f) noexcept {
    detail::unroll<numbers>([&](auto i) {
      Index const j = key(thread, i), in_block = column(thread, i), c = first + in_block;
      f(i, j, c, j < K && in_block < Width && c < V);
    });
  }
};

/// @name Matrices of columns and tokens
/// Beside its state a warp has matrices of its columns and the 16 tokens of a chunk. A thread has 8 numbers of one, number i of tile n
/// being [4 n + i]: as sums d, the tokens 8 n to 8 n + 7 being the columns of a tile, or as an operand a of a product whose sums run
/// over tokens.
///@{
/// f(i, token, column) for the numbers of a thread as sums.
template <class F> AVIARY_HOST_DEVICE AVIARY_INLINE void for_sums(int thread, F&& f) noexcept {
  Lane const lane{thread};
  detail::unroll<8>(
      [&](auto i) { f(i, i / 4 * 8 + 2 * lane.in_quad() + i % 2, thread / warp * 16 + lane.quad() + i % 4 / 2 * 8); });
}
/// The same as an operand.
template <class F> AVIARY_HOST_DEVICE AVIARY_INLINE void for_operand(int thread, F&& f) noexcept {
  Lane const lane{thread};
  detail::unroll<8>(
      [&](auto i) { f(i, i / 4 * 8 + 2 * lane.in_quad() + i % 4 / 2, thread / warp * 16 + lane.quad() + i % 2 * 8); });
}
/// Sums become an operand: number i of a is number (0, 2, 1, 3)[i] of d. sums(i), or sums[i], is number i of them.
template <class Sums, class T> AVIARY_HOST_DEVICE AVIARY_INLINE void make_operand(Sums&& sums, T* to) noexcept {
  detail::unroll<8>([&](auto i) {
    detail::Constant<i / 4 * 4 + i % 2 * 2 + i / 2 % 2> from;
    if constexpr (std::is_invocable_v<Sums, int>)
      to[int(i)] = round_to_tf32(sums(from));
    else
      to[int(i)] = round_to_tf32(sums[int(from)]);
  });
}
///@}

/// What products need of a thread's registers.
template <class T> struct MatrixRegisters {
  T a[8];
  Four<T> four;
  Two<T> low, high;
};

/// The products of a block's warps, those that have columns of a state. A thread's registers have MatrixRegisters; functions of them say
/// which of their arrays a matrix is.
template <class Tile, class Block, class Own> class MatrixProducts {
  using T = float;
  static constexpr int owners = Tile::owners;

 public:
  AVIARY_HOST_DEVICE MatrixProducts(Block& block, Own& own) noexcept : block_(block), own_(own) {}

  /// f(thread, registers, lane) for owners.
  template <class F> AVIARY_HOST_DEVICE AVIARY_INLINE void each(F&& f) noexcept {
    block_.each([&](int thread) {
      if (owners == Block::threads || thread < owners) f(thread, own_[thread], Lane{thread});
    });
  }
  /// to_n += state rows_n^T for some rows of tokens: state(thread, own, i) is number i of a thread, to(own, n) are sums, row(n, token) is
  /// a row of keys.
  template <int rows, class State, class Row, class To>
  AVIARY_HOST_DEVICE AVIARY_INLINE void multiply_by_rows(State const& state, Row const& row, To const& to) noexcept {
    detail::unroll<Tile::pairs>([&](auto pair) {
      each(
          [&](int thread, auto& x, Lane) { make_operand([&](int i) { return state(thread, x, 8 * pair + i); }, x.a); });
      detail::unroll<rows>([&](auto kind) {
        detail::unroll<2>([&](auto n) {
          each([&](int, auto& x, Lane lane) {
            x.four = *reinterpret_cast<Four<T> const*>(row(kind, 8 * n + lane.quad()) + 16 * pair + 4 * lane.in_quad());
          });
          detail::unroll<2>([&](auto e) {
            block_.template multiply<owners>(
                [&](int thread, auto i) { return own_[thread].a[4 * e + i]; },
                [&](int thread, auto i) { return own_[thread].four.x[e + 2 * i]; },
                [&](int thread, auto i) -> T& { return to(own_[thread], kind)[4 * n + i]; });
          });
        });
      });
    });
  }
  /// to += x pairs^T, or x pairs: x(own) is an operand, pairs a matrix of 16 x 16 numbers.
  template <bool transposed, class X, class To>
  AVIARY_HOST_DEVICE AVIARY_INLINE void multiply_by_pairs(X const& x, T const* pairs, Index stride,
                                                          To const& to) noexcept {
    detail::unroll<2>([&](auto n) {
      detail::unroll<2>([&](auto step) {
        each([&](int, auto& own, Lane lane) {
          Index const row = 8 * n + lane.quad(), column = 8 * step + 2 * lane.in_quad();
          if constexpr (transposed)
            own.low = *reinterpret_cast<Two<T> const*>(pairs + row * stride + column);
          else
            own.low = {pairs[column * stride + row], pairs[(column + 1) * stride + row]};
        });
        block_.template multiply<owners>([&](int thread, auto i) { return x(own_[thread])[4 * step + i]; },
                                         [&](int thread, auto i) { return own_[thread].low.x[int(i)]; },
                                         [&](int thread, auto i) -> T& { return to(own_[thread])[4 * n + i]; });
      });
    });
  }
  /// state = state diag(decays) + the sum of x_n rows_n: x(own, n) are operands, row(n, token) is a row of keys.
  template <class R, int rows, class State, class X, class Row>
  AVIARY_HOST_DEVICE AVIARY_INLINE void add_rows(State const& state, [[maybe_unused]] T const* decays, X const& x,
                                                 Row const& row) noexcept {
    detail::unroll<Tile::pairs>([&](auto pair) {
      if constexpr (gate_of<R> != Gate::none)
        each([&](int, auto& own, Lane lane) {
          own.four = *reinterpret_cast<Four<T> const*>(decays + 16 * pair + 4 * lane.in_quad());
          detail::unroll<8>([&](auto i) {
            T& s = state(own)[8 * pair + i];
            T const decay = own.four.x[i % 2 * 2 + i / 4];
            s = constant_decay<R> ? simd::Pack<T>::fma(s, decay, s) : s * decay;
          });
        });
      detail::unroll<rows>([&](auto kind) {
        detail::unroll<2>([&](auto step) {
          each([&](int, auto& own, Lane lane) {
            int const token = 8 * step + 2 * lane.in_quad(), key = 16 * pair + 2 * lane.quad();
            own.low = *reinterpret_cast<Two<T> const*>(row(kind, token) + key);
            own.high = *reinterpret_cast<Two<T> const*>(row(kind, token + 1) + key);
          });
          detail::unroll<2>([&](auto e) {
            block_.template multiply<owners>(
                [&](int thread, auto i) { return x(own_[thread], kind)[4 * step + i]; },
                [&](int thread, auto i) { return (i == 0 ? own_[thread].low : own_[thread].high).x[int(e)]; },
                [&](int thread, auto i) -> T& { return state(own_[thread])[8 * pair + 4 * e + i]; });
          });
        });
      });
    });
  }

 private:
  Block& block_;
  Own& own_;
};

}  // namespace AVIARY_NAMESPACE::cuda
