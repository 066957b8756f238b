# One program for several instruction sets: what include/aviary/simd/dispatch.hpp asks of a build. Installed beside the package
# configuration, which includes it.

# The sets that a build may have beside the baseline, from the oldest processors to the newest, and their flags.
# simd/dispatch.hpp says what they are, and tells whether a processor runs them. (A macro: functions are known where this file's
# variables are not.)
macro(_aviary_further_instruction_sets)
  set(further avx2 avx512 vnni amx)
  set(flags_of_avx2 -march=x86-64-v3)
  set(flags_of_avx512 -march=x86-64-v4)
  set(flags_of_vnni -march=x86-64-v4 -mavx512vnni)
  set(flags_of_amx -march=x86-64-v4 -mavx512vnni -mavx512bf16 -mamx-tile -mamx-int8 -mamx-bf16)
endmacro()

# Sets RESULT to the instruction sets that this build has: the baseline and all of these, or the baseline alone where its
# flags choose a processor, or the architecture or the compiler has no others.
function(aviary_instruction_sets result)
  set(sets baseline)
  string(TOUPPER "${CMAKE_BUILD_TYPE}" type)
  get_directory_property(options COMPILE_OPTIONS)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$"
     AND CMAKE_SIZEOF_VOID_P EQUAL 8
     AND CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang"
     AND NOT MSVC
     AND NOT "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${type}} ${options}" MATCHES "-march="
  )
    _aviary_further_instruction_sets()
    list(APPEND sets ${further})
  endif()
  set(${result} ${sets} PARENT_SCOPE)
endfunction()

# aviary_add_instruction_sets(TARGET SOURCES source... [SETS set...])
#
# Adds the sources to the target once for each instruction set of aviary_instruction_sets() or, with SETS, for those of
# them that it names and the baseline. Each set is one object: its sources are compiled together, as in a unity build. Once
# for each target; its property AVIARY_INSTRUCTION_SETS is the list of sets.
#
# Of an inline function that several objects have, the linker keeps the first. So the sets come after all sources that the
# target gets in this folder, and the oldest processors come first. The target's other sources are the baseline's.
function(aviary_add_instruction_sets target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;SETS")
  if(NOT arg_SOURCES OR arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "aviary_add_instruction_sets: expected TARGET SOURCES source... [SETS set...], found ${ARGV}")
  endif()
  get_target_property(sets ${target} AVIARY_INSTRUCTION_SETS)
  if(sets)
    message(FATAL_ERROR "aviary_add_instruction_sets: expected one call for ${target}, found two")
  endif()
  aviary_instruction_sets(sets)
  _aviary_further_instruction_sets()
  if(DEFINED arg_SETS)
    list(JOIN further ", " known)
    foreach(set IN LISTS arg_SETS)
      if(NOT set IN_LIST further AND NOT set STREQUAL "baseline")
        message(FATAL_ERROR "aviary_add_instruction_sets: expected SETS of baseline, ${known}, found ${set}")
      endif()
    endforeach()
    list(JOIN arg_SETS "|" wanted)
    list(FILTER sets INCLUDE REGEX "^(baseline|${wanted})$")
  endif()
  set_target_properties(${target} PROPERTIES AVIARY_INSTRUCTION_SETS "${sets}")

  # The baseline alone knows of the others.
  set(all_sets "#define AVIARY_DISPATCH_SETS(X, Table)")
  foreach(set IN LISTS sets)
    string(APPEND all_sets " X(Table, ${set})")
  endforeach()
  set(includes "")
  foreach(source IN LISTS arg_SOURCES)
    cmake_path(ABSOLUTE_PATH source)
    string(APPEND includes "#include \"${source}\"\n")
  endforeach()

  set(files)
  foreach(set IN LISTS sets)
    set(file "${CMAKE_CURRENT_BINARY_DIR}/${target}_${set}.cpp")
    file(CONFIGURE OUTPUT "${file}" CONTENT "${all_sets}\n#define AVIARY_DISPATCH_SET ${set}\n${includes}" @ONLY)
    set_source_files_properties(
      "${file}" TARGET_DIRECTORY ${target}
      PROPERTIES COMPILE_OPTIONS "${flags_of_${set}}" SKIP_PRECOMPILE_HEADERS ON SKIP_UNITY_BUILD_INCLUSION ON
    )
    list(APPEND files "${file}")
    set(all_sets "")
  endforeach()
  list(JOIN files "]] [[" files)
  cmake_language(EVAL CODE "cmake_language(DEFER CALL target_sources [[${target}]] PRIVATE [[${files}]])")
endfunction()
