#pragma once
/// Zip archives, pickles and torch checkpoints put together by hand, right or wrong.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aviary/io/checksum.hpp"

namespace aviary::test {

/// Numbers of the given bytes, little-endian.
template <class... N> std::string le(N... numbers) {
  std::string out;
  auto const put = [&](auto number) { out.append(reinterpret_cast<char const*>(&number), sizeof(number)); };
  (put(numbers), ...);
  return out;
}

/// A member of an archive, and how it is announced.
struct ZipMemberCase {
  std::string name, bytes = "";
  bool zip64 = false;       ///< sizes and places in extra fields, as for more than 4 GiB
  bool descriptor = false;  ///< sizes and checksum behind the bytes, not in front of them
  bool checksum = true;
  std::uint64_t padding = 0;  ///< bytes of an extra field of another kind in front of the bytes, 4 or more

  std::uint32_t crc() const { return checksum ? crc32(std::as_bytes(std::span(bytes))) : 0; }
};

inline std::string zip_local_header(ZipMemberCase const& m, std::uint64_t size) {
  bool const larger = m.zip64 && !m.descriptor;
  std::string extra = larger ? le(std::uint16_t{1}, std::uint16_t{16}, size, size) : "";
  if (m.padding >= 4) extra += "FB" + le(static_cast<std::uint16_t>(m.padding - 4)) + std::string(m.padding - 4, 'Z');
  std::uint32_t const stated = larger ? UINT32_MAX : m.descriptor ? 0 : static_cast<std::uint32_t>(size);
  return "PK\3\4" +
         le(std::uint16_t{45}, static_cast<std::uint16_t>(m.descriptor ? 8 : 0), std::uint16_t{0}, std::uint32_t{0},
            m.descriptor ? 0u : m.crc(), stated, stated, static_cast<std::uint16_t>(m.name.size()),
            static_cast<std::uint16_t>(extra.size())) +
         m.name + extra;
}

inline std::string zip_descriptor(ZipMemberCase const& m, std::uint64_t size) {
  return m.descriptor ? "PK\7\10" + le(m.crc(), size, size) : "";
}

inline std::string zip_entry(ZipMemberCase const& m, std::uint64_t size, std::uint64_t local) {
  std::string const extra = m.zip64 ? le(std::uint16_t{1}, std::uint16_t{24}, size, size, local) : "";
  std::uint32_t const stated = m.zip64 ? UINT32_MAX : static_cast<std::uint32_t>(size);
  return "PK\1\2" +
         le(std::uint16_t{45}, std::uint16_t{45}, static_cast<std::uint16_t>(m.descriptor ? 8 : 0), std::uint16_t{0},
            std::uint32_t{0}, m.crc(), stated, stated, static_cast<std::uint16_t>(m.name.size()),
            static_cast<std::uint16_t>(extra.size()), std::uint16_t{0}, std::uint16_t{0}, std::uint16_t{0},
            std::uint32_t{0}, m.zip64 ? UINT32_MAX : static_cast<std::uint32_t>(local)) +
         m.name + extra;
}

/// How an archive ends.
struct ZipEnd {
  bool zip64 = false;  ///< with the records of zip64, which alone say where the directory is
  std::string comment = "";
};

inline std::string zip_end(ZipEnd const& how, std::uint64_t entries, std::uint64_t size, std::uint64_t begin) {
  std::string const end64 = "PK\6\6" + le(std::uint64_t{44}, std::uint16_t{45}, std::uint16_t{45}, std::uint32_t{0},
                                          std::uint32_t{0}, entries, entries, size, begin);
  std::string const locator = "PK\6\7" + le(std::uint32_t{0}, begin + size, std::uint32_t{1});
  auto const count = static_cast<std::uint16_t>(how.zip64 ? UINT16_MAX : entries);
  return (how.zip64 ? end64 + locator : "") + "PK\5\6" +
         le(std::uint16_t{0}, std::uint16_t{0}, count, count, how.zip64 ? UINT32_MAX : static_cast<std::uint32_t>(size),
            how.zip64 ? UINT32_MAX : static_cast<std::uint32_t>(begin),
            static_cast<std::uint16_t>(how.comment.size())) +
         how.comment;
}

/// An archive of the members, in this order.
inline std::string zip_of(std::vector<ZipMemberCase> const& members, ZipEnd const& how = {}) {
  std::string file, directory;
  for (ZipMemberCase const& m : members) {
    directory += zip_entry(m, m.bytes.size(), file.size());
    file += zip_local_header(m, m.bytes.size()) + m.bytes + zip_descriptor(m, m.bytes.size());
  }
  std::uint64_t const begin = file.size();
  return file + directory + zip_end(how, members.size(), directory.size(), begin);
}

/// Opcodes of protocol 2: each function gives what pushes one value.
namespace pickled {
inline std::string joined(std::vector<std::string> const& values) {
  std::string out;
  for (std::string const& value : values) out += value;
  return out;
}
inline std::string text(std::string const& s) { return "X" + le(static_cast<std::uint32_t>(s.size())) + s; }
inline std::string number(std::int64_t n) { return "\x8a\x08" + le(n); }
inline std::string tuple(std::vector<std::string> const& values) { return "(" + joined(values) + "t"; }
inline std::string numbers(std::vector<std::int64_t> const& ns) {
  std::vector<std::string> values;
  for (std::int64_t const n : ns) values.push_back(number(n));
  return tuple(values);
}
inline std::string list(std::vector<std::string> const& values) { return "](" + joined(values) + "e"; }
/// A dict of keys and values in turn.
inline std::string dict(std::vector<std::string> const& values) { return "}(" + joined(values) + "u"; }
inline std::string global(std::string const& module, std::string const& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string call(std::string const& function, std::vector<std::string> const& arguments) {
  return function + tuple(arguments) + "R";
}
inline std::string ordered_dict() { return call(global("collections", "OrderedDict"), {}); }
inline std::string storage(std::string const& type, std::string const& key, std::int64_t count) {
  return tuple({text("storage"), global("torch", type), text(key), text("cpu"), number(count)}) + "Q";
}
inline std::string tensor(std::string const& storage, std::int64_t offset, std::vector<std::int64_t> const& shape,
                          std::vector<std::int64_t> const& strides) {
  return call(global("torch._utils", "_rebuild_tensor_v2"),
              {storage, number(offset), numbers(shape), numbers(strides), "\x89", ordered_dict()});
}
/// A pickle of one value.
inline std::string whole(std::string const& value) { return "\x80\x02" + value + "."; }
}  // namespace pickled

/// A checkpoint as torch writes it, of a value and storages by key.
inline std::string torch_of(std::string const& value,
                            std::vector<std::pair<std::string, std::string>> const& storages = {}) {
  std::vector<ZipMemberCase> members{{.name = "f/data.pkl", .bytes = pickled::whole(value), .descriptor = true},
                                     {.name = "f/byteorder", .bytes = "little", .descriptor = true}};
  for (auto const& [key, bytes] : storages)
    members.push_back({.name = "f/data/" + key, .bytes = bytes, .descriptor = true});
  return zip_of(members, {.zip64 = true});
}

}  // namespace aviary::test
