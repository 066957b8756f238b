#pragma once
/// RWKV-4 from a checkpoint with the tensor names of the released files.
#include "aviary/layers/time_mix4.hpp"
#include "models/load.hpp"

namespace models {
inline namespace AVIARY_ISA {

template <class Number> struct Rwkv4 {
  using T = Number;
  using TimeMix = aviary::TimeMix<aviary::Wkv4<T>>;
  using Block = aviary::Block<TimeMix>;

  template <class Source> static auto parameters(BlockReader<Source>& read) {
    Index const c = read.channels();
    auto const key = read.matrix("att.key.weight", aviary::dynamic, c);
    Index const a = key.rows();
    typename TimeMix::template Parameters<typename Source::As> const w{
        .mix_r = read.vector("att.time_mix_r"),
        .mix_k = read.vector("att.time_mix_k"),
        .mix_v = read.vector("att.time_mix_v"),
        .receptance = read.matrix("att.receptance.weight", a, c),
        .key = key,
        .value = read.matrix("att.value.weight", a, c),
        .output = read.matrix("att.output.weight", c, a),
        .time_decay = read.vector("att.time_decay", a),
        .u = read.vector("att.time_first", a),
        .format = read.format()};
    return read.template block<Block>(w, "time_mix_", aviary::ShareOf::current, true);
  }
};

template <class T> Loaded load_rwkv4(aviary::TensorFile const& file, LoadOptions const& options) {
  return load_model<Rwkv4<T>>(file, options);
}

}  // namespace AVIARY_ISA
}  // namespace models
