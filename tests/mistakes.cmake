# Compiles tests/mistakes/rule.cpp with each of the mistakes that the author or the caller of a rule can make. The library
# must say what is wrong in the first error, which is the only one where the mistake is in the map. The compiler must name a
# field that a map or a caller misspells or forgets.
#   cmake -DCXX_COMPILER=g++ -DAVIARY_SOURCE_DIR=. -DWORK_DIR=build/mistakes -P tests/mistakes.cmake
cmake_minimum_required(VERSION 3.25)
separate_arguments(CXX_FLAGS UNIX_COMMAND "${CXX_FLAGS}")
set(compiler "${CXX_COMPILER}" -std=c++20 -Wall -Wextra ${CXX_FLAGS} "-I${AVIARY_SOURCE_DIR}/include")

# The library is compiled once, before all mistakes.
file(WRITE "${WORK_DIR}/library.hpp" "#include \"aviary/matrix/memory.hpp\"\n")
execute_process(
  COMMAND ${compiler} -x c++-header "${WORK_DIR}/library.hpp" -o "${WORK_DIR}/library.hpp.gch" COMMAND_ERROR_IS_FATAL ANY
)

# compile(MISTAKE)  compiles with a mistake; sets status, said, errors.
macro(compile mistake)
  execute_process(
    COMMAND ${compiler} -fsyntax-only -include "${WORK_DIR}/library.hpp" -D${mistake}
            "${CMAKE_CURRENT_LIST_DIR}/mistakes/rule.cpp"
    RESULT_VARIABLE status
    OUTPUT_VARIABLE said
    ERROR_VARIABLE said
  )
  string(REGEX MATCHALL "error: [^\n]*" errors "${said}")
endmacro()

compile(NO_MISTAKE)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "Without a mistake the rule does not compile:\n${said}")
endif()

set(of_declarations MISSING_TRAIT NO_VALUE_FIELD DECAY_ALONG_VALUES FIELD_NAMED_W)
foreach(
  line
  IN
  ITEMS "MISSING_NAME|needs static constexpr char const* name"
        "MISSING_TRAIT|needs static constexpr Erase erase"
        "NO_VALUE_FIELD|needs a field along values"
        "MISSING_LOG_W|give the rule a field log_w"
        "DECAY_ALONG_VALUES|the field log_w of a rule is along keys or one number"
        "FIELD_NAMED_W|no field is called w"
        "MISSING_TERM|the map of a rule leaves out a term"
        "MISSING_VALUE|the map of a rule leaves out a term"
        "WRONG_AXIS|gives a term along the wrong axis"
        "KEY_TIMES_VALUE|gives a term along the wrong axis"
        "UNWANTED_TERM|gives a term that its traits leave out"
        "MISSING_PULL|aviary: backward needs the chain rule of a rule: give it static constexpr Gradients pull(x, d) beside map"
        "PULL_MISSES_FIELD|the pull of a rule leaves out a field"
        "PULL_ALONG_WRONG_AXIS|gives a gradient along another axis than its field's"
        "PULL_OF_NO_TERM|uses the gradient of a term that its traits leave out"
)
  string(REPLACE "|" ";" line "${line}")
  list(GET line 0 mistake)
  list(GET line 1 sentence)
  compile(${mistake})
  list(LENGTH errors count)
  set(most 1)
  if(mistake IN_LIST of_declarations) # what is missing is missed again where it is used
    set(most 99)
  endif()
  list(GET errors 0 first)
  string(FIND "${first}" "${sentence}" at)
  if(status EQUAL 0 OR at EQUAL -1 OR count GREATER most)
    message(SEND_ERROR "${mistake}: expected an error that says '${sentence}', found ${count}:\n${said}")
  endif()
endforeach()

foreach(line IN ITEMS "MISSING_FIELD|rate" "CALLER_FORGETS|beta" "CALLER_FORGETS_STATES|states" "CALLER_FORGETS_DY|dy" "CALLER_MISNAMES|kk")
  string(REPLACE "|" ";" line "${line}")
  list(GET line 0 mistake)
  list(GET line 1 field)
  compile(${mistake})
  list(LENGTH errors count)
  set(most 2)
  if(mistake STREQUAL "MISSING_FIELD") # the map lacks it along keys, and along values
    set(most 4)
  endif()
  string(REGEX MATCH "[':‘:]+${field}['’]" named "${said}")
  if(status EQUAL 0 OR NOT named OR count GREATER most)
    message(SEND_ERROR "${mistake}: expected at most ${most} errors that name '${field}', found ${count}:\n${said}")
  endif()
endforeach()
