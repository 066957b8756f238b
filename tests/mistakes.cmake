# Compiles the files of tests/mistakes, each with one mistake that the author or the caller of a rule can make. Each must
# fail, with the sentence that its second line expects as the first error (after "compiler:" anywhere in what the compiler
# says), and without a second error of another kind. good.cpp, which expects nothing, must compile.
#   cmake -DCXX_COMPILER=g++ -DAVIARY_SOURCE_DIR=. -P tests/mistakes.cmake
cmake_minimum_required(VERSION 3.25)

file(GLOB sources "${CMAKE_CURRENT_LIST_DIR}/mistakes/*.cpp")
set(checked 0)
foreach(source IN LISTS sources)
  file(STRINGS "${source}" lines LIMIT_COUNT 2)
  list(GET lines 1 expected)
  string(REGEX REPLACE "^// expected: ?" "" expected "${expected}")
  execute_process(
    COMMAND "${CXX_COMPILER}" -std=c++20 -Wall -Wextra -fsyntax-only ${CXX_FLAGS} "-I${AVIARY_SOURCE_DIR}/include"
            "${source}"
    RESULT_VARIABLE status
    OUTPUT_VARIABLE said
    ERROR_VARIABLE said
  )
  string(REGEX MATCHALL "error: [^\n]*" errors "${said}")
  list(LENGTH errors count)
  cmake_path(GET source FILENAME name)
  math(EXPR checked "${checked} + 1")
  if(expected STREQUAL "")
    if(NOT status EQUAL 0)
      message(SEND_ERROR "${name}: expected to compile, and did not:\n${said}")
    endif()
    continue()
  endif()
  if(status EQUAL 0)
    message(SEND_ERROR "${name}: expected an error, and compiles")
    continue()
  endif()
  if(expected MATCHES "^compiler: (.*)")
    set(expected "${CMAKE_MATCH_1}")
    set(where "${said}")
    set(most 2) # the compiler's own words: once for lanes of keys, once for lanes of values
  else()
    list(GET errors 0 where)
    set(most 1)
  endif()
  string(FIND "${where}" "${expected}" at)
  if(at EQUAL -1 OR count GREATER most)
    message(SEND_ERROR "${name}: expected one error that says '${expected}', found ${count}:\n${said}")
  endif()
endforeach()
if(checked LESS 10)
  message(SEND_ERROR "tests/mistakes: expected its files, found ${checked}")
endif()
message(STATUS "${checked} files say what they should")
