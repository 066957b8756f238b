#pragma once
/// The shapes of calls of matrix memories whose pointers are a device's.
#include "aviary/cuda/device_check.hpp"
#include "aviary/cuda/matrix_kernels.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// Checks the calls of matrix memory M: each says what is wrong with their shapes, in words, or nothing.
template <class M> class MatrixDeviceCheck : DeviceCheck<M> {
  using Base = DeviceCheck<M>;
  using Base::count, Base::given, Base::places, Base::tape, Base::without_sequences;
  using R = typename M::Rule;
  using T = typename M::T;
  static constexpr Index V = M::values;

 public:
  /// `heads` of each sequence.
  static std::string forward(typename M::ForwardCall call, Index heads) {
    Index const sequences = detail::Packing{call.offsets, call.tokens()}.sequences();
    std::string words = places("forward", "states", call.states, sequences, heads);
    if (words.empty()) words = formats("forward", call.x);
    if (words.empty() && !call.tape.states.empty())
      words = tape("forward", call, detail::input_tokens<R>(call.x), heads);
    if (!words.empty()) return words;
    static T number;
    if (!call.y) call.y = Sink<V>(&number, call.tokens(), heads);
    call.states = std::span<typename M::State>();
    return M::check(without_sequences(call));
  }

  /// Fields along keys and values but log_w are stored as S.
  template <class S> static std::string rows_are(char const* verb, typename M::Inputs const& x) {
    std::string words;
    int f = 0;
    auto const rows = detail::given_fields<R, 0>(x, M::keys, V);
    detail::for_each_field<R>(x, [&]<Axis A>(detail::AxisTag<A>, auto const& field) {
      if (!one_number(A) && f != detail::decay_field<R>() && field.format() != format_of<S> && words.empty())
        words = given(verb).sentence("%s is stored as %s, expected %s", rows[static_cast<std::size_t>(f)].name,
                                     name_of(field.format()).data(), name_of(format_of<S>).data());
      ++f;
    });
    return words;
  }

  static std::string forward_in_pieces(typename M::ForwardCall const& call, Index heads, Index piece,
                                       std::span<T> workspace) {
    constexpr char const* verb = "forward_in_pieces";
    if (piece < 1) return given(verb).sentence("piece is %td, expected at least 1", piece);
    if (!call.tape.states.empty() && call.tape.every > 0 && piece % call.tape.every != 0)
      return given(verb).sentence("piece is %td, expected a multiple of tape.every, which is %td", piece,
                                  call.tape.every);
    Index const found = static_cast<Index>(workspace.size());
    Index const needed = PiecesPlan<M>({call.offsets, call.tokens()}, heads, piece).total();
    if (found < needed) return given(verb).sentence("workspace has %td numbers, expected at least %td", found, needed);
    if (std::string words = boundary(verb, workspace); !words.empty()) return words;
    return forward(call, heads);
  }

  /// `longest_interval` tokens between states of the tape at most; the least workspace has `workspace` numbers.
  static std::string backward(typename M::BackwardCall call, Index longest_interval, Index workspace) {
    Index const heads = call.dy.heads(), sequences = detail::Packing{call.offsets, call.dy.tokens()}.sequences();
    Index const found = static_cast<Index>(call.workspace.size());
    std::string words = formats("backward", call.x);
    if (words.empty() && !call.dstates.empty())
      words = count("backward", "dstates", static_cast<Index>(call.dstates.size()), sequences * heads);
    if (words.empty() && (call.tape.every < 1 || call.tape.every > longest_interval))
      words = given("backward")
                  .sentence("tape.every is %td, expected 1 to %td on a device", call.tape.every, longest_interval);
    if (words.empty()) words = tape("backward", call, detail::input_tokens<R>(call.x), heads);
    if (words.empty() && found < workspace)
      words = given("backward").sentence("workspace has %td numbers, expected at least %td", found, workspace);
    if (words.empty()) words = boundary("backward", call.workspace);
    if (!words.empty()) return words;
    call.dstates = {};
    call = without_sequences(call);
    call.workspace = {call.workspace.data(), M::backward_workspace(call.x, heads, call.offsets, call.tape.every)};
    return M::check(call);
  }

 private:
  /// States lie in a workspace, too.
  static std::string boundary(char const* verb, std::span<T> workspace) {
    if (reinterpret_cast<std::uintptr_t>(workspace.data()) % alignment == 0) return {};
    return given(verb).sentence("workspace does not begin on a boundary of %td bytes", alignment);
  }
  /// Numbers on their way to a thread have the room of a T.
  static std::string formats(char const* verb, typename M::Inputs const& x) {
    std::string words;
    int f = 0;
    auto const rows = detail::given_fields<R, 0>(x, M::keys, V);
    detail::for_each_field<R>(x, [&](auto, auto const& field) {
      if (size_of(field.format()) > sizeof(T) && words.empty())
        words = given(verb).sentence("%s has numbers of %zu bytes, expected %zu at most: the arithmetic is float",
                                     rows[static_cast<std::size_t>(f)].name, size_of(field.format()), sizeof(T));
      ++f;
    });
    return words;
  }
};

}  // namespace AVIARY_NAMESPACE::cuda
