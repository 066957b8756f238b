# One program with functions for two instruction sets: compiles builds/everything.cpp for the oldest processors of its
# architecture and for this one, without optimisation, which keeps every inline function. No function of the library may
# have the same name in both: the linker would keep one for both, whatever instructions it has.
#   cmake -DCXX_COMPILER=g++ -DNM=nm -DOBJDUMP=objdump -DAVIARY_SOURCE_DIR=. -DWORK_DIR=... -P tests/builds/instruction_sets.cmake
cmake_minimum_required(VERSION 3.25)
include("${CMAKE_CURRENT_LIST_DIR}/sets_apart.cmake")
separate_arguments(CXX_FLAGS UNIX_COMMAND "${CXX_FLAGS}")
file(MAKE_DIRECTORY "${WORK_DIR}")

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "instruction_sets: failed with ${status}: ${command}")
  endif()
endfunction()

foreach(set IN ITEMS baseline native)
  set(march native)
  if(set STREQUAL "baseline")
    set(march x86-64)
  endif()
  run("${CXX_COMPILER}" -std=c++20 -O0 -Wall -Wextra -Wpedantic -Wconversion -Werror ${CXX_FLAGS} -march=${march}
      "-I${AVIARY_SOURCE_DIR}/include" -DAVIARY_IO_SEPARATE -DENTRY=run_${set} -ffunction-sections -c
      "${CMAKE_CURRENT_LIST_DIR}/everything.cpp" -o "${WORK_DIR}/${set}.o"
  )
endforeach()
aviary_check_sets_apart(
  NAMES "6aviary|5xsimd" AT_LEAST 1000 BASELINE "${WORK_DIR}/baseline.o" OTHERS "${WORK_DIR}/native.o"
)

# What the linker drops need not be complete: the JSON of AVIARY_IO_SEPARATE is in neither.
run("${CXX_COMPILER}" -Wl,--gc-sections -std=c++20 -O0 "${CMAKE_CURRENT_LIST_DIR}/main.cpp" "${WORK_DIR}/baseline.o" "${WORK_DIR}/native.o"
    -o "${WORK_DIR}/program"
)
run("${WORK_DIR}/program")
