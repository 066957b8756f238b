#pragma once
/// The safetensors format: 8 bytes of header length (little-endian), a JSON object that says each tensor's dtype, shape
/// and place, then the numbers. Nothing in a file is believed: every length, place and type is checked when it is opened.
/// Format: https://github.com/huggingface/safetensors
///
/// The JSON is read and written in safetensors_json.hpp, which takes a compiler seconds. A program of many sources may define
/// AVIARY_IO_SEPARATE for all of them, and include that header in one alone: in one for each instruction set, if it has several.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <ostream>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aviary/io/message.hpp"
#include "aviary/io/output_file.hpp"
#include "aviary/io/tensor.hpp"
#include "aviary/io/tensor_file.hpp"

#if defined(AVIARY_IO_SEPARATE)
#define AVIARY_IO_INLINE
#else
#define AVIARY_IO_INLINE inline
#endif

namespace AVIARY_NAMESPACE {

namespace detail {

inline constexpr std::uint64_t safetensors_header_limit = 100'000'000;  // a rule of the format
inline constexpr std::string_view metadata_key = "__metadata__";

/// The format writes the names of dtypes in capitals.
inline std::string in_capitals(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return out;
}
inline std::string safetensors_name(NumberFormat dtype) { return in_capitals(name_of(dtype)); }

/// Bytes from `begin` to `end` of the data.
struct SafeTensorsPlace {
  std::string_view name;
  TensorEntry const* entry;
  std::uint64_t begin, end;
};

/// The tensors of the bytes of a safetensors file. `file` stands for it in messages.
AVIARY_IO_INLINE TensorTable read_safetensors(std::span<std::byte const> bytes, std::string_view file);
/// The JSON part of a file that holds these. Texts are UTF-8.
AVIARY_IO_INLINE std::string safetensors_header(Metadata const& metadata, std::span<SafeTensorsPlace const> tensors);

/// Which file of its folder has each tensor, as an index of shards says: {"weight_map": {"TENSOR": "FILE", ...}, ...}.
using ShardIndex = std::map<std::string, std::string, std::less<>>;
AVIARY_IO_INLINE ShardIndex read_shard_index(std::string_view json, std::string_view file);

}  // namespace detail

/// The tensors of a safetensors file, or of its bytes in memory: std::runtime_error tells which rule of the format a file
/// breaks. Opening reads the header alone.
class SafeTensors : public TensorFileOf<detail::read_safetensors> {
  using TensorFileOf::TensorFileOf;
};

/// Collects tensors and writes them as a safetensors file. Numbers are not copied: they must outlive the writer.
/// The same content gives the same bytes: tensors lie in descending size of number, then by name, which aligns each on
/// its own number size; the header is padded with spaces to a multiple of 8.
class SafeTensorsWriter {
 public:
  /// Adds numbers from anything contiguous that outlives the writer.
  /// Throws std::invalid_argument for a repeated, reserved or non-UTF-8 name, or a shape that does not fit the numbers.
  template <std::ranges::contiguous_range R>
  requires(std::ranges::borrowed_range<R>&& Element<std::ranges::range_value_t<R>>)
      SafeTensorsWriter& add(std::string name, std::vector<std::int64_t> shape, R&& numbers) {
    std::span const span(numbers);
    return add(std::move(name), {.dtype = format_of<std::ranges::range_value_t<R>>,
                                 .shape = std::move(shape),
                                 .strides = {},
                                 .bytes = std::as_bytes(span)});
  }

  /// Adds a tensor of another file as it is; one with strides is written row-major, one in blocks as numbers of its dtype.
  SafeTensorsWriter& add(Tensor const& tensor) { return add(std::string(tensor.name), detail::entry_of(tensor)); }

  /// Sets a text of the file; a checksum, copied from another file, is worked out anew.
  /// Throws std::invalid_argument unless key and text are UTF-8.
  SafeTensorsWriter& set_metadata(std::string key, std::string text) {
    check_utf8(key, "a metadata key");
    check_utf8(text, "a metadata text");
    metadata_.insert_or_assign(std::move(key), std::move(text));
    return *this;
  }

  /// Has the file say what the checksum of all its content is, for TensorFile::verify(). It is worked out when the file
  /// is written: the numbers are read twice.
  SafeTensorsWriter& add_checksum() { return set_metadata(std::string(detail::checksum_key), {}); }

  /// Writes the file: the old one, if any, is replaced when all is written, and stays if anything fails.
  /// Throws std::runtime_error with path and reason.
  void write(std::filesystem::path const& path) const {
    OutputFile file(path);
    write_pieces(path.string(), [&](std::span<std::byte const> bytes) { file.write(bytes); });
    file.commit();
  }

  /// Writes the same bytes to a stream. Failures are the stream's: its state, or what its exceptions() ask for.
  void write(std::ostream& to) const {
    write_pieces("stream", [&](std::span<std::byte const> bytes) {
      to.write(reinterpret_cast<char const*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    });
  }

 private:
  using Entry = detail::TensorEntry;
  using Named = std::pair<std::string const, Entry>;

  SafeTensorsWriter& add(std::string name, Entry entry) {
    auto const fail = [&](std::string const& what) {
      throw std::invalid_argument("cannot write tensor " + in_quotes(name) + ": " + what);
    };
    check_utf8(name, "a tensor name");
    if (name == detail::metadata_key) fail("the name is reserved");
    std::optional<std::int64_t> const extent = detail::extent_of(entry.shape, entry.strides);
    std::size_t const size = size_of(entry.dtype), numbers = entry.bytes.size() / size;
    bool const fits =
        extent && (entry.blocks || (entry.bytes.size() % size == 0 && static_cast<std::uint64_t>(*extent) == numbers));
    if (!fits)
      fail("expected numbers for shape " + shape_text(entry.shape) + strides_text(entry) + ", found " +
           std::to_string(entry.bytes.size()) + " bytes of " + std::string(name_of(entry.dtype)));
    if (count(entry) > static_cast<std::uint64_t>(INT64_MAX) / size) fail("it has more than 2^63 - 1 bytes");
    if (entries_.contains(name)) fail("it is given twice");
    entries_.emplace(std::move(name), std::move(entry));
    return *this;
  }

  static std::uint64_t count(Entry const& entry) {
    return static_cast<std::uint64_t>(detail::element_count(entry.shape).value_or(0));
  }
  static std::string strides_text(Entry const& entry) {
    return entry.strides.empty() ? "" : " and strides " + shape_text(entry.strides);
  }

  static void check_utf8(std::string const& text, char const* what) {
    if (!detail::is_utf8(text))
      throw std::invalid_argument(std::string("expected ") + what + " in UTF-8, found " + in_quotes(text));
  }

  std::vector<Named const*> in_file_order() const {
    std::vector<Named const*> order;
    for (auto const& entry : entries_) order.push_back(&entry);
    auto const larger = [](Named const* a, Named const* b) {
      std::size_t const x = size_of(a->second.dtype), y = size_of(b->second.dtype);
      return x != y ? x > y : a->first < b->first;
    };
    std::ranges::sort(order, larger);
    return order;
  }

  Metadata metadata() const {
    Metadata texts = metadata_;
    if (auto const checksum = texts.find(detail::checksum_key); checksum != texts.end())
      checksum->second = detail::ContentChecksum::of(entries_, texts);
    return texts;
  }

  std::string header(std::vector<Named const*> const& order) const {
    std::vector<detail::SafeTensorsPlace> places;
    std::uint64_t begin = 0;
    for (Named const* named : order) {
      auto const& [name, entry] = *named;
      std::uint64_t const end = begin + count(entry) * size_of(entry.dtype);
      places.push_back({name, &entry, begin, end});
      begin = end;
    }
    std::string text = detail::safetensors_header(metadata(), places);
    return text.append((8 - text.size() % 8) % 8, ' ');
  }

  void write_pieces(std::string const& file, auto&& write) const {
    auto const order = in_file_order();
    std::string const text = header(order);
    std::uint64_t const length = text.size();
    if (length > detail::safetensors_header_limit)
      throw std::runtime_error(file + ": expected a header of at most " +
                               std::to_string(detail::safetensors_header_limit) + " bytes, found " +
                               std::to_string(length));
    write(std::as_bytes(std::span(&length, 1)));
    write(std::as_bytes(std::span(text)));
    for (Named const* named : order) detail::for_each_piece(detail::tensor_of(named->first, named->second), write);
  }

  detail::TensorEntries entries_;
  Metadata metadata_;
};

}  // namespace AVIARY_NAMESPACE

#if !defined(AVIARY_IO_SEPARATE)
#include "aviary/io/safetensors_json.hpp"
#endif
