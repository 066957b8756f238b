#pragma once
/// The named tensors of a file, whatever its format: the frame of all loaders, and what they are once they are open.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
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
#include "aviary/io/vocabulary.hpp"

namespace AVIARY_NAMESPACE {

/// Texts that a file carries beside its tensors.
using Metadata = std::map<std::string, std::string, std::less<>>;

namespace detail {

/// What a file says about a tensor. Checked by whoever read it: the bytes hold all numbers of the shape.
struct TensorEntry {
  NumberFormat dtype;
  std::vector<std::int64_t> shape, strides;
  std::span<std::byte const> bytes;
  std::optional<BlockNumbers> blocks = {};
  std::string stored_name = {};
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

using TensorEntries = std::map<std::string, TensorEntry, std::less<>>;

inline Tensor tensor_of(std::string_view name, TensorEntry const& entry, std::string_view file = "memory") {
  return {.name = name,
          .dtype = entry.dtype,
          .shape = entry.shape,
          .bytes = entry.bytes,
          .file = file,
          .strides = entry.strides,
          .blocks = entry.blocks,
          .stored_name = entry.stored_name};
}
inline TensorEntry entry_of(Tensor const& tensor) {
  return {.dtype = tensor.dtype,
          .shape = {tensor.shape.begin(), tensor.shape.end()},
          .strides = {tensor.strides.begin(), tensor.strides.end()},
          .bytes = tensor.bytes,
          .blocks = tensor.blocks,
          .stored_name = std::string(tensor.stored_name)};
}

/// What reading a file finds.
struct TensorTable {
  TensorEntries tensors;
  Metadata metadata;
  std::vector<Checksum> checksums;
  std::optional<Vocabulary> vocabulary = {};
};

/// The text under which a file has the checksum of all that it holds.
inline constexpr std::string_view checksum_key = "aviary.checksum";

/// The checksum of all that a file holds, in 8 hexadecimal digits: of its texts but this one, and of the names, formats,
/// shapes and numbers of its tensors. How the file writes them does not matter.
class ContentChecksum {
 public:
  static std::string of(TensorEntries const& tensors, Metadata const& metadata) {
    ContentChecksum sum;
    for (auto const& [key, text] : metadata)
      if (key != checksum_key) sum.take(key), sum.take(text);
    for (auto const& [name, entry] : tensors) {
      sum.take(name);
      sum.take(name_of(entry.dtype));
      sum.take(std::as_bytes(std::span(entry.shape)));
      for_each_piece(tensor_of(name, entry), [&](auto bytes) { sum.crc_ = crc32(bytes, sum.crc_); });
    }
    return hexadecimal(sum.crc_);
  }

 private:
  /// The length first, so that no two lists of texts look the same.
  void take(std::span<std::byte const> bytes) {
    std::uint64_t const size = bytes.size();
    crc_ = crc32(bytes, crc32(std::as_bytes(std::span(&size, 1)), crc_));
  }
  void take(std::string_view text) { take(std::as_bytes(std::span(text))); }

  std::uint32_t crc_ = 0;
};

/// The version of the formats of states and of token caches. From the second on their files have a checksum.
inline constexpr std::string_view state_version = "2", state_version_before = "1";

/// Adds to the differences a version of `what` that is none of these.
inline void expect_version(Differences& differences, std::string const& what, std::string_view found) {
  if (found != state_version && found != state_version_before) differences.add(what + " 1 or 2", in_quotes(found));
}

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
    for (Tensor const& tensor : tensors)
      if (!table_.tensors.emplace(tensor.name, detail::entry_of(tensor)).second)
        throw std::invalid_argument(tensor.message("is given twice"));
  }

  /// Tensors whose numbers are in other files: some of theirs, or views of them under names and in shapes of one's own. It
  /// keeps the files, and has their texts (of equal keys that of the first file) and the first vocabulary that one has.
  /// `numbers`: those of tensors that lie in no file; kept as well.
  TensorFile(std::vector<TensorFile> files, std::span<Tensor const> tensors, std::string name,
             std::vector<std::vector<std::byte>> numbers = {})
      : TensorFile(tensors, std::move(name)) {
    files_ = std::move(files);
    numbers_ = std::move(numbers);
    for (TensorFile& file : files_) {
      for (auto const& [key, text] : file.metadata())
        if (key != detail::checksum_key) table_.metadata.emplace(key, text);
      if (!table_.vocabulary) table_.vocabulary = std::move(file.table_.vocabulary);
    }
  }

  std::size_t size() const noexcept { return table_.tensors.size(); }
  bool contains(std::string_view name) const { return table_.tensors.contains(name); }
  Metadata const& metadata() const noexcept { return table_.metadata; }
  /// What the tokens of its model stand for, if the file says so.
  std::optional<Vocabulary> const& vocabulary() const noexcept { return table_.vocabulary; }
  /// The path that it was read from, or what stands for it in messages.
  std::string const& name() const noexcept { return *name_; }

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
    return detail::tensor_of(found->first, found->second, *name_);
  }

  /// The same with a check of the shape; a size of aviary::dynamic fits any:  tensor("head.weight", {dynamic, 64}).
  Tensor tensor(std::string_view name, std::initializer_list<std::int64_t> shape) const {
    return tensor(name).expect_shape(shape);
  }
  Tensor tensor(std::string_view name, std::span<std::int64_t const> shape) const {
    return tensor(name).expect_shape(shape);
  }

  /// Gives back the memory in which the numbers of a tensor lie, for whoever has copied them: they are read from the file
  /// again when they are touched. Does nothing for numbers that lie in no file.
  void release(Tensor const& tensor) const noexcept {
    file_.release(tensor.bytes);
    for (TensorFile const& file : files_) file.release(tensor);
  }

  /// Whether the file says what the checksum of all its content is: files of states and token caches do.
  bool has_checksum() const { return metadata().contains(detail::checksum_key); }

  /// Reads all bytes for which the file has a checksum, as torch checkpoints mostly do, and safetensors files that
  /// has_checksum(), and throws std::runtime_error if they are damaged. It touches every page of the file: nobody does it
  /// unasked for weights, StateFile and load_token_cache() do.
  void verify() const {
    for (TensorFile const& file : files_) file.verify();
    for (detail::Checksum const& checksum : table_.checksums) checksum.verify(*name_);
    auto const stated = metadata().find(detail::checksum_key);
    if (stated != metadata().end() && stated->second != detail::ContentChecksum::of(table_.tensors, metadata()))
      throw std::runtime_error(message("its content does not fit its checksum: it is damaged"));
  }

  /// Throws std::runtime_error if there is no checksum.
  void expect_checksum() const {
    if (!has_checksum()) throw std::runtime_error(message("its checksum is missing: it is damaged"));
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
  std::vector<std::vector<std::byte>> numbers_;  // that lie in no file
  std::vector<TensorFile> files_;                // whose numbers some tensors have
  std::unique_ptr<std::string const> name_;      // in place through moves, unlike a short string: tensors refer to it
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
