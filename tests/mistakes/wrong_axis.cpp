// The map writes a value where a key belongs.
// expected: gives a term along the wrong axis
#include "aviary/matrix/memory.hpp"
using namespace aviary;

struct Mistaken {
  static constexpr char const* name = "mistaken";
  static constexpr Erase erase = Erase::along_key;
  static constexpr Read read = Read::after;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;
    Per<Axis::value> v;
    Per<Axis::one> log_w, beta;
  };
  template <class Terms> static constexpr Terms map(auto const& x) {
    return {.r = x.q, .p = x.w * x.k, .k = x.v, .v = x.v};
  }
};

template void MatrixMemory<Mistaken, float, 16>::step<>(View, Token const&, VecView<float, 16>) noexcept;
