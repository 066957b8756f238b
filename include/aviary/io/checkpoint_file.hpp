#pragma once
/// Checkpoints of any format that the library reads.
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#include "aviary/io/mapped_file.hpp"
#include "aviary/io/safetensors.hpp"
#include "aviary/io/tensor_file.hpp"
#include "aviary/io/torch.hpp"

namespace aviary {

/// Maps a checkpoint of torch.save or a safetensors file: its bytes tell which, not its name.
/// Throws std::runtime_error as TorchCheckpoint and SafeTensors do.
inline TensorFile open_checkpoint(std::filesystem::path const& path) {
  MappedFile file(path);
  if (detail::torch_format_of(file.bytes()) != detail::TorchFormat::none)
    return TorchCheckpoint(std::move(file), path.string());
  return SafeTensors(std::move(file), path.string());
}

/// The same of bytes that the caller keeps. `name` stands for the file in messages.
inline TensorFile open_checkpoint(std::span<std::byte const> bytes, std::string name = "memory") {
  if (detail::torch_format_of(bytes) != detail::TorchFormat::none) return TorchCheckpoint(bytes, std::move(name));
  return SafeTensors(bytes, std::move(name));
}

}  // namespace aviary
