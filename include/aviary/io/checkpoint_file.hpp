#pragma once
/// Checkpoints of any format that the library reads: safetensors, torch.save and GGUF files, and the folders of Hugging Face
/// repositories, whose models may lie in several shards with an index.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "aviary/io/gguf.hpp"
#include "aviary/io/mapped_file.hpp"
#include "aviary/io/safetensors.hpp"
#include "aviary/io/tensor_file.hpp"
#include "aviary/io/torch.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {

/// The bytes tell of which format they are.
inline TensorTable read_checkpoint(std::span<std::byte const> bytes, std::string_view file) {
  if (is_gguf(bytes)) return read_gguf(bytes, file);
  return torch_format_of(bytes) == TorchFormat::none ? read_safetensors(bytes, file) : read_torch(bytes, file);
}
using AnyCheckpoint = TensorFileOf<read_checkpoint>;

/// What a folder's model lies in, the first that is there.
inline constexpr std::array<char const*, 4> model_files{"model.safetensors.index.json", "model.safetensors",
                                                        "pytorch_model.bin.index.json", "pytorch_model.bin"};

/// The file of a checkpoint that is a folder, or the path as it is.
inline std::filesystem::path model_file(std::filesystem::path const& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return path;
  std::string names;
  for (char const* name : model_files) {
    if (std::filesystem::exists(path / name, error)) return path / name;
    names.append(names.empty() ? "" : ", ").append(name);
  }
  throw std::runtime_error(path.string() + ": is a folder, expected one with a file of " + names + ", found none");
}

/// Whether the bytes begin a JSON object. No header of a safetensors file is as long as these would say.
inline bool is_shard_index(std::string_view text) noexcept {
  if (!text.starts_with('{')) return false;
  std::uint64_t length = UINT64_MAX;
  std::memcpy(&length, text.data(), std::min(text.size(), sizeof(length)));
  return length > safetensors_header_limit;
}

/// The tensors of all shards. Those that the index does not name are left out.
inline TensorFile open_shards(std::filesystem::path const& path, ShardIndex const& index) {
  std::map<std::string_view, std::size_t> places;
  std::vector<TensorFile> shards;
  std::vector<Tensor> tensors;
  for (auto const& [name, shard] : index) {
    auto const [place, is_new] = places.emplace(shard, shards.size());
    if (is_new) shards.push_back(AnyCheckpoint(path.parent_path() / shard));
    TensorFile const& file = shards[place->second];
    if (!file.contains(name))
      throw std::runtime_error(file.name() + ": has no tensor " + in_quotes(name) + ", which " + path.string() +
                               " expects there");
    tensors.push_back(file.tensor(name));
  }
  return {std::move(shards), tensors, path.string()};
}

}  // namespace detail

/// Opens a checkpoint of torch.save, a safetensors or GGUF file, an index of shards, or a folder with one of
/// detail::model_files. Files are mapped; their bytes tell what they are, not their names. An index names files of its own
/// folder alone.
/// Throws std::runtime_error as TorchCheckpoint, SafeTensors and Gguf do, and for an index that does not fit its shards.
inline TensorFile open_checkpoint(std::filesystem::path const& path) {
  std::filesystem::path const name = detail::model_file(path);
  MappedFile file(name);
  if (detail::is_shard_index(file.text()))
    return detail::open_shards(name, detail::read_shard_index(file.text(), name.string()));
  return detail::AnyCheckpoint(std::move(file), name.string());
}

/// The same of bytes that the caller keeps, of one file. `name` stands for the file in messages.
inline TensorFile open_checkpoint(std::span<std::byte const> bytes, std::string name = "memory") {
  return detail::AnyCheckpoint(bytes, std::move(name));
}

/// The files that open_checkpoint(path) reads, for programs that must not write over them.
inline std::vector<std::filesystem::path> checkpoint_files(std::filesystem::path const& path) {
  std::vector<std::filesystem::path> files{detail::model_file(path)};
  MappedFile const file(files.front());
  if (!detail::is_shard_index(file.text())) return files;
  std::map<std::string_view, bool> known;
  auto const index = detail::read_shard_index(file.text(), files.front().string());
  for (auto const& [name, shard] : index)
    if (known.emplace(shard, true).second) files.push_back(files.front().parent_path() / shard);
  return files;
}

}  // namespace AVIARY_NAMESPACE
