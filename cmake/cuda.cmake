# Programs for a GPU, where there is a CUDA compiler. They need no other library: cmake/gpu.cmake runs them where nothing else is
# installed. Built by default with what they belong to, the examples and the benchmarks.
if(NOT AVIARY_CUDA OR NOT CUDAToolkit_FOUND OR CMAKE_CROSSCOMPILING)
  return()
endif()
include(CheckLanguage)
set(CMAKE_MESSAGE_LOG_LEVEL WARNING)
check_language(CUDA)
unset(CMAKE_MESSAGE_LOG_LEVEL)
if(NOT CMAKE_CUDA_COMPILER)
  return()
endif()
enable_language(CUDA)

# Besides nvcc's own warnings those of the compiler for the host.
add_library(aviary_cuda_warnings INTERFACE)
target_compile_options(
  aviary_cuda_warnings
  INTERFACE $<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:-Xcompiler=-Wall,-Wextra>
            $<$<AND:$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>,$<BOOL:${AVIARY_WARNINGS_AS_ERRORS}>>:-Werror=all-warnings>
)

# Adds program NAME of device code, in bin/ of the build folder.
function(aviary_add_cuda_program name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE aviary::cuda aviary_cuda_warnings)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
endfunction()

aviary_add_cuda_program(cuda_step examples/cuda_step/cuda_step.cu)
if(NOT AVIARY_BUILD_EXAMPLES)
  set_target_properties(cuda_step PROPERTIES EXCLUDE_FROM_ALL ON)
elseif(AVIARY_BUILD_TESTS)
  add_test(NAME example/cuda_step COMMAND cuda_step)
  set_tests_properties(example/cuda_step PROPERTIES LABELS example TIMEOUT 600 SKIP_RETURN_CODE 77)
endif()

aviary_add_cuda_program(bench_cuda bench/bench_cuda.cu)
target_include_directories(bench_cuda PRIVATE bench)
if(NOT AVIARY_BUILD_BENCHMARKS)
  set_target_properties(bench_cuda PROPERTIES EXCLUDE_FROM_ALL ON)
elseif(AVIARY_BUILD_TESTS)
  add_test(NAME bench/bench_cuda COMMAND bench_cuda --short)
  set_tests_properties(bench/bench_cuda PROPERTIES LABELS bench TIMEOUT 600 SKIP_RETURN_CODE 77)
endif()
