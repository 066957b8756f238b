#pragma once
/// MatrixMemory: a rule, a number type and sizes bundled into the type that users name. It has every verb.
#include <string>

#include "aviary/matrix/check.hpp"
#include "aviary/matrix/forward.hpp"

namespace aviary {

/// The memory of a model with rule R: K keys and V values per head, each a compile-time size up to 1024 or `dynamic`.
///
///   S' = S diag(w) + (S p) q^T + v k^T            y = S' r   or   S r + (r . (u*k)) v
///
/// Number (float or double) is the type of the arithmetic and of the state.
template <class R, class Number, Index K, Index V = K, Stored S = Number> class MatrixMemory {
  static_assert(HasTraits<R>, "aviary: a rule needs static constexpr members gate, erase and read");
  static_assert(HasFields<R>, "aviary: a rule needs template <template <Axis> class Per> struct Fields, an aggregate");
  static_assert(HasDecay<R>, "aviary: a rule with a gate needs a field named log_w");
  static_assert(std::is_same_v<Number, float> || std::is_same_v<Number, double>,
                "aviary: arithmetic is float or double; inputs and outputs may be stored in other types");
  static constexpr Index most = detail::largest_head;
  static_assert((K == dynamic || (0 < K && K <= most)) && (V == dynamic || (0 < V && V <= most)),
                "aviary: a head has 1 to 1024 keys and values, or aviary::dynamic");

 public:
  using Rule = R;
  using T = Number;
  using StateNumber = S;
  static constexpr Index keys = K, values = V;
  /// The state of one head, a value. State{} is the empty context (with a dynamic size: State{keys, values}).
  using State = aviary::State<StateNumber, K, V>;
  using View = StateView<StateNumber, K, V>;
  /// One token of one head: views of K or V numbers, or a number, under the model's own names.
  using Token = typename R::template Fields<detail::TokenFields<T, K, V>::template Per>;
  /// Packed sequences: (tokens, heads, K, V or 1) of any storage type, each field with its own number of heads, a divisor
  /// of that of y: value head h reads head h H_field / H.
  using Inputs = typename R::template Fields<detail::InputFields<K, V>::template Per>;
  using Prepared = typename detail::Scratch<MatrixMemory>::Token;
  template <class P> using Kernel = typename detail::Scratch<MatrixMemory>::template Kernel<P>;

  /// What `forward` keeps: the states before tokens 0, every, 2 every ... of each sequence. tape_size(x, offsets, every)
  /// states, (kept token, head) with the sequences one after another; none: nothing is kept.
  struct Tape {
    Index every = 16;
    std::span<State> states = {};
  };

  struct Forward {
    Inputs x;
    Sink<V> y;                            ///< (tokens, heads, V)
    std::span<State> states;              ///< (sequences, heads): initial in, final out
    std::span<Index const> offsets = {};  ///< n + 1 token positions of n sequences; none: one sequence
    Tape tape = {};
  };

  /// Advances one head by one token. No allocation, no lock.
  /// @param s  state, updated in place     @param x  views of the token's inputs
  /// @param y  output (V); must not overlap x
  /// Error:  |y - y_ref| <= 8 K eps max|y_ref| against the double reference.
  /// Cost:   2 to 5 fused multiply-adds per state element by rule; s travels through memory once.
  template <class P = simd::Native<T>>
  AVIARY_HOST_DEVICE static void step(View s, Token const& x, VecView<T, V> y) noexcept {
    using Scratch = detail::Scratch<MatrixMemory>;
    AVIARY_ASSERT(y.size() == s.values() && s.keys() <= most && s.values() <= most);
    alignas(alignment) T numbers[to_size(Scratch::token_numbers)];
    Prepared const token(numbers, Scratch::row(s.keys(), s.values()));
    token.bonus() = Kernel<P>::prepare(x, token, s.keys(), s.values());
    simd::for_packs<P, Scratch::fixed_row>(0, s.stride(), [&]<class Q>(Index i) {
      Q z(T(0));
      if constexpr (R::erase != Erase::none) z = Kernel<P>::template probe<Q>(s.s + i, s.stride(), token.p(), s.keys());
      Q const v = simd::Pack<Q>::load(token.v() + i);
      simd::store_part(y.data(), i, s.values(),
                       Kernel<P>::template advance<Q, false>(s.s + i, s.stride(), token, v, z, s.keys(), token));
    });
  }

  /// Packed sequences through all heads; a sequence may have no token. Agrees with a loop of `step` within its bound, and
  /// has the same bits whatever the executor. Allocates nothing and throws only what the executor throws.
  template <class P = simd::Native<T>, Executor E = Serial>
  static void forward(Forward const& call, E&& executor = {}) {
    AVIARY_ASSERT(check(call).empty());
    detail::ForwardPass<MatrixMemory, P>::run(call, executor);
  }

  /// States that a tape needs for these inputs.
  static std::size_t tape_size(Inputs const& x, std::span<Index const> offsets = {}, Index every = 16) noexcept {
    detail::Packing const packing{offsets, detail::input_tokens<R>(x)};
    return to_size(packing.kept_before(packing.sequences(), every) * detail::input_heads<R>(x));
  }

  /// What is wrong with the shapes of a call, in words; empty when nothing is.
  static std::string check(Forward const& call) { return detail::check_forward<MatrixMemory>(call); }
};

}  // namespace aviary
