# Builds and runs the tests:                      cmake -P cmake/test.cmake
# with another preset of CMakePresets.json:       cmake -DPRESET=sanitize -P cmake/test.cmake
# with a folder of further golden files:          cmake -DAVIARY_TEST_DATA_DIR=FOLDER -P cmake/test.cmake
#
# The folder may also come from the environment. Every -DAVIARY_... is passed to the configuration; CXX chooses the compiler.
cmake_minimum_required(VERSION 3.25)
include("${CMAKE_CURRENT_LIST_DIR}/bootstrap.cmake")

if(NOT PRESET)
  set(PRESET release)
endif()

aviary_install_dependencies()
aviary_configure(${PRESET} -DAVIARY_BUILD_TESTS=ON)
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
aviary_say("${passed} passed, ${failed} failed")
