/// With b.cpp: all kernel headers in two translation units of one program. A function that is not inline, or a constant
/// that each unit has its own copy of, shows when they are linked or compared.
#include "all_headers.hpp"

void const* address_of_alignment();
aviary::Index (*pointer_to_padded())(aviary::Index);

int main() {
  bool const one_constant = address_of_alignment() == &aviary::alignment;
  bool const one_function = pointer_to_padded() == &aviary::padded<float>;
  return one_constant && one_function ? 0 : 1;
}
