#pragma once
/// Bytes for readers that compare a checksum: whatever they hold, it fits.
#include <cstddef>
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

}  // namespace aviary::fuzz
