# Compiles builds/step.cpp and looks at what its object needs from elsewhere. A step allocates nothing, locks nothing and asks
# the system for nothing: it can call functions of memory and of mathematics alone. (Tables for exceptions name the function
# that reads them.)
#   cmake -DCXX_COMPILER=g++ -DNM=nm -DAVIARY_SOURCE_DIR=. -DWORK_DIR=... -P tests/builds/real_time.cmake
cmake_minimum_required(VERSION 3.25)
separate_arguments(CXX_FLAGS UNIX_COMMAND "${CXX_FLAGS}")
file(MAKE_DIRECTORY "${WORK_DIR}")

execute_process(
  COMMAND "${CXX_COMPILER}" -std=c++20 -O2 -DNDEBUG ${CXX_FLAGS} "-I${AVIARY_SOURCE_DIR}/include" -c
          "${CMAKE_CURRENT_LIST_DIR}/step.cpp" -o "${WORK_DIR}/step.o" COMMAND_ERROR_IS_FATAL ANY
)
execute_process(
  COMMAND "${NM}" --undefined-only "${WORK_DIR}/step.o" OUTPUT_VARIABLE needed COMMAND_ERROR_IS_FATAL ANY
)
execute_process(
  COMMAND "${NM}" -C --defined-only "${WORK_DIR}/step.o" OUTPUT_VARIABLE defined COMMAND_ERROR_IS_FATAL ANY
)
if(NOT defined MATCHES " [rRdD] steps")
  message(FATAL_ERROR "real_time: step.o has no table of steps:\n${defined}")
endif()
string(REGEX MATCHALL "U [^\n]+" needed "${needed}")
foreach(symbol IN LISTS needed)
  if(NOT symbol MATCHES "^U (mem(cpy|set|move)|exp|expf|expm1|expm1f|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_|__gxx_personality_v0)$")
    message(SEND_ERROR "real_time: a step calls ${symbol}")
  endif()
endforeach()
