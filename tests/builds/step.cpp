/// `step` of every kind of rule and of WKV-4, with sizes known and unknown at compile time, as real-time code calls it. What
/// the object of this file needs from elsewhere is all that a step can call: see real_time.cmake.
#include "aviary/aviary.hpp"

namespace {
template <class M, class Y> void step(void* state, void const* token, void* y) noexcept {
  M::step(*static_cast<typename M::State*>(state), *static_cast<typename M::Token const*>(token), *static_cast<Y*>(y));
}
template <class M, aviary::Index size> constexpr auto of = &step<M, aviary::VecView<typename M::T, size>>;
}  // namespace

using aviary::dynamic;
extern void (*const steps[])(void*, void const*, void*) noexcept;
void (*const steps[])(void*, void const*, void*) noexcept = {
    of<aviary::Wkv4<float, 64>, 64>,
    of<aviary::Wkv4<float>, dynamic>,
    of<aviary::Wkv5<float, 64>, 64>,
    of<aviary::Wkv6<float, dynamic>, dynamic>,
    of<aviary::Wkv7<float, 64>, 64>,
    of<aviary::Wkv7<double, dynamic>, dynamic>,
    of<aviary::GatedDeltaNet<float, 64>, 64>,
    of<aviary::MatrixMemory<aviary::Wkv7<float, 64>::Rule, float, 64, 64, aviary::bf16>, 64>,
};
