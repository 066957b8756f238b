# What the project's own programs (tests, examples, benchmarks) have in common.

# Not the library's interface: a user's warnings are the user's.
add_library(aviary_warnings INTERFACE)
if(MSVC)
  target_compile_options(aviary_warnings INTERFACE /W4 $<$<BOOL:${AVIARY_WARNINGS_AS_ERRORS}>:/WX>)
else()
  target_compile_options(
    aviary_warnings
    INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wconversion;-Wsign-conversion>
              $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${AVIARY_WARNINGS_AS_ERRORS}>>:-Werror>
  )
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # g++ 12 warns of uninitialised values inside its own AVX-512 headers, which begin many intrinsics with an undefined
  # register on purpose; and, once std::string's operator+ is inlined, of a copy onto itself that cannot be (gcc's bug
  # 105651).
  target_compile_options(
    aviary_warnings
    INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-uninitialized;-Wno-maybe-uninitialized;-Wno-restrict>
  )
endif()

# The JSON of the library's files, compiled once for all programs.
file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/safetensors_json.cpp" CONTENT "#include \"aviary/io/safetensors_json.hpp\"\n")
add_library(aviary_json STATIC "${PROJECT_BINARY_DIR}/safetensors_json.cpp")
target_compile_definitions(aviary_json PUBLIC AVIARY_IO_SEPARATE)
target_link_libraries(aviary_json PUBLIC aviary::io PRIVATE aviary_warnings)

# The products of layers, likewise.
set(aviary_linear_source "${PROJECT_BINARY_DIR}/linear.cpp")
file(CONFIGURE OUTPUT "${aviary_linear_source}" CONTENT "#include \"aviary/dense/linear.hpp\"
template class aviary::Linear<float>;
template class aviary::Linear<double>;
")
add_library(aviary_linear STATIC EXCLUDE_FROM_ALL "${aviary_linear_source}")
target_compile_definitions(aviary_linear PUBLIC AVIARY_LINEAR_SEPARATE)
target_link_libraries(aviary_linear PUBLIC aviary::aviary PRIVATE aviary_warnings)

# Adds program NAME of the sources that follow, in bin/ of the build folder, with every part of the library.
function(aviary_add_program name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE aviary::aviary aviary::io aviary_json aviary_linear aviary_warnings)
  if(OpenMP_CXX_FOUND)
    target_link_libraries(${name} PRIVATE OpenMP::OpenMP_CXX)
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
endfunction()
