#pragma once
/// One program for many processors: it has its kernels for several instruction sets, and chooses among them when it starts.
///
///   // kernels.hpp: what the files for all sets have in common
///   struct Kernels {
///     void (*read)(std::span<float const> tokens, std::span<float> y);
///   };
///
///   // kernels.cpp: compiled once for each set
///   namespace {
///   void read(std::span<float const> tokens, std::span<float> y) { ... }
///   }
///   AVIARY_ENTRIES(Kernels){.read = read};
///
///   // main.cpp
///   auto const kernels = aviary::simd::choose<Kernels>();
///   kernels->read(tokens, y);
///
///   # CMakeLists.txt
///   aviary_add_instruction_sets(program SOURCES kernels.cpp)
///
/// The sets are
///
///   baseline  what the flags of the build allow
///   avx2      x86-64-v3: AVX2, FMA, F16C, BMI, BMI2, LZCNT, MOVBE
///   avx512    x86-64-v4: those, and AVX-512 F, BW, CD, DQ, VL
///   vnni      those, and AVX-512 VNNI, which multiplies 8-bit integers
///   amx       those, AVX-512 BF16, and tiles (AMX) of 8-bit integers and bf16
///
/// The last two make products of weights faster (dense/weights.hpp), and recurrences not at all.
///
/// On other architectures, and where the flags of the build choose a processor (-march), there is a baseline alone. The
/// environment variable AVIARY_INSTRUCTION_SET forces the set that it names.
///
/// Files for several sets keep to four rules:
///
///   entries    take and return numbers, spans and types of your own: an aviary type of one set is not that of another
///   functions  of your own that are inline or templates lie in an unnamed namespace, or in `inline namespace AVIARY_ISA`.
///              Else all sets use those of the baseline
///   objects    outside functions have no constructor that runs: it would run before the choice, on every processor
///   link order what the standard library makes of its own types is shared, and so is what xsimd has for avx512, vnni and
///              amx; the linker keeps the first copy (core/namespace.hpp). The CMake function puts the target's own files
///              in order. For a program that links static libraries, make such files one too, and link it last
#include <array>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "aviary/core/config.hpp"
#include "aviary/core/error.hpp"

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#endif

/// What the files for all sets have in common, and so in no namespace of theirs. Nothing of it is inline.
namespace aviary::dispatch {

/// From the oldest processors to the newest.
enum class Set { baseline, avx2, avx512, vnni, amx };

/// The entries of one set, in its object. AVIARY_ENTRIES defines them.
template <class Table, Set set> struct Entries { static Table const table; };

/// Those of any set; null if the program has none for it. AVIARY_ENTRIES defines it, in the object of the baseline.
template <class Table> Table const* entries(Set set) noexcept;

}  // namespace aviary::dispatch

/// Begins the definition of a table of functions, at global scope: AVIARY_ENTRIES(Kernels){.read = read};
/// Once for each type of a table in the files of a set.
#define AVIARY_ENTRIES(Table) \
  AVIARY_DISPATCH_LIST(Table) \
  template <> constinit Table const aviary::dispatch::Entries<Table, aviary::dispatch::Set::AVIARY_DISPATCH_SET>::table

// Files that aviary_add_instruction_sets makes define AVIARY_DISPATCH_SET, the set that they are compiled for; that of the
// baseline also defines AVIARY_DISPATCH_SETS, which is X(Table, set) for each set of the program.
#if !defined(AVIARY_DISPATCH_SET)
#define AVIARY_DISPATCH_SET baseline
#define AVIARY_DISPATCH_SETS(X, Table) X(Table, baseline)
#endif

#if defined(AVIARY_DISPATCH_SETS)
#define AVIARY_DISPATCH_LIST(Table)                                                               \
  AVIARY_DISPATCH_SETS(AVIARY_DISPATCH_DECLARE, Table)                                            \
  template <> Table const* aviary::dispatch::entries<Table>(aviary::dispatch::Set set) noexcept { \
    switch (set) {                                                                                \
      AVIARY_DISPATCH_SETS(AVIARY_DISPATCH_CASE, Table)                                           \
      default:                                                                                    \
        return nullptr;                                                                           \
    }                                                                                             \
  }
#define AVIARY_DISPATCH_DECLARE(Table, set) \
  template <> Table const aviary::dispatch::Entries<Table, aviary::dispatch::Set::set>::table;
#define AVIARY_DISPATCH_CASE(Table, set) \
  case aviary::dispatch::Set::set:       \
    return &aviary::dispatch::Entries<Table, aviary::dispatch::Set::set>::table;
#else
#define AVIARY_DISPATCH_LIST(Table)
#endif

namespace AVIARY_NAMESPACE::simd {

/// The environment variable that forces a set.
inline constexpr char const* environment_variable = "AVIARY_INSTRUCTION_SET";

constexpr char const* name_of(dispatch::Set set) noexcept {
  switch (set) {
    case dispatch::Set::avx2:
      return "avx2";
    case dispatch::Set::avx512:
      return "avx512";
    case dispatch::Set::vnni:
      return "vnni";
    case dispatch::Set::amx:
      return "amx";
    case dispatch::Set::baseline:
      break;
  }
  return "baseline";
}

/// Whether the processor has every extension that compilers use for a set, and the operating system keeps its registers.
inline bool runs(dispatch::Set set) noexcept {
  if (set == dispatch::Set::baseline) return true;
#if defined(__x86_64__) && defined(__GNUC__)
  // The compiler's own test asks the operating system too. clang 14 does not know all extensions by name.
  __builtin_cpu_init();
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned cx16 = 1u << 13, movbe = 1u << 22, f16c = 1u << 29, first = cx16 | movbe | f16c;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & first) != first) return false;
  constexpr unsigned lahf = 1u << 0, lzcnt = 1u << 5, extended = lahf | lzcnt;
  if (__get_cpuid(0x80000001, &a, &b, &c, &d) == 0 || (c & extended) != extended) return false;
  if (!__builtin_cpu_supports("popcnt") || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
      !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2"))
    return false;
  if (set == dispatch::Set::avx2) return true;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512cd") || !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
    return false;
  if (set == dispatch::Set::avx512) return true;
  constexpr unsigned vnni = 1u << 11, amx_bf16 = 1u << 22, amx_tile = 1u << 24, amx_int8 = 1u << 25,
                     avx512_bf16 = 1u << 5;
  constexpr unsigned tiles = amx_bf16 | amx_tile | amx_int8, states_of_tiles = 3u << 17;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (c & vnni) == 0) return false;
  if (set == dispatch::Set::vnni) return true;
  if ((d & tiles) != tiles || __get_cpuid_count(7, 1, &a, &b, &c, &d) == 0 || (a & avx512_bf16) == 0) return false;
  unsigned kept = 0, more = 0;  // the registers that the operating system keeps
  asm volatile("xgetbv" : "=a"(kept), "=d"(more) : "c"(0));
  return (kept & states_of_tiles) == states_of_tiles;
#else
  return false;
#endif
}

/// The entries of a set, used like a pointer to its table; null if there is no such set.
template <class Table> struct Chosen {
  Table const* table;
  dispatch::Set set;

  explicit operator bool() const noexcept { return table != nullptr; }
  Table const* operator->() const noexcept {
    AVIARY_ASSERT(table != nullptr);
    return table;
  }
  char const* name() const noexcept { return name_of(set); }
};

namespace detail {

/// Something that holds for some sets.
using SetTest = bool (*)(dispatch::Set) noexcept;

inline constexpr std::array best_first{dispatch::Set::amx, dispatch::Set::vnni, dispatch::Set::avx512,
                                       dispatch::Set::avx2, dispatch::Set::baseline};

/// The best set that is in the program and runs and, unless the name is empty, is called so.
inline std::optional<dispatch::Set> find_set(std::string_view name, SetTest in_program, SetTest runs_here) noexcept {
  for (dispatch::Set const set : best_first)
    if ((name.empty() || name == name_of(set)) && in_program(set) && runs_here(set)) return set;
  return {};
}

/// Why find_set finds none.
inline std::string why_no_set(std::string_view name, SetTest in_program, SetTest runs_here) {
  std::string expected, reason;
  for (dispatch::Set const set : best_first) {
    if (in_program(set) && runs_here(set)) expected += (expected.empty() ? "" : " or ") + std::string(name_of(set));
    if (name == name_of(set))
      reason = in_program(set) ? ", which this processor cannot run" : ", which this program was compiled without";
  }
  std::string words(environment_variable);  // a sum of strings makes g++ 12 warn of the standard library
  words.append(": expected ").append(expected).append(", found '").append(name).append("'").append(reason);
  return words;
}

/// Whether the program has entries for a set.
template <class Table> bool in_program(dispatch::Set set) noexcept { return dispatch::entries<Table>(set) != nullptr; }

}  // namespace detail

/// The entries of the set with this name; with no name, of the best that the program has and the processor runs.
/// @returns null if there is no such set, the program was compiled without it, or the processor cannot run it
template <class Table> Chosen<Table> find(std::string_view name = {}) noexcept {
  auto const set = detail::find_set(name, detail::in_program<Table>, runs);
  return set ? Chosen<Table>{dispatch::entries<Table>(*set), *set} : Chosen<Table>{nullptr, dispatch::Set::baseline};
}

/// The same with the name that AVIARY_INSTRUCTION_SET has, if any.
/// @throws std::invalid_argument if it names a set that cannot be had: with the name and those that can. Without exceptions
///         the program prints that and ends; find() is for programs that go on.
/// Cost: some hundred cycles. Call it once; a call of an entry is an indirect call.
template <class Table> Chosen<Table> choose() {
  char const* const variable = std::getenv(environment_variable);
  std::string_view const name = variable != nullptr ? variable : "";
  auto const chosen = find<Table>(name);
  if (!chosen) aviary::detail::refuse(detail::why_no_set(name, detail::in_program<Table>, runs));
  return chosen;
}

}  // namespace AVIARY_NAMESPACE::simd
