# 64-bit ARM on a machine of another kind: clang++-14 builds, with the libraries of Debian's g++-aarch64-linux-gnu, and
# qemu-user-static runs. clang takes half the time of g++.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER clang++-14)
set(CMAKE_CXX_COMPILER_TARGET aarch64-linux-gnu)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -L /usr/aarch64-linux-gnu)
# Header-only libraries serve both: Debian keeps some of their package files in the folder of the machine that builds.
list(APPEND CMAKE_PREFIX_PATH "/usr/lib/${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu/cmake")
# A compiled library found there is another machine's.
set(CMAKE_DISABLE_FIND_PACKAGE_TBB ON)
