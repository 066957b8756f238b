/// Reads any bytes as a GGUF file.
#include "aviary/io/gguf.hpp"

#include "fuzz/target.hpp"

int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  auto const bytes = std::as_bytes(std::span(data, size));
  aviary::fuzz::may_refuse([&] {
    aviary::Gguf const file(bytes);
    if (auto const& words = file.vocabulary())
      for (aviary::TokenId id = -1; id <= words->size(); ++id)
        aviary::fuzz::require(words->contains(id) != words->bytes(id).empty(), "a token has bytes");
    aviary::fuzz::read_all(file);
  });
  return 0;
}
