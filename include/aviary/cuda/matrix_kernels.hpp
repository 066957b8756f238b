#pragma once
/// Which kernels serve a matrix memory, and what they are called with. Nothing here needs a CUDA header.
#include "aviary/cuda/chunk_backward.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// Columns of a block of so many threads, each of which has `columns` of them.
template <class M> constexpr int width(int threads, int columns) noexcept {
  int const most = threads / lanes_of_column<M::keys> * columns, values = static_cast<int>(M::values);
  return most < values ? most : values;
}
/// Threads keep half as many doubles.
template <class M> inline constexpr int columns_of_float = sizeof(typename M::T) == sizeof(float) ? 2 : 1;

/// Forward: many columns for a thread where there are many heads, else one.
template <class M> using Wide = InGroups<width<M>(128, 2 * columns_of_float<M>), 2 * columns_of_float<M>>;
template <class M> using WideForward = ForwardKernel<M, Wide<M>>;
template <class M> using NarrowForward = ForwardKernel<M, InGroups<width<M>(64, 1), 1>>;

/// Forward in chunks: all columns, up to 128, or 32 of them.
template <class M, class S, int most = 128>
using Chunks = InChunks<(M::values < most ? static_cast<int>((M::values + 15) / 16 * 16) : most), S>;
template <class M, class S> using WideChunks = ForwardKernel<M, Chunks<M, S>>;
template <class M, class S> using NarrowChunks = ForwardKernel<M, Chunks<M, S, 32>>;

/// Backward: a tape that keeps a state every 16 tokens, or every 8 where a block would else have more shared memory than most devices
/// give to one.
template <class M, int buffers>
using BackwardWith = BackwardKernel<M, width<M>(128, columns_of_float<M>), columns_of_float<M>, buffers>;
template <class M> using Backward = BackwardWith<M, BackwardWith<M, 4>::shared_bytes <= 99 * 1024 ? 4 : 2>;

/// Backward in chunks: up to 64 columns, and one stage where two need more shared memory than any device gives to a block.
template <class M, class S, int stages>
using ChunkBackwardWith =
    ChunkBackwardKernel<M, (M::values < 64 ? static_cast<int>((M::values + 15) / 16 * 16) : 64), S, stages>;
template <class M, class S>
using ChunkBackward = ChunkBackwardWith<M, S, ChunkBackwardWith<M, S, 2>::shared_bytes <= 227 * 1024 ? 2 : 1>;

/// The arguments of a forward kernel, as one piece.
template <class Kernel, class M>
typename Kernel::Arguments forward_arguments(typename M::ForwardCall const& call, Index heads) noexcept {
  Sink<M::values> readings;
  if constexpr (detail::readings<M>) readings = call.tape.readings;
  typename M::State* const states = call.states.of(0, heads);
  Index const tokens = call.tokens();
  return {call.x,          call.y,  {{call.offsets, tokens}, heads, tokens < 1 ? 1 : tokens, 1},
          states,          states,  call.tape.states.empty() ? nullptr : call.tape.states.data(),
          call.tape.every, readings};
}

/// What a call in pieces needs of a workspace of numbers: the maps of pieces, then the states before them.
template <class M> struct PiecesPlan {
  Pieces pieces;
  PiecesPlan(detail::Packing packing, Index heads, Index piece) noexcept
      : pieces{packing, heads, piece, packing.tokens < 1 ? 1 : (packing.tokens + piece - 1) / piece} {}

  Index maps() const noexcept {
    return pieces.units() * static_cast<Index>(sizeof(PieceMap<M>) / sizeof(typename M::T));
  }
  Index total() const noexcept {
    return maps() + pieces.units() * static_cast<Index>(sizeof(typename M::State) / sizeof(typename M::T));
  }
  PieceMap<M>* maps_in(typename M::T* workspace) const noexcept { return reinterpret_cast<PieceMap<M>*>(workspace); }
  typename M::State* states_in(typename M::T* workspace) const noexcept {
    return reinterpret_cast<typename M::State*>(workspace + maps());
  }
};

/// What a call needs of the workspace: gradients that are added up later, then what blocks of a head hand over in a round, then
/// gradients of states that nobody else keeps from round to round. Walk is the kernel that walks back.
template <class M, class Walk> struct BackwardPlan {
  static constexpr Index state = M::keys * padded<typename M::T>(M::values);
  Index shared, handed_over_an_interval, states;

  BackwardPlan(Index shared_numbers, Index heads, Index sequences, Index every) noexcept
      : shared(padded<typename M::T>(shared_numbers)),
        handed_over_an_interval(sequences * heads * Walk::handed_over(every)),
        states(Walk::hands_over ? sequences * heads * state : 0) {}
  Index total(Index round_intervals) const noexcept {
    return shared + states + round_intervals * handed_over_an_interval;
  }
};

/// Numbers of workspace for rounds of so many tokens, whatever gradients are wanted.
template <class M, class Walk = Backward<M>>
Index backward_plan(typename M::Inputs const& x, Index heads, Index sequences, Index every, Index round) noexcept {
  Index const intervals = every > 0 ? (round + every - 1) / every : 1;
  return BackwardPlan<M, Walk>(SharedGradients<M>(x, sequences, heads).numbers, heads, sequences, every)
      .total(intervals);
}

template <class M, class Walk = Backward<M>>
BackwardArguments<M> backward_arguments(typename M::BackwardCall const& call) noexcept {
  Index const heads = call.dy.heads();
  detail::Packing const packing{call.offsets, call.dy.tokens()};
  SharedGradients<M> const shared(call.x, packing.sequences(), heads);
  BackwardPlan<M, Walk> const plan(shared.numbers, heads, packing.sequences(), call.tape.every);
  Sink<M::values> readings;
  if constexpr (detail::readings<M>) readings = call.tape.readings;
  Index intervals = (packing.tokens + call.tape.every - 1) / call.tape.every;
  if (plan.handed_over_an_interval > 0) {
    Index const fit = (static_cast<Index>(call.workspace.size()) - plan.total(0)) / plan.handed_over_an_interval;
    intervals = fit < intervals ? fit : intervals;
  }
  typename M::T* const work = call.workspace.data();
  bool const keeps = !call.dstates.empty();
  auto* const own = reinterpret_cast<typename M::StateGradient*>(work + plan.shared);
  return {call.x,
          call.dy,
          readings,
          call.dx,
          packing,
          heads,
          call.tape.states.data(),
          call.tape.every,
          keeps              ? call.dstates.data()
          : Walk::hands_over ? own
                             : nullptr,
          keeps,
          work,
          work + plan.shared + plan.states,
          shared,
          intervals < 1 ? 1 : intervals,
          0};
}
/// Rounds until the longest sequence that there may be is done.
template <class M> Index backward_rounds(BackwardArguments<M> const& x) noexcept {
  Index const intervals = (x.packing.tokens + x.every - 1) / x.every;
  Index const rounds = (intervals + x.round_intervals - 1) / x.round_intervals;
  return rounds < 1 ? 1 : rounds;
}
template <class M> typename SumKernel<M>::Arguments sum_arguments(BackwardArguments<M> const& x) noexcept {
  return {x.dx, x.packing, x.heads, x.workspace, x.shared};
}

}  // namespace AVIARY_NAMESPACE::cuda
