# The README's C++ example is examples/snippet/snippet.cpp, and prints what the README says.
#   cmake -DAVIARY_SOURCE_DIR=... -DPROGRAM=... -P readme.cmake
file(READ "${AVIARY_SOURCE_DIR}/README.md" readme)
file(READ "${AVIARY_SOURCE_DIR}/examples/snippet/snippet.cpp" snippet)

string(FIND "${readme}" "```cpp\n" begin)
if(begin EQUAL -1)
  message(FATAL_ERROR "README.md has no C++ code block")
endif()
math(EXPR begin "${begin} + 7")
string(SUBSTRING "${readme}" ${begin} -1 rest)
string(FIND "${rest}" "```" end)
string(SUBSTRING "${rest}" 0 ${end} block)

if(NOT block STREQUAL snippet)
  message(FATAL_ERROR "README.md's first C++ code block differs from examples/snippet/snippet.cpp. It reads:\n${block}")
endif()

execute_process(COMMAND "${PROGRAM}" OUTPUT_VARIABLE output OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
string(FIND "${readme}" "`${output}`" place)
if(output STREQUAL "" OR place EQUAL -1)
  message(FATAL_ERROR "README.md does not say what its example prints, which is: ${output}")
endif()
