/// Reads any bytes as a torch checkpoint; bytes that begin like a pickle also as the pickle of one that has two storages.
#include "aviary/io/torch.hpp"

#include "fuzz/target.hpp"
#include "support/zip_case.hpp"

namespace {

void read(std::span<std::byte const> bytes) {
  aviary::fuzz::may_refuse([&] {
    aviary::TorchCheckpoint const file(bytes);
    aviary::fuzz::read_all(file);
    file.verify();
  });
}

/// In memory that ends with the archive.
std::vector<std::byte> archive_of(std::string pickle) {
  std::string const file = aviary::test::zip_of({{.name = "f/data.pkl", .bytes = std::move(pickle)},
                                                 {.name = "f/data/0", .bytes = std::string(24, '\1')},
                                                 {.name = "f/data/1", .bytes = std::string(40, '\2')}});
  auto const bytes = std::as_bytes(std::span(file));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  read(std::as_bytes(std::span(data, size)));
  if (size > 0 && data[0] == 0x80) read(archive_of({reinterpret_cast<char const*>(data), size}));
  return 0;
}
