/// One verb over sequences of one memory.
#include "aviary/wkv7.hpp"

using Memory = aviary::Wkv7<float, 64>;

void forward(Memory::ForwardCall const& call) { Memory::forward(call); }
