# Builds and runs the project in this folder against aviary's sources (MODE=add_subdirectory) or against an installation of
# them in a temporary prefix (MODE=find_package, components).  cmake -DMODE=... -DAVIARY_SOURCE_DIR=... -P run.cmake
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ECHO STDOUT RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "consumer (${MODE}): failed with ${status}: ${command}")
  endif()
endfunction()

set(build "${WORK_DIR}/${MODE}")
file(REMOVE_RECURSE "${build}")

set(prefix_path ${PREFIX_PATH})
if(NOT MODE STREQUAL "add_subdirectory")
  set(prefix "${build}/prefix")
  run("${CMAKE_COMMAND}" --install "${AVIARY_BINARY_DIR}" --prefix "${prefix}")
  list(PREPEND prefix_path "${prefix}")
endif()
file(STRINGS "${AVIARY_SOURCE_DIR}/include/aviary/core/config.hpp" lines REGEX "define AVIARY_VERSION_(MAJOR|MINOR) ")
string(REGEX MATCHALL "[0-9]+" version "${lines}")
list(JOIN version "." version)

# The flags of the build, without its choice of a processor: that leaves a program one instruction set.
string(REGEX REPLACE "-march=[^ ]+" "" CXX_FLAGS "${CXX_FLAGS}")

set(fetched)
if(XSIMD_SOURCE_DIR)
  set(fetched -DAVIARY_FETCH_DEPENDENCIES=ON "-DFETCHCONTENT_SOURCE_DIR_XSIMD=${XSIMD_SOURCE_DIR}")
endif()

run("${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_LIST_DIR}" -B "${build}/build" -G "${GENERATOR}" -DMODE=${MODE}
    "-DAVIARY_SOURCE_DIR=${AVIARY_SOURCE_DIR}" "-DAVIARY_VERSION=${version}" "-DCMAKE_PREFIX_PATH=${prefix_path}"
    "-DCMAKE_CXX_COMPILER=${CXX_COMPILER}" "-DCMAKE_CXX_FLAGS=${CXX_FLAGS}" ${fetched}
)
run("${CMAKE_COMMAND}" --build "${build}/build")

set(programs consumer consumer_no_exceptions)
if(MODE STREQUAL "components")
  list(APPEND programs consumer_components)
endif()
foreach(program IN LISTS programs)
  run("${build}/build/${program}")
endforeach()

# A program of several instruction sets takes the best that this processor has, or the one that it is told to.
if(NOT MODE STREQUAL "components")
  include("${build}/build/dispatch.cmake")
  set(expected baseline)
  if(PROCESSOR STREQUAL "x86_64")
    include("${CMAKE_CURRENT_LIST_DIR}/../builds/sets_apart.cmake")
    aviary_check_objects_apart(NAMES "6aviary|5xsimd" AT_LEAST 20 OBJECTS ${objects})
    list(APPEND expected avx2 avx512)
  endif()
  if(NOT sets STREQUAL expected)
    message(FATAL_ERROR "consumer (${MODE}): expected the instruction sets ${expected}, found ${sets}")
  endif()
  set(lanes_of_avx2 8)
  set(lanes_of_avx512 16)
  function(run_with set)
    set(ENV{AVIARY_INSTRUCTION_SET} "${set}")
    execute_process(
      COMMAND "${build}/build/consumer_dispatch" OUTPUT_VARIABLE output ERROR_VARIABLE output RESULT_VARIABLE status
    )
    set(output "with '${set}' ${status}: ${output}" PARENT_SCOPE)
  endfunction()
  foreach(set IN LISTS sets)
    run_with(${set})
    if(output MATCHES "^with '${set}' 0: ${set}, ${lanes_of_${set}}")
      set(best ${set})
    elseif(NOT output MATCHES "^with '${set}' 2: aviary: AVIARY_INSTRUCTION_SET: .*, which this processor cannot run\n$")
      message(FATAL_ERROR "consumer (${MODE}): consumer_dispatch ${output}")
    endif()
  endforeach()
  run_with("")
  if(NOT output MATCHES "^with '' 0: ${best}, ")
    message(FATAL_ERROR "consumer (${MODE}): expected ${best}, consumer_dispatch ${output}")
  endif()
  run_with(avx3)
  if(NOT output MATCHES "^with 'avx3' 2: aviary: AVIARY_INSTRUCTION_SET: expected .*baseline, found 'avx3'\n$")
    message(FATAL_ERROR "consumer (${MODE}): consumer_dispatch ${output}")
  endif()
endif()

# An installation can be used withoutendif()

# An installation can be used without CMake as well.
find_program(PKG_CONFIG pkg-config)
if(MODE STREQUAL "find_package" AND PKG_CONFIG)
  set(ENV{PKG_CONFIG_PATH} "${prefix}/share/pkgconfig")
  run("${PKG_CONFIG}" --print-errors --atleast-version=${version} aviary)
  execute_process(COMMAND "${PKG_CONFIG}" --cflags-only-I aviary OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE)
  separate_arguments(flags UNIX_COMMAND "${flags}")
  separate_arguments(cxx_flags UNIX_COMMAND "${CXX_FLAGS}")
  run("${CXX_COMPILER}" -std=c++20 ${cxx_flags} ${flags} "${CMAKE_CURRENT_LIST_DIR}/kernels.cpp" -o "${build}/pkg-config")
  run("${build}/pkg-config")
endif()
