#pragma once
/// The JSON of safetensors files and of indices of their shards, for safetensors.hpp, which includes it and says when not. Include that.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aviary/io/safetensors.hpp"

namespace AVIARY_NAMESPACE::detail {

inline std::string_view without_prefix(std::string_view what) {  // "[json.exception.parse_error.101] "
  std::size_t const end = what.find("] ");
  return end == std::string_view::npos ? what : what.substr(end + 2);
}

/// Reads and checks the JSON part, event by event: nothing is kept of it but what it declares. Every failure throws.
class SafeTensorsHeaderReader {
  using Json = nlohmann::json;

 public:
  SafeTensorsHeaderReader(std::string_view file, std::span<std::byte const> data) : file_(file), data_(data) {}

  TensorTable read(std::string_view json) {
    if (!json.starts_with('{')) fail("the header does not begin with '{'");
    if (json.find('\0') != json.npos) fail("the header holds a byte of 0");  // where the parser would stop
    Json::sax_parse(json, this);
    check_layout();
    return std::move(table_);
  }

  /// @name What the parser calls
  ///@{
  bool null() { return take("null"); }
  bool boolean(bool) { return take("boolean"); }
  bool number_integer(Json::number_integer_t n) { return take("number") && take_number(-1, std::to_string(n)); }
  bool number_unsigned(Json::number_unsigned_t n) {
    return take("number") && take_number(n > INT64_MAX ? -1 : static_cast<std::int64_t>(n), std::to_string(n));
  }
  bool number_float(Json::number_float_t, std::string const& text) { return take("number") && take_number(-1, text); }
  bool string(std::string& text) {
    take("string");
    if (depth_ == 2 && is_metadata()) take_text(std::move(text));
    if (depth_ == 2 && member_ == Member::dtype) dtype_ = std::move(text);
    return true;
  }
  bool binary(Json::binary_t&) { return take("binary"); }
  bool start_object(std::size_t) { return open("object"); }
  bool start_array(std::size_t) { return open("array"); }
  bool end_array() { return close(); }
  bool end_object() {
    close();
    if (depth_ == 1 && !is_metadata()) take_tensor();
    return true;
  }
  bool key(std::string& name) {
    count();
    if (depth_ == 1) begin_entry(std::move(name));
    if (depth_ == 2) begin_member(std::move(name));
    return true;
  }
  bool parse_error(std::size_t, std::string const&, Json::exception const& error) {
    fail("the header is not valid JSON: " + printable(without_prefix(error.what()), 200));
  }
  ///@}

 private:
  /// The depth of the deepest thing that the format knows: a number in a list of a tensor in the object.
  static constexpr int depth_limit = 3;
  /// Keys, values and list ends of a tensor: without a limit its lists may grow to many times the header.
  static constexpr int event_limit = 1000;
  /// What programs say about a file has some kilobytes; each of these texts takes some hundred bytes of memory.
  static constexpr std::size_t metadata_texts = std::size_t{1} << 16, metadata_bytes = std::size_t{1} << 24;

  /// What the format knows of a tensor.
  enum class Member : unsigned char { dtype, shape, data_offsets, other };
  static constexpr std::array<std::string_view, 3> members{"dtype", "shape", "data_offsets"};

  void count() {
    if (depth_ > depth_limit) fail_here("is nested too deeply");
    if (depth_ > 1 && !is_metadata() && ++events_ > event_limit) fail_here("holds too many values");
  }

  /// A value of any kind begins.
  bool take(std::string_view kind) {
    count();
    auto const expect = [&](std::string_view expected, std::string_view of) {
      if (kind != expected)
        fail_here("expected " + std::string(expected == "string" ? "a " : "an ") + std::string(expected) +
                  std::string(of) + ", found " + std::string(kind));
    };
    if (depth_ == 1) expect("object", "");
    if (depth_ == 3 && kind != "number") take_number(-1, std::string(kind));
    if (depth_ != 2) return true;
    if (is_metadata()) expect("string", " for " + in_quotes(member_name_));
    if (member_ == Member::dtype) expect("string", " for dtype");
    if (is_list()) expect("array", " for " + member_name_);
    return true;
  }
  bool open(std::string_view kind) {
    if (depth_ > 0) take(kind);
    if (depth_++ == 2 && is_list()) list().emplace();
    return true;
  }
  bool close() {
    --depth_;
    count();
    return true;
  }

  void begin_entry(std::string name) {
    name_ = std::move(name);
    keys_.clear();
    events_ = 0;
    dtype_.reset(), shape_.reset(), offsets_.reset();
    member_ = Member::other;
    if (is_metadata() ? std::exchange(has_metadata_, true) : table_.tensors.contains(name_))
      fail_here("is given twice");
  }
  void begin_member(std::string name) {
    member_name_ = std::move(name);
    if (!is_metadata()) member_ = static_cast<Member>(std::ranges::find(members, member_name_) - members.begin());
    if (!keys_.insert(member_name_).second) fail_here("the key " + in_quotes(member_name_) + " is given twice");
  }

  void take_text(std::string text) {
    metadata_size_ += member_name_.size() + text.size();
    if (keys_.size() > metadata_texts) fail_here("holds more than " + std::to_string(metadata_texts) + " texts");
    if (metadata_size_ > metadata_bytes)
      fail_here("its texts have more than " + std::to_string(metadata_bytes) + " bytes");
    table_.metadata.emplace(member_name_, std::move(text));
  }

  bool is_list() const { return member_ == Member::shape || member_ == Member::data_offsets; }
  std::optional<std::vector<std::int64_t>>& list() { return member_ == Member::shape ? shape_ : offsets_; }
  /// A number of a list, if one is read; below 0: it is none that may be there.
  bool take_number(std::int64_t number, std::string const& found) {
    if (depth_ != 3 || !is_list()) return true;
    if (number < 0) fail_here("expected integers from 0 to 2^63 - 1 for " + member_name_ + ", found " + found);
    list()->push_back(number);
    return true;
  }

  void take_tensor() {
    NumberFormat const dtype = dtype_of(need(dtype_, Member::dtype));
    std::vector<std::int64_t> shape = need(shape_, Member::shape);
    std::optional<std::int64_t> const count = element_count(shape);
    if (!count || *count > INT64_MAX / static_cast<std::int64_t>(size_of(dtype)))
      fail_here("shape " + shape_text(shape) + " needs more than 2^63 - 1 bytes");
    auto const [begin, end] = place_of(need(offsets_, Member::data_offsets));
    std::uint64_t const bytes = static_cast<std::uint64_t>(*count) * size_of(dtype);
    if (end - begin != bytes)
      fail_here("dtype " + safetensors_name(dtype) + " and shape " + shape_text(shape) + " need " +
                std::to_string(bytes) + " bytes, data_offsets " + range_text(begin, end) + " hold " +
                std::to_string(end - begin));
    table_.tensors.emplace(name_, TensorEntry{dtype, std::move(shape), {}, data_.subspan(begin, bytes)});
  }
  template <class T> T const& need(std::optional<T> const& found, Member member) const {
    if (!found) fail_here(std::string(members[static_cast<std::size_t>(member)]) + " is missing");
    return *found;
  }

  NumberFormat dtype_of(std::string const& name) const {
    auto const known = std::ranges::find(tensor_formats, name, safetensors_name);
    if (known != tensor_formats.end()) return *known;
    constexpr std::array<std::string_view, 13> others{
        "BOOL", "I8", "I16", "U16", "U32", "U64", "C64", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4"};
    bool const official = std::ranges::find(others, name) != others.end();
    fail_here((official ? "dtype " + name + " is not supported" : "unknown dtype " + in_quotes(name)) +
              ", expected one of " + in_capitals(list_dtypes()));
  }

  std::pair<std::uint64_t, std::uint64_t> place_of(std::vector<std::int64_t> const& offsets) const {
    if (offsets.size() != 2) fail_here("expected 2 data_offsets, found " + std::to_string(offsets.size()));
    auto const begin = static_cast<std::uint64_t>(offsets[0]), end = static_cast<std::uint64_t>(offsets[1]);
    if (begin > end) fail_here("data_offsets " + range_text(begin, end) + " end before they begin");
    if (end > data_.size())
      fail_here("data_offsets " + range_text(begin, end) + " reach beyond the " + std::to_string(data_.size()) +
                " bytes of data: the file is damaged or cut short");
    return {begin, end};
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
  int depth_ = 0;     // how many objects and lists are open
  std::string name_;  // the tensor at hand
  std::optional<std::string> dtype_;
  std::optional<std::vector<std::int64_t>> shape_, offsets_;
  std::set<std::string> keys_;
  std::string member_name_;  // the member at hand
  Member member_ = Member::other;
  int events_ = 0;
  std::size_t metadata_size_ = 0;
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

/// Reads the index of a model's shards, event by event. Every failure throws.
class ShardIndexReader {
  using Json = nlohmann::json;

 public:
  explicit ShardIndexReader(std::string_view file) : file_(file) {}

  ShardIndex read(std::string_view json) {
    if (json.find('\0') != json.npos) fail("the index holds a byte of 0");  // where the parser would stop
    Json::sax_parse(json, this);
    if (!has_map_) fail("the index has no 'weight_map' of tensors to files");
    if (index_.empty()) fail("the index names no tensors");
    return std::move(index_);
  }

  /// @name What the parser calls
  ///@{
  bool null() { return take("null"); }
  bool boolean(bool) { return take("boolean"); }
  bool number_integer(Json::number_integer_t) { return take("number"); }
  bool number_unsigned(Json::number_unsigned_t) { return take("number"); }
  bool number_float(Json::number_float_t, std::string const&) { return take("number"); }
  bool binary(Json::binary_t&) { return take("binary"); }
  bool string(std::string& text) {
    if (depth_ < 2 || !in_map_) return take("string");
    if (!is_file_name(text))
      fail("tensor " + in_quotes(key_) + ": expected the name of a file beside the index, found " + in_quotes(text));
    index_.at(key_) = std::move(text);
    return true;
  }
  bool start_object(std::size_t) { return open("object"); }
  bool start_array(std::size_t) { return open("array"); }
  bool end_object() { return --depth_, true; }
  bool end_array() { return --depth_, true; }
  bool key(std::string& name) {
    if (depth_ == 1) {
      in_map_ = name == "weight_map";
      if (in_map_ && std::exchange(has_map_, true)) fail("'weight_map' is given twice");
    } else if (in_map_) {
      key_ = std::move(name);
      if (!index_.emplace(key_, std::string()).second) fail("tensor " + in_quotes(key_) + " is given twice");
    }
    return true;
  }
  bool parse_error(std::size_t, std::string const&, Json::exception const& error) {
    fail("the index is not valid JSON: " + printable(without_prefix(error.what()), 200));
  }
  ///@}

 private:
  static constexpr int depth_limit = 16;

  bool take(std::string_view kind) const {
    if (depth_ == 0) fail("expected an object, found " + std::string(kind));
    if (depth_ == 1 && in_map_) fail("expected an object for 'weight_map', found " + std::string(kind));
    if (in_map_) fail("tensor " + in_quotes(key_) + ": expected the name of a file, found " + std::string(kind));
    return true;
  }
  bool open(std::string_view kind) {
    if (kind != "object" || depth_ > 1) take(kind);
    if (++depth_ > depth_limit) fail("the index is nested too deeply");
    return true;
  }

  /// Of a file in the folder at hand, on any system.
  static bool is_file_name(std::string_view name) {
    return !name.empty() && name != "." && name != ".." && name.find_first_of("/\\:") == name.npos;
  }

  [[noreturn]] void fail(std::string const& what) const { throw std::runtime_error(std::string(file_) + ": " + what); }

  std::string_view file_;
  ShardIndex index_;
  int depth_ = 0;  // how many objects and lists are open
  bool in_map_ = false, has_map_ = false;
  std::string key_;
};

AVIARY_IO_INLINE ShardIndex read_shard_index(std::string_view json, std::string_view file) {
  return ShardIndexReader(file).read(json);
}

/// A text of UTF-8 as JSON writes it.
inline void append_json(std::string_view text, std::string& to) {
  constexpr std::string_view escaped = "\"\\\b\f\n\r\t", names = "\"\\bfnrt";
  to += '"';
  for (char const c : text) {
    if (std::size_t const i = escaped.find(c); i != escaped.npos)
      (to += '\\') += names[i];
    else if (auto const byte = static_cast<unsigned char>(c); byte < 0x20)
      (to += "\\u00") += hexadecimal(byte);
    else
      to += c;
  }
  to += '"';
}

/// Names in the order of their bytes, without white space.
AVIARY_IO_INLINE std::string safetensors_header(Metadata const& metadata, std::span<SafeTensorsPlace const> tensors) {
  std::map<std::string_view, SafeTensorsPlace const*> order;
  if (!metadata.empty()) order.emplace(metadata_key, nullptr);
  for (SafeTensorsPlace const& tensor : tensors) order.emplace(tensor.name, &tensor);
  std::string json = "{", separator;
  for (auto const& [name, place] : order) {
    append_json(name, json += std::exchange(separator, ","));
    json += ":{";
    if (place == nullptr) {
      std::string comma;
      for (auto const& [key, text] : metadata) {
        append_json(key, json += std::exchange(comma, ","));
        append_json(text, json += ':');
      }
    } else {
      json += "\"data_offsets\":[" + std::to_string(place->begin) + "," + std::to_string(place->end) +
              "],\"dtype\":\"" + safetensors_name(place->entry->dtype) + "\",\"shape\":[";
      std::string comma;
      for (std::int64_t const size : place->entry->shape) (json += std::exchange(comma, ",")) += std::to_string(size);
      json += ']';
    }
    json += '}';
  }
  return json + '}';
}

}  // namespace AVIARY_NAMESPACE::detail
