/// Runs a fuzzing target once on every file of the folders that are given, where there is no libFuzzer to do so:
///   fuzz_torch tests/fuzz/corpus/torch
/// Ends the program where more memory is asked for at once than an input may ask for.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <new>

#include "aviary/io/mapped_file.hpp"
#include "fuzz/target.hpp"

namespace {
std::atomic<std::size_t> allocation_limit{SIZE_MAX};

/// Null where there is no memory.
void* limited(std::size_t size) noexcept {
  if (size > allocation_limit) {
    std::fprintf(stderr, "%zu bytes are asked for at once, expected at most %zu\n", size, allocation_limit.load());
    std::abort();
  }
  return std::malloc(size != 0 ? size : 1);
}
}  // namespace

void* operator new(std::size_t size) {
  if (void* const p = limited(size)) return p;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, std::nothrow_t const&) noexcept { return limited(size); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

int main(int argc, char** argv) {
  std::size_t inputs = 0;
  for (int i = 1; i < argc; ++i) {
    if (argv[i][0] == '-') continue;  // an option of libFuzzer
    for (auto const& entry : std::filesystem::directory_iterator(argv[i])) {
      aviary::MappedFile const file(entry.path());
      std::string_view const content = file.text();
      std::vector<std::uint8_t> const exact(content.begin(), content.end());
      std::fprintf(stderr, "%s\n", entry.path().string().c_str());  // the last one is to blame
      allocation_limit = (std::size_t{16} << 20) + 64 * exact.size();
      LLVMFuzzerTestOneInput(exact.data(), exact.size());
      allocation_limit = SIZE_MAX;
      ++inputs;
    }
  }
  std::printf("%zu inputs\n", inputs);
  return inputs > 0 ? 0 : 1;
}
