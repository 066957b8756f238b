#pragma once
/// The JSON of safetensors files, for safetensors.hpp, which includes it and says when not. Include that.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "aviary/io/safetensors.hpp"

namespace aviary::detail {

/// Reads and checks the JSON part. Tensors are taken as the parser completes them and dropped from its tree, so that a
/// header needs memory for what it declares alone, and repeated keys are seen.
class SafeTensorsHeaderReader {
  using Json = nlohmann::json;
  using Event = Json::parse_event_t;

 public:
  SafeTensorsHeaderReader(std::string_view file, std::span<std::byte const> data) : file_(file), data_(data) {}

  TensorTable read(std::string_view json) {
    if (!json.starts_with('{')) fail("the header does not begin with '{'");
    if (json.find('\0') != json.npos) fail("the header holds a byte of 0");  // where the parser would stop
    try {
      std::ignore =
          Json::parse(json, [this](int depth, Event event, Json& value) { return take(depth, event, value); });
    } catch (Json::parse_error const& error) {
      fail("the header is not valid JSON: " + printable(without_prefix(error.what()), 200));
    } catch (Json::exception const& error) {
      fail("the header cannot be read: " + printable(without_prefix(error.what()), 200));
    }
    check_layout();
    return std::move(table_);
  }

 private:
  /// The depth of the deepest thing that the format knows: a number in a list of a tensor in the object.
  static constexpr int depth_limit = 3;
  /// Keys, values and list ends of a tensor: without a limit the parser's tree may grow to many times the header.
  static constexpr int event_limit = 1000;

  /// What programs say about a file has some kilobytes; each of these texts takes some hundred bytes of memory.
  static constexpr std::size_t metadata_texts = std::size_t{1} << 16, metadata_bytes = std::size_t{1} << 24;

  /// Called by the parser; true keeps the value in its tree. Depth 1 is inside of the outermost object.
  bool take(int depth, Event event, Json& value) {
    if (depth > depth_limit) fail_here("is nested too deeply");
    if (depth > 1 && !is_metadata() && ++events_ > event_limit) fail_here("holds too many values");
    if (depth == 2 && is_metadata()) check_metadata(event, value);
    if (event == Event::key) {
      if (depth == 1) begin_entry(value.get_ref<std::string const&>());
      if (depth == 2) note_key(value.get_ref<std::string const&>());
    } else if (depth == 1 && event == Event::object_end) {
      is_metadata() ? take_metadata(value) : take_tensor(value);
      return false;
    } else if (depth == 1 && event != Event::object_start) {
      fail_here(std::string("expected an object, found ") +
                (event == Event::array_start ? "array" : value.type_name()));
    }
    return true;
  }

  void begin_entry(std::string const& name) {
    name_ = name;
    keys_.clear();
    events_ = 0;
    if (is_metadata() ? std::exchange(has_metadata_, true) : table_.tensors.contains(name)) fail_here("is given twice");
  }
  void note_key(std::string const& key) {
    if (!keys_.insert(key).second) fail_here("the key " + in_quotes(key) + " is given twice");
    last_key_ = key;
  }

  /// Key by key and text by text, before the parser's tree has more of them.
  void check_metadata(Event event, Json const& value) {
    if (event == Event::key) return;  // counted with its text
    if (event != Event::value || !value.is_string())
      fail_here("expected a string for " + in_quotes(last_key_) + ", found " +
                (event == Event::object_start  ? "object"
                 : event == Event::array_start ? "array"
                                               : value.type_name()));
    metadata_size_ += last_key_.size() + value.get_ref<std::string const&>().size();
    if (keys_.size() > metadata_texts) fail_here("holds more than " + std::to_string(metadata_texts) + " texts");
    if (metadata_size_ > metadata_bytes)
      fail_here("its texts have more than " + std::to_string(metadata_bytes) + " bytes");
  }

  void take_metadata(Json const& object) {
    for (auto const& [key, value] : object.items())
      table_.metadata.emplace(key, value.template get_ref<std::string const&>());
  }

  void take_tensor(Json const& object) {
    NumberFormat const dtype = dtype_in(object);
    std::vector<std::int64_t> shape = shape_in(object);
    std::optional<std::int64_t> const count = element_count(shape);
    if (!count || *count > INT64_MAX / static_cast<std::int64_t>(size_of(dtype)))
      fail_here("shape " + shape_text(shape) + " needs more than 2^63 - 1 bytes");
    auto const [begin, end] = offsets_in(object);
    std::uint64_t const bytes = static_cast<std::uint64_t>(*count) * size_of(dtype);
    if (end - begin != bytes)
      fail_here("dtype " + safetensors_name(dtype) + " and shape " + shape_text(shape) + " need " +
                std::to_string(bytes) + " bytes, data_offsets " + range_text(begin, end) + " hold " +
                std::to_string(end - begin));
    table_.tensors.emplace(name_, TensorEntry{dtype, std::move(shape), {}, data_.subspan(begin, bytes)});
  }

  NumberFormat dtype_in(Json const& object) const {
    Json const& value = member(object, "dtype");
    if (!value.is_string()) fail_here(std::string("expected a string for dtype, found ") + value.type_name());
    auto const& name = value.get_ref<std::string const&>();
    auto const known = std::ranges::find(tensor_formats, name, safetensors_name);
    if (known != tensor_formats.end()) return *known;
    constexpr std::array<std::string_view, 13> others{
        "BOOL", "I8", "I16", "U16", "U32", "U64", "C64", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4"};
    bool const official = std::ranges::find(others, name) != others.end();
    fail_here((official ? "dtype " + name + " is not supported" : "unknown dtype " + in_quotes(name)) +
              ", expected one of " + in_capitals(list_dtypes()));
  }

  std::vector<std::int64_t> shape_in(Json const& object) const {
    std::vector<std::int64_t> shape;
    for (Json const& size : list(object, "shape")) shape.push_back(natural(size, "shape"));
    return shape;
  }

  std::pair<std::uint64_t, std::uint64_t> offsets_in(Json const& object) const {
    Json const& value = list(object, "data_offsets");
    if (value.size() != 2) fail_here("expected 2 data_offsets, found " + std::to_string(value.size()));
    auto const begin = static_cast<std::uint64_t>(natural(value[0], "data_offsets"));
    auto const end = static_cast<std::uint64_t>(natural(value[1], "data_offsets"));
    if (begin > end) fail_here("data_offsets " + range_text(begin, end) + " end before they begin");
    if (end > data_.size())
      fail_here("data_offsets " + range_text(begin, end) + " reach beyond the " + std::to_string(data_.size()) +
                " bytes of data: the file is damaged or cut short");
    return {begin, end};
  }

  Json const& member(Json const& object, char const* key) const {
    auto const found = object.find(key);
    if (found == object.end()) fail_here(std::string(key) + " is missing");
    return *found;
  }
  Json const& list(Json const& object, char const* key) const {
    Json const& value = member(object, key);
    if (!value.is_array()) fail_here(std::string("expected an array for ") + key + ", found " + value.type_name());
    return value;
  }
  std::int64_t natural(Json const& value, char const* key) const {
    if (value.is_number_unsigned() && value.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX))
      return value.get<std::int64_t>();
    fail_here(std::string("expected integers from 0 to 2^63 - 1 for ") + key + ", found " +
              (value.is_number() ? value.dump() : value.type_name()));
  }

  /// The tensors must fill the data: no two share a byte, no byte belongs to none.
  void check_layout() const {
    std::vector<std::pair<std::string const, TensorEntry> const*> order;
    for (auto const& tensor : table_.tensors) order.push_back(&tensor);
    std::ranges::sort(order, {}, [&](auto const* t) { return std::pair(begin_of(t->second), t->second.bytes.size()); });
    std::uint64_t covered = 0;
    std::string const* previous = nullptr;
    for (auto const* tensor : order) {
      auto const& [name, entry] = *tensor;
      std::uint64_t const begin = begin_of(entry), end = begin + entry.bytes.size();
      if (begin < covered)
        fail("tensors " + in_quotes(*previous) + " and " + in_quotes(name) + " overlap: one ends at byte " +
             std::to_string(covered) + " of the data, the other has data_offsets " + range_text(begin, end));
      if (begin > covered) fail_gap(covered, begin);
      covered = end;
      previous = &name;
    }
    if (covered < data_.size()) fail_gap(covered, data_.size());
  }
  std::uint64_t begin_of(TensorEntry const& entry) const {
    return static_cast<std::uint64_t>(entry.bytes.data() - data_.data());
  }

  bool is_metadata() const { return name_ == metadata_key; }

  static std::string range_text(std::uint64_t begin, std::uint64_t end) {
    return "[" + std::to_string(begin) + ", " + std::to_string(end) + "]";
  }
  static std::string_view without_prefix(std::string_view what) {  // "[json.exception.parse_error.101] "
    std::size_t const end = what.find("] ");
    return end == std::string_view::npos ? what : what.substr(end + 2);
  }

  [[noreturn]] void fail(std::string const& what) const { throw std::runtime_error(std::string(file_) + ": " + what); }
  [[noreturn]] void fail_here(std::string const& what) const {
    fail((is_metadata() ? std::string(metadata_key) : "tensor " + in_quotes(name_)) + ": " + what);
  }
  [[noreturn]] void fail_gap(std::uint64_t begin, std::uint64_t end) const {
    fail("bytes " + range_text(begin, end) + " of the data belong to no tensor");
  }

  std::string_view file_;
  std::span<std::byte const> data_;
  TensorTable table_;
  std::string name_;  // the tensor at hand
  std::set<std::string> keys_;
  std::string last_key_;
  std::size_t metadata_size_ = 0;
  int events_ = 0;
  bool has_metadata_ = false;
};

AVIARY_IO_INLINE TensorTable read_safetensors(std::span<std::byte const> bytes, std::string_view file) {
  auto const fail = [&](std::string const& what) { throw std::runtime_error(std::string(file) + ": " + what); };
  std::uint64_t length = 0;
  if (bytes.size() < sizeof(length))
    fail("expected 8 bytes of header length, found a file of " + std::to_string(bytes.size()) + " bytes");
  std::memcpy(&length, bytes.data(), sizeof(length));
  std::span<std::byte const> const rest = bytes.subspan(sizeof(length));
  if (length > safetensors_header_limit)
    fail("expected a header of at most " + std::to_string(safetensors_header_limit) + " bytes, found " +
         std::to_string(length) + ": not a safetensors file?");
  if (length > rest.size())
    fail("expected a header of " + std::to_string(length) + " bytes, found " + std::to_string(rest.size()) +
         " left in the file");
  return SafeTensorsHeaderReader(file, rest.subspan(length))
      .read({reinterpret_cast<char const*>(rest.data()), static_cast<std::size_t>(length)});
}

AVIARY_IO_INLINE std::string safetensors_header(Metadata const& metadata, std::span<SafeTensorsPlace const> tensors) {
  nlohmann::json json = nlohmann::json::object();
  if (!metadata.empty()) json[std::string(metadata_key)] = metadata;
  for (SafeTensorsPlace const& tensor : tensors)
    json[std::string(tensor.name)] = {{"dtype", safetensors_name(tensor.entry->dtype)},
                                      {"shape", tensor.entry->shape},
                                      {"data_offsets", {tensor.begin, tensor.end}}};
  return json.dump();
}

AVIARY_IO_INLINE bool is_utf8(std::string const& text) {
  try {
    std::ignore = nlohmann::json(text).dump();
    return true;
  } catch (nlohmann::json::exception const&) {
    return false;
  }
}

}  // namespace aviary::detail
