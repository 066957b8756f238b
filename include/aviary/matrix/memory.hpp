#pragma once
/// MatrixMemory: a rule, a number type and sizes bundled into the type that users name. It has every verb.
#include <string>

#include "aviary/matrix/backward.hpp"
#include "aviary/matrix/check.hpp"
#include "aviary/matrix/chunk.hpp"
#include "aviary/matrix/forward.hpp"
#include "aviary/matrix/segment.hpp"

namespace AVIARY_NAMESPACE {

/// The memory of a model with rule R: K keys and V values per head, each a compile-time size up to 1024 or `dynamic`.
///
///   S' = S diag(w) + (S p) q^T + v k^T            y = S' r   or   S r + (r . (u*k)) v
///
/// Number (float or double) is the type of the arithmetic and, unless S says otherwise, of the state.
///
/// S = bf16 or f16 halves the memory of a state, and rounds it whenever it is written: after a token in `step`, after a group
/// of tokens in `forward`. The error of y and of the state, rounded after every token, was
/// measured in unit roundoffs u of S (bf16 2^-8, f16 2^-11), relative L2, 64 x 64, 64 to 4096 tokens, with an erasure of
/// rank one: 0.5 to 0.75 u with the decays of WKV-7, 3.5 u with slow decays or none. Without decay and erasure, small writes are
/// lost in large sums: keep float there. Models are trained with states in float; try before you ship. A step costs 1.4
/// times (f16) to 2.5 times (bf16) one in float from first-level cache.
///
/// Long memories, in float: a decay of every token is exp(log_w), rounded. Where it stays between 1 - 1e-5 and 1 for
/// millions of tokens, the rounding of equal decays adds up: 1.1e-2 of the state after 10 million tokens with log_w = -1e-6.
/// A rule whose decay is the same for all tokens (Axis::head_key, head_one) applies it as an increment and keeps its digits.
///
/// Stack, in float: 24 KiB at most in every verb for heads of up to 64 x 64, and 64 KiB for larger and dynamic sizes. In
/// double it is twice that.
template <class R, class Number, Index K, Index V = K, Stored S = Number> class MatrixMemory {
  using RuleIsChecked = decltype(detail::check_rule<R>());
  static_assert(std::is_same_v<Number, float> || std::is_same_v<Number, double>,
                "aviary: arithmetic is float or double; inputs and outputs may be stored in other types");
  using Check = detail::MatrixCheck<MatrixMemory>;
  static constexpr Index most = detail::largest_head;
  static_assert((K == dynamic || (0 < K && K <= most)) && (V == dynamic || (0 < V && V <= most)),
                "aviary: a head has 1 to 1024 keys and values, or aviary::dynamic");

  /// A size that need not be given when it is known at compile time.
  template <Index N> static constexpr Extent<N> fixed() noexcept requires(N != dynamic) { return {}; }

 public:
  using Rule = R;
  using T = Number;
  using StateNumber = S;
  /// What messages and files call the model.
  static constexpr char const* name = detail::name_of_rule<R>();
  static constexpr Index keys = K, values = V;
  /// The state of one head, a value. State(keys, values) is the empty context; so is State() where the sizes are fixed.
  using State = aviary::State<StateNumber, K, V>;
  using View = StateView<StateNumber, K, V>;
  /// One token of one head: views of K or V numbers, or a number, under the model's own names.
  using Token = typename R::template Fields<detail::TokenFields<T, K, V>::template Per>;
  /// Packed sequences: (tokens, heads, K, V or 1) of any floating format, each field with its own number of heads, a
  /// divisor of that of y: value head h reads head h H_field / H.
  using Inputs = typename R::template Fields<detail::InputFields<K, V>::template Per>;
  /// N tokens prepared, and the passes that take them through a state: see matrix/README.md.
  template <int N> using Group = typename detail::GroupsOf<MatrixMemory>::template Group<N>;
  template <class P, int N> using Passes = typename detail::GroupsOf<MatrixMemory>::template Passes<P, N>;

  /// What `forward` keeps for `backward`, and for going back: see core/tape.hpp.
  using Tape = detail::TapeOf<R, State, V>;

  struct ForwardCall {
    Inputs x;
    Sink<V> y = {};                       ///< (tokens, heads, V), if wanted; must not overlap x
    States<State> states;                 ///< (sequences, heads): initial in, final out
    std::span<Index const> offsets = {};  ///< n + 1 token positions of n sequences; none: one sequence
    Tape tape = {};

    Index tokens() const noexcept { return detail::input_tokens<R>(x); }
  };

  /// Advances one head by one token. No allocation, no lock. Subnormal numbers are the caller's business: see
  /// core/flush_to_zero.hpp.
  /// @param s  state, updated in place     @param x  views of the token's inputs
  /// @param y  output (V), which may lie over an input
  /// Error:  |y - y_ref| <= 8 K eps max|y_ref| against the double reference.
  /// Cost:   2 to 5 fused multiply-adds per state element by rule; s travels through memory once.
  template <class P = simd::Native<T>>
  AVIARY_HOST_DEVICE static void step(View s, Token const& x, VecView<T, V> y) noexcept {
    using Groups = detail::GroupsOf<MatrixMemory>;
    if constexpr (K == dynamic || V == dynamic) AVIARY_ASSERT_CALL(check(s, x, y));
    alignas(alignment) T numbers[to_size(Group<1>::length(Groups::longest_row))];
    Group<1> const token(numbers, Groups::row(s.keys(), s.values()));
    detail::prepare<R, P>(&x, token, token.pair_products(), s.key_extent, s.value_extent);
    bool const whole = s.values() == s.stride();
    T* const out = whole ? y.data() : token.y(0);
    Passes<P, 1>::run(s.s, s.stride(), s.keys(), token, &out, 0, s.stride(), {});
    if (!whole)
      for (Index i = 0; i < s.values(); ++i) y[i] = out[i];
  }

  /// Packed sequences through all heads; a sequence may have no token. Tokens go through a state in groups of up to four: the
  /// outputs agree with a loop of `step` within its bound, and have the same bits whatever the executor and what other
  /// sequences there are. Where a sequence is split into calls may change the last bits, but not after a multiple of
  /// tokens_of_whole_groups. Takes subnormal numbers as 0. Allocates
  /// nothing and throws only what the executor throws.
  template <class P = simd::Native<T>, Executor E = Serial>
  static void forward(ForwardCall const& call, E&& executor = {}) {
    AVIARY_ASSERT_CALL(check(call));
    detail::ForwardPass<MatrixMemory, detail::Stepped<MatrixMemory, P>>::run(call, executor);
  }

  /// The gradients of a call's inputs: what a Source is read from, a Sink of the same sizes and heads is for. `{}` says that a
  /// gradient is not wanted.
  using Gradients = typename R::template Fields<detail::GradientFields<K, V>::template Per>;
  using StateGradient = aviary::State<T, K, V>;

  struct BackwardCall {
    Inputs x;           ///< those of `forward`
    Source<V> dy;       ///< (tokens, heads, V), the gradient of y
    Tape tape;          ///< what `forward` kept
    Gradients dx = {};  ///< overwritten, for the tokens of all sequences
    std::span<StateGradient> dstates =
        {};                       ///< (sequences, heads): of the final states in, of the initial ones out; or none
    std::span<T> workspace = {};  ///< backward_workspace(...) numbers
    std::span<Index const> offsets = {};  ///< those of `forward`
  };

  /// The gradients of a loss with respect to the inputs and initial states of `forward`, from those with respect to its outputs
  /// and final states. A field that value heads share gets the sum over them, and one that belongs to heads the sum over tokens
  /// and sequences. Without dstates the final states have no part in the loss. Where w is 0, that of log_w is 0.
  ///
  /// The bits depend neither on the executor nor on what gradients are wanted. Takes subnormal numbers as 0. Allocates nothing
  /// and throws only what the executor throws.
  /// Error:  3e-6 of each gradient in float, relative L2, against the double reference (1024 tokens of natural scale).
  /// Cost:   per token, head and state element 10.5 multiply-adds with Erase::rank_one, 9.5 along_key, 5.5 without; without
  ///         readings on the tape one or two more.
  template <class P = simd::Native<T>, Executor E = Serial>
  static void backward(BackwardCall const& call, E&& executor = {}) {
    static_assert(
        HasPull<R>,
        "aviary: backward needs the chain rule of a rule: give it static constexpr Gradients pull(x, d) beside map");
    AVIARY_ASSERT_CALL(check(call));
    if constexpr (HasPull<R>) detail::BackwardPass<MatrixMemory, P>::run(call, executor);
  }
  /// Numbers of workspace for `backward` over these inputs, whose outputs have so many heads. With the share of `concurrency`
  /// workers as many tasks may run at once, if the executor does; else fewer do. Each has the states of one interval of the
  /// tape: some 200 KiB in float at 64 x 64 and every = 16, and 16 KiB more for each head.
  static std::size_t backward_workspace(Inputs const& x, Index heads, std::span<Index const> offsets = {},
                                        Index every = 16, Index concurrency = 1) noexcept {
    return to_size(detail::BackwardRoom<MatrixMemory>(x, heads, offsets, every).total(concurrency));
  }

  /// What `forward` does, in chunks of L tokens as matrix products: see chunk.hpp for when that pays. Agrees with forward
  /// within the bound of either against the reference. workspace: chunk_workspace<L>(keys, values) numbers.
  template <Index L, class P = simd::Native<T>>
  static void chunk(ForwardCall const& call, std::span<T> workspace) noexcept {
    static_assert(L > 0, "aviary: a chunk has at least one token");
    AVIARY_ASSERT_CALL(check(call));
    Serial serial;
    using Engine = detail::Chunked<MatrixMemory, P, L>;
    detail::ForwardPass<MatrixMemory, Engine>::run(call, serial, Engine(workspace));
  }
  template <Index L>
  static std::size_t chunk_workspace(Extent<K> keys_ = fixed<K>(), Extent<V> values_ = fixed<V>()) noexcept {
    return to_size(detail::Chunked<MatrixMemory, T, L>::workspace(keys_, values_));
  }

  /// States that a tape needs for these inputs.
  static std::size_t tape_size(Inputs const& x, std::span<Index const> offsets = {}, Index every = 16) noexcept {
    detail::Packing const packing{offsets, detail::input_tokens<R>(x)};
    return to_size(packing.kept_before(packing.sequences(), every) * detail::input_heads<R>(x));
  }

  /// @name Segments: a stretch of tokens as one affine map, S' = S A + B
  ///@{
  /// A and B of a stretch. With an erasure A is dense (K x K), else diagonal.
  using Segment = detail::SegmentOf<R, T, K, V>;
  /// The segment of no token, A = I and B = 0.
  static Segment identity_segment(Extent<K> keys_ = fixed<K>(), Extent<V> values_ = fixed<V>()) {
    Segment segment{};
    if constexpr (K == dynamic || V == dynamic) segment.b = {keys_, values_};
    if constexpr (K == dynamic) {
      if constexpr (R::erase == Erase::none)
        segment.log_a = {1, keys_};
      else
        segment.a = {keys_, keys_};
    }
    detail::set_identity(segment);
    return segment;
  }

  struct SummarizeCall {
    Inputs x;
    RequiredSpan<Segment> segments;  ///< (sequences, heads) of the right sizes: overwritten
    Sink<V> y = {};                  ///< (tokens, heads, V), the outputs if each sequence began with an empty state
    Sink<K> state_weights = {};      ///< (tokens, heads, K): with the state S before the sequence, y + S m is right
    std::span<Index const> offsets = {};  ///< n + 1 token positions of n sequences; none: one sequence
  };
  /// The segment of each sequence and head, and what is needed to correct its outputs once the state before it is known.
  /// Cost: two to three times that of `forward`. With an erasure the states have V + K values.
  template <class P = simd::Native<T>, Executor E = Serial>
  static void summarize(SummarizeCall const& call, E&& executor = {}) {
    AVIARY_ASSERT_CALL(check(call));
    detail::SegmentPass<MatrixMemory, P>::run(call, executor);
  }

  /// The segment of two stretches, the earlier one first:  (A1 A2, B1 A2 + B2). out is neither of them and of their sizes.
  /// Cost: 2 K^2 (K + V) flops with an erasure, else 2 K V.
  template <class P = simd::Native<T>>
  static void compose(Segment const& earlier, Segment const& later, Segment& out) noexcept {
    AVIARY_ASSERT(&out != &earlier && &out != &later);
    AVIARY_ASSERT_CALL(Check::compose(earlier, later));
    FlushToZero const flush;
    out.b = later.b;
    detail::times_a<P>(later, detail::as_matrix(earlier.b.view()), detail::as_matrix(out.b.view()));
    if constexpr (R::erase == Erase::none) {
      for (Index j = 0; j < out.log_a.values(); ++j)
        out.log_a.view()(0, j) = earlier.log_a.view()(0, j) + later.log_a.view()(0, j);
    } else {
      auto const a = out.a.view();
      detail::clear(a);
      detail::times_a<P>(later, detail::as_matrix(earlier.a.view()), detail::as_matrix(a));
    }
  }

  /// The state after a stretch that begins with state s:  S A + B. out is not s.
  template <class P = simd::Native<T>>
  static void apply(StateView<StateNumber const, K, V> s, Segment const& segment, View out) noexcept {
    AVIARY_ASSERT(s.s != out.s);
    AVIARY_ASSERT_CALL(Check::apply(s, segment, out));
    FlushToZero const flush;
    detail::copy_matrix(detail::as_matrix(segment.b.view()), detail::as_matrix(out));
    detail::times_a<P>(segment, detail::as_matrix(s), detail::as_matrix(out));
  }

  struct AddInitialStateCall {
    Source<K> state_weights;              ///< from `summarize`
    Source<V> y0;                         ///< the outputs from `summarize`
    Sink<V> y;                            ///< the outputs that belong to the states; may be y0's memory
    RequiredSpan<State const> states;     ///< (sequences, heads): the states before the sequences
    std::span<Index const> offsets = {};  ///< as for `summarize`
  };
  /// y = y0 + S m for every token.  Cost: 2 K V flops a token and head.
  template <class P = simd::Native<T>, Executor E = Serial>
  static void add_initial_state(AddInitialStateCall const& call, E&& executor = {}) {
    AVIARY_ASSERT_CALL(check(call));
    detail::CorrectPass<MatrixMemory, P>::run(call, executor);
  }
  ///@}

  /// @name Gradients through segments
  /// The gradient D of the state before a stretch has two parts: what reaches it from the state after it, and from the outputs.
  ///
  ///     D_before = D_after A^T + G            G = sum over tokens of dy_t m_t^T
  ///
  /// `pull_outputs` makes G for all stretches at once, and `pull_state` adds D_after A^T, from the last stretch to the first.
  /// Then the gradients of all states between stretches are known, and `backward` takes all stretches at once, each a sequence
  /// of its own with the gradient of the state after it as dstates. examples/parallel_prefill does all of it.
  /// Gradients found so agree with those of one `backward` over the whole sequence within its error.
  ///
  /// A ChannelMemory has none of this: its outputs are quotients, which are not linear in the state, so that what reaches the
  /// state depends on the outputs and on the state itself; and its channels are tasks enough for any processor.
  ///@{
  struct PullOutputsCall {
    Source<K> state_weights;              ///< from `summarize`
    Source<V> dy;                         ///< (tokens, heads, V), the gradient of the outputs
    RequiredSpan<StateGradient> dstates;  ///< (sequences, heads), of the states before the sequences: overwritten
    std::span<Index const> offsets = {};  ///< as for `summarize`
  };
  /// The chain rule of `add_initial_state`: what reaches the states before the sequences from their outputs, G. The bits do not
  /// depend on the executor. Takes subnormal numbers as 0. Allocates nothing and throws only what the executor throws.
  /// Cost: 2 K V flops a token and head.
  template <class P = simd::Native<T>, Executor E = Serial>
  static void pull_outputs(PullOutputsCall const& call, E&& executor = {}) {
    AVIARY_ASSERT_CALL(check(call));
    detail::OutputPull<MatrixMemory, P>::run(call, executor);
  }

  /// The chain rule of `apply`: before += after A^T, where `after` is the gradient of the state after a stretch and `before`
  /// becomes that of the state before it if it was G. `before` is not `after`.
  ///
  /// For a scan in the shape of a tree, the two stretches of a pair are one: the A of both is that of `compose`, and the G of
  /// both is the G of the later one pulled through the earlier one, G_2 A_1^T + G_1, which is this function again.
  /// Cost: 2 K^2 V flops with an erasure, else 2 K V.
  template <class P = simd::Native<T>>
  static void pull_state(StateView<T const, K, V> after, Segment const& segment, StateView<T, K, V> before) noexcept {
    AVIARY_ASSERT(after.s != before.s);
    AVIARY_ASSERT_CALL(Check::pull_state(after, segment, before));
    FlushToZero const flush;
    detail::times_a_transposed<P>(segment, detail::as_matrix(after), detail::as_matrix(before));
  }
  ///@}

  /// @name What is wrong with the shapes of a call, in words; empty when nothing is
  ///@{
  static std::string check(ForwardCall const& call) { return Check::forward(call); }
  static std::string check(BackwardCall const& call) { return Check::backward(call); }
  static std::string check(SummarizeCall const& call) { return Check::summarize(call); }
  static std::string check(AddInitialStateCall const& call) { return Check::add_initial_state(call); }
  static std::string check(PullOutputsCall const& call) { return Check::pull_outputs(call); }
  static std::string check(View s, Token const& x, VecView<T, V> y) { return Check::step(s, x, y); }
  ///@}
};

}  // namespace AVIARY_NAMESPACE
