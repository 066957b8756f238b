# 64-bit ARM on a machine of another kind: Debian's g++-aarch64-linux-gnu builds, qemu-user-static runs.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -L /usr/aarch64-linux-gnu)
# Header-only libraries serve both: Debian keeps some of their package files in the folder of the machine that builds.
list(APPEND CMAKE_PREFIX_PATH "/usr/lib/${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu/cmake")
# A compiled library found there is another machine's.
set(CMAKE_DISABLE_FIND_PACKAGE_TBB ON)
