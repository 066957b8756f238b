#pragma once
/// Tokens of one head on their way through a block: copied to shared memory while earlier ones are worked on, then prepared there
/// in groups by all threads (matrix/group.hpp).
#include "aviary/core/packing.hpp"
#include "aviary/cuda/rows.hpp"
#include "aviary/matrix/tokens.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// Division by a number that is divided by often: a multiplication (Granlund and Montgomery 1994). Devices have no instruction for
/// it, and about a hundred for one of 64 bits.
class Divisor {
 public:
  /// 1 <= by < 2^31.
  AVIARY_HOST_DEVICE explicit Divisor(Index by) noexcept : by_(by) {
    while ((Index{1} << (shift_ - 31)) < by) ++shift_;
    factor_ = static_cast<std::uint32_t>(((std::uint64_t{1} << shift_) - 1) / static_cast<std::uint64_t>(by) + 1);
  }
  AVIARY_HOST_DEVICE Index by() const noexcept { return by_; }
  /// n / by, where 0 <= n < 2^31.
  AVIARY_HOST_DEVICE Index quotient(Index n) const noexcept {
    return static_cast<Index>(static_cast<std::uint64_t>(static_cast<std::uint32_t>(n)) * factor_ >> shift_);
  }

 private:
  Index by_;
  std::uint32_t factor_;
  int shift_ = 31;
};

/// The groups of N of a stretch of tokens, fewer than 2^31. None crosses a place where a tape keeps a state, every `interval` tokens
/// from `begin` on.
template <int N> class Grouping {
 public:
  static constexpr int tokens = N;

  AVIARY_HOST_DEVICE Grouping(Index begin, Index end, Index interval) noexcept
      : begin_(begin), end_(end), interval_(interval), per_interval_((interval + N - 1) / N) {
    Index const whole = (end - begin) / interval, rest = end - begin - whole * interval;
    count_ = whole * per_interval() + (rest + N - 1) / N;
  }
  AVIARY_HOST_DEVICE Index count() const noexcept { return count_; }
  AVIARY_HOST_DEVICE Index per_interval() const noexcept { return per_interval_.by(); }
  /// The interval that a group is in, and its place there.
  AVIARY_HOST_DEVICE Index interval_of(Index g) const noexcept { return per_interval_.quotient(g); }
  AVIARY_HOST_DEVICE Index in_interval(Index g) const noexcept { return g - interval_of(g) * per_interval(); }
  /// The first token of a group.
  AVIARY_HOST_DEVICE Index token(Index g) const noexcept {
    return begin_ + interval_of(g) * interval_ + in_interval(g) * N;
  }
  /// How many tokens a group has.
  AVIARY_HOST_DEVICE Index size(Index g) const noexcept {
    Index const in_this = interval_ - in_interval(g) * N, left = end_ - token(g);
    Index const n = in_this < left ? in_this : left;
    return n < N ? n : N;
  }

 private:
  Index begin_, end_, interval_, count_;
  Divisor per_interval_;
};

/// The groups of one block, as `Grouping` says. `buffers` of them are kept prepared at once, and the tokens of `stages` as they are
/// stored. They come and are prepared `together` at a time, each by its share of the threads. S is what rows but log_w are stored
/// as, or void: some format, about which each number that is read asks.
template <class M, class Grouping, int buffers, int stages, int together = 1, class S = void> class Groups {
  using R = typename M::Rule;
  using T = typename M::T;
  static constexpr int fields = detail::field_count<R>;
  static constexpr int N = Grouping::tokens;

 public:
  static constexpr Index row = detail::GroupsOf<M>::fixed_row;
  using Group = typename M::template Group<N>;
  using Token = typename R::template Fields<detail::StoredFields<T>::template Per>;
  static constexpr int pairs = Group::pairs;

 private:
  /// Sums over the keys of a warp go to one lane each, or to several.
  static constexpr int scattered = (pairs + warp - 1) / warp * warp;
  static constexpr Index warps_of_keys = (M::keys + warp - 1) / warp;
  /// Where a token's fields lie.
  static constexpr Index slot_of(Index number) noexcept {
    return (M::keys > M::values ? M::keys : M::values) * number / 16 * 16 + 16;
  }
  using RowNumber = std::conditional_t<std::is_void_v<S>, T, S>;  // the largest there is
  static constexpr Index wide = slot_of(sizeof(T)), slot = slot_of(sizeof(RowNumber));
  static constexpr int decay = detail::decay_field<R>();
  AVIARY_HOST_DEVICE static constexpr Index place(int f) noexcept {
    return f * slot + (f > decay && decay >= 0 ? wide - slot : 0);
  }
  static constexpr Index stage = N * place(fields);
  static constexpr Index length = Group::length(row);
  static constexpr Index numbers = buffers * (length + warps_of_keys * scattered) + row;

 public:
  static constexpr Index shared_bytes = numbers * static_cast<Index>(sizeof(T)) + stages * stage;
  struct Registers {
    T products[to_size(scattered)];
  };

  AVIARY_HOST_DEVICE Groups(std::byte* shared, typename M::Inputs const& x, Grouping grouping, Index head,
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
  /// Groups from `first` on begin to come, as one batch.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void begin_copies(Block& block, Index first) noexcept {
    if (first < grouping_.count())
      block.each([&](int thread) {
        constexpr int tokens = N * together;  // a thread copies of one of them
        Index const g = first + thread % tokens / N;
        int f = 0, m = thread % N;
        detail::for_each_field<R>(x_, [&](auto, auto const& field) {
          Index const bytes = field.size() * static_cast<Index>(size_of(field.format()));
          if (m < grouping_.size(g))
            copy_row(block, {thread / tokens, Block::threads / tokens}, raw(g, m, f),
                     row_of(field, grouping_.token(g) + m, head_, heads_), bytes);
          ++f;
        });
      });
    block.end_batch();
  }
  /// Groups [first, last), at most `stages` of them, come at once.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void fetch(Block& block, Index first, Index last) noexcept {
    for (Index g = first; g < last; ++g) begin_copies(block, g);
    block.template wait_for_copies<0>();
    block.sync();
  }
  /// Makes groups from g on, whose tokens have come. A sync, then `complete`, makes them readable after another sync.
  template <class Block, class Own>
  AVIARY_HOST_DEVICE AVIARY_INLINE void prepare(Block& block, Own& own, Index first) noexcept {
    if (first >= grouping_.count()) return;
    constexpr int team = Block::threads / together;
    block.each([&](int thread) {
      auto& products = own[thread].products;
      detail::unroll<scattered>([&](auto i) { products[int(i)] = T(0); });
      Share const share{thread % team, team};
      Index const g = first + thread / team;
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
      if (thread % team / warp >= warps_of_keys) return;
      T* const to = partial(first + thread / team) + thread % team / warp * scattered + thread % warp * each;
      detail::unroll<each>([&](auto i) { to[int(i)] = own[thread].products[int(i)]; });
    });
  }
  /// Adds up what the warps had.
  template <class Block> AVIARY_HOST_DEVICE AVIARY_INLINE void complete(Block& block, Index g) noexcept {
    if (g >= grouping_.count()) return;
    block.each([&](int thread) {
      for (Index i = thread; i < pairs; i += Block::threads)
        group(g).pair_products()[i] = pair_product<Block::threads>(g, i);
    });
  }
  /// Pair product i of group g, which so many threads have prepared.
  template <int threads> AVIARY_HOST_DEVICE AVIARY_INLINE T pair_product(Index g, Index i) const noexcept {
    T sum = partial(g)[i];
    for (Index w = 1; w < warps_of_keys && w * warp < threads; ++w) sum += partial(g)[w * scattered + i];
    return sum;
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
    return raw_ + g % stages * stage + m * place(fields) + place(f);
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE Token make_token(std::byte const* slots) const noexcept {
    int f = 0;
    return detail::transform_fields<R, Token>(x_, [&]<Axis A>(detail::AxisTag<A>, auto const& field) {
      NumberFormat format = field.format();
      if constexpr (!std::is_void_v<S> && !one_number(A))
        if (f != decay) format = format_of<RowNumber>;
      detail::StoredRow<T> const stored{
          slots != nullptr ? slots + place(f) : reinterpret_cast<std::byte const*>(zeros()), format};
      ++f;
      if constexpr (one_number(A))
        return Required<T>(stored[0]);
      else
        return stored;
    });
  }
  typename M::Inputs const& x_;
  Grouping grouping_;
  Index head_, heads_;
  T* numbers_;
  std::byte* raw_;
};

}  // namespace AVIARY_NAMESPACE::cuda
