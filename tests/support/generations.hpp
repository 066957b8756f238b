#pragma once
/// The generations of RWKV, each with what tests know of it. Their models are in examples/models, one header each: whoever
/// uses Model includes it.
#include "aviary/matrix/rule.hpp"
#include "models/any.hpp"
#include "support/checkpoint_case.hpp"

namespace models {
inline namespace AVIARY_ISA {
template <class Number> struct Rwkv4;
template <aviary::Axis decay, class Number, Index Size> struct Rwkv5;
template <class Number, Index Size> struct Rwkv6;
template <class Number, Index Size> struct Rwkv7;
}  // namespace AVIARY_ISA
}  // namespace models

namespace aviary::test {

/// A generation: as random checkpoints and as loaded models call it, the op of its golden files, and the trained checkpoint
/// that the folder of further tests may have ("": none).
template <Version v, models::Generation g> struct GenerationOf {
  static constexpr Version version = v;
  static constexpr models::Generation generation = g;
};

struct Rwkv4 : GenerationOf<Version::v4, models::Generation::rwkv4> {
  static constexpr char const *golden = "block_rwkv4", *trained = "tiny-rwkv-4v0";
  template <class T, Index> using Model = models::Rwkv4<T>;  // without heads
};
struct Rwkv5_0 : GenerationOf<Version::v5_0, models::Generation::rwkv5_0> {
  static constexpr char const *golden = "block_rwkv5_v50", *trained = "";
  template <class T, Index Size> using Model = models::Rwkv5<Axis::head_one, T, Size>;
};
struct Rwkv5_1 : GenerationOf<Version::v5_1, models::Generation::rwkv5_1> {
  static constexpr char const *golden = "block_rwkv5_v51", *trained = "";
  template <class T, Index Size> using Model = models::Rwkv5<Axis::head_one, T, Size>;
};
struct Rwkv5_2 : GenerationOf<Version::v5_2, models::Generation::rwkv5_2> {
  static constexpr char const *golden = "block_rwkv5", *trained = "tiny-rwkv-5v2";
  template <class T, Index Size> using Model = models::Rwkv5<Axis::head_key, T, Size>;
};
struct Rwkv6 : GenerationOf<Version::v6, models::Generation::rwkv6> {
  static constexpr char const *golden = "block_rwkv6", *trained = "tiny-rwkv-6v0";
  template <class T, Index Size> using Model = models::Rwkv6<T, Size>;
};
struct Rwkv7 : GenerationOf<Version::v7, models::Generation::rwkv7> {
  static constexpr char const *golden = "block_rwkv7", *trained = "tiny-rwkv-7v0";
  template <class T, Index Size> using Model = models::Rwkv7<T, Size>;
};

template <class... G> struct GenerationList {
  static constexpr Version versions[] = {G::version...};
  /// f.operator()<G>() for each of them.
  template <class F> static void for_each(F&& f) { (f.template operator()<G>(), ...); }
};
using Generations = GenerationList<Rwkv4, Rwkv5_0, Rwkv5_1, Rwkv5_2, Rwkv6, Rwkv7>;

}  // namespace aviary::test
