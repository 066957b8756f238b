# What cmake/demo.cmake and cmake/test.cmake share: install what is missing, configure, build.
include_guard(GLOBAL)
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH aviary_root)
cmake_host_system_information(RESULT aviary_cores QUERY NUMBER_OF_LOGICAL_CORES)

# Debian's names of what the library, its tests, examples and benchmarks stand on.
set(aviary_debian_packages libxsimd-dev libeigen3-dev nlohmann-json3-dev doctest-dev libcli11-dev libbenchmark-dev)

# Prints a line on standard output, as it is.
function(aviary_say)
  execute_process(COMMAND "${CMAKE_COMMAND}" -E echo "${ARGV}")
endfunction()

# Runs a command in the project's root; ends the script with WHAT if it fails.
function(aviary_run what)
  list(JOIN ARGN " " command)
  aviary_say("--- ${command}")
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY "${aviary_root}" RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${what} failed (${status})")
  endif()
endfunction()

# The Debian packages of the list that are not installed.
function(aviary_missing_packages result)
  set(missing)
  foreach(package IN LISTS ARGN)
    execute_process(
      COMMAND dpkg-query --show --showformat=\${db:Status-Status} ${package}
      OUTPUT_VARIABLE status
      ERROR_QUIET
    )
    if(NOT status STREQUAL "installed")
      list(APPEND missing ${package})
    endif()
  endforeach()
  set(${result} ${missing} PARENT_SCOPE)
endfunction()

# Installs what is missing where apt-get is at hand and allowed. Where it is not, CMake downloads the libraries.
function(aviary_install_dependencies)
  find_program(aviary_apt apt-get)
  find_program(aviary_dpkg dpkg-query)
  if(NOT aviary_apt OR NOT aviary_dpkg)
    aviary_say("No apt-get here: CMake downloads the libraries that it does not find.")
    return()
  endif()

  set(packages ${aviary_debian_packages})
  find_program(aviary_compiler NAMES $ENV{CXX} c++ g++ clang++)
  if(NOT aviary_compiler)
    list(APPEND packages g++)
  endif()
  find_program(aviary_make NAMES make ninja)
  if(NOT aviary_make)
    list(APPEND packages make)
  endif()
  aviary_missing_packages(missing ${packages})
  if(NOT missing)
    return()
  endif()
  list(JOIN missing " " names)

  set(privilege)
  execute_process(COMMAND id -u OUTPUT_VARIABLE user OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT user EQUAL 0)
    execute_process(COMMAND sudo -n true RESULT_VARIABLE status OUTPUT_QUIET ERROR_QUIET)
    if(NOT status EQUAL 0)
      aviary_say("Not installed: ${names}. Neither root nor sudo without a password: CMake downloads what it does not find.")
      return()
    endif()
    set(privilege sudo -n)
  endif()

  aviary_say("Installing with apt-get: ${names}")
  set(apt ${privilege} env DEBIAN_FRONTEND=noninteractive "${aviary_apt}" -qq)
  set(install ${apt} install --yes --no-install-recommends ${missing})
  # Package lists may be absent or old; the first attempt says.
  execute_process(COMMAND ${install} RESULT_VARIABLE status OUTPUT_QUIET ERROR_QUIET)
  if(NOT status EQUAL 0)
    aviary_say("Updating apt-get's package lists first.")
    execute_process(COMMAND ${apt} update)
    execute_process(COMMAND ${install} RESULT_VARIABLE status)
  endif()
  if(NOT status EQUAL 0)
    aviary_say("apt-get could not install them all: CMake downloads the libraries that it does not find.")
  endif()
endfunction()

# Configures PRESET, with every AVIARY_ variable that the script was given on its command line.
function(aviary_configure preset)
  set(options)
  get_cmake_property(names CACHE_VARIABLES)
  foreach(name IN LISTS names)
    if(name MATCHES "^AVIARY_")
      list(APPEND options "-D${name}=${${name}}")
    endif()
  endforeach()
  if(NOT DEFINED CACHE{AVIARY_TEST_DATA_DIR} AND DEFINED ENV{AVIARY_TEST_DATA_DIR})
    list(APPEND options "-DAVIARY_TEST_DATA_DIR=$ENV{AVIARY_TEST_DATA_DIR}")
  endif()
  aviary_run("Configuring preset ${preset}" "${CMAKE_COMMAND}" --preset ${preset} ${options} ${ARGN})
endfunction()

# Builds PRESET: everything, or the targets that follow.
function(aviary_build preset)
  set(targets)
  if(ARGN)
    set(targets --target ${ARGN})
  endif()
  aviary_run("Building preset ${preset}" "${CMAKE_COMMAND}" --build --preset ${preset} --parallel ${aviary_cores} ${targets})
endfunction()
