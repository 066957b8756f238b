#pragma once
/// GGUF files, versions 2 and 3: "GGUF", a version, counts, typed texts and numbers under keys, then what each tensor is
/// called and where it lies, then the numbers. Nothing in a file is believed: every length, count, type and place is
/// checked when it is opened.
/// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
///
/// Shapes are outermost first here, as everywhere in the library, and so the other way round than in the file. Tensors in
/// blocks (block_format.hpp) read as float, and single values under keys as texts: "rwkv7.wkv.head_size" is "64". Lists are
/// left out, but for the tokens of an RWKV vocabulary, which become TensorFile::vocabulary().
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "aviary/io/block_format.hpp"
#include "aviary/io/message.hpp"
#include "aviary/io/tensor_file.hpp"
#include "aviary/io/vocabulary.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {

inline constexpr std::string_view gguf_magic = "GGUF";

/// The format of a tensor's numbers, as the file counts them. `blocks`: f32 in memory; `dtype`: as in the file.
struct GgufType {
  std::uint32_t id;
  std::string_view name;
  std::optional<NumberFormat> dtype = {};
  std::optional<BlockFormat> blocks = {};
};
inline constexpr std::array<GgufType, 34> gguf_types{{
    {0, "F32", NumberFormat::f32, {}},
    {1, "F16", NumberFormat::f16, {}},
    {2, "Q4_0", {}, BlockFormat::q4_0},
    {3, "Q4_1", {}, BlockFormat::q4_1},
    {6, "Q5_0", {}, BlockFormat::q5_0},
    {7, "Q5_1", {}, BlockFormat::q5_1},
    {8, "Q8_0", {}, BlockFormat::q8_0},
    {12, "Q4_K", {}, BlockFormat::q4_k},
    {13, "Q5_K", {}, BlockFormat::q5_k},
    {14, "Q6_K", {}, BlockFormat::q6_k},
    {26, "I32", NumberFormat::i32, {}},
    {27, "I64", NumberFormat::i64, {}},
    {28, "F64", NumberFormat::f64, {}},
    {30, "BF16", NumberFormat::bf16, {}},
    // Known by name alone.
    {9, "Q8_1"},
    {10, "Q2_K"},
    {11, "Q3_K"},
    {15, "Q8_K"},
    {16, "IQ2_XXS"},
    {17, "IQ2_XS"},
    {18, "IQ3_XXS"},
    {19, "IQ1_S"},
    {20, "IQ4_NL"},
    {21, "IQ3_S"},
    {22, "IQ2_S"},
    {23, "IQ4_XS"},
    {24, "I8"},
    {25, "I16"},
    {29, "IQ1_M"},
    {34, "TQ1_0"},
    {35, "TQ2_0"},
    {39, "MXFP4"},
    {40, "NVFP4"},
    {41, "Q1_0"},
}};

/// Types of values under keys, as the file counts them.
enum class GgufValue : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, list, u64, i64, f64 };

/// Calls f.operator()<T>() with the C++ type of a value that has one; false: it has none.
template <class F> bool with_value_type(GgufValue type, F&& f) {
  switch (type) {
    case GgufValue::u8:
      return f.template operator()<std::uint8_t>(), true;
    case GgufValue::i8:
      return f.template operator()<std::int8_t>(), true;
    case GgufValue::u16:
      return f.template operator()<std::uint16_t>(), true;
    case GgufValue::i16:
      return f.template operator()<std::int16_t>(), true;
    case GgufValue::u32:
      return f.template operator()<std::uint32_t>(), true;
    case GgufValue::i32:
      return f.template operator()<std::int32_t>(), true;
    case GgufValue::f32:
      return f.template operator()<float>(), true;
    case GgufValue::boolean:
      return f.template operator()<bool>(), true;
    case GgufValue::u64:
      return f.template operator()<std::uint64_t>(), true;
    case GgufValue::i64:
      return f.template operator()<std::int64_t>(), true;
    case GgufValue::f64:
      return f.template operator()<double>(), true;
    default:
      return false;
  }
}

/// Reads a file from its first byte to its last tensor. Every failure throws.
class GgufReader {
 public:
  GgufReader(std::span<std::byte const> bytes, std::string_view file) : file_(file), bytes_(bytes) {}

  TensorTable read() {
    if (text(gguf_magic.size(), "a magic word") != gguf_magic)
      fail("expected a file that begins with 'GGUF', found another");
    check_version(number<std::uint32_t>("a version"));
    auto const tensors = number<std::uint64_t>("a number of tensors");
    auto const values = number<std::uint64_t>("a number of values");
    for (std::uint64_t i = 0; i < values; ++i) read_value();
    check_parts();
    alignment_ = alignment();
    read_vocabulary();
    for (std::uint64_t i = 0; i < tensors; ++i) places_.push_back(read_place());
    align_data();
    for (Place& place : places_) add_tensor(place);
    check_layout();
    return std::move(table_);
  }

 private:
  /// Beyond these the tools of the format write nothing.
  static constexpr std::uint32_t most_dimensions = 4;
  static constexpr std::uint64_t longest_name = 65535;

  /// What the file says about a tensor.
  struct Place {
    std::string name;
    TensorEntry entry;
    std::uint64_t offset, size;
    std::string_view type;
  };
  /// Where a list lies.
  struct List {
    GgufValue type;
    std::uint64_t size;
    std::size_t at;
  };

  void check_version(std::uint32_t version) const {
    if (version == 2 || version == 3) return;
    bool const is_big_endian = (version & 0xffffu) == 0 && version != 0;
    fail(is_big_endian ? "is big-endian, expected a little-endian file"
                       : "expected version 2 or 3, found " + std::to_string(version));
  }

  // --- values --------------------------------------------------------------------------------------------------------

  void read_value() {
    key_ = name("a key");
    if (!keys_.emplace(key_, std::nullopt).second) fail_value("is given twice");
    auto const type = static_cast<GgufValue>(number<std::uint32_t>("a type of value"));
    if (type == GgufValue::list) {
      keys_[key_] = read_list();
    } else if (type == GgufValue::string) {
      set_text(std::string(string("a text")));
    } else if (!with_value_type(type, [&]<class T>() { set_text(text_of(number<T>("a value"))); })) {
      fail_type(type);
    }
  }

  List read_list() {
    auto const type = static_cast<GgufValue>(number<std::uint32_t>("a type of value"));
    auto const size = number<std::uint64_t>("a size of a list");
    List const list{type, size, at_};
    if (type == GgufValue::string) {
      for (std::uint64_t i = 0; i < size; ++i) string("a text");
    } else if (!with_value_type(type, [&]<class T>() { skip(size, sizeof(T)); })) {
      type == GgufValue::list ? fail_value("expected a list of single values, found one of lists") : fail_type(type);
    }
    return list;
  }

  void set_text(std::string text) {
    if (!is_utf8(text)) fail_value("expected a text in UTF-8, found " + in_quotes(text));
    table_.metadata.emplace(key_, std::move(text));
  }

  template <class T> static std::string text_of(T value) {
    if constexpr (std::is_same_v<T, bool>) {
      return value ? "true" : "false";
    } else if constexpr (std::is_integral_v<T>) {
      return std::to_string(value);
    } else {
      std::array<char, 32> digits;  // as few as tell it from others
      return {digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr};
    }
  }

  /// A number that the file gives as a text, or nothing if it does not give the key.
  std::optional<std::uint64_t> natural(std::string const& key) {
    auto const found = table_.metadata.find(key);
    if (found == table_.metadata.end()) return std::nullopt;
    std::uint64_t value = 0;
    char const* const end = found->second.data() + found->second.size();
    auto const [stop, error] = std::from_chars(found->second.data(), end, value);
    if (stop != end || error != std::errc()) {
      key_ = key;
      fail_value("expected an integer from 0 on, found " + in_quotes(found->second));
    }
    return value;
  }

  void check_parts() {
    if (auto const parts = natural("split.count"); parts && *parts > 1)
      fail("is one of " + std::to_string(*parts) + " parts of a file, expected all of it: merge the parts");
  }

  std::uint64_t alignment() {
    std::uint64_t const found = natural("general.alignment").value_or(32);
    if (!std::has_single_bit(found) || found > (1u << 20)) {
      key_ = "general.alignment";
      fail_value("expected a power of two up to 1048576, found " + std::to_string(found));
    }
    return found;
  }

  // --- the vocabulary ------------------------------------------------------------------------------------------------

  /// Tokens are what Python shows of bytes, without its quotes: "\x80", " the". Of other models they are something else.
  void read_vocabulary() {
    auto const model = table_.metadata.find("tokenizer.ggml.model");
    if (model == table_.metadata.end() || model->second != "rwkv") return;
    List const tokens = list("tokenizer.ggml.tokens", GgufValue::string);
    std::optional<List> kinds;
    if (keys_.contains("tokenizer.ggml.token_type")) {
      kinds = list("tokenizer.ggml.token_type", GgufValue::i32);
      if (kinds->size != tokens.size)
        fail_value("expected one for each of " + std::to_string(tokens.size) + " tokens, found " +
                   std::to_string(kinds->size));
    }
    key_ = "tokenizer.ggml.tokens";
    std::size_t const rest = at_;
    at_ = tokens.at;
    std::vector<std::string> texts;
    for (std::uint64_t id = 0; id < tokens.size; ++id) {
      std::string_view const token = string("a text");
      texts.emplace_back();
      if (!kinds || is_text(*kinds, id)) append_token(id, token, texts.back());
    }
    at_ = rest;
    try {
      table_.vocabulary = Vocabulary::of(texts);
    } catch (std::invalid_argument const& error) {
      fail_value(error.what());
    }
  }

  List list(std::string const& key, GgufValue type) {
    key_ = key;
    auto const found = keys_.find(key);
    if (found == keys_.end()) fail_value("is missing");
    if (!found->second || found->second->type != type)
      fail_value(std::string("expected a list of ") + (type == GgufValue::string ? "texts" : "32-bit integers") +
                 ", found something else");
    return *found->second;
  }

  /// Of normal tokens (1), users' own (4) and bytes (6); not so of unknown, control and unused ones.
  bool is_text(List const& kinds, std::uint64_t id) const {
    std::int32_t kind = 0;
    std::memcpy(&kind, bytes_.data() + kinds.at + id * sizeof(kind), sizeof(kind));
    return kind == 1 || kind == 4 || kind == 6;
  }

  void append_token(std::uint64_t id, std::string_view token, std::string& to) const {
    try {
      PythonLiteral::append_content(token, to);
    } catch (std::invalid_argument const& error) {
      fail_value("token " + std::to_string(id) + ": " + error.what());
    }
  }

  // --- tensors -------------------------------------------------------------------------------------------------------

  Place read_place() {
    Place place{.name = name("a name of a tensor"), .entry = {}, .offset = 0, .size = 0, .type = {}};
    auto const dimensions = number<std::uint32_t>("a number of dimensions");
    if (dimensions > most_dimensions)
      fail_tensor(place.name, "expected at most " + std::to_string(most_dimensions) + " dimensions, found " +
                                  std::to_string(dimensions));
    std::vector<std::int64_t>& shape = place.entry.shape;
    for (std::uint32_t i = 0; i < dimensions; ++i) {
      auto const size = number<std::uint64_t>("a size of a tensor");
      if (size > static_cast<std::uint64_t>(INT64_MAX))
        fail_tensor(place.name, "expected sizes up to 2^63 - 1, found " + std::to_string(size));
      shape.insert(shape.begin(), static_cast<std::int64_t>(size));
    }
    set_type(place, number<std::uint32_t>("a type of a tensor"));
    place.offset = number<std::uint64_t>("an offset of a tensor");
    return place;
  }

  void set_type(Place& place, std::uint32_t id) const {
    auto const type = std::ranges::find(gguf_types, id, &GgufType::id);
    if (type == gguf_types.end() || (!type->dtype && !type->blocks))
      fail_tensor(place.name, (type == gguf_types.end() ? "unknown type " + std::to_string(id)
                                                        : "type " + std::string(type->name) + " is not supported") +
                                  ", expected one of " + supported());
    place.type = type->name;
    TensorEntry& entry = place.entry;
    entry.dtype = type->dtype.value_or(NumberFormat::f32);
    auto [numbers, bytes] = BlockSize{1, size_of(entry.dtype)};
    if (type->blocks) {
      entry.blocks = BlockNumbers{*type->blocks};
      numbers = block_size(*type->blocks).numbers, bytes = block_size(*type->blocks).bytes;
    }
    std::optional<std::int64_t> const count = element_count(entry.shape);
    if (!count || static_cast<std::uint64_t>(*count) > static_cast<std::uint64_t>(INT64_MAX) / bytes)
      fail_tensor(place.name, "shape " + shape_text(entry.shape) + " needs more than 2^63 - 1 bytes");
    std::uint64_t const row = entry.shape.empty() ? 1 : static_cast<std::uint64_t>(entry.shape.back());
    if (row % numbers != 0)
      fail_tensor(place.name, "expected rows of a multiple of " + std::to_string(numbers) + " numbers for " +
                                  std::string(type->name) + ", found shape " + shape_text(entry.shape));
    place.size = static_cast<std::uint64_t>(*count) / numbers * bytes;
  }

  static std::string supported() {
    std::string out;
    for (GgufType const& type : gguf_types)
      if (type.dtype || type.blocks) (out += out.empty() ? "" : ", ") += type.name;
    return out;
  }

  /// Numbers begin at the next place that the alignment divides. A file without any may end before.
  void align_data() {
    std::uint64_t const padding = (alignment_ - at_ % alignment_) % alignment_;
    at_ += std::min<std::size_t>(padding, bytes_.size() - at_);
  }

  void add_tensor(Place& place) {
    std::span<std::byte const> const data = bytes_.subspan(at_);
    if (place.offset % alignment_ != 0)
      fail_tensor(place.name, "expected an offset that " + std::to_string(alignment_) + " divides, found " +
                                  std::to_string(place.offset));
    if (place.offset > data.size() || place.size > data.size() - place.offset)
      fail_tensor(place.name, std::string(place.type) + " and shape " + shape_text(place.entry.shape) + " need " +
                                  std::to_string(place.size) + " bytes from " + std::to_string(place.offset) +
                                  " on, which reach beyond the " + std::to_string(data.size()) +
                                  " bytes of data: the file is damaged or cut short");
    place.entry.bytes = data.subspan(place.offset, place.size);
    if (!table_.tensors.emplace(place.name, place.entry).second) fail_tensor(place.name, "is given twice");
  }

  /// No two tensors share a byte.
  void check_layout() {
    std::ranges::sort(places_, {}, [](Place const& p) { return std::pair(p.offset, p.size); });
    for (std::size_t i = 1; i < places_.size(); ++i) {
      Place const &before = places_[i - 1], &place = places_[i];
      if (place.offset < before.offset + before.size)
        fail("tensors " + in_quotes(before.name) + " and " + in_quotes(place.name) + " overlap: one ends at byte " +
             std::to_string(before.offset + before.size) + " of the data, the other begins at " +
             std::to_string(place.offset));
    }
  }

  // --- bytes ---------------------------------------------------------------------------------------------------------

  /// Throws unless `count` things of so many bytes are left; `what`: one of them.
  void need(std::uint64_t count, std::uint64_t size, char const* what) const {
    if (count > (bytes_.size() - at_) / size)
      fail("expected " + std::string(what) + " at byte " + std::to_string(at_) + " of its " +
           std::to_string(bytes_.size()) + ", found its end: the file is damaged or cut short");
  }
  void skip(std::uint64_t count, std::uint64_t size) {
    need(count, size, "a list");
    at_ += static_cast<std::size_t>(count * size);
  }
  std::string_view text(std::uint64_t size, char const* what) {
    need(size, 1, what);
    std::string_view const found(reinterpret_cast<char const*>(bytes_.data()) + at_, static_cast<std::size_t>(size));
    at_ += found.size();
    return found;
  }
  template <class T> T number(char const* what) {
    need(1, sizeof(T), what);
    if constexpr (std::is_same_v<T, bool>) {
      auto const value = std::to_integer<unsigned>(bytes_[at_++]);
      if (value > 1) fail_value("expected a truth value of 0 or 1, found " + std::to_string(value));
      return value != 0;
    } else {
      T value;
      std::memcpy(&value, bytes_.data() + at_, sizeof(T));
      at_ += sizeof(T);
      return value;
    }
  }
  std::string_view string(char const* what) { return text(number<std::uint64_t>(what), what); }
  std::string name(char const* what) {
    std::string_view const found = string(what);
    if (found.size() > longest_name || !is_utf8(found))
      fail("expected " + std::string(what) + " in UTF-8 of at most " + std::to_string(longest_name) + " bytes, found " +
           in_quotes(found));
    return std::string(found);
  }

  [[noreturn]] void fail(std::string const& what) const { throw std::runtime_error(std::string(file_) + ": " + what); }
  [[noreturn]] void fail_value(std::string const& what) const { fail("value " + in_quotes(key_) + ": " + what); }
  [[noreturn]] void fail_type(GgufValue type) const {
    fail_value("unknown type of value " + std::to_string(static_cast<std::uint32_t>(type)));
  }
  [[noreturn]] void fail_tensor(std::string const& tensor, std::string const& what) const {
    fail("tensor " + in_quotes(tensor) + ": " + what);
  }

  std::string_view file_;
  std::span<std::byte const> bytes_;
  std::size_t at_ = 0;  // the next byte
  std::uint64_t alignment_ = 0;
  std::string key_;  // the value at hand
  std::map<std::string, std::optional<List>> keys_;
  std::vector<Place> places_;
  TensorTable table_;
};

inline bool is_gguf(std::span<std::byte const> bytes) noexcept {
  return bytes.size() >= gguf_magic.size() && std::memcmp(bytes.data(), gguf_magic.data(), gguf_magic.size()) == 0;
}

/// The tensors of the bytes of a GGUF file. `file` stands for it in messages.
inline TensorTable read_gguf(std::span<std::byte const> bytes, std::string_view file) {
  return GgufReader(bytes, file).read();
}

}  // namespace detail

/// The tensors of a GGUF file, or of its bytes in memory: std::runtime_error tells what is wrong with a file. Opening reads
/// what comes before the numbers.
/// Memory: some bytes for each byte before the numbers.
class Gguf : public TensorFileOf<detail::read_gguf> {
  using TensorFileOf::TensorFileOf;
};

}  // namespace AVIARY_NAMESPACE
