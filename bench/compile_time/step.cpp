/// One step of one memory.
#include "aviary/wkv7.hpp"

using Memory = aviary::Wkv7<float, 64>;

void step(Memory::State& state, Memory::Token const& x, float* y) { Memory::step(state, x, y); }
