/// A rule, and the mistakes that its author or its caller can make: each is made where a macro of its name is defined.
/// tests/mistakes.cmake compiles this file once for each, and reads what the compiler says.
#include "aviary/matrix/memory.hpp"

using namespace aviary;

struct Mistaken {
#ifndef MISSING_NAME
  static constexpr char const* name = "mistaken";
#endif
#ifndef MISSING_TRAIT
  static constexpr Erase erase = Erase::along_key;
#endif
  static constexpr Read read = Read::after;

  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;
#ifdef NO_VALUE_FIELD
    Per<Axis::key> v;
#else
    Per<Axis::value> v;
#endif
#ifdef DECAY_ALONG_VALUES
    Per<Axis::value> log_w;
#elif !defined(MISSING_LOG_W)
    Per<Axis::one> log_w;
#endif
    Per<Axis::one> beta;
#ifdef FIELD_NAMED_W
    Per<Axis::one> w;
#endif
  };

  template <class Terms> static constexpr Terms map(auto const& x) {
#if defined(MISSING_TERM)
    return {.r = x.q, .k = x.beta * x.k, .v = x.v};
#elif defined(MISSING_VALUE)
    return {.r = x.q, .p = x.w * x.k, .k = x.beta * x.k};
#elif defined(WRONG_AXIS)
    return {.r = x.q, .p = x.w * x.k, .k = x.v, .v = x.v};
#elif defined(KEY_TIMES_VALUE)
    return {.r = x.q, .p = x.w * x.k, .k = x.beta * x.k, .v = x.k * x.v};
#elif defined(UNWANTED_TERM)
    return {.r = x.q, .p = x.w * x.k, .q = x.k, .k = x.beta * x.k, .v = x.v};
#elif defined(MISSING_FIELD)
    return {.r = x.q, .p = x.w * x.k, .k = x.rate * x.k, .v = x.v};
#else
    return {.r = x.q, .p = x.w * x.k, .k = x.beta * x.k, .v = x.v};
#endif
  }

#if defined(PULL_MISSES_FIELD) || defined(PULL_ALONG_WRONG_AXIS) || defined(PULL_OF_NO_TERM) || \
    defined(CALLER_FORGETS_DY)
#define CALLS_BACKWARD
  template <class Gradients> static constexpr Gradients pull(auto const& x, auto const& d) {
#if defined(PULL_MISSES_FIELD)
    return {.q = d.r, .k = x.w * d.p + x.beta * d.k, .v = d.v, .log_w = d.log_w + x.w * x.k * d.p};
#elif defined(PULL_ALONG_WRONG_AXIS)
    return {.q = d.v, .k = x.w * d.p + x.beta * d.k, .v = d.v, .log_w = d.log_w + x.w * x.k * d.p, .beta = x.k * d.k};
#elif defined(PULL_OF_NO_TERM)
    return {.q = d.r, .k = x.w * d.p - x.beta * d.q, .v = d.v, .log_w = d.log_w + x.w * x.k * d.p, .beta = x.k * d.k};
#else
    return {.q = d.r, .k = x.w * d.p + x.beta * d.k, .v = d.v, .log_w = d.log_w + x.w * x.k * d.p, .beta = x.k * d.k};
#endif
  }
#elif defined(MISSING_PULL)
#define CALLS_BACKWARD
#endif
};

using Memory = MatrixMemory<Mistaken, float, 16>;

void call(Memory::State& s, float const* x, float* y) {
#if defined(CALLER_FORGETS)
  Memory::step(s, Memory::Token{.q = x, .k = x, .v = x, .log_w = 0}, y);
#elif defined(CALLER_MISNAMES)
  Memory::step(s, Memory::Token{.q = x, .kk = x, .v = x, .log_w = 0, .beta = 1}, y);
#elif defined(CALLER_FORGETS_STATES)
  Memory::Inputs const inputs{.q = {x, 1, 1}, .k = {x, 1, 1}, .v = {x, 1, 1}, .log_w = {x, 1, 1}, .beta = {x, 1, 1}};
  Memory::forward(Memory::ForwardCall{.x = inputs, .y = {y, 1, 1}});
#elif defined(CALLS_BACKWARD)
  Memory::Inputs const inputs{.q = {x, 1, 1}, .k = {x, 1, 1}, .v = {x, 1, 1}, .log_w = {x, 1, 1}, .beta = {x, 1, 1}};
  Memory::Tape const tape{.states = {&s, 1}};
#ifdef CALLER_FORGETS_DY
  Memory::backward(Memory::BackwardCall{.x = inputs, .tape = tape});
#else
  Memory::backward(Memory::BackwardCall{.x = inputs, .dy = {y, 1, 1}, .tape = tape});
#endif
#elif defined(MISSING_LOG_W)
  Memory::step(s, Memory::Token{.q = x, .k = x, .v = x, .beta = 1}, y);
#elif defined(FIELD_NAMED_W)
  Memory::step(s, Memory::Token{.q = x, .k = x, .v = x, .log_w = 0, .beta = 1, .w = 1}, y);
#elif defined(DECAY_ALONG_VALUES)
  Memory::step(s, Memory::Token{.q = x, .k = x, .v = x, .log_w = x, .beta = 1}, y);
#else  // a rule without pull has every verb but backward
  Memory::step(s, Memory::Token{.q = x, .k = x, .v = x, .log_w = 0, .beta = 1}, y);
#ifdef NO_MISTAKE
  Memory::Inputs const inputs{.q = {x, 1, 1}, .k = {x, 1, 1}, .v = {x, 1, 1}, .log_w = {x, 1, 1}, .beta = {x, 1, 1}};
  Memory::Segment segment{};
  Memory::forward(Memory::ForwardCall{.x = inputs, .y = {y, 1, 1}, .states = {&s, 1}});
  Memory::summarize(Memory::SummarizeCall{.x = inputs, .segments = {&segment, 1}});
#endif
#endif
}
