#pragma once
/// AVIARY_TEST_ADDRESS_SANITIZER is defined where the address sanitizer is.
#if defined(__SANITIZE_ADDRESS__)
#define AVIARY_TEST_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define AVIARY_TEST_ADDRESS_SANITIZER 1
#endif
#endif
