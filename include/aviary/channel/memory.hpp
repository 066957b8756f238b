#pragma once
/// ChannelMemory: a number type and a number of channels bundled into the type that users name. It has every verb.
#include <string>

#include "aviary/channel/backward.hpp"
#include "aviary/channel/check.hpp"
#include "aviary/channel/segment.hpp"

namespace AVIARY_NAMESPACE {

/// A running weighted mean of v in each of C channels, a compile-time number of any size or `dynamic`:
///
///     num' = w num + e^k v        den' = w den + e^k        y = (num + e^(u + k) v) / (den + e^(u + k))
///
/// with w = exp(log_w). y reads the sums before the token; the token itself enters it with weight e^(u + k).
/// Number (float or double) is the type of the arithmetic and of the state. Stack: at most 1 KiB in `step`, `compose` and
/// `apply`, and 64 KiB in the verbs over sequences.
template <class Number, Index C = dynamic> class ChannelMemory {
  static_assert(std::is_same_v<Number, float> || std::is_same_v<Number, double>,
                "aviary: arithmetic is float or double; inputs and outputs may be stored in other types");
  static_assert(C == dynamic || C > 0, "aviary: a memory has at least one channel, or aviary::dynamic");
  using Check = detail::ChannelCheck<ChannelMemory>;

 public:
  using T = Number;
  /// What messages and files call it.
  static constexpr char const* name = "wkv4";
  static constexpr Index channels = C;
  /// The channels as the values of one head, for code that takes any memory.
  static constexpr Index values = C;
  /// A value. State(channels) is the empty context; so is State() where the number of channels is fixed.
  using State = ChannelState<T, C>;
  using View = ChannelView<T, C>;

  /// One token. k, u and log_w beyond +-1e6 count as that (log_w = -infinity: forget everything).
  struct Token {
    VecView<T const, C> log_w;  ///< <= 0, the same for all tokens
    VecView<T const, C> k, v;
    VecView<T const, C> u;  ///< the same for all tokens
  };
  /// Packed sequences of any floating format, with one head.
  struct Inputs {
    HeadSource<C> log_w;  ///< (1, C), <= 0
    Source<C> k, v;       ///< (tokens, 1, C)
    HeadSource<C> u;      ///< (1, C)
  };

  using Tape = aviary::Tape<State>;

  struct ForwardCall {
    Inputs x;
    Sink<C> y = {};                       ///< (tokens, 1, C), if wanted; must not overlap x
    States<State> states;                 ///< one per sequence: initial in, final out
    std::span<Index const> offsets = {};  ///< n + 1 token positions of n sequences; none: one sequence
    Tape tape = {};

    Index tokens() const noexcept { return x.k.tokens(); }
  };

  /// Advances s by one token. No allocation, no lock. Subnormal numbers are the caller's business: see
  /// core/flush_to_zero.hpp.
  /// @param s  state, updated in place     @param x  views of the token's inputs
  /// @param y  output (C), which may lie over an input
  /// Error:  |y - y_ref| <= 1e-5 max|y_ref| in float against the double reference, whatever the size of k (measured: 2e-7
  ///         with k = 2 N(0, 1)).
  /// Cost:   three polynomials (of log_w, k, u), 40 further operations and a division per pack of channels.
  template <class P = simd::Native<T>>
  AVIARY_HOST_DEVICE static void step(View s, Token const& x, VecView<T, C> y) noexcept {
    using Kernel = detail::ChannelKernel<P>;
    using L = simd::Pack<P>;
    Index const n = s.channels();
    if constexpr (C == dynamic) AVIARY_ASSERT_CALL(check(s, x, y));
    for (Index c = 0; c < n; c += L::lanes) {
      auto const load = [&](T const* row) { return simd::load_part<P>(row, c, n); };
      auto const constants = Kernel::prepare(load(x.log_w.data()), load(x.u.data()));
      typename Kernel::Sums sums{load(s.num), load(s.den), load(s.exponent)};
      auto const reading = Kernel::advance(sums, constants, Kernel::weigh(load(x.k.data())), load(x.v.data()));
      simd::store_part(y.data(), c, n, reading.num / reading.den);
      simd::store_part(s.num, c, n, sums.num);
      simd::store_part(s.den, c, n, sums.den);
      simd::store_part(s.exponent, c, n, sums.exponent);
    }
  }

  /// Packed sequences through all channels; a sequence may have no token. Gives the same bits as a loop of `step`, however
  /// a sequence is split, and whatever the executor; only that it takes subnormal numbers as 0. Allocates nothing and throws
  /// only what the executor throws.  Cost: one polynomial (of k), 25 further operations and a division per token and pack of channels.
  template <class P = simd::Native<T>, Executor E = Serial>
  static void forward(ForwardCall const& call, E&& executor = {}) {
    AVIARY_ASSERT_CALL(check(call));
    detail::ChannelForward<ChannelMemory, P>::run(call, executor);
  }

  /// States that a tape needs for these inputs.
  static std::size_t tape_size(Inputs const& x, std::span<Index const> offsets = {}, Index every = 16) noexcept {
    detail::Packing const packing{offsets, x.k.tokens()};
    return to_size(packing.kept_before(packing.sequences(), every));
  }

  /// @name Gradients of a loss, from those of the outputs and of the final states
  ///@{
  /// Where gradients of the inputs go, each of any floating format. {}: not wanted.
  struct Gradients {
    HeadSink<C> log_w = {};  ///< (1, C): the sum over tokens and sequences
    Sink<C> k = {}, v = {};  ///< (tokens, 1, C)
    HeadSink<C> u = {};      ///< (1, C): the sum over tokens and sequences
  };

  /// The gradient of a state, in the form of a state: with respect to its two sums it is num 2^exponent and den 2^exponent. A
  /// loss that reads num and den of a state as they stand there has the gradient {dnum, dden, -exponent of that state}.
  /// StateGradient(channels) is 0.
  using StateGradient = State;

  struct BackwardCall {
    Inputs x;
    Source<C> dy;       ///< (tokens, 1, C), the gradient of y
    Tape tape;          ///< what `forward` kept of the same inputs
    Gradients dx = {};  ///< overwritten; must overlap neither x nor dy
    /// One per sequence: the gradient of the final state in, that of the initial state out. What comes out has minus the
    /// exponent of the initial state or, of an empty one, whose exponent means nothing, one that suits the first token. The
    /// call for the tokens before takes it as it is, and goes on as one call over both would. None: 0, and not wanted.
    States<StateGradient> dstates = std::span<StateGradient>();
    std::span<T> workspace;               ///< backward_workspace(x, offsets, tape.every) numbers, overwritten
    std::span<Index const> offsets = {};  ///< n + 1 token positions of n sequences; none: one sequence

    Index tokens() const noexcept { return x.k.tokens(); }
  };

  /// The gradients of packed sequences. States before tokens are computed forwards from those of the tape; nothing is
  /// inverted. Gives the same bits whatever the executor, and whatever is wanted. Allocates nothing and throws only what the
  /// executor throws.
  /// Error:  |dk - dk_ref| <= 1e-5 max|dk_ref| in float against the double reference, and the same for v and u; of log_w,
  ///         a sum of what nearly cancels, 1e-4 of the Euclidean norm.
  /// Cost:   one polynomial (of k), 50 further operations and a division per token and pack of channels: twice the
  ///         instructions of `forward`.
  template <class P = simd::Native<T>, Executor E = Serial>
  static void backward(BackwardCall const& call, E&& executor = {}) {
    AVIARY_ASSERT_CALL(check(call));
    detail::ChannelBackward<ChannelMemory, P>::run(call, executor);
  }

  /// Numbers of workspace that `backward` needs for these inputs, whatever the executor: for each sequence and channel
  /// 7 + 5 min(every, tokens of the longest). A serial executor touches few of them.
  static std::size_t backward_workspace(Inputs const& x, std::span<Index const> offsets = {},
                                        Index every = 16) noexcept {
    return to_size(detail::ChannelWorkspace<T>({offsets, x.k.tokens()}, x.k.size(), every).size());
  }
  ///@}

  /// @name Segments: a stretch of tokens as one map, num' = num e^log_w + sums.num, and the same for den
  ///@{
  using Segment = ChannelSegment<T, C>;

  struct SummarizeCall {
    Inputs x;
    RequiredSpan<Segment> segments;  ///< one per sequence, of the right sizes: overwritten
    Sink<C> y = {};                  ///< (tokens, 1, C), the outputs if each sequence began with an empty state
    /// (tokens, 1, C): the state before the sequence has a share in an output, and log(share / (1 - share)) is m plus the
    /// logarithm of that state's sum of weights.
    Sink<C> state_weights = {};
    std::span<Index const> offsets = {};  ///< n + 1 token positions of n sequences; none: one sequence
  };
  /// The segment of each sequence, and what is needed to correct its outputs once the state before it is known.
  /// Cost: about that of `forward`; m costs a logarithm more.
  template <class P = simd::Native<T>, Executor E = Serial>
  static void summarize(SummarizeCall const& call, E&& executor = {}) {
    AVIARY_ASSERT_CALL(check(call));
    detail::ChannelSummary<ChannelMemory, P>::run(call, executor);
  }

  /// The segment of two stretches, the earlier one first. out is of their size and may be one of them.
  template <class P = simd::Native<T>>
  static void compose(Segment const& earlier, Segment const& later, Segment& out) noexcept {
    AVIARY_ASSERT_CALL(Check::compose(earlier, later, out));
    FlushToZero const flush;
    detail::join_channels<P, T, C>(earlier.sums, later.log_w.data(), later.sums, out.sums);
    for (Index c = 0; c < out.log_w.size(); ++c) out.log_w[c] = earlier.log_w[c] + later.log_w[c];
  }

  /// The state after a stretch that begins with state s. out may be s.
  template <class P = simd::Native<T>>
  static void apply(ChannelView<T const, C> s, Segment const& segment, View out) noexcept {
    AVIARY_ASSERT_CALL(Check::apply(s, segment, out));
    FlushToZero const flush;
    detail::join_channels<P, T, C>(s, segment.log_w.data(), segment.sums, out);
  }

  struct AddInitialStateCall {
    Source<C> state_weights;              ///< from `summarize`
    Source<C> y0;                         ///< the outputs from `summarize`
    Sink<C> y;                            ///< the outputs that belong to the states; may be y0's memory
    RequiredSpan<State const> states;     ///< one per sequence: the states before the sequences
    std::span<Index const> offsets = {};  ///< as for `summarize`
  };
  /// y = y0 + share (num / den - y0) for every token.  Cost: an exponential and two divisions per token and pack.
  template <class P = simd::Native<T>, Executor E = Serial>
  static void add_initial_state(AddInitialStateCall const& call, E&& executor = {}) {
    AVIARY_ASSERT_CALL(check(call));
    detail::ChannelCorrection<ChannelMemory, P>::run(call, executor);
  }
  ///@}

  /// @name What is wrong with the shapes of a call, in words; empty when nothing is
  ///@{
  static std::string check(ForwardCall const& call) { return Check::forward(call); }
  static std::string check(BackwardCall const& call) { return Check::backward(call); }
  static std::string check(SummarizeCall const& call) { return Check::summarize(call); }
  static std::string check(AddInitialStateCall const& call) { return Check::add_initial_state(call); }
  static std::string check(View s, Token const& x, VecView<T, C> y) { return Check::step(s, x, y); }
  ///@}
};

}  // namespace AVIARY_NAMESPACE
