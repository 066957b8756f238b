#pragma once
/// Gradients of packed sequences through all heads. A sequence is taken from its last kept state to its first: the tokens of an
/// interval between two of them are prepared, the states before its groups of four are computed forwards again, and its groups
/// are walked back, each of which reads its state and the state's gradient once. States are never computed backwards: that would
/// multiply rounding errors by 1 / w at every token.
#include <algorithm>
#include <atomic>
#include <numeric>
#include <span>

#include "aviary/core/executor.hpp"
#include "aviary/core/packing.hpp"
#include "aviary/matrix/adjoint.hpp"
#include "aviary/matrix/by_value.hpp"
#include "aviary/matrix/tokens.hpp"

namespace AVIARY_NAMESPACE::detail {

struct AnyNumber {
  template <class... Tags> AVIARY_HOST_DEVICE constexpr bool operator()(Tags...) const {
    return (one_number(Tags::value) || ...);
  }
};

/// Where things lie in the workspace of a call.
template <class M> struct BackwardRoom {
  using R = typename M::Rule;
  using T = typename M::T;
  using Groups = GroupsOf<M>;
  /// Tokens of a group, and values whose share in sums over values is added up by itself. Both decide about bits: they are the
  /// same for every executor.
  static constexpr int N = 4;
  static constexpr Index stretch = 64;
  /// Tokens of a round, when several tasks share the values of a head: their sums are added up after it.
  static constexpr Index round_tokens = 128;

  using Group = typename Groups::template Group<N>;
  using Sums = ValueSums<R, T, N>;
  static constexpr int fields = field_count<R>;
  static constexpr bool own_values = R::erase == Erase::along_key && R::read == Read::before;

  Index sequences, heads, keys, values, row, stride, every;
  Index tokens, groups, stretches;        ///< of an interval; of the values of a head
  Index group, sums, head_sums, adjoint;  ///< the size of one of each
  Index states, prepared, zeros, dread, dwritten, of_values, gradients, converted, shared, adjoints,
      scratch;  ///< of a worker
  Index shared_size[to_size(fields)] = {}, head_sum[to_size(fields)] = {};

  /// Of a call with these inputs and so many heads.
  template <class Inputs>
  BackwardRoom(Inputs const& x, Index head_count, std::span<Index const> offsets, Index tape_every) noexcept
      : heads(head_count),
        keys(M::keys == dynamic ? input_size<R, Axis::key>(x) : M::keys),
        values(M::values == dynamic ? input_size<R, Axis::value>(x) : M::values),
        row(Groups::row_of(keys, values)),
        stride(padded<T>(keys)),
        every(tape_every),
        tokens(0),
        stretches((values + stretch - 1) / stretch),
        group(Group::length(row) + (own_values ? N * row : 0)),
        sums(Sums::size(stride)),
        head_sums(0),
        adjoint(values * stride) {
    Packing const packing{offsets, input_tokens<R>(x)};
    sequences = packing.sequences();
    for (Index s = 0; s < sequences; ++s) tokens = std::max(tokens, std::min(every, packing.end(s) - packing.begin(s)));
    groups = (tokens + N - 1) / N;
    int f = 0;
    for_each_field<R>(x, [&]<Axis A>(AxisTag<A>, auto const& field) {
      if constexpr (!per_token(A)) {
        head_sum[f] = head_sums;
        head_sums += padded<T>(field.size());
      } else if (field.heads() < heads) {
        shared_size[f] = tokens * row;
      }
      ++f;
    });
    scratch = 0;
    auto const take = [&](Index n) {
      Index const from = scratch;
      scratch += padded<T>(n);
      return from;
    };
    states = take(groups * adjoint);
    prepared = take(groups * group);
    zeros = take(row);
    dread = take(Group::reads * row);
    dwritten = take(Group::writes * row);
    of_values = take(groups * sums);
    gradients = take(fields * N * row);
    converted = take(fields * N * row);
    shared = scratch;
    for (Index const n : shared_size) take(n);
    adjoints = take(heads * adjoint);
  }

  /// Sums of fields that a head has once, of each sequence and head. They come first.
  Index of_heads() const noexcept { return sequences * heads * head_sums; }
  /// What tasks hand over that share the values of heads: gradients of states, and sums.
  Index handed_over() const noexcept { return heads * (adjoint + intervals() * groups * stretches * sums); }
  /// Intervals of a round.
  Index intervals() const noexcept { return std::max<Index>(round_tokens / std::max<Index>(every, 1), 1); }
  Index total(Index workers) const noexcept {
    return of_heads() + workers * scratch + (workers > 1 && stretches > 1 ? handed_over() : 0);
  }
};

/// A worker of a call: it takes some heads of one sequence, and all their values or a stretch of them, over intervals of a tape.
template <class M, class P> class BackwardPass {
  using R = typename M::Rule;
  using T = typename M::T;
  using Call = typename M::BackwardCall;
  using Room = BackwardRoom<M>;
  using Group = typename Room::Group;
  using Sums = typename Room::Sums;
  static constexpr int N = Room::N, fields = field_count<R>;
  using Adjoint = detail::Adjoint<R, P, T, GroupsOf<M>::fixed_row, N>;
  using Lanes = ByValue<P, T, M::keys>;
  using L = simd::Pack<P>;
  static constexpr Form form = form_of<R>;
  static constexpr bool gated = form.gate != Gate::none, erases = Group::erases, rank_one = Group::rank_one;
  static constexpr bool has_numbers = with_members<fields>(Axes<R>{}, AnyNumber{});

 public:
  template <class E> static void run(Call const& call, E& executor) {
    Index const heads = call.dy.heads();
    Room const room(call.x, heads, call.offsets, call.tape.every);
    Packing const packing{call.offsets, call.dy.tokens()};
    T* const head_sums = call.workspace.data();
    T* const scratch = head_sums + room.of_heads();
    std::fill(head_sums, scratch, T(0));

    Index const together = heads_together(call.x, heads), units = heads / together;
    Index const multiplies = 12 * packing.tokens * heads * room.keys * room.values;
    Index const numbers = static_cast<Index>(call.workspace.size());
    Index workers = tasks_worth(executor, multiplies);
    while (workers > 1 && room.total(workers) > numbers) --workers;
    auto const pass = [&](Index worker, Index sequence) {
      return BackwardPass(call, packing, room, head_sums, scratch + worker * room.scratch, sequence);
    };
    if (workers > room.sequences * units && room.stretches > 1) {
      T* const handed_over = scratch + workers * room.scratch;
      for (Index s = 0; s < room.sequences; ++s) {
        for (Index last = intervals_of(packing, s, room.every), first; last > 0; last = first) {
          first = std::max<Index>(last - room.intervals(), 0);
          share_out(executor, workers, units * room.stretches, [&](Index worker, Index item) {
            Index const h = item / room.stretches * together, value = item % room.stretches * Room::stretch;
            pass(worker, s).walk_values(h, h + together, first, last, value, handed_over);
          });
          share_out(executor, workers, units, [&](Index worker, Index unit) {
            pass(worker, s).pull_round(unit * together, (unit + 1) * together, first, last, handed_over);
          });
        }
      }
    } else {
      Cut const cut = Cut::of(room.sequences, units, 1, 1, workers);
      Index const each = cut.heads_per_task * together;
      share_out(executor, workers, room.sequences * cut.head_tasks, [&](Index worker, Index item) {
        Index const first = item % cut.head_tasks * each;
        pass(worker, item / cut.head_tasks).walk(first, std::min(heads, first + each));
      });
    }
    put_head_gradients(call, room, head_sums);
  }

 private:
  /// f(worker, item) for all items, which workers take as they come.
  template <class E, class F> static void share_out(E& executor, Index workers, Index items, F const& f) {
    if (items <= 0) return;
    std::atomic<Index> next = 0;
    run_tasks(executor, std::clamp<Index>(workers, 1, items), [&](Index worker) noexcept {
      for (Index item; (item = next.fetch_add(1, std::memory_order_relaxed)) < items;) f(worker, item);
    });
  }
  /// Heads that a task must take together: what they share of a field is theirs alone.
  static Index heads_together(typename M::Inputs const& x, Index heads) noexcept {
    Index together = 1;
    for_each_field<R>(x, [&](auto, auto const& field) { together = std::lcm(together, heads / field.heads()); });
    return together;
  }
  static Index intervals_of(Packing const& packing, Index sequence, Index every) noexcept {
    return (packing.end(sequence) - packing.begin(sequence) + every - 1) / every;
  }

  BackwardPass(Call const& call, Packing const& packing, Room const& room, T* head_sums, T* scratch,
               Index sequence) noexcept
      : call_(call),
        room_(room),
        inputs_(call.x, room.heads),
        keys_(room.keys),
        scratch_(scratch),
        of_values_(scratch + room.of_values),
        head_sums_(head_sums + sequence * room.heads * room.head_sums),
        sequence_(sequence),
        begin_(packing.begin(sequence)),
        end_(packing.end(sequence)),
        kept_(packing.kept_before(sequence, room.every)) {
    std::fill(scratch + room.prepared, scratch + room.of_values, T(0));  // rows are read to the end of a pack
    int f = 0;
    for_each_field<R>(call.dx, [&]<Axis A>(AxisTag<A>, auto const& sink) {
      wants_[f++] = static_cast<bool>(sink);
      (A == Axis::value ? wants_values_ : wants_keys_) |= static_cast<bool>(sink);
    });
  }

  /// Heads [first, last) over all of the sequence.
  void walk(Index first, Index last) noexcept {
    T* const adjoints = scratch_ + room_.adjoints;
    for (Index h = first; h < last; ++h) read_gradient(h, adjoints + (h - first) * room_.adjoint, 0, room_.values);
    for (Index n = (end_ - begin_ + room_.every - 1) / room_.every; n-- > 0;)
      for (Index h = first; h < last; ++h) {
        open(n);
        T* const d = adjoints + (h - first) * room_.adjoint;
        plan_next(n, h, first, last, adjoints);
        read_state(h, n, 0, room_.values);
        prepare_groups(h);
        for (Index value = 0; value < room_.values; value += Room::stretch)
          step(h, d, value, std::min(value + Room::stretch, room_.values), value > 0);
        pull_keys(h);
        put_shared<Axis::value>(h, 0, room_.values);
        put_shared<Axis::key>(h, 0, room_.keys);
      }
    for (Index h = first; h < last; ++h) write_gradient(h, adjoints + (h - first) * room_.adjoint, 0, room_.values);
  }

  /// @name The same in rounds of intervals [first, last), when other tasks have other values
  ///@{
  /// A stretch of values: gradients along values, and its share in sums over values.
  void walk_values(Index first_head, Index last_head, Index first, Index last, Index value, T* handed_over) noexcept {
    Index const end = std::min(value + Room::stretch, room_.values);
    auto const d = [&](Index h) { return handed_over + h * room_.adjoint; };
    if (last == (end_ - begin_ + room_.every - 1) / room_.every)
      for (Index h = first_head; h < last_head; ++h) read_gradient(h, d(h), value, end);
    for (Index n = last; n-- > first;)
      for (Index h = first_head; h < last_head; ++h) {
        open(n);
        of_values_ = handed_sums(handed_over, h, n - first, value / Room::stretch);
        plan_next(n, h, first_head, last_head, handed_over + first_head * room_.adjoint);
        read_state(h, n, value, end);
        prepare_groups(h);
        step(h, d(h), value, end, false);
        put_shared<Axis::value>(h, value, end);
      }
    if (first == 0)
      for (Index h = first_head; h < last_head; ++h) write_gradient(h, d(h), value, end);
  }
  /// Adds up the shares, and goes on to gradients along keys.
  void pull_round(Index first_head, Index last_head, Index first, Index last, T* handed_over) noexcept {
    for (Index n = last; n-- > first;)
      for (Index h = first_head; h < last_head; ++h) {
        open(n);
        of_values_ = handed_sums(handed_over, h, n - first, 0);
        for (Index stretch = 1; stretch < room_.stretches; ++stretch) {
          T* const more = handed_sums(handed_over, h, n - first, stretch);
          for (Index g = 0; g < groups_; ++g) sums(g).add(Sums{more + g * room_.sums, room_.stride});
        }
        pull_keys(h);
        put_shared<Axis::key>(h, 0, room_.keys);
      }
  }
  T* handed_sums(T* handed_over, Index head, Index interval, Index stretch) const noexcept {
    T* const all = handed_over + room_.heads * room_.adjoint;
    return all + ((head * room_.intervals() + interval) * room_.stretches + stretch) * room_.groups * room_.sums;
  }
  ///@}

  /// Interval n is worked on.
  void open(Index n) noexcept {
    token_ = begin_ + n * room_.every;
    tokens_ = std::min(end_ - token_, room_.every);
    groups_ = (tokens_ + N - 1) / N;
  }
  Index tokens_of(Index g) const noexcept { return std::min<Index>(tokens_ - g * N, N); }
  Index token_of(Index g) const noexcept { return token_ + g * N; }

  T* at(Index place) const noexcept { return scratch_ + place; }
  T* state_before(Index g) const noexcept { return at(room_.states) + g * room_.adjoint; }
  Group group(Index g) const noexcept { return Group(at(room_.prepared) + g * room_.group, room_.row); }
  /// The values of a group, where it has something else in their place.
  T* own_values(Index g) const noexcept { return at(room_.prepared) + g * room_.group + Group::length(room_.row); }
  Sums sums(Index g) const noexcept { return {of_values_ + g * room_.sums, room_.stride}; }
  T* gradient(int f, int m) const noexcept { return at(room_.gradients) + (f * N + m) * room_.row; }

  /// @name States and their gradients, turned round
  ///@{
  void read_state(Index head, Index interval, Index first, Index last) const noexcept {
    auto const& state = call_.tape.states[to_size((kept_ + interval) * room_.heads + head)];
    Lanes::read(state.view(), state_before(0), room_.stride, first, last);
  }
  auto state_gradient(Index head) const noexcept {
    return call_.dstates[to_size(sequence_ * room_.heads + head)].view();
  }
  void read_gradient(Index head, T* d, Index first, Index last) const noexcept {
    if (call_.dstates.empty())
      std::fill(d + first * room_.stride, d + last * room_.stride, T(0));
    else
      Lanes::read(state_gradient(head), d, room_.stride, first, last);
  }
  void write_gradient(Index head, T const* d, Index first, Index last) const noexcept {
    if (!call_.dstates.empty()) Lanes::write(d, room_.stride, state_gradient(head), first, last);
  }
  ///@}

  /// f(tokens) with the tokens of a group of a head.
  template <class F> AVIARY_INLINE void with_tokens(Index head, Index g, F&& f) const noexcept {
    HeadRows<M> rows(inputs_, head, room_.keys, room_.values);
    rows.move(token_of(g));
    rows.template next<N>(tokens_of(g), at(room_.zeros), at(room_.converted), f);
  }

  AVIARY_NO_INLINE void prepare_groups(Index head) const noexcept {
    for (Index g = 0; g < groups_; ++g) {
      Group const to = group(g);
      Index const count = tokens_of(g);
      with_tokens(head, g, [&](auto const& x) AVIARY_INLINE_LAMBDA {
        prepare<R, P>(x, to, to.pair_products(), keys_, Extent<M::values>(room_.values));
        if constexpr (constant_decay<R>)
          if (count < N) shorten_decay<R, P>(x[0], to, keys_, count);
      });
      if constexpr (Room::own_values) std::copy_n(to.value(0), N * room_.row, own_values(g));
      if constexpr (erases)
        if (call_.tape.readings)
          for (int m = 0; m < N; ++m)
            read_or_clear(call_.tape.readings, g, m, head, 0, room_.values, to.value((rank_one ? N : 0) + m));
    }
  }
  /// Numbers [first, last) of token m of a group; zeros if there is no such token.
  template <class Sequence>
  void read_or_clear(Sequence const& from, Index g, int m, Index head, Index first, Index last, T* to) const noexcept {
    if (m >= tokens_of(g)) return void(std::fill(to + first, to + last, T(0)));
    with_type(from.format(), static_cast<void const*>(from.rows(token_of(g) + m, head).at()),
              [&](auto const* row) noexcept { convert(row + first, to + first, last - first); });
  }

  /// Values [first, last) of a head over the interval, whose groups are prepared, and of d, the gradient of its state.
  void step(Index head, T* d, Index first, Index last, bool more) noexcept {
    step_forwards(first, last);
    for (Index g = groups_; g-- > 0;) step_back(head, g, d, first, last, more);
  }

  /// What the tokens read and so wrote, unless the tape kept it, and the states before the groups.
  void step_forwards(Index first, Index last) const noexcept {
    Fetches none;
    for (Index g = 0; g < groups_; ++g) {
      Group const x = group(g);
      if constexpr (erases)
        if (!call_.tape.readings) {
          T* const z = at(room_.dwritten);
          Lanes::template dots<N>(state_before(g), room_.stride, keys_, first, last, x.read(N), z, x.row());
          for (Index i = first; i < last; i += L::lanes) Adjoint::read(x, z, i);
        }
      if (g + 1 < groups_)
        Lanes::template update<form.gate, form.constant_decay, Group::writes>(
            state_before(g), state_before(g + 1), room_.stride, keys_, first, last, decay_of(x), x.value(0), x.write(0),
            x.row(), nullptr, nullptr, false, none);
    }
  }
  static T const* decay_of([[maybe_unused]] Group x) noexcept {
    if constexpr (gated)
      return x.w();
    else
      return nullptr;
  }

  /// Values [first, last) of d back over a group.
  void step_back(Index head, Index g, T* d, Index first, Index last, bool more) noexcept {
    Group const x = group(g);
    Sums const to = sums(g);
    T *const dread = at(room_.dread), *const dwritten = at(room_.dwritten);
    Fetches fetches;
    if (!more) plan_fetches(g, fetches);
    for (int m = 0; m < N; ++m) read_or_clear(call_.dy, g, m, head, first, last, dread + m * x.row());
    Lanes::template dots<Group::writes>(d, room_.stride, keys_, first, last, x.write(0), dwritten, x.row());
    for (Index i = first; i < last; i += L::lanes) Adjoint::reach(x, dread, dwritten, i);
    if (wants_values_ || (has_numbers && wants_keys_)) pull_values(head, g, first, last, more);
    if (wants_keys_) {
      Adjoint::add_pairs(x, dread, own_values(g), first, last, to, more);
      Lanes::template weighted_sums<Group::reads>(state_before(g), room_.stride, keys_, first, last, dread, x.row(),
                                                  to.read(0), room_.stride, more, fetches);
      Lanes::template weighted_sums<Group::writes>(d, room_.stride, keys_, first, last, x.value(0), x.row(),
                                                   to.written(0), room_.stride, more, fetches);
    }
    Lanes::template update<form.gate, form.constant_decay, Group::reads>(
        d, d, room_.stride, keys_, first, last, decay_of(x), dread, x.read(0), x.row(), state_before(g),
        gated && wants_keys_ ? to.columns() : nullptr, more, fetches);
  }

  AVIARY_NO_INLINE void pull_values(Index head, Index g, Index first, Index last, bool more) noexcept {
    find_places(head, g);
    with_tokens(head, g, [&](auto const& x) AVIARY_INLINE_LAMBDA {
      Adjoint::pull_values(x, at(room_.dwritten), room_.row, first, last, places_, sums(g), more);
    });
    put_fields<Axis::value>(head, g, first, last);
  }
  AVIARY_NO_INLINE void pull_keys(Index head) noexcept {
    if (!wants_keys_) return;
    for (Index g = groups_; g-- > 0;) {
      find_places(head, g);
      with_tokens(head, g, [&](auto const& x) AVIARY_INLINE_LAMBDA { Adjoint::pull_keys(x, keys_, sums(g), places_); });
      put_fields<Axis::key>(head, g, 0, room_.keys);
    }
  }

  /// @name Where gradients go
  ///@{
  /// f(number, axis, sink) for the fields that lie along values, or for all others, whose gradients are wanted.
  template <Axis along, class F> void for_wanted(F&& f) const noexcept {
    int n = 0;
    for_each_field<R>(call_.dx, [&]<Axis A>(AxisTag<A> axis, auto const& sink) {
      if constexpr ((A == Axis::value) == (along == Axis::value))
        if (wants_[n]) f(n, axis, sink);
      ++n;
    });
  }
  /// Where packs are put: at once where they belong if that may be, else in scratch.
  void find_places(Index head, Index g) noexcept {
    int f = 0;
    for_each_field<R>(call_.dx, [&]<Axis A>(AxisTag<A>, auto const& sink) {
      bool const in_place = per_token(A) && !one_number(A) && sink && room_.shared_size[f] == 0 &&
                            sink.format() == format_of<T> && sink.size() % L::lanes == 0;
      for (int m = 0; m < N; ++m)
        places_[f * N + m] =
            in_place && m < tokens_of(g) ? sink.template row<T>(token_of(g) + m, head) : gradient(f, m);
      ++f;
    });
  }
  /// Hands over what is in scratch.
  template <Axis along> void put_fields(Index head, Index g, Index first, Index last) noexcept {
    for_wanted<along>([&]<Axis A>(int f, AxisTag<A>, auto const& sink) {
      Index const from = one_number(A) ? 0 : first, to = one_number(A) ? 1 : last;
      if constexpr (!per_token(A)) {
        T* const sum = head_sums_ + head * room_.head_sums + room_.head_sum[f];
        for (Index m = tokens_of(g); m-- > 0;) add_row(sum, gradient(f, static_cast<int>(m)), 0, to, false);
      } else {
        for (int m = 0; m < tokens_of(g); ++m) {
          T const* const row = gradient(f, m);
          if (places_[f * N + m] != row) continue;
          if (room_.shared_size[f] == 0)
            sink.put(token_of(g) + m, head, from, to - from, row + from);
          else
            add_row(shared_row(f, g * N + m), row, from, to, head % (room_.heads / sink.heads()) == 0);
        }
      }
    });
  }
  static void add_row(T* to, T const* from, Index first, Index last, bool is_first) noexcept {
    for (Index i = first; i < last; ++i) to[i] = is_first ? from[i] : to[i] + from[i];
  }
  /// The sum over the heads that share a field, of a token of the interval.
  T* shared_row(int f, Index token) const noexcept {
    Index place = room_.shared;
    for (int before = 0; before < f; ++before) place += padded<T>(room_.shared_size[before]);
    return at(place) + token * room_.row;
  }
  /// After the last of these heads.
  template <Axis along> void put_shared(Index head, Index first, Index last) const noexcept {
    for_wanted<along>([&]<Axis A>(int f, AxisTag<A>, auto const& sink) {
      Index const share = room_.heads / sink.heads();
      if (room_.shared_size[f] == 0 || (head + 1) % share != 0) return;
      Index const from = one_number(A) ? 0 : first, to = one_number(A) ? 1 : last;
      for (Index m = 0; m < tokens_; ++m) sink.put(token_ + m, head / share, from, to - from, shared_row(f, m) + from);
    });
  }
  /// Sums over sequences, and over the heads that share a field, in their order.
  static void put_head_gradients(Call const& call, Room const& room, T* head_sums) noexcept {
    int f = 0;
    for_each_field<R>(call.dx, [&]<Axis A>(AxisTag<A>, auto const& sink) {
      if constexpr (!per_token(A))
        if (sink)
          for (Index h = 0; h < sink.heads(); ++h) {
            Index const share = room.heads / sink.heads();
            auto const sum = [&](Index n) {
              return head_sums + (n / share * room.heads + h * share + n % share) * room.head_sums + room.head_sum[f];
            };
            for (Index n = 1; n < room.sequences * share; ++n) add_row(sum(0), sum(n), 0, sink.size(), false);
            T const none(0);
            for (Index i = 0; i < sink.size(); ++i) sink.put(0, h, i, 1, room.sequences > 0 ? sum(0) + i : &none);
          }
      ++f;
    });
  }
  ///@}

  /// @name What is fetched while something else is done
  ///@{
  void plan_next(Index n, Index head, Index first, Index last, T const* adjoints) noexcept {
    bool const wraps = head + 1 == last;  // what comes next may not be there
    Index const next = wraps ? first : head + 1, interval = std::max<Index>(n - wraps, 0);
    next_ = {next, begin_ + interval * room_.every, adjoints + (next - first) * room_.adjoint,
             call_.tape.states[to_size((kept_ + interval) * room_.heads + next)].view().s};
  }
  /// What that head needs for the same group of its interval, and a share of its states.
  void plan_fetches(Index g, Fetches& fetches) const noexcept {
    auto const add = [&](auto const& x) {
      Index const bytes = x.size() * static_cast<Index>(size_of(x.format()));
      if (x.data() == nullptr || bytes < alignment) return;
      RowCursor const rows = x.rows(next_.token + g * N, next_.head * x.heads() / room_.heads);
      for (int m = 0; m < N; ++m) fetches.add(rows.at() + m * rows.step(), bytes);
    };
    for_each_field<R>(call_.x, [&](auto, auto const& field) { add(field); });
    for_each_field<R>(call_.dx, [&](auto, auto const& sink) { add(sink); });
    add(call_.dy);
    if constexpr (erases) add(call_.tape.readings);
    auto const add_share = [&](auto const* numbers, Index count) {
      Index const bytes = count * static_cast<Index>(sizeof(*numbers)) / groups_;
      fetches.add(reinterpret_cast<std::byte const*>(numbers) + g * bytes, bytes);
    };
    add_share(next_.state, room_.keys * padded<typename M::StateNumber>(room_.values));
    add_share(next_.adjoint, room_.adjoint);
    fetches.share_out(Lanes::template loops_of_sums<Group::reads>(keys_) +
                      Lanes::template loops_of_sums<Group::writes>(keys_) +
                      Lanes::template loops_of_update<Group::reads>(keys_));
  }
  struct Next {
    Index head, token;
    T const* adjoint;
    typename M::StateNumber const* state;
  };
  ///@}

  Call const& call_;
  Room const& room_;
  InputRows<M> inputs_;
  [[no_unique_address]] Extent<M::keys> keys_;
  T *scratch_, *of_values_, *head_sums_;
  Index sequence_, begin_, end_, kept_;
  Index token_ = 0, tokens_ = 0, groups_ = 0;  // of the interval
  Next next_ = {};
  T* places_[to_size(fields * N)];
  bool wants_[to_size(fields)] = {}, wants_keys_ = false, wants_values_ = false;
};

}  // namespace AVIARY_NAMESPACE::detail
