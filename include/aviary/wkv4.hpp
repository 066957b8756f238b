#pragma once
/// WKV-4, the memory of RWKV-4 (Peng et al. 2023, arXiv:2305.13048).
///
///     y = (num + e^(u + k) v) / (den + e^(u + k))        num' = w num + e^k v        den' = w den + e^k
///
/// per channel, with w = exp(log_w) in [0, 1] and the bonus u, both constant in time: log_w = -exp(time_decay) and
/// u = time_first of a checkpoint. y is a weighted mean of the values so far; it reads the sums before the token, which
/// itself has weight e^(u + k) there and e^k later. Published code keeps the sums as (aa, bb, pp): import_state and
/// export_state convert.
#include "aviary/channel/memory.hpp"

namespace AVIARY_NAMESPACE {

/// State, Token, Inputs, Gradients, Segment; step, forward, backward, summarize, compose, apply, add_initial_state.
template <class T, Index C = dynamic> using Wkv4 = ChannelMemory<T, C>;

}  // namespace AVIARY_NAMESPACE
