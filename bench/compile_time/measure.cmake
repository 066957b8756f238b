# How long small programs take to compile, and how large their object files are: a step, a sequence, and all front doors
# included. Prints a Markdown table.
#   cmake -P bench/compile_time/measure.cmake                    g++ and clang++, as far as they are there
#   cmake -DCOMPILERS=clang++-14 -DROUNDS=5 -P bench/compile_time/measure.cmake
# -DCXX_FLAGS=-I... says where xsimd is, if the compiler does not find it by itself.
cmake_minimum_required(VERSION 3.25)
cmake_path(SET root NORMALIZE "${CMAKE_CURRENT_LIST_DIR}/../..")

if(NOT COMPILERS)
  set(COMPILERS g++ clang++ clang++-14)
endif()
if(NOT ROUNDS)
  set(ROUNDS 3)
endif()
if(NOT WORK_DIR)
  set(WORK_DIR "${root}/build/compile_time")
endif()

# What is compiled: source, words for it, and a flag of its own.
set(programs
    "nothing|nothing|-DNDEBUG"
    "front_doors|all front doors included|-DNDEBUG"
    "step|one `Wkv7::step`|-DNDEBUG"
    "forward|one `Wkv7::forward`|-DNDEBUG"
    "forward|one `Wkv7::forward`, with assertions|-UNDEBUG"
)
set(flags -std=c++20 -O2 -c "-I${root}/include")
cmake_host_system_information(RESULT processor QUERY OS_PLATFORM)
if(processor MATCHES "^(x86_64|AMD64)$")
  list(APPEND flags -march=x86-64-v3)
endif()
separate_arguments(CXX_FLAGS UNIX_COMMAND "${CXX_FLAGS}")
list(APPEND flags ${CXX_FLAGS})
file(MAKE_DIRECTORY "${WORK_DIR}")

# now(VARIABLE)  the time in microseconds.
macro(now variable)
  string(TIMESTAMP ${variable} "%s%f")
endmacro()

message(NOTICE "| compiler | program | s | bytes of object file |\n|---|---|---|---|")
set(seen)
foreach(name IN LISTS COMPILERS)
  set(path)
  find_program(path NAMES "${name}" NO_CACHE)
  if(NOT path)
    continue()
  endif()
  execute_process(COMMAND "${path}" --version OUTPUT_VARIABLE version COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" version "${version}")
  cmake_path(GET path FILENAME name)
  string(REGEX REPLACE "-[0-9]+$" "" name "${name}")
  set(label "${name} ${version}")
  if(label IN_LIST seen) # clang++ and clang++-14 may be the same
    continue()
  endif()
  list(APPEND seen "${label}")
  foreach(program IN LISTS programs)
    string(REPLACE "|" ";" program "${program}")
    list(GET program 0 source)
    list(GET program 1 words)
    list(GET program 2 flag)
    set(object "${WORK_DIR}/${source}.o")
    set(times)
    foreach(round RANGE 1 ${ROUNDS})
      now(begin)
      execute_process(
        COMMAND "${path}" ${flags} ${flag} "${CMAKE_CURRENT_LIST_DIR}/${source}.cpp" -o "${object}"
        COMMAND_ERROR_IS_FATAL ANY
      )
      now(end)
      math(EXPR hundredths "(${end} - ${begin} + 5000) / 10000")
      list(APPEND times ${hundredths})
    endforeach()
    list(SORT times COMPARE NATURAL)
    math(EXPR middle "${ROUNDS} / 2")
    list(GET times ${middle} hundredths)
    math(EXPR whole "${hundredths} / 100")
    math(EXPR fraction "${hundredths} % 100 + 100")
    string(SUBSTRING "${fraction}" 1 2 fraction)
    file(SIZE "${object}" bytes)
    message(NOTICE "| ${label} | ${words} | ${whole}.${fraction} | ${bytes} |")
  endforeach()
endforeach()
if(NOT seen)
  list(JOIN COMPILERS ", " names)
  message(FATAL_ERROR "None of these compilers is there: ${names}")
endif()
