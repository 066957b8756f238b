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
