#pragma once
/// How much stack a call takes: it runs on a thread whose stack was painted before.
#include <pthread.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <type_traits>

namespace aviary::test {

namespace detail {
/// With what a thread needs to begin.
template <class F> std::size_t stack_of_thread(F&& f) {
  constexpr std::size_t size = std::size_t{1} << 20;
  constexpr unsigned char paint = 0xa5;
  void* memory = nullptr;
  if (posix_memalign(&memory, 4096, size) != 0) return 0;
  std::fill_n(static_cast<unsigned char*>(memory), size, paint);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, memory, size);
  pthread_t thread;
  auto const begin = [](void* argument) -> void* {
    (*static_cast<std::remove_reference_t<F>*>(argument))();
    return nullptr;
  };
  std::size_t used = 0;
  if (pthread_create(&thread, &attributes, begin, &f) == 0) {
    pthread_join(thread, nullptr);
    auto const* const bytes = static_cast<unsigned char const*>(memory);
    used =
        size - static_cast<std::size_t>(std::find_if(bytes, bytes + size, [](auto b) { return b != paint; }) - bytes);
  }
  pthread_attr_destroy(&attributes);
  std::free(memory);
  return used;
}
}  // namespace detail

/// Bytes of stack that f() takes.
template <class F> std::size_t stack_use(F&& f) {
  std::size_t const nothing = detail::stack_of_thread([] {});
  return detail::stack_of_thread(f) - nothing;
}

}  // namespace aviary::test
