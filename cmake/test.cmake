# Builds and runs the tests, and the examples:    cmake -P cmake/test.cmake
# with another preset of CMakePresets.json:       cmake -DPRESET=sanitize -P cmake/test.cmake
# and the benchmarks, briefly:                    cmake -DAVIARY_BUILD_BENCHMARKS=ON -P cmake/test.cmake
# with a folder of further golden files:          cmake -DAVIARY_TEST_DATA_DIR=FOLDER -P cmake/test.cmake
#
# The folder may also come from the environment. Every -DAVIARY_... is passed to the configuration; CXX chooses the compiler.
cmake_minimum_required(VERSION 3.25)
include("${CMAKE_CURRENT_LIST_DIR}/bootstrap.cmake")

if(NOT PRESET)
  set(PRESET release)
endif()

if(NOT DEFINED AVIARY_BUILD_BENCHMARKS) # they take long to compile, and test no result
  set(AVIARY_BUILD_BENCHMARKS OFF)
endif()

aviary_install_dependencies()
aviary_configure(${PRESET} -DAVIARY_BUILD_TESTS=ON -DAVIARY_BUILD_BENCHMARKS=${AVIARY_BUILD_BENCHMARKS})
aviary_build(${PRESET})

execute_process(
  COMMAND "${CMAKE_CTEST_COMMAND}" --preset ${PRESET} --parallel ${aviary_cores}
  WORKING_DIRECTORY "${aviary_root}"
  RESULT_VARIABLE status
  OUTPUT_VARIABLE output
  ECHO_OUTPUT_VARIABLE ECHO_ERROR_VARIABLE
)
if(output MATCHES "([0-9]+) tests failed out of ([0-9]+)")
  set(failed ${CMAKE_MATCH_1})
  math(EXPR passed "${CMAKE_MATCH_2} - ${failed}")
else()
  set(failed 0)
  set(passed 0)
endif()
if(NOT status EQUAL 0 OR passed EQUAL 0)
  message(SEND_ERROR "Tests of preset ${PRESET} failed: see the list above") # ends with status 1, and goes on
endif()
# What the programs of tests counted: doctest's assertions, and numbers of golden files that were compared.
file(STRINGS "${aviary_root}/build/${PRESET}/Testing/Temporary/LastTest.log" counts REGEX "assertions: +[0-9]+|^[0-9]+ ok, ")
set(assertions 0)
set(comparisons 0)
foreach(line IN LISTS counts)
  if(line MATCHES "assertions: +([0-9]+)")
    math(EXPR assertions "${assertions} + ${CMAKE_MATCH_1}")
  elseif(line MATCHES "^([0-9]+) ok, ([0-9]+) FAIL")
    math(EXPR comparisons "${comparisons} + ${CMAKE_MATCH_1} + ${CMAKE_MATCH_2}")
  endif()
endforeach()
aviary_say("${assertions} assertions, ${comparisons} comparisons with golden files")
aviary_say("${passed} passed, ${failed} failed")
