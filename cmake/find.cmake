# Finds what aviary stands on; installed beside the package configuration, which includes it too.
#
# xsimd declares a new major version incompatible with the one before, and a version range does not span majors:
# find_package(xsimd 8.1) refuses 14. So: any version, then a look at its number.

# Finds PACKAGE, which defines TARGET (or, without a namespace, one called like the package), in a version from LOWEST on
# and before BEYOND; with an empty string, any. Sets PACKAGE_FOUND; says why not in aviary_PACKAGE_reason.
macro(aviary_find package target lowest beyond)
  if((TARGET ${target} OR TARGET ${package}) AND NOT DEFINED aviary_${package}_reason)
    set(${package}_FOUND TRUE) # somebody brought it along: an enclosing project, or an earlier call
  else()
    find_package(${package} CONFIG QUIET)
    if(NOT ${package}_FOUND)
      set(aviary_${package}_reason "it is not installed where CMake looks (CMAKE_PREFIX_PATH adds places)")
    elseif("${lowest}" AND ${package}_VERSION VERSION_LESS "${lowest}")
      set(aviary_${package}_reason "found version ${${package}_VERSION}, expected ${lowest} or newer")
      set(${package}_FOUND FALSE)
    elseif("${beyond}" AND ${package}_VERSION VERSION_GREATER_EQUAL "${beyond}")
      set(aviary_${package}_reason "found version ${${package}_VERSION}, expected one before ${beyond}")
      set(${package}_FOUND FALSE)
    else()
      unset(aviary_${package}_reason)
    endif()
  endif()
  if(${package}_FOUND AND NOT TARGET ${target}) # xsimd installs a target without a namespace
    add_library(${target} ALIAS ${package})
  endif()
endmacro()

macro(aviary_find_xsimd)
  aviary_find(xsimd xsimd::xsimd 8.1 "")
  # Debian's xsimd 8.1 says that it links xtl, of which its headers include nothing and which is not installed with it.
  if(xsimd_FOUND AND NOT TARGET xtl)
    get_target_property(aviary_xsimd_links xsimd::xsimd INTERFACE_LINK_LIBRARIES)
    if("xtl" IN_LIST aviary_xsimd_links)
      list(REMOVE_ITEM aviary_xsimd_links xtl)
      set_target_properties(xsimd PROPERTIES INTERFACE_LINK_LIBRARIES "${aviary_xsimd_links}")
    endif()
  endif()
endmacro()

# CMake has a module for it. Before 12 nvcc does not know C++20.
macro(aviary_find_cuda)
  if(TARGET CUDA::cudart AND NOT DEFINED aviary_CUDAToolkit_reason)
    set(CUDAToolkit_FOUND TRUE)
  else()
    find_package(CUDAToolkit QUIET)
    if(NOT CUDAToolkit_FOUND)
      set(aviary_CUDAToolkit_reason "it is not where CMake looks (CUDAToolkit_ROOT names another place)")
    elseif(CUDAToolkit_VERSION VERSION_LESS 12)
      set(aviary_CUDAToolkit_reason "found version ${CUDAToolkit_VERSION}, expected 12 or newer, which knows C++20")
      set(CUDAToolkit_FOUND FALSE)
    else()
      unset(aviary_CUDAToolkit_reason)
    endif()
  endif()
endmacro()

macro(aviary_find_json)
  aviary_find(nlohmann_json nlohmann_json::nlohmann_json 3.9 "")
endmacro()
