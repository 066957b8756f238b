# All that a machine with a GPU can say:             cmake -P cmake/gpu.cmake
# within a minute or two, once it is built:          cmake -DSHORT=ON -P cmake/gpu.cmake
# only some of it (build,tests,sanitize,bench):      cmake -DSTEPS=build,bench -P cmake/gpu.cmake
# for an architecture that is not asked of the GPU:  cmake -DARCHITECTURE=90 -P cmake/gpu.cmake
#
# It builds in build/gpu the tests for a device, an example and the benchmarks; runs the tests, then compute-sanitizer over short
# runs, then the benchmarks, beside those in Triton where python3 has it; prints a table, and writes build/gpu/gpu.json. It
# needs CMake, nvcc and g++, and downloads nothing: the tests are left out where doctest or xsimd are not installed, which
# -DAVIARY_DEPENDENCY_SOURCES=FOLDER can bring. CUDACXX chooses the compiler. Without the step build it runs what build/gpu/bin
# has, which may come from another machine.
cmake_minimum_required(VERSION 3.25)
include("${CMAKE_CURRENT_LIST_DIR}/bootstrap.cmake")

if(NOT STEPS)
  set(STEPS "build,tests,sanitize,bench")
endif()
string(REPLACE "," ";" STEPS "${STEPS}")
foreach(step IN LISTS STEPS)
  if(NOT step MATCHES "^(build|tests|sanitize|bench)$")
    message(FATAL_ERROR "STEPS has '${step}', expected some of build,tests,sanitize,bench")
  endif()
endforeach()
set(build "${aviary_root}/build/gpu")
set(brief)
if(SHORT)
  set(brief --short)
endif()

# --- build ------------------------------------------------------------------------------------------------------------
set(no_tests "it has not been built")
if("build" IN_LIST STEPS)
  find_program(aviary_nvcc NAMES $ENV{CUDACXX} nvcc HINTS /usr/local/cuda/bin ENV CUDA_PATH PATH_SUFFIXES bin)
  if(NOT aviary_nvcc)
    message(FATAL_ERROR "No nvcc here: neither in PATH nor in /usr/local/cuda/bin, and CUDACXX names none")
  endif()
  if(NOT ARCHITECTURE)
    find_program(aviary_smi nvidia-smi HINTS /usr/local/nvidia/bin)
    if(aviary_smi)
      execute_process(
        COMMAND "${aviary_smi}" --query-gpu=compute_cap --format=csv,noheader
        OUTPUT_VARIABLE capability
        ERROR_QUIET
      )
    endif()
    if(NOT capability MATCHES "^([0-9]+)\\.([0-9]+)")
      message(FATAL_ERROR "No GPU here: nvidia-smi finds none. -DARCHITECTURE=90 builds for one all the same")
    endif()
    set(ARCHITECTURE ${CMAKE_MATCH_1}${CMAKE_MATCH_2})
  endif()

  set(generator)
  find_program(aviary_make make)
  find_program(aviary_ninja ninja)
  if(aviary_ninja AND NOT aviary_make)
    set(generator -G Ninja)
  endif()
  cmake_path(GET aviary_nvcc PARENT_PATH toolkit)
  cmake_path(GET toolkit PARENT_PATH toolkit)
  set(configure
      "${CMAKE_COMMAND}" --fresh -S "${aviary_root}" -B "${build}" ${generator} -DCMAKE_BUILD_TYPE=Release
      -DCMAKE_CUDA_ARCHITECTURES=${ARCHITECTURE} "-DCMAKE_CUDA_COMPILER=${aviary_nvcc}" "-DCUDAToolkit_ROOT=${toolkit}"
      -DAVIARY_FETCH_DEPENDENCIES=OFF -DAVIARY_BUILD_EXAMPLES=OFF -DAVIARY_BUILD_BENCHMARKS=OFF -DAVIARY_BUILD_TESTS=ON
      -DAVIARY_INSTALL=OFF
  )
  if(AVIARY_DEPENDENCY_SOURCES)
    list(APPEND configure "-DAVIARY_DEPENDENCY_SOURCES=${AVIARY_DEPENDENCY_SOURCES}" -DAVIARY_FETCH_DEPENDENCIES=ON)
  endif()

  set(targets cuda_step bench_cuda)
  file(REMOVE_RECURSE "${build}/bin") # what is there is of this build
  aviary_say("--- build/gpu, for sm_${ARCHITECTURE}")
  execute_process(COMMAND ${configure} RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE errors)
  if(status EQUAL 0)
    execute_process(COMMAND "${CMAKE_COMMAND}" --build "${build}" --target help OUTPUT_VARIABLE known ERROR_QUIET)
    if(known MATCHES "test_cuda_device")
      list(APPEND targets test_cuda_device)
    else()
      set(no_tests "there is no target test_cuda_device")
    endif()
  else()
    string(REGEX REPLACE "[ \n]+" " " errors "${errors}")
    string(REGEX MATCH "aviary: [^.]*needs [^.]*" no_tests "${errors}")
    if(NOT no_tests)
      string(SUBSTRING "${errors}" 0 300 no_tests)
    endif()
    aviary_run("Configuring the programs for a GPU alone" ${configure} -DAVIARY_BUILD_TESTS=OFF -DAVIARY_CUDA_ONLY=ON)
  endif()
  aviary_run("Building" "${CMAKE_COMMAND}" --build "${build}" --parallel ${aviary_cores} --target ${targets})
endif()
if(EXISTS "${build}/bin/test_cuda_device")
  set(no_tests)
endif()

# --- what programs say ------------------------------------------------------------------------------------------------
set(checks "{}")
set(failed 0)

# Notes what a check came to: passed, failed, or why it was skipped.
macro(note name result)
  string(REGEX REPLACE "[\"\\\n]" " " escaped "${result}")
  string(JSON checks SET "${checks}" "${name}" "\"${escaped}\"")
  aviary_say("${name}: ${result}")
endmacro()

# try(NAME SECONDS COMMAND...)  runs a check.
macro(try name seconds)
  aviary_say("--- ${name}")
  execute_process(COMMAND ${ARGN} TIMEOUT ${seconds} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(output MATCHES "test cases: +0 ")
    note("${name}" "failed: no such test")
    math(EXPR failed "${failed} + 1")
  elseif(status EQUAL 0)
    note("${name}" passed)
  else()
    aviary_say("${output}")
    note("${name}" "failed with ${status}")
    math(EXPR failed "${failed} + 1")
  endif()
endmacro()

if("tests" IN_LIST STEPS)
  try(cuda_step 300 "${build}/bin/cuda_step")
  if(no_tests)
    note(test_cuda_device "skipped, as ${no_tests}")
  else()
    try(test_cuda_device 1200 "${build}/bin/test_cuda_device")
  endif()
endif()

# All kernels run in the benchmarks. Of the tests a few, as each takes a hundred times as long.
set(sanitized "*in pieces*,*16 bits*,*without a token*,*no powers of two*")
if("sanitize" IN_LIST STEPS)
  find_program(aviary_sanitizer compute-sanitizer HINTS /usr/local/cuda/bin ENV CUDA_PATH PATH_SUFFIXES bin compute-sanitizer)
  if(aviary_sanitizer)
    foreach(tool IN ITEMS memcheck racecheck synccheck)
      set(sanitizer "${aviary_sanitizer}" --tool ${tool} --error-exitcode 1)
      try("${tool} cuda_step" 300 ${sanitizer} "${build}/bin/cuda_step")
      try("${tool} bench_cuda" 900 ${sanitizer} "${build}/bin/bench_cuda" --once)
      if(NOT no_tests)
        try("${tool} test_cuda_device" 900 ${sanitizer} "${build}/bin/test_cuda_device" "--test-case=${sanitized}")
      endif()
    endforeach()
  else()
    note(sanitize "skipped, as there is no compute-sanitizer")
  endif()
endif()

set(figures null)
if("bench" IN_LIST STEPS)
  set(beside)
  find_program(aviary_python python3)
  if(aviary_python)
    aviary_say("--- cuda_triton.py")
    execute_process(
      COMMAND "${aviary_python}" "${aviary_root}/bench/cuda_triton.py" ${brief}
      RESULT_VARIABLE status
      OUTPUT_FILE "${build}/triton.txt"
      ERROR_VARIABLE output
    )
    if(status EQUAL 0)
      note(cuda_triton passed)
      set(beside --beside "${build}/triton.txt")
    elseif(status EQUAL 77)
      string(STRIP "${output}" output)
      note(cuda_triton "skipped, as it says: ${output}")
    else()
      aviary_say("${output}")
      note(cuda_triton "failed with ${status}")
      math(EXPR failed "${failed} + 1")
    endif()
  endif()
  aviary_say("--- bench_cuda")
  file(REMOVE "${build}/bench.json")
  execute_process(
    COMMAND "${build}/bin/bench_cuda" ${brief} --json "${build}/bench.json" ${beside} RESULT_VARIABLE status
  )
  if(status EQUAL 0)
    note(bench_cuda passed)
  else()
    note(bench_cuda "failed with ${status}")
    math(EXPR failed "${failed} + 1")
  endif()
  if(EXISTS "${build}/bench.json")
    file(READ "${build}/bench.json" figures)
  endif()
endif()

# --- one file -----------------------------------------------------------------------------------------------------------
string(TIMESTAMP date UTC)
execute_process(
  COMMAND git describe --always --dirty
  WORKING_DIRECTORY "${aviary_root}"
  OUTPUT_VARIABLE commit
  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
)
set(all "{}")
string(JSON all SET "${all}" date "\"${date}\"")
string(JSON all SET "${all}" commit "\"${commit}\"")
string(JSON all SET "${all}" checks "${checks}")
string(JSON all SET "${all}" bench "${figures}")
file(WRITE "${build}/gpu.json" "${all}\n")
aviary_say("build/gpu/gpu.json has all of it.")
if(failed)
  message(FATAL_ERROR "${failed} of the checks failed: see above")
endif()
