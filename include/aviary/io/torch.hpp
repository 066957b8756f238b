#pragma once
/// Checkpoints of torch.save: a zip archive of a pickle, which says what the tensors are called and which piece of which
/// storage each of them is, and of the storages. Nothing in a file is executed, and nothing is believed: every storage,
/// place and stride is checked when the file is opened.
/// Format: https://github.com/pytorch/pytorch/blob/v2.9.0/torch/serialization.py and torch/_utils.py, _rebuild_tensor_v2
///
/// A tensor's name joins the keys of dicts and the places in lists and tuples that lead to it by '.', as the names of
/// modules do: {"model": {"emb": t}} is "model.emb". Other leaves (numbers, texts, sizes, bare storages) are no tensors and
/// are left out, and so are the attributes of objects.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
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
#include "aviary/io/pickle.hpp"
#include "aviary/io/tensor.hpp"
#include "aviary/io/tensor_file.hpp"
#include "aviary/io/zip.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {

/// What a global of a checkpoint is good for.
enum class TorchRole : unsigned char { dict, tensor, tensor_v2, tensor_v3, parameter, subclass, storage, dtype, leaf };

struct TorchGlobal {
  std::string_view name;
  TorchRole role;
  std::optional<NumberFormat> dtype = {};  // what a storage or dtype holds; none: not one of ours
};

/// The only names that a checkpoint may use.
inline constexpr std::array torch_globals{
    TorchGlobal{"collections OrderedDict", TorchRole::dict},
    TorchGlobal{"torch._utils _rebuild_tensor", TorchRole::tensor},
    TorchGlobal{"torch._utils _rebuild_tensor_v2", TorchRole::tensor_v2},
    TorchGlobal{"torch._utils _rebuild_tensor_v3", TorchRole::tensor_v3},
    TorchGlobal{"torch._utils _rebuild_parameter", TorchRole::parameter},
    TorchGlobal{"torch._utils _rebuild_parameter_with_state", TorchRole::parameter},
    TorchGlobal{"torch._tensor _rebuild_from_type_v2", TorchRole::subclass},
    TorchGlobal{"torch DoubleStorage", TorchRole::storage, NumberFormat::f64},
    TorchGlobal{"torch FloatStorage", TorchRole::storage, NumberFormat::f32},
    TorchGlobal{"torch HalfStorage", TorchRole::storage, NumberFormat::f16},
    TorchGlobal{"torch BFloat16Storage", TorchRole::storage, NumberFormat::bf16},
    TorchGlobal{"torch LongStorage", TorchRole::storage, NumberFormat::i64},
    TorchGlobal{"torch IntStorage", TorchRole::storage, NumberFormat::i32},
    TorchGlobal{"torch ByteStorage", TorchRole::storage, NumberFormat::u8},
    TorchGlobal{"torch.storage UntypedStorage", TorchRole::storage, NumberFormat::u8},
    TorchGlobal{"torch.storage _UntypedStorage", TorchRole::storage, NumberFormat::u8},
    TorchGlobal{"torch UntypedStorage", TorchRole::storage, NumberFormat::u8},
    TorchGlobal{"torch BoolStorage", TorchRole::storage},
    TorchGlobal{"torch CharStorage", TorchRole::storage},
    TorchGlobal{"torch ShortStorage", TorchRole::storage},
    TorchGlobal{"torch ComplexFloatStorage", TorchRole::storage},
    TorchGlobal{"torch ComplexDoubleStorage", TorchRole::storage},
    TorchGlobal{"torch float64", TorchRole::dtype, NumberFormat::f64},
    TorchGlobal{"torch float32", TorchRole::dtype, NumberFormat::f32},
    TorchGlobal{"torch float16", TorchRole::dtype, NumberFormat::f16},
    TorchGlobal{"torch bfloat16", TorchRole::dtype, NumberFormat::bf16},
    TorchGlobal{"torch int64", TorchRole::dtype, NumberFormat::i64},
    TorchGlobal{"torch int32", TorchRole::dtype, NumberFormat::i32},
    TorchGlobal{"torch uint8", TorchRole::dtype, NumberFormat::u8},
    TorchGlobal{"torch bool", TorchRole::dtype},
    TorchGlobal{"torch int8", TorchRole::dtype},
    TorchGlobal{"torch int16", TorchRole::dtype},
    TorchGlobal{"torch uint16", TorchRole::dtype},
    TorchGlobal{"torch uint32", TorchRole::dtype},
    TorchGlobal{"torch uint64", TorchRole::dtype},
    TorchGlobal{"torch complex64", TorchRole::dtype},
    TorchGlobal{"torch complex128", TorchRole::dtype},
    TorchGlobal{"torch float8_e4m3fn", TorchRole::dtype},
    TorchGlobal{"torch float8_e5m2", TorchRole::dtype},
    TorchGlobal{"torch Size", TorchRole::leaf},
    TorchGlobal{"torch device", TorchRole::leaf},
    TorchGlobal{"torch Tensor", TorchRole::leaf},
    TorchGlobal{"torch.nn.parameter Parameter", TorchRole::leaf},
    TorchGlobal{"collections Counter", TorchRole::leaf},
    TorchGlobal{"builtins set", TorchRole::leaf},
    TorchGlobal{"__builtin__ set", TorchRole::leaf},
    TorchGlobal{"_codecs encode", TorchRole::leaf},
};

/// The names alone.
inline constexpr auto torch_global_names = [] {
  std::array<std::string_view, torch_globals.size()> names;
  std::ranges::transform(torch_globals, names.begin(), &TorchGlobal::name);
  return names;
}();

class TorchReader {
  using Value = Pickle::Value;
  using Kind = Pickle::Kind;

 public:
  TorchReader(std::span<std::byte const> bytes, std::string_view file)
      : file_(file), file_size_(bytes.size()), archive_(bytes, file) {}

  TensorTable read() {
    for (ZipMember const& member : archive_.members())
      if (member.crc != 0) table_.checksums.push_back({"member " + in_quotes(member.name), member.bytes, member.crc});
    ZipMember const data = find_pickle();
    check_byte_order();
    Pickle const pickle(data.bytes, torch_global_names, std::string(file_) + ": member " + in_quotes(data.name));
    effort_ = effort_per_byte * data.bytes.size();
    if (may_hold_tensors(pickle.root())) gather(pickle.root(), 0);
    return std::move(table_);
  }

 private:
  static constexpr std::size_t depth_limit = 100, axis_limit = 64;
  /// This is about what it takes to list what a byte of the pickle holds. A value that it holds once may be met many times.
  static constexpr std::size_t effort_per_byte = 8;
  /// Tensors may share numbers, and an expanded one holds a number more than once. All together hold at most so many bytes,
  /// or so many times those of the file.
  static constexpr std::uint64_t expansion_limit = std::uint64_t{1} << 22, expansion = 4;

  // --- the archive ---------------------------------------------------------------------------------------------------

  /// It lies in a folder that is called like the file once was, as all other members do.
  ZipMember find_pickle() {
    constexpr std::string_view name = "data.pkl";
    std::optional<ZipMember> found;
    for (ZipMember const& member : archive_.members()) {
      if (!member.name.ends_with(name)) continue;
      std::string_view const folder = member.name.substr(0, member.name.size() - name.size());
      if (!folder.empty() && !folder.ends_with('/')) continue;
      if (found) fail("holds two checkpoints, " + in_quotes(found->name) + " and " + in_quotes(member.name));
      found = member;
      folder_ = folder;
    }
    if (!found) fail("is a zip archive without 'data.pkl': not a checkpoint of torch.save");
    check(*found);
    return *found;
  }

  void check_byte_order() const {
    auto const member = archive_.find(folder_ + "byteorder");
    if (!member) return;  // torch before 2.1
    check(*member);
    std::string_view const order(reinterpret_cast<char const*>(member->bytes.data()), member->bytes.size());
    if (order != "little")
      fail("expected numbers of byte order 'little', found " + in_quotes(order) + ": save it again on another machine");
  }

  /// What decides where everything is must be whole. Numbers are verified on request.
  void check(ZipMember const& member) const {
    if (member.crc != 0) Checksum{"member " + in_quotes(member.name), member.bytes, member.crc}.verify(file_);
  }

  // --- names ---------------------------------------------------------------------------------------------------------

  /// Adds all tensors in a value, whose name is path_.
  void gather(Value value, std::size_t depth) {
    if (depth > depth_limit) fail("its values are nested more than " + std::to_string(depth_limit) + " deep");
    if (is_dict(value)) return gather_dict(value, depth);
    if (value.kind() == Kind::call) return add_tensor(value);
    std::size_t place = 0;
    for (Value const item : value.items()) descend(item, depth, [&] { return std::to_string(place); }), ++place;
  }

  void gather_dict(Value dict, std::size_t depth) {
    auto const items = dict.items();
    auto at = items.begin();
    if (dict.kind() == Kind::call) {  // an OrderedDict
      take(*++at, 0, "an OrderedDict without arguments");
      ++at;
    }
    while (at != items.end()) {
      Value const key = *at, value = *++at;
      ++at;
      descend(value, depth, [&] { return key_text(key); });
    }
  }

  void descend(Value value, std::size_t depth, auto&& part) {
    spend(1);
    if (!may_hold_tensors(value)) return;
    std::size_t const size = path_.size();
    path_ += (depth > 0 ? "." : "") + part();
    spend(path_.size() - size);
    gather(value, depth + 1);
    path_.resize(size);
  }

  std::string key_text(Value key) const {
    if (key.kind() == Kind::string) return std::string(key.text());
    if (key.kind() == Kind::integer) return std::to_string(key.number());
    fail("expected a str or an int as a key behind " + in_quotes(path_) + ", found " +
         std::string(text_of(key.kind())));
  }

  static TorchGlobal const& global(Value value) { return torch_globals[static_cast<std::size_t>(value.number())]; }
  static TorchRole role_of(Value call) { return global(*call.items().begin()).role; }
  static bool is_dict(Value value) {
    return value.kind() == Kind::dict || (value.kind() == Kind::call && role_of(value) == TorchRole::dict);
  }
  static bool may_hold_tensors(Value value) {
    Kind const kind = value.kind();
    if (kind == Kind::call) return role_of(value) != TorchRole::leaf;
    return kind == Kind::list || kind == Kind::tuple || kind == Kind::dict;
  }

  // --- tensors -------------------------------------------------------------------------------------------------------

  /// What makes a tensor: a function, called with (storage, offset, shape, strides, ...).
  struct Rebuild {
    TorchRole role;
    std::vector<Value> arguments;
  };
  struct Storage {
    std::span<std::byte const> bytes;
    TorchGlobal const* type;
  };

  void add_tensor(Value value) {
    if (table_.tensors.contains(path_)) fail_tensor("is given twice");
    auto const [role, arguments] = rebuild_of(value);
    Storage storage = storage_of(arguments[0]);
    if (role == TorchRole::tensor_v3) storage.type = &type_of(arguments[6], TorchRole::dtype);
    if (!storage.type->dtype)
      fail_tensor("dtype " + in_quotes(storage.type->name) + " is not supported, expected one of " + list_dtypes());
    TensorEntry entry = view_of(storage, arguments);
    spend(path_.size() + 16 * (1 + entry.shape.size()));
    table_.tensors.emplace(path_, std::move(entry));
  }

  /// Unwraps parameters (data, requires_grad, ...) and subclasses (function, type, arguments, state).
  Rebuild rebuild_of(Value call) {
    Rebuild found = called(call);
    while (found.role == TorchRole::parameter || found.role == TorchRole::subclass) {
      spend(1);
      if (found.role == TorchRole::parameter) {
        expect(!found.arguments.empty() && found.arguments[0].kind() == Kind::call, "a parameter of a tensor");
        found = called(found.arguments[0]);
      } else {
        expect(found.arguments.size() == 4 && found.arguments[0].kind() == Kind::global, "a subclass of a tensor");
        found = {global(found.arguments[0]).role, take(found.arguments[2], argument_limit, "arguments of a tensor")};
      }
    }
    check_arguments(found);
    return found;
  }
  Rebuild called(Value call) const {
    return {role_of(call), take(*++call.items().begin(), argument_limit, "arguments of a tensor")};
  }

  void check_arguments(Rebuild const& found) const {
    std::size_t const fixed = found.role == TorchRole::tensor      ? 4
                              : found.role == TorchRole::tensor_v2 ? 6
                              : found.role == TorchRole::tensor_v3 ? 7
                                                                   : 0;
    std::size_t const size = found.arguments.size();
    expect(fixed > 0 && (size == fixed || (size == fixed + 1 && fixed > 4)), "a tensor as torch describes it");
    if (size == fixed) return;
    Value const bits = found.arguments.back();
    expect(bits.kind() == Kind::dict, "a dict of a tensor's further bits");
    if (bits.items().begin() != bits.items().end())
      fail_tensor("is conjugated or negated when it is read: save it after resolve_conj() and resolve_neg()");
  }

  /// Finds a storage by its id, ('storage', type, key, location, how many numbers).
  Storage storage_of(Value value) {
    expect(value.kind() == Kind::persistent, "a storage");
    std::vector<Value> const id = take(*value.items().begin(), 5, "5 words about a storage");
    expect(id.size() == 5 && id[0].text() == "storage" && id[2].kind() == Kind::string, "5 words about a storage");
    TorchGlobal const& type = type_of(id[1], TorchRole::storage);
    spend(id[2].text().size());
    std::string const name = folder_ + "data/" + std::string(id[2].text());
    auto const member = archive_.find(name);
    if (!member) fail_tensor("its storage " + in_quotes(name) + " is missing");
    std::uint64_t const numbers = natural(id[4], "a size of a storage");
    if (type.dtype && member->bytes.size() / size_of(*type.dtype) != numbers)
      fail_tensor("expected " + std::to_string(numbers) + " numbers of " + std::string(name_of(*type.dtype)) +
                  " in its storage " + in_quotes(name) + ", found " + std::to_string(member->bytes.size()) + " bytes");
    return {member->bytes, &type};
  }

  TensorEntry view_of(Storage const& storage, std::vector<Value> const& arguments) {
    TensorEntry entry{*storage.type->dtype, naturals(arguments[2], "a shape"), naturals(arguments[3], "strides"), {}};
    std::uint64_t const size = size_of(entry.dtype), numbers = storage.bytes.size() / size;
    std::uint64_t const offset = natural(arguments[1], "an offset");
    expect(entry.strides.size() == entry.shape.size(), "as many strides as sizes");
    auto const extent = extent_of(entry.shape, entry.strides), count = element_count(entry.shape);
    if (!extent) fail_tensor(layout_text(entry) + " reach over more than 2^63 - 1 numbers");
    if (offset > numbers || static_cast<std::uint64_t>(*extent) > numbers - offset)
      fail_tensor(layout_text(entry) + " from number " + std::to_string(offset) + " on reach beyond the " +
                  std::to_string(numbers) + " numbers of its storage");
    expand(entry, static_cast<std::uint64_t>(*count));
    if (is_row_major(entry.shape, entry.strides)) entry.strides.clear();
    entry.bytes = storage.bytes.subspan(offset * size, static_cast<std::uint64_t>(*extent) * size);
    return entry;
  }

  /// Counts what a reader of all tensors would hold.
  void expand(TensorEntry const& entry, std::uint64_t count) {
    std::uint64_t const most = std::max(expansion_limit, expansion * file_size_), size = size_of(entry.dtype);
    if (count > (most - expanded_) / size)
      fail_tensor(layout_text(entry) + " repeat or share numbers until the tensors hold more than " +
                  std::to_string(most) + " bytes, the most that a file of " + std::to_string(file_size_) +
                  " bytes may ask for");
    expanded_ += count * size;
  }

  static std::string layout_text(TensorEntry const& entry) {
    return "shape " + shape_text(entry.shape) + " and strides " + shape_text(entry.strides);
  }

  // --- values that must be what torch writes -------------------------------------------------------------------------

  static constexpr std::size_t argument_limit = 8;

  /// The values of a tuple of at most `limit`.
  std::vector<Value> take(Value tuple, std::size_t limit, char const* what) const {
    expect(tuple.kind() == Kind::tuple, what);
    std::vector<Value> values;
    for (Value const value : tuple.items()) {
      expect(values.size() < limit, what);
      values.push_back(value);
    }
    return values;
  }
  std::vector<std::int64_t> naturals(Value tuple, char const* what) const {
    std::vector<std::int64_t> numbers;
    for (Value const value : take(tuple, axis_limit, what))
      numbers.push_back(static_cast<std::int64_t>(natural(value, what)));
    return numbers;
  }
  std::uint64_t natural(Value value, char const* what) const {
    expect(value.kind() == Kind::integer, what);
    if (value.number() < 0)
      fail_tensor(std::string("expected ") + what + " from 0 on, found " + std::to_string(value.number()));
    return static_cast<std::uint64_t>(value.number());
  }
  TorchGlobal const& type_of(Value value, TorchRole role) const {
    expect(value.kind() == Kind::global && global(value).role == role, "a type of numbers");
    return global(value);
  }

  void spend(std::size_t effort) {
    if (effort > effort_) fail("its values hold each other so often that there is no end to the names");
    effort_ -= effort;
  }
  void expect(bool good, char const* what) const {
    if (!good) fail_tensor(std::string("expected ") + what + ", found something else: the file is damaged");
  }
  [[noreturn]] void fail(std::string const& what) const { throw std::runtime_error(std::string(file_) + ": " + what); }
  [[noreturn]] void fail_tensor(std::string const& what) const { fail("tensor " + in_quotes(path_) + ": " + what); }

  std::string_view file_;
  std::uint64_t file_size_;
  ZipArchive archive_;
  std::string folder_;
  std::string path_;  // leads to the value at hand
  std::size_t effort_ = 0;
  std::uint64_t expanded_ = 0;  // bytes of the tensors so far, each as if it were copied
  TensorTable table_;
};

/// What torch.save writes, or wrote once.
enum class TorchFormat : unsigned char { none, zip, old_pickle, old_tar };

inline TorchFormat torch_format_of(std::span<std::byte const> bytes) noexcept {
  std::string_view const text(reinterpret_cast<char const*>(bytes.data()), bytes.size());
  constexpr std::string_view old_number("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 12);
  bool const safetensors = text.size() > 8 && text[8] == '{';  // whose first 8 bytes may be anything
  if (text.starts_with("PK\3\4") && !safetensors) return TorchFormat::zip;
  if (text.size() >= 14 && text[0] == '\x80' && text.substr(2, 12) == old_number) return TorchFormat::old_pickle;
  if (text.size() >= 262 && text.substr(257, 5) == "ustar") return TorchFormat::old_tar;
  return TorchFormat::none;
}

/// The tensors of the bytes of a torch checkpoint. `file` stands for it in messages.
inline TensorTable read_torch(std::span<std::byte const> bytes, std::string_view file) {
  auto const fail = [&](std::string const& what) { throw std::runtime_error(std::string(file) + ": " + what); };
  std::string const again = ", expected a zip archive: save it again with torch.save(torch.load(...), ...)";
  switch (torch_format_of(bytes)) {
    case TorchFormat::zip:
      break;
    case TorchFormat::old_pickle:
      fail("is in the format of torch before 1.6" + again);
      break;
    case TorchFormat::old_tar:
      fail("is in the tar format of torch before 0.2" + again);
      break;
    case TorchFormat::none:
      fail("expected a zip archive as torch.save writes it, found another file");
  }
  return TorchReader(bytes, file).read();
}

}  // namespace detail

/// The tensors of a checkpoint of torch.save, or of its bytes in memory. Opening reads the archive's directory and the
/// pickle; the numbers stay in the file until they are touched. Tensors may have strides, share numbers, and lie on any
/// boundary; copies of all of them have at most 4 MiB, or four times the bytes of the file. The pickle is compared with its
/// checksum, where the file has one; verify() compares the numbers.
/// Errors: std::runtime_error if the file is of another or an older format, is damaged, names anything that state dicts do
/// not need, or holds a tensor of a number format that tensor_formats lacks.
/// Memory: some bytes for each byte of the pickle, which is about 200 bytes for a tensor.
class TorchCheckpoint : public TensorFileOf<detail::read_torch> {
  using TensorFileOf::TensorFileOf;
};

}  // namespace AVIARY_NAMESPACE
