# The libraries that this build needs: the installed one where it will do, else a pinned release, downloaded
# (AVIARY_FETCH_DEPENDENCIES). A library that only an option needs is looked for only with that option.
include(FetchContent)
include(cmake/find.cmake)

# Downloads a release whose headers are all there is to it: its own build, with its options, is left alone. FOLDER is what
# the release is called, and unpacks as: where AVIARY_DEPENDENCY_SOURCES has it, nothing is downloaded.
macro(aviary_fetch_headers package target folder include_folder url hash)
  if(AVIARY_DEPENDENCY_SOURCES AND EXISTS "${AVIARY_DEPENDENCY_SOURCES}/${folder}")
    string(TOUPPER ${package} aviary_upper)
    set(FETCHCONTENT_SOURCE_DIR_${aviary_upper} "${AVIARY_DEPENDENCY_SOURCES}/${folder}")
    message(STATUS "aviary: ${package} is ${AVIARY_DEPENDENCY_SOURCES}/${folder}")
  else()
    message(STATUS "aviary: downloading ${package} from ${url}")
  endif()
  FetchContent_Declare(
    ${package}
    URL ${url}
    URL_HASH SHA256=${hash}
    DOWNLOAD_EXTRACT_TIMESTAMP FALSE
    SOURCE_SUBDIR no-build-of-its-own
  )
  FetchContent_MakeAvailable(${package})
  string(TOLOWER ${package} aviary_lower)
  if(NOT TARGET ${target}) # else: of an installed version that will not do
    add_library(${target} INTERFACE IMPORTED GLOBAL)
  endif()
  set_target_properties(
    ${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${${aviary_lower}_SOURCE_DIR}/${include_folder}"
  )
  set(aviary_fetched_${package} TRUE)
endmacro()

# What to say of a library that is neither found nor to be downloaded.
macro(aviary_missing package purpose debian)
  message(
    FATAL_ERROR
      "aviary: ${purpose} needs ${package}, but ${aviary_${package}_reason}. Install it (Debian and Ubuntu: ${debian}), or "
      "set AVIARY_FETCH_DEPENDENCIES=ON to download it."
  )
endmacro()

if(AVIARY_BUILD_TESTS OR AVIARY_BUILD_EXAMPLES OR AVIARY_BUILD_BENCHMARKS)
  set(aviary_programs TRUE)
else()
  set(aviary_programs FALSE)
endif()

# aviary::cuda alone needs it.
if(AVIARY_CUDA)
  aviary_find_cuda()
  if(NOT CUDAToolkit_FOUND)
    message(STATUS "aviary: no aviary::cuda without the CUDA toolkit, and ${aviary_CUDAToolkit_reason}")
  endif()
endif()
if(AVIARY_CUDA_ONLY)
  return()
endif()

if(NOT AVIARY_NEWEST_DEPENDENCIES)
  aviary_find_xsimd()
endif()
if(NOT xsimd_FOUND)
  if(NOT AVIARY_FETCH_DEPENDENCIES)
    aviary_missing(xsimd "the library" libxsimd-dev)
  endif()
  aviary_fetch_headers(
    xsimd xsimd::xsimd xsimd-14.3.0 include https://github.com/xtensor-stack/xsimd/archive/refs/tags/14.3.0.tar.gz
    b3d50e7a73fbf4642ceef30131c93414901d69eee41c2a5302db650b03e2c792
  )
endif()

# Only aviary::io needs nlohmann_json: without it kernels and layers remain.
aviary_find_json()
if(NOT nlohmann_json_FOUND AND AVIARY_FETCH_DEPENDENCIES)
  aviary_fetch_headers(
    nlohmann_json nlohmann_json::nlohmann_json json-3.11.2 single_include
    https://github.com/nlohmann/json/archive/refs/tags/v3.11.2.tar.gz
    d69f9deb6a75e2580465c6c4c5111b89c4dc2fa94e3a85fcd2ffcd9a143d9273
  )
elseif(NOT nlohmann_json_FOUND AND aviary_programs)
  aviary_missing(nlohmann_json aviary::io nlohmann-json3-dev)
elseif(NOT nlohmann_json_FOUND)
  message(STATUS "aviary: no aviary::io without nlohmann_json, and ${aviary_nlohmann_json_reason}")
endif()

if(AVIARY_BUILD_TESTS)
  aviary_find(doctest doctest::doctest "" "")
  if(NOT doctest_FOUND)
    if(NOT AVIARY_FETCH_DEPENDENCIES)
      aviary_missing(doctest AVIARY_BUILD_TESTS doctest-dev)
    endif()
    aviary_fetch_headers(
      doctest doctest::doctest doctest-2.4.12 "" https://github.com/doctest/doctest/archive/refs/tags/v2.4.12.tar.gz
      73381c7aa4dee704bd935609668cf41880ea7f19fa0504a200e13b74999c2d70
    )
    set(doctest_DIR "${doctest_SOURCE_DIR}/scripts/cmake")
  endif()
  include("${doctest_DIR}/doctest.cmake") # defines doctest_discover_tests
endif()

if(AVIARY_BUILD_EXAMPLES)
  aviary_find(CLI11 CLI11::CLI11 "" "")
  if(NOT CLI11_FOUND)
    if(NOT AVIARY_FETCH_DEPENDENCIES)
      aviary_missing(CLI11 "a program with a command line" libcli11-dev)
    endif()
    aviary_fetch_headers(
      CLI11 CLI11::CLI11 CLI11-2.4.2 include https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.4.2.tar.gz
      f2d893a65c3b1324c50d4e682c0cdc021dd0477ae2c048544f39eed6654b699a
    )
  endif()
endif()

if(AVIARY_BUILD_BENCHMARKS)
  aviary_find(benchmark benchmark::benchmark "" "")
  if(NOT benchmark_FOUND)
    if(NOT AVIARY_FETCH_DEPENDENCIES)
      aviary_missing(benchmark AVIARY_BUILD_BENCHMARKS libbenchmark-dev)
    endif()
    message(STATUS "aviary: downloading benchmark")
    set(BENCHMARK_ENABLE_TESTING OFF)
    set(BENCHMARK_ENABLE_INSTALL OFF)
    set(BENCHMARK_ENABLE_WERROR OFF)
    FetchContent_Declare(
      benchmark
      URL https://github.com/google/benchmark/archive/refs/tags/v1.7.1.tar.gz
      URL_HASH SHA256=6430e4092653380d9dc4ccb45a1e2dc9259d581f4866dc0759713126056bc1d7
      DOWNLOAD_EXTRACT_TIMESTAMP FALSE
    )
    FetchContent_MakeAvailable(benchmark)
  endif()
endif()

# What some programs try or compare, where it is; everything else works without: Eigen's matrices as views, its products as
# a baseline, threads.
if(aviary_programs AND AVIARY_NEWEST_DEPENDENCIES)
  aviary_fetch_headers(
    Eigen3 Eigen3::Eigen eigen-5.0.1 "" https://gitlab.com/libeigen/eigen/-/archive/5.0.1/eigen-5.0.1.tar.gz
    e9c326dc8c05cd1e044c71f30f1b2e34a6161a3b6ecf445d56b53ff1669e3dec
  )
  set(Eigen3_FOUND TRUE)
elseif(aviary_programs)
  aviary_find(Eigen3 Eigen3::Eigen 3.4 6)
endif()
if(aviary_programs)
  find_package(OpenMP QUIET COMPONENTS CXX)
endif()
if(AVIARY_BUILD_EXAMPLES AND AVIARY_MPI AND NOT CMAKE_CROSSCOMPILING)
  set(MPI_CXX_SKIP_MPICXX TRUE) # its interface for C alone
  find_package(MPI QUIET COMPONENTS CXX)
endif()
# Of PyTorch the folder is enough: its own CMake package wants the CUDA toolkit that it was built with. Loading it would
# take seconds.
if(AVIARY_BUILD_EXAMPLES AND AVIARY_TORCH AND NOT CMAKE_CROSSCOMPILING)
  execute_process(
    COMMAND "${AVIARY_TORCH_PYTHON}" -c "import importlib.metadata as m, importlib.util as u, sys
print(sys.executable, u.find_spec('torch').submodule_search_locations[0], m.version('torch'), sep=';')"
    RESULT_VARIABLE aviary_torch_status
    OUTPUT_VARIABLE aviary_torch_found
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
  )
  if(aviary_torch_status EQUAL 0)
    list(POP_FRONT aviary_torch_found aviary_torch_python aviary_torch_folder aviary_torch_version)
    if(aviary_torch_version VERSION_LESS 2.7)
      message(STATUS "aviary: no operators for PyTorch, found version ${aviary_torch_version}, expected 2.7 or newer")
    else()
      set(aviary_torch_FOUND TRUE)
    endif()
  endif()
endif()
if(AVIARY_BUILD_TESTS)
  aviary_find(TBB TBB::tbb 2021 "")
endif()
