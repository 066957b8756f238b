#include "cuda/golden.hpp"

using namespace aviary::test;

#if !defined(AVIARY_TEST_ONE_SIZE)
TEST_CASE_TEMPLATE("golden files through kernels for a device", Golden, Wkv6Golden, Wkv7Golden) {
  check_golden_files<Golden>();
}
#endif
