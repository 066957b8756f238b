#pragma once
/// The named tensors of a file, whatever its format: the frame of all loaders, and what they are once they are open.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aviary/io/checksum.hpp"
#include "aviary/io/mapped_file.hpp"
#include "aviary/io/message.hpp"
#include "aviary/io/tensor.hpp"

namespace AVIARY_NAMESPACE {

/// Texts that a file carries beside its tensors.
using Metadata = std::map<std::string, std::string, std::less<>>;

namespace detail {

/// What a file says about a tensor. Checked by whoever read it: the bytes hold all numbers of the shape.
struct TensorEntry {
  NumberFormat dtype;
  std::vector<std::int64_t> shape, strides;
  std::span<std::byte const> bytes;
};

/// What a file says about some of its bytes.
struct Checksum {
  std::string part;  ///< "member 'archive/data/0'", for messages
  std::span<std::byte const> bytes;
  std::uint32_t crc;

  /// Throws std::runtime_error unless the bytes are what they were.
  void verify(std::string_view file) const {
    if (crc32(bytes) != crc)
      throw std::runtime_error(std::string(file) + ": " + part + ": its bytes do not fit its checksum: it is damaged");
  }
};

/// What reading a file finds.
struct TensorTable {
  std::map<std::string, TensorEntry, std::less<>> tensors;
  Metadata metadata;
  std::vector<Checksum> checksums;
};

}  // namespace detail

/// Tensors by name. The numbers stay in the file until they are touched. Move-only; views (Tensor, names) stay valid as
/// long as this object or the one it was moved to. Every std::runtime_error names the file, the tensor, what was
/// expected and what was found.
class TensorFile {
 public:
  /// Tensors that other code has made or read. Their numbers must outlive the file, their names and shapes need not; `name`
  /// stands for the file in messages. Throws std::invalid_argument for a name that is given twice.
  explicit TensorFile(std::span<Tensor const> tensors, std::string name = "memory")
      : name_(std::make_unique<std::string const>(std::move(name))) {
    for (Tensor const& tensor : tensors) {
      detail::TensorEntry entry{tensor.dtype,
                                {tensor.shape.begin(), tensor.shape.end()},
                                {tensor.strides.begin(), tensor.strides.end()},
                                tensor.bytes};
      if (!table_.tensors.emplace(tensor.name, std::move(entry)).second)
        throw std::invalid_argument(tensor.message("is given twice"));
    }
  }

  std::size_t size() const noexcept { return table_.tensors.size(); }
  bool contains(std::string_view name) const { return table_.tensors.contains(name); }
  Metadata const& metadata() const noexcept { return table_.metadata; }

  /// Names in alphabetical order.
  std::vector<std::string_view> names() const {
    std::vector<std::string_view> names;
    for (auto const& [name, entry] : table_.tensors) names.push_back(name);
    return names;
  }

  /// Throws std::runtime_error if there is no such tensor.
  Tensor tensor(std::string_view name) const {
    auto const found = table_.tensors.find(name);
    if (found == table_.tensors.end())
      throw std::runtime_error(*name_ + ": has no tensor " + in_quotes(name) + " among its " + std::to_string(size()));
    auto const& [key, entry] = *found;
    return {.name = key,
            .dtype = entry.dtype,
            .shape = entry.shape,
            .bytes = entry.bytes,
            .file = *name_,
            .strides = entry.strides};
  }

  /// The same with a check of the shape; a size of aviary::dynamic fits any:  tensor("head.weight", {dynamic, 64}).
  Tensor tensor(std::string_view name, std::initializer_list<std::int64_t> shape) const {
    return tensor(name).expect_shape(shape);
  }
  Tensor tensor(std::string_view name, std::span<std::int64_t const> shape) const {
    return tensor(name).expect_shape(shape);
  }

  /// Reads all bytes for which the file has a checksum, as torch checkpoints mostly do and safetensors files never, and
  /// throws std::runtime_error if they are damaged. Nobody does it unasked: it touches every page of the file.
  void verify() const {
    for (detail::Checksum const& checksum : table_.checksums) checksum.verify(*name_);
  }

  /// A text of the file that a reader cannot do without. Throws std::runtime_error "WITHOUT: the file's metadata lack 'KEY'".
  std::string_view text(std::string const& key, std::string const& without) const {
    auto const found = metadata().find(key);
    if (found == metadata().end()) throw std::runtime_error(without + ": the file's metadata lack " + in_quotes(key));
    return found->second;
  }

  /// "FILE: what"
  std::string message(std::string const& what) const { return *name_ + ": " + what; }

 protected:
  using Read = detail::TensorTable(std::span<std::byte const> bytes, std::string_view name);

  TensorFile(MappedFile file, std::string name, Read& read) : TensorFile(file.bytes(), std::move(name), read) {
    file_ = std::move(file);
  }
  TensorFile(std::span<std::byte const> bytes, std::string name, Read& read)
      : name_(std::make_unique<std::string const>(std::move(name))), table_(read(bytes, *name_)) {}

 private:
  MappedFile file_;
  std::unique_ptr<std::string const> name_;  // in place through moves, unlike a short string: tensors refer to it
  detail::TensorTable table_;
};

/// The tensors of a file in one format, which `read` reads.
template <detail::TensorTable (*read)(std::span<std::byte const> bytes, std::string_view name)>
class TensorFileOf : public TensorFile {
 public:
  /// Maps the file. Throws std::runtime_error if it cannot be read or is not what the format says.
  explicit TensorFileOf(std::filesystem::path const& path) : TensorFileOf(MappedFile(path), path.string()) {}

  /// Reads a file that is mapped already, or bytes that the caller keeps. `name` stands for the file in messages.
  TensorFileOf(MappedFile file, std::string name) : TensorFile(std::move(file), std::move(name), *read) {}
  explicit TensorFileOf(std::span<std::byte const> bytes, std::string name = "memory")
      : TensorFile(bytes, std::move(name), *read) {}
};

}  // namespace AVIARY_NAMESPACE
