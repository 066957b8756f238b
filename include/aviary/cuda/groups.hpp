#pragma once
/// Tokens of one head on their way through a block: copied to shared memory while earlier ones are worked on, then prepared there
/// in groups by all threads (matrix/group.hpp).
#include "aviary/core/packing.hpp"
#include "aviary/cuda/rows.hpp"
#include "aviary/matrix/tokens.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// The groups of a stretch of tokens. None crosses a place where a tape keeps a state, every `interval` tokens from `begin` on.
template <int N> struct Grouping {
  Index begin, end, interval;

  AVIARY_HOST_DEVICE Index per_interval() const noexcept { return (interval + N - 1) / N; }
  AVIARY_HOST_DEVICE Index count() const noexcept {
    Index const whole = (end - begin) / interval, rest = (end - begin) % interval;
    return whole * per_interval() + (rest + N - 1) / N;
  }
  AVIARY_HOST_DEVICE Index token(Index g) const noexcept {
    return begin + g / per_interval() * interval + g % per_interval() * N;
  }
  /// How many tokens a group has.
  AVIARY_HOST_DEVICE Index size(Index g) const noexcept {
    Index const in_interval = interval - g % per_interval() * N, left = end - token(g);
    Index const n = in_interval < left ? in_interval : left;
    return n < N ? n : N;
  }
  AVIARY_HOST_DEVICE bool begins_interval(Index g) const noexcept { return g % per_interval() == 0; }
};

/// The groups of one block. `buffers` of them are kept prepared at once, and the tokens of `stages` as they are stored.
template <class M, int N, int buffers, int stages> class Groups {
  using R = typename M::Rule;
  using T = typename M::T;
  static constexpr int fields = detail::field_count<R>;

 public:
  static constexpr Index row = detail::GroupsOf<M>::fixed_row;
  using Group = typename M::template Group<N>;
  using Token = typename R::template Fields<detail::StoredFields<T>::template Per>;
  static constexpr int pairs = Group::pairs;

 private:
  /// Sums over the keys of a warp go to one lane each, or to several.
  static constexpr int scattered = (pairs + warp - 1) / warp * warp;
  static constexpr Index warps_of_keys = (M::keys + warp - 1) / warp;
  static constexpr Index slot =
      (M::keys > M::values ? M::keys : M::values) * static_cast<Index>(sizeof(T)) / 16 * 16 + 16;
  static constexpr Index stage = N * fields * slot;
  static constexpr Index length = Group::length(row);
  static constexpr Index numbers = buffers * (length + warps_of_keys * scattered) + row;

 public:
  static constexpr Index shared_bytes = numbers * static_cast<Index>(sizeof(T)) + stages * stage;
  struct Registers {
    T products[to_size(scattered)];
  };

  AVIARY_HOST_DEVICE Groups(std::byte* shared, typename M::Inputs const& x, Grouping<N> grouping, Index head,
                            Index heads) noexcept
      : x_(x),
        grouping_(grouping),
        head_(head),
        heads_(heads),
        numbers_(reinterpret_cast<T*>(shared)),
        raw_(shared + numbers * static_cast<Index>(sizeof(T))) {}

  AVIARY_HOST_DEVICE Group group(Index g) const noexcept { return Group(numbers_ + g % buffers * length, {}); }

  /// Before anything else: zeros where nobody writes.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void clear(Block& block) noexcept {
    block.each([&](int thread) {
      for (Index i = thread; i < numbers; i += Block::threads) numbers_[i] = T(0);
    });
    block.sync();
  }
  /// @name A stream of groups, of which the tokens of `stages` are on their way or here
  ///@{
  /// Group 0 comes, and others after it.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void begin_stream(Block& block) noexcept {
    for (Index g = 0; g < stages - 1; ++g) begin_copies(block, g);
    block.template wait_for_copies<stages - 2>();
    block.sync();
  }
  /// After `prepare` of group g: group g + 1 comes.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void advance(Block& block, Index g) noexcept {
    begin_copies(block, g + stages - 1);
    block.template wait_for_copies<stages - 2>();
    block.sync();
  }
  ///@}
  /// Groups [first, last), at most `stages` of them, come at once.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void fetch(Block& block, Index first, Index last) noexcept {
    for (Index g = first; g < last; ++g) begin_copies(block, g);
    block.template wait_for_copies<0>();
    block.sync();
  }
  /// Makes group g, whose tokens have come. A sync, then `complete`, makes it readable after another sync.
  template <class Block, class Own>
  AVIARY_HOST_DEVICE AVIARY_INLINE void prepare(Block& block, Own& own, Index g) noexcept {
    if (g >= grouping_.count()) return;
    block.each([&](int thread) {
      auto& products = own[thread].products;
      detail::unroll<scattered>([&](auto i) { products[int(i)] = T(0); });
      Share const share{thread, Block::threads};
      with_tokens(g, [&](Token const* tokens) {
        detail::prepare<R, T>(tokens, group(g), products, Extent<M::keys>(), Extent<M::values>(), share);
        if constexpr (constant_decay<R>)
          if (grouping_.size(g) < N)
            detail::shorten_decay<R, T>(tokens[0], group(g), Extent<M::keys>(), grouping_.size(g), share);
      });
    });
    sum_and_scatter<scattered, warp>(block, [&](int thread, int i) -> T& { return own[thread].products[i]; });
    block.each([&](int thread) {
      constexpr int each = scattered / warp;
      if (thread / warp >= warps_of_keys) return;
      T* const to = partial(g) + thread / warp * scattered + thread % warp * each;
      detail::unroll<each>([&](auto i) { to[int(i)] = own[thread].products[int(i)]; });
    });
  }
  /// Adds up what the warps had.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void complete(Block& block, Index g) noexcept {
    if (g >= grouping_.count()) return;
    block.each([&](int thread) {
      for (Index i = thread; i < pairs; i += Block::threads) {
        T sum = partial(g)[i];
        for (Index w = 1; w < warps_of_keys && w * warp < Block::threads; ++w) sum += partial(g)[w * scattered + i];
        group(g).pair_products()[i] = sum;
      }
    });
  }
  /// f(tokens) with the tokens of group g, which have come, as they are stored. Those past its end are zeros.
  template <class F> AVIARY_HOST_DEVICE AVIARY_INLINE void with_tokens(Index g, F&& f) const noexcept {
    Index const n = grouping_.size(g);
    [&]<int... m>(std::integer_sequence<int, m...>) {
      Token const tokens[]{make_token(m < n ? raw(g, m, 0) : nullptr)...};
      f(tokens);
    }
    (std::make_integer_sequence<int, N>{});
  }

 private:
  AVIARY_HOST_DEVICE T* partial(Index g) const noexcept {
    return numbers_ + buffers * length + g % buffers * warps_of_keys * scattered;
  }
  AVIARY_HOST_DEVICE T* zeros() const noexcept { return numbers_ + (numbers - row); }
  AVIARY_HOST_DEVICE std::byte* raw(Index g, int m, int f) const noexcept {
    return raw_ + g % stages * stage + (m * fields + f) * slot;
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE Token make_token(std::byte const* slots) const noexcept {
    int f = 0;
    return detail::transform_fields<R, Token>(x_, [&]<Axis A>(detail::AxisTag<A>, auto const& field) {
      detail::StoredRow<T> const stored{
          slots != nullptr ? slots + f * slot : reinterpret_cast<std::byte const*>(zeros()), field.format()};
      ++f;
      if constexpr (one_number(A))
        return Required<T>(stored[0]);
      else
        return stored;
    });
  }
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void begin_copies(Block& block, Index g) noexcept {
    if (g < grouping_.count())
      block.each([&](int thread) {
        Index const token = grouping_.token(g), n = grouping_.size(g);
        int f = 0, m = thread % N;  // a thread copies of one token
        detail::for_each_field<R>(x_, [&](auto, auto const& field) {
          Index const bytes = field.size() * static_cast<Index>(size_of(field.format()));
          if (m < n)
            copy_row(block, {thread / N, Block::threads / N}, raw(g, m, f), row_of(field, token + m, head_, heads_),
                     bytes);
          ++f;
        });
      });
    block.end_batch();
  }

  typename M::Inputs const& x_;
  Grouping<N> grouping_;
  Index head_, heads_;
  T* numbers_;
  std::byte* raw_;
};

}  // namespace AVIARY_NAMESPACE::cuda
