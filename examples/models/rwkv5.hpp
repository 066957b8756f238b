#pragma once
/// RWKV-5 "Eagle", versions 5.0, 5.1 and 5.2, from a checkpoint with the tensor names of the released files.
#include <cmath>
#include <vector>

#include "aviary/layers/time_mix5.hpp"
#include "models/load.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// Heads of Size numbers, or with Size = aviary::dynamic of as many as the file says. Decay: Axis::head_key in version 5.2,
/// Axis::head_one before, where a head has one decay and one bonus.
template <aviary::Axis decay, class Number, Index Size> struct Rwkv5 {
  using T = Number;
  using TimeMix = aviary::TimeMix<aviary::MatrixMemory<aviary::Wkv5Rule<decay>, T, Size>>;
  using Block = aviary::Block<TimeMix>;

  /// Where a head has one decay, its size is what the keys leave for it.
  static Heads heads(aviary::TensorFile const& file) {
    aviary::Tensor const decays = file.tensor("blocks.0.att.time_decay");
    aviary::Tensor const key = file.tensor("blocks.0.att.key.weight", {aviary::dynamic, aviary::dynamic});
    Index const count = decays.shape.empty() ? 0 : decays.shape[0], channels = key.shape[0];
    if (count == 0 || channels == 0 || channels % count != 0)
      throw std::runtime_error(key.message("expected rows for the " + std::to_string(count) +
                                           " heads of time_decay, found " + std::to_string(channels)));
    return {count, channels / count, key};
  }

  template <class Source> static auto parameters(BlockReader<Source>& read) {
    using As = typename Source::As;
    Heads const heads = Rwkv5::heads(read.file());
    Index const c = read.channels(), n = Size == aviary::dynamic ? heads.size : Size, a = heads.count * n;
    auto const constants = [&](char const* name) -> typename As::Table {
      if constexpr (decay == aviary::Axis::head_key) return read.table(name, {heads.count, n});
      return in_rows(read.vector(name, heads.count));
    };
    auto const bonus = [&]() -> typename As::Table {
      if (!read.contains("att.time_first")) return constants("att.time_faaaa");
      if constexpr (decay == aviary::Axis::head_key) return read.exponentials("att.time_first", {heads.count, n});
      auto const row = read.exponentials("att.time_first", {heads.count});
      return in_rows(row[0]);
    };

    typename TimeMix::template Parameters<As> w{.mix_r = read.vector("att.time_mix_r"),
                                                .mix_k = read.vector("att.time_mix_k"),
                                                .mix_v = read.vector("att.time_mix_v"),
                                                .receptance = read.matrix("att.receptance.weight", a, c),
                                                .key = read.matrix("att.key.weight", a, c),
                                                .value = read.matrix("att.value.weight", a, c),
                                                .output = read.matrix("att.output.weight", c, a),
                                                .time_decay = constants("att.time_decay"),
                                                .u = bonus(),
                                                .ln_x_weight = read.vector("att.ln_x.weight", a),
                                                .ln_x_bias = read.vector("att.ln_x.bias", a),
                                                .first_state = read.first_state(heads.count, n),
                                                .group_norm_eps = read.group_norm_eps(),
                                                .format = read.format()};
    if (generation_of(read.file()) != Generation::rwkv5_0) {
      w.mix_g = read.vector("att.time_mix_g");
      w.gate = read.matrix("att.gate.weight", a, c);
    }
    return read.template block<Block>(w, "time_mix_", aviary::ShareOf::current, true);
  }

 private:
  /// A column of numbers, one of each head.
  template <class N> static aviary::MatView<N> in_rows(aviary::VecView<N> v) noexcept {
    return {v.data(), v.size(), 1};
  }
};

template <class T, Index Size> using Rwkv5PerHead = Rwkv5<aviary::Axis::head_one, T, Size>;
template <class T, Index Size> using Rwkv5PerChannel = Rwkv5<aviary::Axis::head_key, T, Size>;

template <class T> Loaded load_rwkv5(aviary::TensorFile const& file, LoadOptions const& options) {
  return generation_of(file) == Generation::rwkv5_2 ? load_with_heads<Rwkv5PerChannel, T>(file, options)
                                                    : load_with_heads<Rwkv5PerHead, T>(file, options);
}

}  // namespace AVIARY_ISA
}  // namespace models
