#pragma once
/// RWKV-7 "Goose" from a checkpoint with the tensor names of the released files.
#include "aviary/layers/time_mix7.hpp"
#include "models/load.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// Heads of Size numbers, or with Size = aviary::dynamic of as many as the file says. Layers share their values, so all
/// have the heads of the first one.
template <class Number, Index Size> struct Rwkv7 {
  using T = Number;
  using TimeMix = aviary::TimeMix<aviary::Wkv7<T, Size>>;
  using Block = aviary::Block<TimeMix>;

  static Heads heads(aviary::TensorFile const& file) {
    aviary::Tensor const r_k = file.tensor("blocks.0.att.r_k", {aviary::dynamic, aviary::dynamic});
    return {r_k.shape[0], r_k.shape[1], r_k};
  }

  /// The first layer has no use for v0, v1, v2, which some files give it.
  template <class Source> static auto parameters(BlockReader<Source>& read) {
    Heads const heads = Rwkv7::heads(read.file());
    Index const c = read.channels(), n = Size == aviary::dynamic ? heads.size : Size, a = heads.count * n;
    auto const r_k = read.table("att.r_k", {heads.count, n});
    auto const w12 = read.factors("att.w", a), a12 = read.factors("att.a", a), g12 = read.factors("att.g", a);
    typename TimeMix::template Parameters<typename Source::As> w{
        .x_r = read.vector("att.x_r"),
        .x_w = read.vector("att.x_w"),
        .x_k = read.vector("att.x_k"),
        .x_v = read.vector("att.x_v"),
        .x_a = read.vector("att.x_a"),
        .x_g = read.vector("att.x_g"),
        .receptance = read.matrix("att.receptance.weight", a, c),
        .key = read.matrix("att.key.weight", a, c),
        .value = read.matrix("att.value.weight", a, c),
        .output = read.matrix("att.output.weight", c, a),
        .w0 = read.vector("att.w0", a),
        .w1 = w12[0],
        .w2 = w12[1],
        .a0 = read.vector("att.a0", a),
        .a1 = a12[0],
        .a2 = a12[1],
        .g1 = g12[0],
        .g2 = g12[1],
        .k_k = read.vector("att.k_k", a),
        .k_a = read.vector("att.k_a", a),
        .r_k = r_k,
        .ln_x_weight = read.vector("att.ln_x.weight", a),
        .ln_x_bias = read.vector("att.ln_x.bias", a),
        .first_state = read.first_state(heads.count, n),
        .group_norm_eps = read.group_norm_eps(),
        .format = read.format()};
    if (read.layer() > 0) {
      auto const v12 = read.factors("att.v", a);
      w.v0 = read.vector("att.v0", a);
      w.v1 = v12[0];
      w.v2 = v12[1];
    } else {
      for (char const* name : {"att.v0", "att.v1", "att.v2"}) read.skip(name);
    }
    return read.template block<Block>(w, "x_", aviary::ShareOf::previous, false);
  }
};

template <class T> Loaded load_rwkv7(aviary::TensorFile const& file, LoadOptions const& options) {
  return load_with_heads<Rwkv7, T>(file, options);
}

}  // namespace AVIARY_ISA
}  // namespace models
