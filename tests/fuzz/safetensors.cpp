/// Reads any bytes as a safetensors file, and as an index of shards.
#include "aviary/io/safetensors.hpp"

#include "fuzz/target.hpp"

int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  auto const bytes = std::as_bytes(std::span(data, size));
  aviary::fuzz::may_refuse([&] { aviary::fuzz::read_all(aviary::SafeTensors(bytes)); });
  aviary::fuzz::may_refuse([&] {
    for (auto const& [name, file] :
         aviary::detail::read_shard_index({reinterpret_cast<char const*>(data), size}, "index"))
      aviary::fuzz::require(!file.empty() && file.find('/') == file.npos, "a shard lies beside its index");
  });
  return 0;
}
