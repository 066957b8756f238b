# Headers, a CMake package whose targets have the names that add_subdirectory gives, and a pkg-config file.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# Headers alone: nothing of it depends on the machine, so it lies in share/.
set(aviary_package_folder "${CMAKE_INSTALL_DATADIR}/cmake/aviary")

install(
  DIRECTORY include/aviary
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING
  PATTERN "*.hpp"
  PATTERN "*.cuh"
)

# One export set for each component: only the targets whose dependencies are there can be loaded.
install(TARGETS aviary EXPORT aviary-targets INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(TARGETS aviary_io EXPORT aviary-io-targets)
install(TARGETS aviary_cuda EXPORT aviary-cuda-targets)
foreach(set aviary aviary-io aviary-cuda)
  install(EXPORT ${set}-targets NAMESPACE aviary:: DESTINATION "${aviary_package_folder}")
endforeach()

configure_package_config_file(
  cmake/aviary-config.cmake.in "${PROJECT_BINARY_DIR}/aviary-config.cmake" INSTALL_DESTINATION "${aviary_package_folder}"
)
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(
  "${PROJECT_BINARY_DIR}/aviary-config-version.cmake" COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT
)
install(FILES "${PROJECT_BINARY_DIR}/aviary-config.cmake" "${PROJECT_BINARY_DIR}/aviary-config-version.cmake"
              cmake/find.cmake cmake/instruction_sets.cmake DESTINATION "${aviary_package_folder}"
)

configure_file(cmake/aviary.pc.in "${PROJECT_BINARY_DIR}/aviary.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/aviary.pc" DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig")

install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DATADIR}/licenses/aviary")
