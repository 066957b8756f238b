#pragma once
/// RWKV-6 "Finch" from a checkpoint with the tensor names of the released files.
#include "aviary/layers/time_mix6.hpp"
#include "models/load.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// Heads of Size numbers, or with Size = aviary::dynamic of as many as the file says.
template <class Number, Index Size> struct Rwkv6 {
  using T = Number;
  using TimeMix = aviary::TimeMix<aviary::Wkv6<T, Size>>;
  using Block = aviary::Block<TimeMix>;

  static Heads heads(aviary::TensorFile const& file) {
    aviary::Tensor const u = file.tensor("blocks.0.att.time_faaaa", {aviary::dynamic, aviary::dynamic});
    return {u.shape[0], u.shape[1], u};
  }

  template <class Source> static auto parameters(BlockReader<Source>& read) {
    Heads const heads = Rwkv6::heads(read.file());
    Index const c = read.channels(), n = Size == aviary::dynamic ? heads.size : Size, a = heads.count * n;
    auto const w12 = read.factors("att.time_decay_w", a);
    typename TimeMix::template Parameters<typename Source::As> const w{
        .shift = read.template token_shift<5>(
            "att.time_maa_x", "att.time_maa_w",
            {"att.time_maa_w", "att.time_maa_k", "att.time_maa_v", "att.time_maa_r", "att.time_maa_g"}),
        .receptance = read.matrix("att.receptance.weight", a, c),
        .key = read.matrix("att.key.weight", a, c),
        .value = read.matrix("att.value.weight", a, c),
        .gate = read.matrix("att.gate.weight", a, c),
        .output = read.matrix("att.output.weight", c, a),
        .time_decay = read.vector("att.time_decay", a),
        .w1 = w12[0],
        .w2 = w12[1],
        .u = read.table("att.time_faaaa", {heads.count, n}),
        .ln_x_weight = read.vector("att.ln_x.weight", a),
        .ln_x_bias = read.vector("att.ln_x.bias", a),
        .first_state = read.first_state(heads.count, n),
        .group_norm_eps = read.group_norm_eps(),
        .format = read.format()};
    return read.template block<Block>(w, "time_maa_", aviary::ShareOf::previous, true);
  }
};

template <class T> Loaded load_rwkv6(aviary::TensorFile const& file, LoadOptions const& options) {
  return load_with_heads<Rwkv6, T>(file, options);
}

}  // namespace AVIARY_ISA
}  // namespace models
