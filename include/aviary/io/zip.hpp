#pragma once
/// Zip archives whose members are stored without compression, as torch writes them, so that a member is a piece of the
/// file's bytes. Nothing in a file is believed: every length and place is checked before it is used, a member is named
/// once, has the same name, method and sizes in the directory and in front of its bytes, and shares them with no other.
/// Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (6.3.10), sections 4.3 to 4.5
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aviary/io/message.hpp"

namespace AVIARY_NAMESPACE {

/// A file in an archive. The views are of the archive's bytes.
struct ZipMember {
  std::string_view name;
  std::span<std::byte const> bytes;
  std::uint32_t
      crc;  ///< crc32(bytes) when it was written, or 0 where the writer left it out. Nobody has compared them.
};

namespace detail {

/// The number at a place of a record that holds it; little-endian, as all numbers of the format.
template <class U> U zip_field(std::span<std::byte const> record, std::size_t at) noexcept {
  U value{};
  std::memcpy(&value, record.data() + at, sizeof(value));
  return value;
}

/// Where a number of 32 bits (or 16) is full, the real one is elsewhere.
inline constexpr std::uint64_t zip_elsewhere = 0xffffffff;

class ZipReader {
 public:
  ZipReader(std::span<std::byte const> bytes, std::string_view file) : bytes_(bytes), file_(file) {}

  /// The members in the order of their names.
  std::vector<ZipMember> read() {
    find_directory();
    std::vector<ZipMember> members;
    members.reserve(entries_);  // the directory is long enough for them
    std::uint64_t at = begin_;
    for (std::uint64_t i = 0; i < entries_; ++i) members.push_back(read_entry(at));
    if (at != end_) fail("the directory has " + std::to_string(end_ - at) + " bytes behind its last member");
    check_places();
    std::ranges::sort(members, {}, &ZipMember::name);
    auto const twice = std::ranges::adjacent_find(members, {}, &ZipMember::name);
    if (twice != members.end()) fail("member " + in_quotes(twice->name) + ": is given twice");
    return members;
  }

 private:
  static constexpr std::size_t end_size = 22, locator_size = 20, end64_size = 56, entry_size = 46, local_size = 30;
  static constexpr std::uint16_t encrypted = 1, has_descriptor = 8, stored = 0;

  /// A member's bytes with what is in front of them.
  struct Place {
    std::uint64_t begin, end;
    std::string_view name;
  };
  /// The numbers that directory and local header both state.
  struct Sizes {
    std::uint64_t whole, stored;
    std::uint32_t crc;
    friend bool operator==(Sizes const&, Sizes const&) = default;
  };

  void find_directory() {
    std::uint64_t end = find_end();
    auto const record = bytes_.subspan(end);
    check_disks({zip_field<std::uint16_t>(record, 4), zip_field<std::uint16_t>(record, 6)}, 0xffff);
    std::uint64_t const here = zip_field<std::uint16_t>(record, 8);
    entries_ = zip_field<std::uint16_t>(record, 10);
    std::uint64_t size = zip_field<std::uint32_t>(record, 12);
    begin_ = zip_field<std::uint32_t>(record, 16);
    if (here != entries_) fail("the archive is one of several parts");
    if (end >= locator_size && has_signature(end - locator_size, 0x07064b50)) {
      end = find_end64(end - locator_size);
      auto const record64 = bytes_.subspan(end);
      std::uint64_t const here64 = zip_field<std::uint64_t>(record64, 24);
      replace(entries_, zip_field<std::uint64_t>(record64, 32), 0xffff);
      replace(size, zip_field<std::uint64_t>(record64, 40), zip_elsewhere);
      replace(begin_, zip_field<std::uint64_t>(record64, 48), zip_elsewhere);
      if (here64 != entries_) fail("the archive is one of several parts");
    }
    if (begin_ > end || size > end - begin_)
      fail("the directory lies at " + range_text(begin_, size) + ", expected it in front of byte " +
           std::to_string(end) + ": the file is damaged");
    if (entries_ > size / entry_size)
      fail("the directory states " + std::to_string(entries_) + " members in " + std::to_string(size) + " bytes");
    end_ = begin_ + size;
  }

  /// The record that ends the file, but for a comment of any text up to 64 KiB.
  std::uint64_t find_end() const {
    std::uint64_t const size = bytes_.size();
    for (std::uint64_t comment = 0; comment <= 0xffff && end_size + comment <= size; ++comment) {
      std::uint64_t const at = size - end_size - comment;
      if (has_signature(at, 0x06054b50) && zip_field<std::uint16_t>(bytes_, at + 20) == comment) return at;
    }
    fail("expected a zip directory at the end of its " + std::to_string(size) +
         " bytes, found none: the file is damaged or cut short");
  }

  /// The record of larger numbers, which the locator in front of the other one points to.
  std::uint64_t find_end64(std::uint64_t locator) const {
    check_disks({zip_field<std::uint32_t>(bytes_, locator + 4), zip_field<std::uint32_t>(bytes_, locator + 16) - 1});
    std::uint64_t const at = zip_field<std::uint64_t>(bytes_, locator + 8);
    if (at > locator || locator - at < end64_size || !has_signature(at, 0x06064b50))
      fail("expected the zip64 end of the directory at byte " + std::to_string(at) + ", found none");
    check_disks({zip_field<std::uint32_t>(bytes_, at + 16), zip_field<std::uint32_t>(bytes_, at + 20)});
    return at;
  }

  void check_disks(std::initializer_list<std::uint32_t> disks, std::uint32_t full = 0) const {
    for (std::uint32_t const disk : disks)
      if (disk != 0 && disk != full) fail("the archive is one of several parts");
  }
  /// The larger number, which must be the same unless the smaller one is full.
  void replace(std::uint64_t& number, std::uint64_t larger, std::uint64_t full) const {
    if (number != full && number != larger)
      fail("the two ends of the directory differ: " + std::to_string(number) + " and " + std::to_string(larger));
    number = larger;
  }

  /// An entry of the directory, and the local header in front of its bytes. Moves to the next.
  ZipMember read_entry(std::uint64_t& at) {
    if (end_ - at < entry_size || !has_signature(at, 0x02014b50))
      fail("expected a member in the directory at byte " + std::to_string(at) + ", found none");
    auto const entry = bytes_.subspan(at, entry_size);
    std::uint64_t const name_size = zip_field<std::uint16_t>(entry, 28),
                        extra_size = zip_field<std::uint16_t>(entry, 30);
    std::uint64_t const size = entry_size + name_size + extra_size + zip_field<std::uint16_t>(entry, 32);
    if (size > end_ - at) fail("the directory ends inside of its member at byte " + std::to_string(at));
    name_ = text(at + entry_size, name_size);
    auto const extra = bytes_.subspan(at + entry_size + name_size, extra_size);
    Sizes sizes{zip_field<std::uint32_t>(entry, 24), zip_field<std::uint32_t>(entry, 20),
                zip_field<std::uint32_t>(entry, 16)};
    std::uint64_t local = zip_field<std::uint32_t>(entry, 42);
    take_larger(extra, {&sizes.whole, &sizes.stored, &local});
    std::uint16_t const disk = zip_field<std::uint16_t>(entry, 34);
    if (disk != 0 && disk != 0xffff) fail_member("lies in another part of the archive");
    check_method(zip_field<std::uint16_t>(entry, 8), zip_field<std::uint16_t>(entry, 10));
    if (sizes.whole != sizes.stored)
      fail_member("states " + std::to_string(sizes.whole) + " bytes and stores " + std::to_string(sizes.stored));
    at += size;
    return {name_, read_local(local, sizes), sizes.crc};
  }

  /// The bytes behind a local header, which may leave the sizes to a descriptor behind them: then the directory's hold.
  std::span<std::byte const> read_local(std::uint64_t at, Sizes const& expected) {
    if (at > begin_ || begin_ - at < local_size || !has_signature(at, 0x04034b50))
      fail_member("expected its header at byte " + std::to_string(at) + ", found none");
    auto const header = bytes_.subspan(at, local_size);
    std::uint16_t const flags = zip_field<std::uint16_t>(header, 6);
    std::uint64_t const name_size = zip_field<std::uint16_t>(header, 26);
    std::uint64_t const extra_size = zip_field<std::uint16_t>(header, 28);
    std::uint64_t const begin = at + local_size + name_size + extra_size;
    if (begin > begin_ || expected.stored > begin_ - begin)
      fail_member("its bytes lie at " + range_text(begin, expected.stored) + ", expected them in front of byte " +
                  std::to_string(begin_) + ", where the directory is");
    std::string_view const name = text(at + local_size, name_size);
    if (name != name_) fail_member("is called " + in_quotes(name) + " in its header");
    check_method(flags, zip_field<std::uint16_t>(header, 8));
    Sizes sizes{zip_field<std::uint32_t>(header, 22), zip_field<std::uint32_t>(header, 18),
                zip_field<std::uint32_t>(header, 14)};
    take_larger(bytes_.subspan(at + local_size + name_size, extra_size), {&sizes.whole, &sizes.stored});
    if ((flags & has_descriptor) == 0 && sizes != expected)
      fail_member("has other sizes or another checksum in its header than in the directory");
    places_.push_back({at, begin + expected.stored, name_});
    return bytes_.subspan(begin, expected.stored);
  }

  /// Replaces the numbers that are full by those of the zip64 extra field, which holds them in this order.
  void take_larger(std::span<std::byte const> extra, std::initializer_list<std::uint64_t*> numbers) const {
    std::span<std::byte const> larger = zip64_field(extra);
    for (std::uint64_t* const number : numbers) {
      if (*number != zip_elsewhere) continue;
      if (larger.size() < sizeof(*number)) fail_member("states a size or place of zip64 without saying which");
      *number = zip_field<std::uint64_t>(larger, 0);
      larger = larger.subspan(sizeof(*number));
    }
  }
  /// Fields are 2 bytes of kind, 2 of size, and that many. Some writers pad with less than a field.
  std::span<std::byte const> zip64_field(std::span<std::byte const> extra) const {
    while (extra.size() >= 4) {
      auto const kind = zip_field<std::uint16_t>(extra, 0);
      std::size_t const size = zip_field<std::uint16_t>(extra, 2);
      if (size > extra.size() - 4) fail_member("has an extra field that is cut short");
      if (kind == 1) return extra.subspan(4, size);
      extra = extra.subspan(4 + size);
    }
    return {};
  }

  void check_method(std::uint16_t flags, std::uint16_t method) const {
    if ((flags & encrypted) != 0) fail_member("is encrypted");
    if (method != stored)
      fail_member("is compressed (method " + std::to_string(method) +
                  "), expected it stored as it is: torch.save never compresses");
  }

  void check_places() {
    std::ranges::sort(places_, {}, &Place::begin);
    for (std::size_t i = 1; i < places_.size(); ++i)
      if (places_[i].begin < places_[i - 1].end)
        fail("members " + in_quotes(places_[i - 1].name) + " and " + in_quotes(places_[i].name) + " overlap");
  }

  /// Whether a record of this kind stands there; false where there is no room for one.
  bool has_signature(std::uint64_t at, std::uint32_t signature) const {
    return at <= bytes_.size() && bytes_.size() - at >= sizeof(signature) &&
           zip_field<std::uint32_t>(bytes_, at) == signature;
  }
  std::string_view text(std::uint64_t at, std::uint64_t size) const {
    return {reinterpret_cast<char const*>(bytes_.data()) + at, static_cast<std::size_t>(size)};
  }
  static std::string range_text(std::uint64_t begin, std::uint64_t size) {
    return std::to_string(begin) + " (" + std::to_string(size) + " bytes)";
  }

  [[noreturn]] void fail(std::string const& what) const { throw std::runtime_error(std::string(file_) + ": " + what); }
  [[noreturn]] void fail_member(std::string const& what) const { fail("member " + in_quotes(name_) + ": " + what); }

  std::span<std::byte const> bytes_;
  std::string_view file_;
  std::uint64_t entries_ = 0, begin_ = 0, end_ = 0;  // where the directory lies
  std::string_view name_;                            // the member at hand
  std::vector<Place> places_;
};

}  // namespace detail

/// The members of an archive in memory, which the caller keeps.
class ZipArchive {
 public:
  /// Reads the directory and the headers of members; touches nothing else. `file` stands for the archive in messages.
  /// Throws std::runtime_error "FILE: what is wrong" for damage, and for what torch does not write: compressed or
  /// encrypted members, an archive in several parts.
  explicit ZipArchive(std::span<std::byte const> bytes, std::string_view file = "memory")
      : members_(detail::ZipReader(bytes, file).read()) {}

  /// The members in the order of their names.
  std::span<ZipMember const> members() const noexcept { return members_; }

  /// The member of a name; nothing if there is none.
  std::optional<ZipMember> find(std::string_view name) const noexcept {
    auto const found = std::ranges::lower_bound(members_, name, {}, &ZipMember::name);
    return found != members_.end() && found->name == name ? std::optional(*found) : std::nullopt;
  }

 private:
  std::vector<ZipMember> members_;
};

}  // namespace AVIARY_NAMESPACE
