/// See a.cpp.
#include "all_headers.hpp"

void const* address_of_alignment();
void const* address_of_alignment() { return &aviary::alignment; }

aviary::Index (*pointer_to_padded())(aviary::Index);
aviary::Index (*pointer_to_padded())(aviary::Index) { return &aviary::padded<float>; }
