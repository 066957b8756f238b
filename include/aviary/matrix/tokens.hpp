#pragma once
/// The tokens of one head, read from the inputs of a call and prepared in groups, in scratch on the stack.
#include <algorithm>

#include "aviary/matrix/access.hpp"
#include "aviary/matrix/pass.hpp"
#include "aviary/matrix/state.hpp"

namespace AVIARY_NAMESPACE::detail {

/// The rows and groups of memory M.
template <class M> struct GroupsOf {
  using R = typename M::Rule;
  using T = typename M::T;
  static constexpr bool is_static = M::keys != dynamic && M::values != dynamic;
  AVIARY_HOST_DEVICE static constexpr Index row_of(Index keys, Index values) noexcept {
    return padded<typename M::StateNumber>(keys > values ? keys : values);
  }
  /// The length of a row, known at compile time or not.
  static constexpr Index fixed_row = is_static ? row_of(M::keys, M::values) : dynamic;
  AVIARY_HOST_DEVICE static constexpr Extent<fixed_row> row(Index keys, Index values) noexcept {
    return row_of(keys, values);
  }
  static constexpr Index longest_row = is_static ? fixed_row : row_of(largest_head, largest_head);
  /// Longer rows go token by token: more of them would fill the stack.
  static constexpr Index longest_in_groups = 256;

  template <int N> using Group = aviary::Group<form_of<R>, T, fixed_row, N>;
  static constexpr Index stride_of(Index values) noexcept {
    return values == dynamic ? dynamic : padded<typename M::StateNumber>(values);
  }
  /// The passes over states of S with so many columns.
  template <class P, int N, class S = typename M::StateNumber, Index columns = stride_of(M::values)>
  using Passes = detail::Passes<form_of<R>, P, T, S, fixed_row, columns, N, pass_shape<P>(form_of<R>).packs>;
  /// Tokens of a group.
  template <class P>
  static constexpr int tokens = is_static&& fixed_row > longest_in_groups ? 1 : pass_shape<P>(form_of<R>).tokens;
};

/// Where the inputs of a call lie. This is found out once: at one token a call it would cost a tenth of a step for each head.
template <class M> class InputRows {
 public:
  static constexpr int fields = field_count<typename M::Rule>;

  /// Of a call with so many heads, of which a field may have fewer.
  InputRows(typename M::Inputs const& x, Index head_count) noexcept : heads_(head_count) {
    int f = 0;
    for_each_field<typename M::Rule>(x, [&](auto, auto const& field) {
      all_are_T_ = all_are_T_ && field.format() == format_of<typename M::T>;
      field_[f++] = {field.rows(0, 0), field.heads() > 1 ? field.rows(0, 1).at() - field.rows(0, 0).at() : 0,
                     field.heads(), field.size(), field.format()};
    });
  }

  /// To a token that is not before the last one.
  void move_to(Index token) noexcept {
    for (Field& x : field_) x.rows.move(token - token_);
    token_ = token;
  }
  /// The rows of a field for one head, from that token on.
  RowCursor rows(int f, Index head) const noexcept {
    Field const& x = field_[f];
    RowCursor rows = x.rows;
    rows.shift((x.heads == heads_ ? head : head * x.heads / heads_) * x.head_step);
    return rows;
  }
  Index size(int f) const noexcept { return field_[f].size; }
  NumberFormat format(int f) const noexcept { return field_[f].format; }
  bool all_are_T() const noexcept { return all_are_T_; }

 private:
  struct Field {
    RowCursor rows;
    Index head_step, heads, size;
    NumberFormat format;
  };
  Field field_[to_size(fields)];
  Index heads_, token_ = 0;
  bool all_are_T_ = true;
};

/// The rows of one head, from that token on to which the inputs were moved.
template <class M> class HeadRows {
  using R = typename M::Rule;
  using T = typename M::T;
  using Groups = GroupsOf<M>;

 public:
  static constexpr int fields = InputRows<M>::fields;

  HeadRows(InputRows<M> const& inputs, Index head, Index keys, Index values) noexcept
      : inputs_(inputs), keys_(keys), values_(values), row_(Groups::row(keys, values)) {
    for (int f = 0; f < fields; ++f) rows_[f] = inputs.rows(f, head);
  }
  Index row() const noexcept { return row_; }
  Extent<M::keys> keys() const noexcept { return keys_; }
  Extent<M::values> values() const noexcept { return values_; }

  /// To a later token.
  void move(Index tokens) noexcept {
    for (RowCursor& rows : rows_) rows.move(tokens);
  }
  /// f(tokens) with an array of the next N tokens, of which the call has `count`: those after them are `zeros`. Rows that hold
  /// other numbers than T are converted into `converted`, which has room for N rows of each field.
  template <int N, class F>
  AVIARY_INLINE void next(Index count, [[maybe_unused]] T const* zeros, T* converted, F&& f) noexcept {
    T const* at[to_size(fields)][to_size(N)];
    for (int i = 0; i < fields; ++i) rows_[i].next(count, at[i]);
    for (int i = 0; i < fields; ++i)
      for (Index m = count; m < N; ++m) at[i][m] = zeros;
    if (!inputs_.all_are_T())
      for (int i = 0; i < fields; ++i)
        for (Index m = 0; m < count; ++m) convert_row(i, converted + (i * N + m) * row_, at[i][m]);
    [&]<int... m>(std::integer_sequence<int, m...>) AVIARY_INLINE_LAMBDA {
      typename M::Token const tokens[]{make_token<N>(&at[0][m])...};
      f(tokens);
    }
    (std::make_integer_sequence<int, N>{});
  }

 private:
  /// A token whose fields lie where `at` says, every N places.
  template <int N> AVIARY_INLINE typename M::Token make_token(T const* const* at) const noexcept {
    int f = 0;
    return transform_fields<R, typename M::Token>(Axes<R>{}, [&]<Axis A>(AxisTag<A>, auto) AVIARY_INLINE_LAMBDA {
      T const* const row = at[N * f++];
      if constexpr (one_number(A))
        return Required<T>(*row);
      else
        return VecView<T const, axis_size<A, M::keys, M::values>>(row, A == Axis::value ? values_ : keys_);
    });
  }
  /// A row that holds other numbers than T is converted.
  AVIARY_NO_INLINE void convert_row(int f, T* to, T const*& row) noexcept {
    if (inputs_.format(f) == format_of<T>) return;
    with_type(inputs_.format(f), static_cast<void const*>(row),
              [&](auto const* from) noexcept { convert(from, to, inputs_.size(f)); });
    row = to;
  }

  InputRows<M> const& inputs_;
  RowCursor rows_[to_size(fields)];
  [[no_unique_address]] Extent<M::keys> keys_;
  [[no_unique_address]] Extent<M::values> values_;
  [[no_unique_address]] Extent<Groups::fixed_row> row_;
};

/// The tokens of one head, from that on to which the inputs were moved, prepared in scratch of its own.
template <class M, class P> class HeadTokens {
  using R = typename M::Rule;
  using T = typename M::T;
  using Groups = GroupsOf<M>;
  static constexpr int most = Groups::template tokens<P>;

 public:
  HeadTokens(InputRows<M> const& inputs, Index head, Index keys, Index values) noexcept
      : rows_(inputs, head, keys, values) {}

  /// f(Constant<N>{}, 0, n) for the whole groups among `count` tokens, if groups of more than one fit into the scratch, and
  /// f(Constant<1>{}, n, count) for the rest.
  template <class F> AVIARY_INLINE void in_groups(Index count, F&& f) const noexcept {
    Index n = 0;
    if constexpr (most > 1)
      if (count >= most && (Groups::is_static || rows_.row() <= Groups::longest_in_groups)) {
        n = count - count % most;
        f(Constant<most>{}, Index{0}, n);
      }
    if (n < count) f(Constant<1>{}, n, count);
  }
  /// The next N tokens; N is what `in_groups` says.
  template <int N> AVIARY_INLINE typename Groups::template Group<N> next() noexcept {
    typename Groups::template Group<N> const group(numbers_, rows_.row());
    rows_.template next<N>(N, nullptr, converted_, [&](auto const& tokens) AVIARY_INLINE_LAMBDA {
      prepare<R, P>(tokens, group, group.pair_products(), rows_.keys(), rows_.values());
    });
    return group;
  }

 private:
  static constexpr Index numbers =
      std::max(Groups::template Group<1>::length(Groups::longest_row),
               Groups::template Group<most>::length(std::min(Groups::longest_row, Groups::longest_in_groups)));
  static constexpr Index row_numbers =
      std::max(Groups::longest_row, most* std::min(Groups::longest_row, Groups::longest_in_groups));

  HeadRows<M> rows_;
  alignas(alignment) T numbers_[to_size(numbers)];
  alignas(alignment) T converted_[to_size(HeadRows<M>::fields * row_numbers)];
};

}  // namespace AVIARY_NAMESPACE::detail
