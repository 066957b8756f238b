/// Reads any bytes as a file of a token cache, once as they are and once with a checksum that fits.
#include "aviary/io/token_cache_file.hpp"

#include "fuzz/rewritten.hpp"
#include "fuzz/target.hpp"

namespace {

using namespace aviary;

template <KeyStorage S> void read(SafeTensors const& file, Index width) {
  TokenCache<S> cache(width, 50);
  std::vector<float> const key(to_size(width), 1);
  cache.append(7, VecView<float const>(key.data(), width));
  TokenCache<S> const before = cache;
  try {
    read_token_cache(file, "cache", cache);
  } catch (std::runtime_error const&) {
    fuzz::require(cache == before, "a refused file changes nothing");
    throw;
  }
  SafeTensorsWriter writer;
  add_token_cache(writer, "cache", cache);
  std::ostringstream out;
  writer.write(out);
  std::string const bytes = out.str();
  TokenCache<S> again(width, 50);
  read_token_cache(SafeTensors(std::as_bytes(std::span(bytes))), "cache", again);
  fuzz::require(again.size() == cache.size() && std::ranges::equal(again.ids(), cache.ids()),
                "what is written is read");
}

void read_all(std::span<std::byte const> bytes) {
  fuzz::may_refuse([&] {
    SafeTensors const file(bytes);
    file.verify();
    for (Index const width : {1, 3}) {
      fuzz::may_refuse([&] { read<float>(file, width); });
      fuzz::may_refuse([&] { read<bf16>(file, width); });
      fuzz::may_refuse([&] { read<q8>(file, width); });
    }
  });
}

}  // namespace

int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  return aviary::fuzz::read_both(data, size, read_all);
}
