// A caller who spells out Token and forgets a field is told which.
// expected: compiler: beta
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
    return {.r = x.q, .p = x.w * x.k, .k = x.beta * x.k, .v = x.v};
  }
};

void call(MatrixMemory<Mistaken, float, 16>::State& s, float const* x, float* y) {
  using Memory = MatrixMemory<Mistaken, float, 16>;
  Memory::step(s, Memory::Token{.q = x, .k = x, .v = x, .log_w = 0}, y);
}
