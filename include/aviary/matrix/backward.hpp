#pragma once
/// Gradients of packed sequences through all heads. A sequence is taken from its last kept state to its first: the tokens of
/// an interval between two of them are prepared, the states before its groups are computed forwards again, and its groups are
/// walked back. A group of four tokens reads its state and the state's gradient once each. With the names of group.hpp, W what
/// the tokens write (v - S p along k, or v along k and z = S p along q), and D the gradient of the state after the group:
///
///     dW_s = D k_s + sum over m of (pair products) dy_m and dz_m      what a written row was worth
///     D    = D diag(w) + sum over m of (dy_m r_m^T + dz_m p_m^T)
///     dr_m = S dy_m,  dp_m = S dz_m,  dk_s = D W_s                    each times its decays, and the pairs' share
///
/// States are never computed backwards: that would multiply rounding errors by 1 / w at every token.
#include <algorithm>
#include <atomic>
#include <numeric>
#include <span>

#include "aviary/core/executor.hpp"
#include "aviary/core/packing.hpp"
#include "aviary/matrix/by_value.hpp"
#include "aviary/matrix/tokens.hpp"

namespace AVIARY_NAMESPACE::detail {

/// Tokens of a group on the way back, and values whose share in sums over values is added up by itself. Both decide about bits:
/// they are the same for every executor.
inline constexpr int backward_tokens = 4;
inline constexpr Index backward_values = 64;

/// The most heads of a call that a task must take together: what value heads share is theirs alone.
template <class R, class Inputs> Index heads_together(Inputs const& x, Index heads) noexcept {
  Index together = 1;
  for_each_field<R>(
      x, [&](auto, auto const& field) { together = std::lcm(together, heads / std::max<Index>(field.heads(), 1)); });
  return std::max<Index>(together, 1);
}

struct AnyNumber {
  template <class... Tags> constexpr bool operator()(Tags...) const { return (one_number(Tags::value) || ...); }
};

/// Where things lie in the workspace of a call: first sums that tasks hand over, then the scratch of each worker.
template <class M> struct BackwardRoom {
  using R = typename M::Rule;
  using T = typename M::T;
  using Groups = GroupsOf<M>;
  using Group = typename Groups::template Group<backward_tokens>;
  static constexpr int N = backward_tokens, fields = field_count<R>;
  static constexpr bool own_values = R::erase == Erase::along_key && R::read == Read::before;
  /// Rows of sums over values: of the group's read rows, its written rows, and the balance of columns.
  static constexpr int sum_rows = Group::reads + Group::writes + (gate_of<R> != Gate::none);

  Index keys, values, row, stride;  // of rows of tokens, and of states by value
  Index heads, groups, stretches, tokens;
  Index group, sums, head_sums;                                                           // sizes of one of each
  Index states, prepared, zeros, dy, raw, parts, gradients, converted, shared, adjoints;  // where they begin
  Index shared_size[to_size(fields)] = {};
  Index head_sum_at[to_size(fields)] = {};
  Index size;

  /// @param x  the inputs of a call of so many heads     @param every  tokens from one kept state to the next
  template <class Inputs>
  BackwardRoom(Inputs const& x, Index head_count, std::span<Index const> offsets, Index every) noexcept
      : keys(M::keys == dynamic ? input_size<R, Axis::key>(x) : M::keys),
        values(M::values == dynamic ? input_size<R, Axis::value>(x) : M::values),
        row(Groups::row_of(keys, values)),
        stride(padded<T>(keys)),
        heads(head_count) {
    Packing const packing{offsets, input_tokens<R>(x)};
    tokens = 0;
    for (Index s = 0; s < packing.sequences(); ++s)
      tokens = std::max(tokens, std::min(every, packing.end(s) - packing.begin(s)));
    groups = (tokens + N - 1) / N;
    stretches = (values + backward_values - 1) / backward_values;
    group = Group::length(row) + (own_values ? N * row : 0);
    sums = sum_rows * stride + padded<T>(Group::pairs) + padded<T>(N * fields);
    Index at = 0;
    auto const take = [&](Index n) {
      Index const from = at;
      at += padded<T>(n);
      return from;
    };
    head_sums = 0;
    int f = 0;
    for_each_field<R>(x, [&]<Axis A>(AxisTag<A>, auto const& field) {
      if constexpr (!per_token(A)) {
        head_sum_at[f] = head_sums;
        head_sums += padded<T>(field.size());
      } else if (field.heads() < heads) {
        shared_size[f] = tokens * row;
      }
      ++f;
    });
    states = take(groups * values * stride);
    prepared = take(groups * group);
    zeros = take(row);
    dy = take(Group::reads * row);
    raw = take(Group::writes * row);
    parts = take(groups * sums);
    gradients = take(fields * N * row);
    converted = take(fields * N * row);
    shared = at;
    for (Index const n : shared_size) take(n);
    adjoints = take(heads * values * stride);
    size = at;
  }
  /// Sums of fields that a head has once, of each sequence and head.
  Index of_heads(Index sequences) const noexcept { return sequences * heads * head_sums; }
  Index total(Index sequences, Index workers) const noexcept { return of_heads(sequences) + workers * size; }
};

/// A worker: some heads of one sequence, from its end to its beginning.
template <class M, class P> class BackwardPass {
  using R = typename M::Rule;
  using T = typename M::T;
  using Call = typename M::BackwardCall;
  using Room = BackwardRoom<M>;
  using Group = typename Room::Group;
  using Lanes = ByValue<P, T, M::keys>;
  using L = simd::Pack<P>;
  using Rows = HeadRows<M>;
  static constexpr int N = backward_tokens, fields = field_count<R>;
  static constexpr Form form = form_of<R>;
  static constexpr bool gated = form.gate != Gate::none, after = form.read == Read::after;
  static constexpr bool erases = Group::erases, rank_one = Group::rank_one;
  static constexpr bool has_numbers = with_members<fields>(Axes<R>{}, AnyNumber{});

 public:
  template <class E> static void run(Call const& call, E& executor) {
    Packing const packing{call.offsets, input_tokens<R>(call.x)};
    Index const heads = call.dy.heads(), sequences = packing.sequences();
    Room const room(call.x, heads, call.offsets, call.tape.every);
    T* const workspace = call.workspace.data();
    T* const of_workers = workspace + room.of_heads(sequences);
    std::fill(workspace, of_workers, T(0));

    Index const together = heads_together<R>(call.x, heads);
    Index const multiplies = 12 * packing.tokens * heads * room.keys * room.values;
    Index const free = static_cast<Index>(call.workspace.size()) - room.of_heads(sequences);
    Index const workers = std::min(tasks_worth(executor, multiplies), free / std::max<Index>(room.size, 1));
    Cut const cut = Cut::of(sequences, heads / together, 1, 1, workers);
    Index const items = sequences * cut.head_tasks, each = cut.heads_per_task * together;
    std::atomic<Index> next = 0;
    if (items > 0)
      run_tasks(executor, std::clamp<Index>(workers, 1, items), [&](Index worker) noexcept {
        for (Index item; (item = next.fetch_add(1, std::memory_order_relaxed)) < items;) {
          Index const first = item % cut.head_tasks * each;
          BackwardPass pass{call, packing, room, workspace, of_workers + worker * room.size, item / cut.head_tasks};
          pass.run_heads(first, std::min(heads, first + each));
        }
      });
    put_head_gradients(call, room, sequences, workspace);
  }

 private:
  BackwardPass(Call const& call, Packing const& packing, Room const& room, T* head_sums, T* scratch,
               Index sequence) noexcept
      : call_(call),
        packing_(packing),
        room_(room),
        inputs_(call.x, room.heads),
        keys_(room.keys),
        scratch_(scratch),
        head_sums_(head_sums + sequence * room.heads * room.head_sums),
        sequence_(sequence) {
    std::fill(scratch + room.prepared, scratch + room.parts, T(0));  // rows are read to the end of a pack
    int f = 0;
    for_each_field<R>(call.dx, [&]<Axis A>(AxisTag<A>, auto const& sink) {
      wants_[f++] = static_cast<bool>(sink);
      (A == Axis::value ? wants_values_ : wants_keys_) |= static_cast<bool>(sink);
    });
  }

  void run_heads(Index first, Index last) noexcept {
    Index const begin = packing_.begin(sequence_), end = packing_.end(sequence_), every = call_.tape.every;
    Index const kept = packing_.kept_before(sequence_, every);
    for (Index h = first; h < last; ++h) {
      T* const d = adjoint(h - first);
      if (call_.dstates.empty())
        std::fill(d, d + room_.values * room_.stride, T(0));
      else
        Lanes::read(state_gradient(h), d, room_.stride, 0, room_.values);
    }
    for (Index n = (end - begin + every - 1) / every; n-- > 0;) {
      Index const t = begin + n * every, count = std::min(end - t, every);
      for (Index h = first; h < last; ++h) {
        auto const& state = call_.tape.states[to_size((kept + n) * room_.heads + h)];
        Lanes::read(state.view(), at(room_.states), room_.stride, 0, room_.values);
        bool const wraps = h + 1 == last;  // what comes next may not be there: it is only fetched
        next_ = {wraps ? first : h + 1, wraps ? t - every : t, wraps ? adjoint(0) : adjoint(h + 1 - first), nullptr};
        if (Index const following = (kept + n - wraps) * room_.heads + next_.head; following >= 0)
          next_.state = call_.tape.states[to_size(following)].view().s;
        if (next_.token < begin) next_.token = begin;
        interval(h, t, count, adjoint(h - first));
      }
    }
    if (!call_.dstates.empty())
      for (Index h = first; h < last; ++h)
        Lanes::write(adjoint(h - first), room_.stride, state_gradient(h), 0, room_.values);
  }

  T* at(Index place) const noexcept { return scratch_ + place; }
  T* adjoint(Index n) const noexcept { return at(room_.adjoints) + n * room_.values * room_.stride; }
  T* state_before(Index g) const noexcept { return at(room_.states) + g * room_.values * room_.stride; }
  Group group(Index g) const noexcept { return Group(at(room_.prepared) + g * room_.group, room_.row); }
  /// v of each token, where the passes put something else.
  T* own_value(Index g, int m) const noexcept {
    return at(room_.prepared) + g * room_.group + Group::length(room_.row) + m * room_.row;
  }
  /// Gradients of what the tokens of a group read: dy, then dz.
  T* of_read(int n) const noexcept { return at(room_.dy) + n * room_.row; }
  /// Gradients of what they write.
  T* of_written(int n) const noexcept { return at(room_.raw) + n * room_.row; }
  T* sums(Index g) const noexcept { return at(room_.parts) + g * room_.sums; }
  T* pair_sums(Index g) const noexcept { return sums(g) + Room::sum_rows * room_.stride; }
  T* number_sums(Index g) const noexcept { return pair_sums(g) + padded<T>(Group::pairs); }
  T* gradient(int f, int m) const noexcept { return at(room_.gradients) + (f * N + m) * room_.row; }
  auto state_gradient(Index h) const noexcept { return call_.dstates[to_size(sequence_ * room_.heads + h)].view(); }

  /// The rows of a head from a token on.
  Rows rows(Index head, Index token) const noexcept {
    Rows rows(inputs_, head, room_.keys, room_.values);
    rows.move(token);
    return rows;
  }

  /// Tokens [t, t + count) of a head; d becomes the gradient of the state before them.
  void interval(Index head, Index t, Index count, T* d) noexcept {
    Index const groups = (count + N - 1) / N;
    interval_ = t;
    prepare_groups(head, t, count);
    for (Index first = 0; first < room_.values; first += backward_values) {
      Index const last = std::min(first + backward_values, room_.values);
      step_forwards(groups, first, last);
      for (Index g = groups; g-- > 0;)
        step_back(head, g, groups, t + g * N, std::min<Index>(count - g * N, N), d, first, last);
    }
    if (wants_keys_)
      for (Index g = groups; g-- > 0;) pull_keys(head, g, t + g * N, std::min<Index>(count - g * N, N));
    put_shared(head, t, count);
  }

  void prepare_groups(Index head, Index t, Index count) noexcept {
    Rows tokens = rows(head, t);
    for (Index g = 0; g * N < count; ++g) {
      Index const n = std::min<Index>(count - g * N, N);
      Group const to = group(g);
      tokens.template next<N>(n, at(room_.zeros), at(room_.converted), [&](auto const& x) AVIARY_INLINE_LAMBDA {
        prepare<R, P>(x, to, to.pair_products(), keys_, tokens.values());
        if constexpr (constant_decay<R>)
          if (n < N) shorten_decay(x[0], to, n);
      });
      if constexpr (Room::own_values)
        for (int m = 0; m < N; ++m) std::copy_n(to.value(m), room_.row, own_value(g, m));
      if constexpr (erases)
        if (call_.tape.readings)
          for (int m = 0; m < N; ++m) {
            T* const reading = to.value((rank_one ? N : 0) + m);
            if (m < n)
              copy_row(call_.tape.readings, t + g * N + m, head, reading);
            else
              std::fill_n(reading, room_.values, T(0));
          }
    }
  }
  /// A constant decay is of as many tokens as there are.
  template <class Token> AVIARY_NO_INLINE void shorten_decay(Token const& x, Group to, Index n) const noexcept {
    if constexpr (form.gate == Gate::scalar)
      simd::store_part(to.w(), 0, 1, L::expm1(P(x.log_w.value * T(n))));
    else
      for (Index j = 0; j < keys_; j += L::lanes) L::store(to.w() + j, L::expm1(load_lanes<P>(x.log_w, j) * P(T(n))));
  }
  template <class Sequence> static void copy_row(Sequence const& from, Index token, Index head, T* to) noexcept {
    auto const row = from.rows(token, head).at();
    with_type(from.format(), static_cast<void const*>(row),
              [&](auto const* numbers) noexcept { convert(numbers, to, from.size()); });
  }

  /// What the tokens read and so wrote, unless the tape kept it, and the states before the groups.
  void step_forwards(Index groups, Index first, Index last) noexcept {
    Fetches nothing;
    for (Index g = 0; g < groups; ++g) {
      Group const x = group(g);
      if constexpr (erases)
        if (!call_.tape.readings) {
          Lanes::template dots<N>(state_before(g), room_.stride, keys_, first, last, x.read(N), of_written(0), x.row());
          for (Index i = first; i < last; i += L::lanes) read_group(x, i);
        }
      if (g + 1 < groups)
        Lanes::template update<form.gate, form.constant_decay, Group::writes>(
            state_before(g), state_before(g + 1), room_.stride, keys_, first, last, decay_of(x), x.value(0), x.write(0),
            x.row(), nullptr, nullptr, false, nothing);
    }
  }
  static T const* decay_of([[maybe_unused]] Group x) noexcept {
    if constexpr (gated)
      return x.w();
    else
      return nullptr;
  }
  /// The readings of the tokens in the lanes from value i on, and what is written because of them.
  void read_group(Group x, Index i) const noexcept {
    T const* const products = x.pair_products();
    P written[to_size(Group::writes)];
    unroll<N>([&](auto token) AVIARY_INLINE_LAMBDA {
      constexpr int m = token;
      P z = L::load(of_written(m) + i);
      unroll<m>([&](auto earlier) AVIARY_INLINE_LAMBDA {
        constexpr int s = earlier;
        z = L::fma(written[s], P(products[Group::pair(N + m, s)]), z);
        if constexpr (rank_one) z = L::fma(written[N + s], P(products[Group::pair(N + m, N + s)]), z);
      });
      P const v = L::load(x.value(m) + i);
      if constexpr (rank_one) {
        written[m] = v;
        written[N + m] = z;
        L::store(x.value(N + m) + i, z);
      } else {
        written[m] = v - z;
        L::store(x.value(m) + i, written[m]);
      }
    });
  }

  /// Takes values [first, last) of d back over a group of `count` tokens from token t on, and adds up their shares.
  void step_back(Index head, Index g, Index groups, Index t, Index count, T* d, Index first, Index last) noexcept {
    Group const x = group(g);
    bool const more = first > 0;
    Fetches fetches;
    if (!more) plan_fetches(g, groups, fetches);
    for (int m = 0; m < N; ++m) {
      std::fill_n(of_read(m) + first, last - first, T(0));
      if (m < count) copy_part(call_.dy, t + m, head, first, last, of_read(m) + first);
    }
    Lanes::template dots<Group::writes>(d, room_.stride, keys_, first, last, x.write(0), of_written(0), x.row());
    for (Index i = first; i < last; i += L::lanes) pull_group(g, x, i);
    if (wants_values_ || (has_numbers && wants_keys_)) pull_values(head, g, t, count, first, last, more);
    T* const to = sums(g);
    if (wants_keys_) {
      add_pairs(g, x, first, last, more);
      Lanes::template weighted_sums<Group::reads>(state_before(g), room_.stride, keys_, first, last, of_read(0),
                                                  x.row(), to, room_.stride, more, fetches);
      Lanes::template weighted_sums<Group::writes>(d, room_.stride, keys_, first, last, x.value(0), x.row(),
                                                   to + Group::reads * room_.stride, room_.stride, more, fetches);
    }
    Lanes::template update<form.gate, form.constant_decay, Group::reads>(
        d, d, room_.stride, keys_, first, last, decay_of(x), of_read(0), x.read(0), x.row(), state_before(g),
        gated && wants_keys_ ? to + (Room::sum_rows - 1) * room_.stride : nullptr, more, fetches);
  }
  /// What the head that comes next needs for the same group of its interval, and a share of its states.
  void plan_fetches(Index g, Index groups, Fetches& fetches) const noexcept {
    Index const token = next_.token + g * N;
    auto const add = [&](RowCursor const& rows, Index bytes) {
      if (bytes >= alignment)
        for (int m = 0; m < N; ++m) fetches.add(rows.at() + m * rows.step(), bytes);
    };
    auto const add_sequence = [&](auto const& x) {
      if (x.data() != nullptr)
        add(x.rows(token, next_.head * x.heads() / room_.heads), x.size() * static_cast<Index>(size_of(x.format())));
    };
    for_each_field<R>(call_.x, [&](auto, auto const& field) { add_sequence(field); });
    for_each_field<R>(call_.dx, [&](auto, auto const& sink) { add_sequence(sink); });
    add_sequence(call_.dy);
    if constexpr (erases) add_sequence(call_.tape.readings);
    using S = typename M::StateNumber;
    Index const of_state = room_.keys * padded<S>(room_.values) / groups,
                of_gradient = room_.values * room_.stride / groups;
    if (next_.state != nullptr) fetches.add(next_.state + g * of_state, of_state * static_cast<Index>(sizeof(S)));
    fetches.add(next_.adjoint + g * of_gradient, of_gradient * static_cast<Index>(sizeof(T)));
    fetches.share_out(Lanes::template loops_of_sums<Group::reads>(keys_) +
                      Lanes::template loops_of_sums<Group::writes>(keys_) +
                      Lanes::template loops_of_update<Group::reads>(keys_));
  }
  static void copy_part(Source<M::values> const& from, Index token, Index head, Index first, Index last,
                        T* to) noexcept {
    auto const part = from.template part<T>(token, head, first, last - first, to);
    if (part.data() != to) std::copy_n(part.data(), last - first, to);
  }

  /// From what reaches the written rows through d to the gradients of v and of the readings, in the lanes from value i on.
  void pull_group(Index, Group x, Index i) const noexcept {
    T const* const products = x.pair_products();
    P read[to_size(Group::reads)];
    unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA { read[int(m)] = L::load(of_read(m) + i); });
    unroll<N>([&](auto turn) AVIARY_INLINE_LAMBDA {
      constexpr int s = N - 1 - turn;
      auto const met = [&](auto row, auto write, P const& sum) AVIARY_INLINE_LAMBDA {
        constexpr int pair = Group::pair(row, write);
        return L::fma(read[int(row)], P(products[pair]), sum);
      };
      auto const reached = [&](auto write) AVIARY_INLINE_LAMBDA {
        P sum = L::load(of_written(write) + i);
        if constexpr (after) sum = met(Constant<s>{}, write, sum);
        unroll<N - 1 - s>([&](auto later) AVIARY_INLINE_LAMBDA {
          constexpr int m = s + 1 + later;
          sum = met(Constant<m>{}, write, sum);
          if constexpr (erases) sum = met(Constant<N + m>{}, write, sum);
        });
        return sum;
      };
      P dv = reached(Constant<s>{});
      if constexpr (form.erase == Erase::along_key) read[N + s] = -dv;
      if constexpr (rank_one) read[N + s] = reached(Constant<N + s>{});
      if constexpr (erases) L::store(of_read(N + s) + i, read[N + s]);
      if constexpr (!after) dv = met(Constant<s>{}, Constant<s>{}, dv);
      L::store(of_written(s) + i, dv);
    });
  }

  /// The gradients of the pair products: each is of a row that reads and one that is written.
  AVIARY_NO_INLINE void add_pairs(Index g, Group x, Index first, Index last, bool more) noexcept {
    P sum[to_size(Group::pairs)];
    unroll<Group::pairs>([&](auto n) AVIARY_INLINE_LAMBDA { sum[int(n)] = P(T(0)); });
    for (Index i = first; i < last; i += L::lanes) {
      P written[to_size(Group::writes)];
      unroll<Group::writes>([&](auto n) AVIARY_INLINE_LAMBDA { written[int(n)] = L::load(x.value(n) + i); });
      unroll<N>([&](auto token) AVIARY_INLINE_LAMBDA {
        constexpr int m = token;
        P const dy = L::load(of_read(m) + i);
        auto const add = [&](auto read, auto write, P const& a, P const& b) AVIARY_INLINE_LAMBDA {
          constexpr int n = Group::pair(read, write);
          sum[n] = L::fma(a, b, sum[n]);
        };
        if constexpr (Room::own_values)
          add(Constant<m>{}, Constant<m>{}, dy, L::load(own_value(g, m) + i));
        else
          add(Constant<m>{}, Constant<m>{}, dy, written[m]);
        if constexpr (after && rank_one) add(Constant<m>{}, Constant<N + m>{}, dy, written[N + m]);
        [[maybe_unused]] P dz = dy;
        if constexpr (erases) dz = L::load(of_read(N + m) + i);
        unroll<m>([&](auto earlier) AVIARY_INLINE_LAMBDA {
          constexpr int s = earlier;
          add(Constant<m>{}, Constant<s>{}, dy, written[s]);
          if constexpr (erases) add(Constant<N + m>{}, Constant<s>{}, dz, written[s]);
          if constexpr (rank_one) {
            add(Constant<m>{}, Constant<N + s>{}, dy, written[N + s]);
            add(Constant<N + m>{}, Constant<N + s>{}, dz, written[N + s]);
          }
        });
      });
    }
    T total[to_size(padded<T>(Group::pairs))];
    simd::sums<Group::pairs>(sum, total);
    T* const to = pair_sums(g);
    for (int n = 0; n < Group::pairs; ++n) to[n] = more ? to[n] + total[n] : total[n];
  }

  /// @name The rule's chain rule
  ///@{
  template <bool along_keys> using Gradients = FieldGradients<R, P, along_keys>;

  /// The log decay of each token, if that is one number, as a decay.
  template <class Token> static void scalar_decays_of([[maybe_unused]] Token const* x, [[maybe_unused]] T* w) noexcept {
    if constexpr (form.gate == Gate::scalar) scalar_decays<P, T, N>(x, w);
  }

  /// Values [first, last): gradients of what lies along values, and the share of values in those of numbers.
  AVIARY_NO_INLINE void pull_values(Index head, Index g, Index t, Index count, Index first, Index last,
                                    bool more) noexcept {
    P numbers[to_size(N * fields)];
    unroll<N * fields>([&](auto n) AVIARY_INLINE_LAMBDA { numbers[int(n)] = P(T(0)); });
    find_places(head, t, count);
    Rows tokens = rows(head, t);
    tokens.template next<N>(count, at(room_.zeros), at(room_.converted), [&](auto const& x) AVIARY_INLINE_LAMBDA {
      T scalar_w[to_size(N)] = {};
      scalar_decays_of(x, scalar_w);
      for (Index i = first; i < last; i += L::lanes)
        unroll<N>([&](auto token) AVIARY_INLINE_LAMBDA {
          constexpr int m = token;
          TermGradients<R, P, false> d{};
          d.v = L::load(of_written(m) + i);
          auto const lanes = lanes_of<R, P, false>(x[m], i, scalar_w[m]);
          Gradients<false> const of_fields = R::template pull<Gradients<false>>(lanes, d);
          int f = 0;
          for_each_field<R>(of_fields, [&]<Axis A>(AxisTag<A>, auto const& lane) AVIARY_INLINE_LAMBDA {
            if constexpr (A == Axis::value) L::store(to_[f * N + m] + i, lane.value);
            if constexpr (one_number(A)) numbers[f * N + m] = numbers[f * N + m] + lane.value;
            ++f;
          });
        });
    });
    T total[to_size(padded<T>(N * fields))];
    simd::sums<N * fields>(numbers, total);
    T* const to = number_sums(g);
    for (int n = 0; n < N * fields; ++n) to[n] = more ? to[n] + total[n] : total[n];
    put_fields<Axis::value>(head, t, count, first, last);
  }

  /// Keys: from sums over values to the gradients of all that lies along keys, and of numbers.
  AVIARY_NO_INLINE void pull_keys(Index head, Index g, Index t, Index count) noexcept {
    P numbers[to_size(N * fields)];
    unroll<N * fields>([&](auto n) AVIARY_INLINE_LAMBDA { numbers[int(n)] = P(T(0)); });
    find_places(head, t, count);
    Rows tokens = rows(head, t);
    tokens.template next<N>(count, at(room_.zeros), at(room_.converted), [&](auto const& x) AVIARY_INLINE_LAMBDA {
      T scalar_w[to_size(N)] = {};
      scalar_decays_of(x, scalar_w);
      for (Index j = 0; j < keys_; j += L::lanes) pull_lanes(x, scalar_w, g, j, numbers);
    });
    if constexpr (has_numbers) {
      T total[to_size(padded<T>(N * fields))];
      simd::sums<N * fields>(numbers, total);
      T const* const of_values = number_sums(g);
      int f = 0;
      for_each_field<R>(call_.dx, [&]<Axis A>(AxisTag<A>, auto const&) {
        if constexpr (one_number(A))
          for (int m = 0; m < N; ++m) *gradient(f, m) = total[f * N + m] + of_values[f * N + m];
        ++f;
      });
    }
    put_fields<Axis::key>(head, t, count, 0, room_.keys);
  }

  template <class Token> void pull_lanes(Token const* x, T const* scalar_w, Index g, Index j, P* numbers) noexcept {
    using E = LaneFields<R, P, true>;
    using TermsOf = Terms<R, P, true>;
    T const* const sum = sums(g) + j;
    T const* const pair = pair_sums(g);
    auto const row = [&](int n) AVIARY_INLINE_LAMBDA { return L::load(sum + n * room_.stride); };
    auto const share = [&](auto read, auto write, P const& x_, P const& to) AVIARY_INLINE_LAMBDA {
      constexpr int n = Group::pair(read, write);
      return L::fma(P(pair[n]), x_, to);
    };
    E e[to_size(N)];
    P k[to_size(N)], r[to_size(N)], w[to_size(N)];
    [[maybe_unused]] P p[to_size(N)], q[to_size(N)], u[to_size(N)];
    P dr[to_size(N)], dk[to_size(N)];
    [[maybe_unused]] P dp[to_size(N)], dq[to_size(N)];

    // Forwards: gradients of what reads. written: k and q of the tokens before, decayed up to here.
    P written[to_size(Group::writes)];
    [[maybe_unused]] P since(T(1));
    unroll<N>([&](auto token) AVIARY_INLINE_LAMBDA {
      constexpr int m = token;
      e[m] = lanes_of<R, P, true>(x[m], j, scalar_w[m]);
      TermsOf const t = R::template map<TermsOf>(e[m]);
      r[m] = t.r.value;
      k[m] = t.k.value;
      if constexpr (erases) p[m] = t.p.value;
      if constexpr (rank_one) q[m] = t.q.value;
      if constexpr (!after) u[m] = t.u.value;
      if constexpr (gated) w[m] = e[m].w;
      P of_r = row(m);
      [[maybe_unused]] P of_p(T(0));
      if constexpr (erases) of_p = row(N + m);
      if constexpr (gated && m > 0) {
        of_r = of_r * since;
        if constexpr (erases) of_p = of_p * since;
      }
      unroll<m>([&](auto earlier) AVIARY_INLINE_LAMBDA {
        constexpr int s = earlier;
        of_r = share(Constant<m>{}, Constant<s>{}, written[s], of_r);
        if constexpr (erases) of_p = share(Constant<N + m>{}, Constant<s>{}, written[s], of_p);
        if constexpr (rank_one) {
          of_r = share(Constant<m>{}, Constant<N + s>{}, written[N + s], of_r);
          of_p = share(Constant<N + m>{}, Constant<N + s>{}, written[N + s], of_p);
        }
        if constexpr (gated) {
          written[s] = written[s] * w[m];
          if constexpr (rank_one) written[N + s] = written[N + s] * w[m];
        }
      });
      if constexpr (after) {
        if constexpr (gated) of_r = of_r * w[m];
        of_r = share(Constant<m>{}, Constant<m>{}, k[m], of_r);
        if constexpr (rank_one) of_r = share(Constant<m>{}, Constant<N + m>{}, q[m], of_r);
      }
      dr[m] = of_r;
      if constexpr (erases) dp[m] = of_p;
      written[m] = k[m];
      if constexpr (rank_one) written[N + m] = q[m];
      if constexpr (gated) since = m > 0 ? since * w[m] : w[m];
    });

    // Backwards: gradients of what is written, as far as it goes through states.
    unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA {
      dk[int(m)] = row(Group::reads + m);
      if constexpr (rank_one) dq[int(m)] = row(Group::reads + N + m);
    });
    unroll<N>([&](auto turn) AVIARY_INLINE_LAMBDA {
      constexpr int m = N - 1 - turn;
      P reads = r[m];
      if constexpr (after) {
        dk[m] = share(Constant<m>{}, Constant<m>{}, r[m], dk[m]);
        if constexpr (rank_one) dq[m] = share(Constant<m>{}, Constant<N + m>{}, r[m], dq[m]);
        if constexpr (gated) reads = r[m] * w[m];
      }
      unroll<m>([&](auto earlier) AVIARY_INLINE_LAMBDA {
        constexpr int s = earlier;
        if constexpr (gated) dk[s] = dk[s] * w[m];
        dk[s] = share(Constant<m>{}, Constant<s>{}, reads, dk[s]);
        if constexpr (erases) dk[s] = share(Constant<N + m>{}, Constant<s>{}, p[m], dk[s]);
        if constexpr (rank_one) {
          if constexpr (gated) dq[s] = dq[s] * w[m];
          dq[s] = share(Constant<m>{}, Constant<N + s>{}, reads, dq[s]);
          dq[s] = share(Constant<N + m>{}, Constant<N + s>{}, p[m], dq[s]);
        }
      });
    });

    // Forwards once more: decays by the balance of a column, the sum over values of a state times its gradient. What a token
    // changes of it is known from the other gradients.
    [[maybe_unused]] P balance(T(0));
    if constexpr (gated) balance = row(Room::sum_rows - 1);
    unroll<N>([&](auto token) AVIARY_INLINE_LAMBDA {
      constexpr int m = token;
      TermGradients<R, P, true> d{};
      if constexpr (gated) {
        P of_decay = balance;
        if constexpr (erases) of_decay = of_decay - p[m] * dp[m];
        if constexpr (!after) of_decay = of_decay - r[m] * dr[m];
        balance = L::fma(k[m], dk[m], of_decay);
        if constexpr (rank_one) balance = L::fma(q[m], dq[m], balance);
        if constexpr (after) balance = balance - r[m] * dr[m];
        d.log_w = L::select(w[m] == P(T(0)), P(T(0)), of_decay);
      }
      d.r = dr[m];
      d.k = dk[m];
      if constexpr (erases) d.p = dp[m];
      if constexpr (rank_one) d.q = dq[m];
      if constexpr (!after) {
        P const own = P(pair[Group::pair(m, m)]);
        d.r = L::fma(own * u[m], k[m], d.r);
        d.k = L::fma(own * u[m], r[m], d.k);
        d.u = own * r[m] * k[m];
      }
      Gradients<true> const of_fields = R::template pull<Gradients<true>>(e[m], d);
      int f = 0;
      for_each_field<R>(of_fields, [&]<Axis A>(AxisTag<A>, auto const& lane) AVIARY_INLINE_LAMBDA {
        if constexpr (along_key(A)) L::store(to_[f * N + m] + j, lane.value);
        if constexpr (one_number(A)) numbers[f * N + m] = numbers[f * N + m] + lane.value;
        ++f;
      });
    });
  }
  ///@}

  /// @name Where gradients go
  ///@{
  /// Where the gradients of a group are put by whole packs: at once where they belong if that may be, else in scratch.
  void find_places(Index head, Index t, Index count) noexcept {
    int f = 0;
    for_each_field<R>(call_.dx, [&]<Axis A>(AxisTag<A>, auto const& sink) {
      bool const in_place = per_token(A) && !one_number(A) && sink && room_.shared_size[f] == 0 &&
                            sink.format() == format_of<T> && sink.size() % L::lanes == 0;
      for (int m = 0; m < N; ++m)
        to_[f * N + m] = in_place && m < count ? sink.template row<T>(t + m, head) : gradient(f, m);
      ++f;
    });
  }
  /// Hands over the gradients of a group that lie along values, or all others.
  template <Axis which> void put_fields(Index head, Index t, Index count, Index first, Index last) noexcept {
    int f = 0;
    Index shared = room_.shared;
    for_each_field<R>(call_.dx, [&]<Axis A>(AxisTag<A>, auto const& sink) {
      if constexpr ((A == Axis::value) == (which == Axis::value))
        if (wants_[f]) {
          Index const from = one_number(A) ? 0 : first, to = one_number(A) ? 1 : last;
          if constexpr (!per_token(A)) {
            add_to_head(f, head, count, to);
          } else {
            for (Index m = 0; m < count; ++m) {
              T const* const row = gradient(f, static_cast<int>(m));
              if (to_[f * N + m] != row) continue;  // it is there
              if (room_.shared_size[f] == 0)
                sink.put(t + m, head, from, to - from, row + from);
              else
                add_shared(at(shared) + (t + m - interval_) * room_.row, row, from, to,
                           head % share(sink.heads()) == 0);
            }
          }
        }
      shared += padded<T>(room_.shared_size[f]);
      ++f;
    });
  }
  Index share(Index field_heads) const noexcept { return room_.heads / field_heads; }
  static void add_shared(T* to, T const* from, Index first, Index last, bool is_first) noexcept {
    for (Index i = first; i < last; ++i) to[i] = is_first ? from[i] : to[i] + from[i];
  }
  /// After the last of the heads that share a field.
  void put_shared(Index head, Index t, Index count) noexcept {
    int f = 0;
    Index shared = room_.shared;
    for_each_field<R>(call_.dx, [&]<Axis A>(AxisTag<A>, auto const& sink) {
      if (wants_[f] && room_.shared_size[f] > 0 && (head + 1) % share(sink.heads()) == 0)
        for (Index m = 0; m < count; ++m)
          sink.put(t + m, head / share(sink.heads()), 0, sink.size(), at(shared) + m * room_.row);
      shared += padded<T>(room_.shared_size[f]);
      ++f;
    });
  }
  void add_to_head(int f, Index head, Index count, Index size) noexcept {
    T* const to = head_sums_ + head * room_.head_sums + room_.head_sum_at[f];
    for (Index m = count; m-- > 0;) {
      T const* const row = gradient(f, static_cast<int>(m));
      for (Index i = 0; i < size; ++i) to[i] += row[i];
    }
  }
  /// Sums over sequences, and over the heads that share a field, in their order.
  static void put_head_gradients(Call const& call, Room const& room, Index sequences, T* head_sums) noexcept {
    int f = 0;
    for_each_field<R>(call.dx, [&]<Axis A>(AxisTag<A>, auto const& sink) {
      if constexpr (!per_token(A))
        if (sink)
          for (Index h = 0; h < sink.heads(); ++h) {
            Index const share = room.heads / sink.heads();
            auto const sum = [&](Index n) {
              return head_sums + (n / share * room.heads + h * share + n % share) * room.head_sums +
                     room.head_sum_at[f];
            };
            for (Index n = 1; n < sequences * share; ++n) add_shared(sum(0), sum(n), 0, sink.size(), false);
            T const none(0);
            for (Index i = 0; i < sink.size(); ++i) sink.put(0, h, i, 1, sequences > 0 ? sum(0) + i : &none);
          }
      ++f;
    });
  }
  ///@}

  /// What is worked on next.
  struct Next {
    Index head, token;
    T const* adjoint;
    typename M::StateNumber const* state;
  };

  Call const& call_;
  Packing const& packing_;
  Room const& room_;
  InputRows<M> inputs_;
  [[no_unique_address]] Extent<M::keys> keys_;
  T* scratch_;
  T* head_sums_;
  Index sequence_, interval_ = 0;
  Next next_ = {};
  T* to_[to_size(fields * N)];
  bool wants_[to_size(fields)] = {}, wants_keys_ = false, wants_values_ = false;
};

}  // namespace AVIARY_NAMESPACE::detail
