#pragma once
/// What the kernels of a matrix memory owe, whatever its rule and its sizes.
#include <doctest/doctest.h>

#include <vector>

#include "support/device.hpp"
#include "support/matrix_case.hpp"
#include "support/memory_suite.hpp"

namespace aviary::test {

/// Sequences without a token, of one, of a group, and of several intervals of a tape with and without a rest.
inline std::vector<Index> const packed_tokens{0, 0, 1, 5, 11, 48};

/// backward with room for rounds of so many tokens.
template <class M, class E = Serial>
GradientRun<Device<M>> by_rounds(GradientRun<Device<M>> run, Index round, E&& executor = {}) {
  Index const sequences = static_cast<Index>(run.offsets.size()) - 1;
  run.workspace.assign(to_size(cuda::backward_plan<M>(run.inputs(), run.shape.heads, sequences, run.keep.every, round)),
                       typename M::T(-77));
  require_empty(Device<M>::check(run.call()));
  Device<M>::backward(run.call(), executor);
  return run;
}

/// forward against the reference; the order of blocks and of threads changes no bit.
template <class M> void check_forward(RuleCase<typename M::Rule> const& c) {
  RuleRun<Device<M>> const given(c), run = forwarded(given);
  check_close(run.result(), reference_result(c), matrix_bound<typename M::T>);
  check_bits(forwarded(given, Backwards{}), run);
}

/// Blocks of one width have the bits of those of another.
template <class M> void check_widths(RuleCase<typename M::Rule> const& c) {
  RuleRun<Device<M>> wide(c), narrow = wide;
  Device<M>::template forward_by<cuda::WideForward<M>>(wide.call());
  Device<M>::template forward_by<cuda::NarrowForward<M>>(narrow.call());
  check_bits(narrow, wide);
}

/// Gradients against the reference, whatever the tape keeps; the order of blocks and of threads, and rounds, change no bit.
template <class M> void check_backward(GradientCase<typename M::Rule> const& c) {
  constexpr bool erases = M::Rule::erase != Erase::none;
  auto const expected = reference_gradients(c);
  for (Keep const keep : {Keep{1, erases}, Keep{5, false}, Keep{cuda::Backward<M>::longest_interval, erases}}) {
    Note const every("tape.every", keep.every), readings("readings", keep.readings);
    GradientRun<Device<M>> given(c, keep);
    given.forward();
    auto const whole = by_rounds<M>(given, c.shape.tokens());
    check_gradients(whole.result(), expected, matrix_bound<typename M::T>);
    auto const in_rounds = by_rounds<M>(given, 2 * keep.every, Backwards{});
    check_same_gradients(in_rounds.result(), whole.result());
  }
}

/// In pieces, which change what is fused but for those of whole groups.
template <class M> void check_pieces(RuleCase<typename M::Rule> const& c) {
  constexpr double bound = 2 * matrix_bound<typename M::T>;
  RuleRun<Device<M>> const given(c), whole = forwarded(given);
  for (Index const piece : {1, 6, 16, 100}) {
    Note const note("tokens of a piece", piece);
    RuleRun<Device<M>> run = given, in_turn = given;
    Device<M>::forward_in_pieces(run.call(), piece);
    Device<M>::forward_in_pieces(in_turn.call(), piece, Backwards{});
    check_close(run.result(), whole.result(), bound);
    check_bits(in_turn, run);
  }
  RuleRun<Device<M>> run = given;  // with a tape
  auto call = run.call();
  std::vector<typename M::State> kept(M::tape_size(call.x, call.offsets, 5)), expected = kept;
  call.tape = {.every = 5, .states = expected};
  Device<M>::forward(call);
  RuleRun<Device<M>> pieces = given;
  call = pieces.call();
  call.tape = {.every = 5, .states = kept};
  Device<M>::forward_in_pieces(call, 10);
  check_close(numbers_of(kept, M::keys, M::values), numbers_of(expected, M::keys, M::values), bound);
}

/// In chunks on tensor cores: the bound that forward_in_chunks states.
inline constexpr double chunk_bound = 8 * 0x1p-11;

/// Rows of any format in chunks, in pieces too: the width of blocks and the order of threads change no bit.
template <class M> void check_chunk_widths(RuleCase<typename M::Rule> const& c) {
  using Wide = cuda::Chunks<M, void>;
  RuleRun<Device<M>> run(c), narrow = run, in_turn = run, pieces = run;
  Device<M>::template forward_by<cuda::ForwardKernel<M, Wide>>(run.call());
  Device<M>::template forward_by<cuda::NarrowChunks<M, void>>(narrow.call());
  check_bits(narrow, run);
  Device<M>::template forward_by<cuda::ForwardKernel<M, Wide>>(in_turn.call(), true);
  check_bits(in_turn, run);
  Device<M>::template forward_in_pieces<Wide>(pieces.call(), 20);
  check_close(pieces.result(), reference_result(c), chunk_bound);
}

/// The same against the reference, with tapes.
template <class M> void check_chunks(RuleCase<typename M::Rule> const& c) {
  using Kernel = cuda::WideChunks<M, void>;
  auto const expected = reference_result(c);
  RuleRun<Device<M>> const given(c);
  for (Index const every : {5, 16}) {
    Note const note("tape.every", every);
    struct Kept {
      RuleRun<Device<M>> run;
      std::vector<typename M::State> states;
      std::vector<float> readings;
      typename M::ForwardCall call(Index tokens) {
        auto call = run.call();
        states.resize(M::tape_size(call.x, call.offsets, tokens));
        call.tape = {.every = tokens, .states = states};
        if constexpr (M::Rule::erase != Erase::none) call.tape.readings = run.sink(readings.data());
        return call;
      }
    };
    Kept chunks{given, {}, given.y}, groups = chunks;
    Device<M>::template forward_by<Kernel>(chunks.call(every));
    Device<M>::forward(groups.call(every));
    check_close(chunks.run.result(), expected, chunk_bound);
    check_close(numbers_of(chunks.states, M::keys, M::values), numbers_of(groups.states, M::keys, M::values),
                chunk_bound);
    check_close(chunks.readings, groups.readings, chunk_bound);
  }
}

/// What backward_in_chunks states.
inline constexpr double chunk_gradient_bound = 16 * 0x1p-11;

/// backward in chunks with room for rounds of so many tokens.
template <class M, class S = void, class Walk = cuda::ChunkBackward<M, S>, class Run>
Run back_in_chunks(Run run, Index round, bool in_reverse = false) {
  Index const sequences = static_cast<Index>(run.offsets.size()) - 1;
  Index const room = cuda::backward_plan<M, Walk>(run.inputs(), run.shape.heads, sequences, run.keep.every, round);
  run.workspace.assign(to_size(room), typename M::T(-77));
  Device<M>::template backward_by<Walk>(run.call(), in_reverse);
  return run;
}

/// Gradients in chunks against the reference, whatever the tape keeps; rounds and the order of blocks and of threads change no bit.
template <class M> void check_chunk_gradients(GradientCase<typename M::Rule> const& c) {
  auto const expected = reference_gradients(c);
  for (Index const every : {5, 16}) {
    Note const note("tape.every", every);
    GradientRun<Device<M>> given(c, {.every = every});
    given.forward();
    auto const whole = back_in_chunks<M>(given, c.shape.tokens());
    check_gradients(whole.result(), expected, chunk_gradient_bound);
    check_same_gradients(back_in_chunks<M>(given, 2 * every, true).result(), whole.result());
  }
}

template <class M> void check_memory() {
  Note const keys("keys", M::keys), values("values", M::values);
  auto const c = gradient_case<typename M::Rule>(M::keys, M::values, packed_tokens);
  check_forward<M>(c);
  check_backward<M>(c);
}

}  // namespace aviary::test
