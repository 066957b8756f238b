#pragma once
/// Checkpoints of any format that the library reads.
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "aviary/io/safetensors.hpp"
#include "aviary/io/tensor_file.hpp"
#include "aviary/io/torch.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {
/// The bytes tell of which format they are.
inline TensorTable read_checkpoint(std::span<std::byte const> bytes, std::string_view file) {
  return torch_format_of(bytes) == TorchFormat::none ? read_safetensors(bytes, file) : read_torch(bytes, file);
}
}  // namespace detail

/// Maps a checkpoint of torch.save or a safetensors file: its bytes tell which, not its name.
/// Throws std::runtime_error as TorchCheckpoint and SafeTensors do.
inline TensorFile open_checkpoint(std::filesystem::path const& path) {
  return TensorFileOf<detail::read_checkpoint>(path);
}

/// The same of bytes that the caller keeps. `name` stands for the file in messages.
inline TensorFile open_checkpoint(std::span<std::byte const> bytes, std::string name = "memory") {
  return TensorFileOf<detail::read_checkpoint>(bytes, std::move(name));
}

}  // namespace AVIARY_NAMESPACE
