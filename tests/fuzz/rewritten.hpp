#pragma once
/// Bytes for readers that compare a checksum: whatever they hold, it fits.
#include <cstddef>
#include <cstdint>
#include <span>
#include <sstream>
#include <string>
#include <string_view>

#include "aviary/io/safetensors.hpp"
#include "fuzz/target.hpp"

namespace aviary::fuzz {

/// The safetensors file of the same tensors and texts with a checksum of its own. Throws what reading throws.
inline std::string rewritten(std::span<std::byte const> bytes) {
  SafeTensors const file(bytes);
  SafeTensorsWriter writer;
  for (auto const& [key, text] : file.metadata()) writer.set_metadata(key, text);
  for (std::string_view const name : file.names()) add(writer, file.tensor(name));
  std::ostringstream out;
  writer.add_checksum().write(out);
  return out.str();
}

/// read_all(bytes) once with the bytes as they are, and once with a checksum that fits.
template <class F> int read_both(std::uint8_t const* data, std::size_t size, F&& read_all) {
  auto const bytes = std::as_bytes(std::span(data, size));
  read_all(bytes);
  may_refuse([&] {
    std::string const file = rewritten(bytes);
    read_all(std::as_bytes(std::span(file)));
  });
  return 0;
}

}  // namespace aviary::fuzz
