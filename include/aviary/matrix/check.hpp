#pragma once
/// The shapes of a call, checked in words.
#include <array>
#include <initializer_list>
#include <utility>

#include "aviary/core/check.hpp"
#include "aviary/matrix/access.hpp"

namespace AVIARY_NAMESPACE::detail {

/// What the parts of a call agree on. Sizes that the types leave open are those of the inputs, and of y where it is given.
struct MatrixShape {
  Index tokens, sequences, heads, keys, values;
  bool y_given;

  /// `owned` counts what a call has one of for each sequence and head: states, or segments.
  template <class M, Index V>
  static MatrixShape of(typename M::Inputs const& x, Sink<V> const& y, std::size_t owned,
                        std::span<Index const> offsets) noexcept {
    using R = typename M::Rule;
    bool const given{y};
    Index const tokens = given ? y.tokens() : input_tokens<R>(x), sequences = Packing{offsets, tokens}.sequences();
    Index const heads_owned = sequences == 0 ? 0 : static_cast<Index>(owned) / sequences;
    return {tokens,
            sequences,
            given ? y.heads() : heads_owned,
            M::keys == dynamic ? input_size<R, Axis::key>(x) : M::keys,
            M::values != dynamic ? M::values
            : given              ? y.size()
                                 : input_size<R, Axis::value>(x),
            given};
  }

  GivenCall call(char const* model, char const* verb, char const* owned) const noexcept {
    return {model, verb, tokens, heads, y_given ? "y" : "v", y_given ? "y" : owned, "%td x %td (keys x values)"};
  }
  /// What is wrong with the sizes of a head; empty when nothing is.
  std::string wrong_sizes(GivenCall const& call) const {
    if (0 < keys && keys <= largest_head && 0 < values && values <= largest_head) return {};
    return call.sentence("a head has 1 to %td keys and values, found %td and %td", largest_head, keys, values);
  }
};

/// The fields of a rule as rows of a call, with room for `outputs` more. A field is a sequence, or a token's view or number.
template <class R, int outputs, class Fields>
std::array<GivenRows, field_count<R> + outputs> given_fields(Fields const& x, Index keys, Index values) {
  std::array<GivenRows, field_count<R> + outputs> rows{};
  [&]<int... I>(std::integer_sequence<int, I...>) { ((rows[I].name = member_name<Axes<R>, I>.text), ...); }
  (std::make_integer_sequence<int, field_count<R>>{});
  GivenRows* next = rows.data();
  for_each_field<R>(x, [&]<Axis A>(AxisTag<A>, auto const& field) {
    char const* const unit = A == Axis::value ? "values" : "keys";
    Index const expected = A == Axis::value ? values : along_key(A) ? keys : 1;
    if constexpr (requires { field.tokens(); })
      *next = given_rows(next->name, per_token(A) ? Use::read : Use::read_for_heads, field, expected, unit);
    else if constexpr (requires { field.size(); })
      *next = {next->name, Use::read, field.data(), 1, 1, field.size(), expected, unit};
    else
      *next = {next->name, Use::read, &field, 1, 1, 1, 1, unit};
    ++next;
  });
  return rows;
}

/// Checks the calls of memory M: each says what is wrong with their shapes, in words, or nothing.
template <class M> class MatrixCheck {
  using R = typename M::Rule;
  using State = typename M::State;
  static constexpr int fields = field_count<R>;

 public:
  static std::string forward(typename M::ForwardCall const& call) {
    auto const shape = MatrixShape::of<M>(call.x, call.y, call.states.size(), call.offsets);
    GivenCall given = shape.call(M::name, "forward", "states");
    if (std::string words = shape.wrong_sizes(given); !words.empty()) return words;
    auto rows = given_fields<R, 2>(call.x, shape.keys, shape.values);
    rows[fields] = given_rows("y", Use::write_if_wanted, call.y, shape.values, "values");
    rows.back() = given_readings(call.tape, Use::write_if_wanted, shape);
    Index const kept = Packing{call.offsets, shape.tokens}.kept_before(shape.sequences, call.tape.every);
    GivenSize const size{shape.keys, shape.values};
    GivenStates const states[]{
        given_states("states", call.states, shape.sequences, shape.heads, size, size_of_one<State>),
        owned("tape", call.tape.states, kept * shape.heads, size)};
    given.rows = rows, given.states = states, given.offsets = call.offsets;
    return wrong_call_with_tape(given, call.tape.every);
  }

  static std::string backward(typename M::BackwardCall const& call) {
    using StateGradient = typename M::StateGradient;
    Packing const packing{call.offsets, call.dy.tokens()};
    MatrixShape const shape{call.dy.tokens(),
                            packing.sequences(),
                            call.dy.heads(),
                            M::keys == dynamic ? input_size<R, Axis::key>(call.x) : M::keys,
                            M::values == dynamic ? call.dy.size() : M::values,
                            true};
    GivenCall given = shape.call(M::name, "backward", "states");
    given.tokens_from = given.heads_from = "dy";
    if (std::string words = shape.wrong_sizes(given); !words.empty()) return words;
    auto const read = given_fields<R, 2>(call.x, shape.keys, shape.values);
    std::array<GivenRows, to_size(2 * fields + 2)> rows{};
    std::copy(read.begin(), read.end(), rows.begin());
    rows[fields] = given_rows("dy", Use::read_all_heads, call.dy, shape.values, "values");
    rows[fields + 1] = given_readings(call.tape, Use::read_if_given, shape);
    char names[to_size(fields)][sizeof(MemberName::text) + 3];
    int f = 0;
    std::string words;
    for_each_field<R>(call.dx, [&]<Axis A>(AxisTag<A>, auto const& sink) {
      GivenRows const& of = rows[to_size(f)];
      std::snprintf(names[f], sizeof(names[f]), "dx.%s", of.name);
      rows[to_size(fields + 2 + f)] = given_rows(names[f], per_token(A) ? Use::write_if_wanted : Use::write_for_heads,
                                                 sink, of.expected_size, of.unit);
      rows[to_size(fields + 2 + f)].like = &of;
      ++f;
    });
    GivenSize const size{shape.keys, shape.values};
    Index const owned_states = shape.sequences * shape.heads;
    Index const kept = packing.kept_before(shape.sequences, call.tape.every) * shape.heads;
    GivenStates const states[]{owned("tape", call.tape.states, kept, size),
                               owned("dstates", std::span<StateGradient>(call.dstates), owned_states, size)};
    given.rows = rows, given.offsets = call.offsets;
    given.states = std::span(states).first(call.dstates.empty() ? 1 : 2);
    if (call.tape.every <= 0) return given.sentence("tape.every is %td, expected at least 1", call.tape.every);
    if (words = wrong_call(given); !words.empty()) return words;
    Index const room = static_cast<Index>(call.workspace.size());
    Index const needed = static_cast<Index>(M::backward_workspace(call.x, shape.heads, call.offsets, call.tape.every));
    if (room < needed) return given.sentence("workspace has %td numbers, expected at least %td", room, needed);
    return {};
  }

  static std::string summarize(typename M::SummarizeCall const& call) {
    auto const shape = MatrixShape::of<M>(call.x, call.y, call.segments.size(), call.offsets);
    GivenCall given = shape.call(M::name, "summarize", "segments");
    if (std::string words = shape.wrong_sizes(given); !words.empty()) return words;
    auto rows = given_fields<R, 2>(call.x, shape.keys, shape.values);
    rows[fields] = given_rows("y", Use::write_if_wanted, call.y, shape.values, "values");
    rows.back() = given_rows("state_weights", Use::write_if_wanted, call.state_weights, shape.keys, "keys");
    GivenStates const segments[]{owned("segments", std::span<typename M::Segment>(call.segments),
                                       shape.sequences * shape.heads, {shape.keys, shape.values})};
    given.rows = rows, given.states = segments, given.offsets = call.offsets;
    return wrong_call(given);
  }

  static std::string add_initial_state(typename M::AddInitialStateCall const& call) {
    Index const keys = call.state_weights.size(), values = call.y.size();
    Index const tokens = call.y.tokens(), heads = call.y.heads();
    GivenCall given = MatrixShape{tokens, 0, heads, keys, values, true}.call(M::name, "add_initial_state", "states");
    GivenRows const rows[]{given_rows("state_weights", Use::read_all_heads, call.state_weights, keys, "keys"),
                           given_rows("y0", Use::read_and_replace, call.y0, values, "values"),
                           given_rows("y", Use::write, call.y, values, "values")};
    Index const count = Packing{call.offsets, tokens}.sequences() * heads;
    GivenStates const states[]{owned("states", std::span<State const>(call.states), count, {keys, values})};
    given.rows = rows, given.states = states, given.offsets = call.offsets;
    return wrong_call(given);
  }

  static std::string pull_outputs(typename M::PullOutputsCall const& call) {
    using StateGradient = typename M::StateGradient;
    Index const keys = call.state_weights.size(), values = call.dy.size();
    Index const tokens = call.dy.tokens(), heads = call.dy.heads();
    MatrixShape const shape{tokens, 0, heads, keys, values, true};
    GivenCall given = shape.call(M::name, "pull_outputs", "dstates");
    given.tokens_from = given.heads_from = "dy";
    if (std::string words = shape.wrong_sizes(given); !words.empty()) return words;
    GivenRows const rows[]{given_rows("state_weights", Use::read_all_heads, call.state_weights, keys, "keys"),
                           given_rows("dy", Use::read_all_heads, call.dy, values, "values")};
    Index const count = Packing{call.offsets, tokens}.sequences() * heads;
    GivenStates const states[]{owned("dstates", std::span<StateGradient>(call.dstates), count, {keys, values})};
    given.rows = rows, given.states = states, given.offsets = call.offsets;
    return wrong_call(given);
  }

  static std::string step(typename M::View s, typename M::Token const& x, VecView<typename M::T, M::values> y) {
    MatrixShape const shape{1, 1, 1, s.keys(), s.values(), true};
    GivenCall given = shape.call(M::name, "step", "states");
    if (std::string words = shape.wrong_sizes(given); !words.empty()) return words;
    auto rows = given_fields<R, 1>(x, shape.keys, shape.values);
    for (GivenRows& row : rows) row.use = Use::read_and_replace;
    rows.back() = {"y", Use::write, y.data(), 1, 1, y.size(), shape.values, "values"};
    given.rows = rows;
    return wrong_call(given);
  }

  static std::string compose(typename M::Segment const& earlier, typename M::Segment const& later) {
    GivenSize const size = size_of_one(earlier.b);
    return together("compose", size, {owned("earlier", earlier, size), owned("later", later, size)});
  }

  template <class From, class To>
  static std::string apply(From const& s, typename M::Segment const& segment, To const& out) {
    GivenSize const size = size_of_one(s);
    return together("apply", size, {owned("segment", segment, size), owned("out", out, size)});
  }

  template <class After, class Before>
  static std::string pull_state(After const& after, typename M::Segment const& segment, Before const& before) {
    GivenSize const size = size_of_one(after);
    return together("pull_state", size, {owned("segment", segment, size), owned("before", before, size)});
  }

 private:
  /// The readings of a tape, if it may have them.
  template <class Tape> static GivenRows given_readings(Tape const& tape, Use use, MatrixShape const& shape) {
    if constexpr (requires { tape.readings; })
      return given_rows("tape.readings", use, tape.readings, shape.values, "values");
    else
      return {"tape.readings", Use::write_if_wanted, nullptr, 0, 0, 0, 0, "values"};
  }
  /// Of states and segments that go together.
  static std::string together(char const* verb, GivenSize size, std::initializer_list<GivenStates> parts) {
    GivenCall given = MatrixShape{0, 0, 0, size.first, size.second, true}.call(M::name, verb, "");
    given.states = {parts.begin(), parts.size()};
    return wrong_call(given);
  }

  /// States, their views or segments, each of this size.
  template <class One> static GivenStates owned(char const* name, std::span<One> all, Index count, GivenSize expected) {
    return given_states(name, all, count, expected, [](auto const& one) { return size_of_one(one); });
  }
  template <class One> static GivenStates owned(char const* name, One const& one, GivenSize expected) {
    return owned(name, std::span(&one, 1), 1, expected);
  }
  template <class One> static GivenSize size_of_one(One const& one) noexcept {
    if constexpr (requires { one.b; })
      return size_of_a(one) == one.b.keys() ? size_of_one(one.b) : GivenSize{-1, -1};
    else
      return {one.keys(), one.values()};
  }
  template <class Segment> static Index size_of_a(Segment const& segment) noexcept {
    if constexpr (requires { segment.log_a; })
      return segment.log_a.values();
    else
      return segment.a.keys() == segment.a.values() ? segment.a.keys() : Index{-1};
  }
};

}  // namespace AVIARY_NAMESPACE::detail
