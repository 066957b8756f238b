/// Reads any bytes as a safetensors file.
#include "aviary/io/safetensors.hpp"

#include "fuzz/target.hpp"

int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  auto const bytes = std::as_bytes(std::span(data, size));
  aviary::fuzz::may_refuse([&] { aviary::fuzz::read_all(aviary::SafeTensors(bytes)); });
  return 0;
}
