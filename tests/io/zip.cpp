#include "aviary/io/zip.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "support/temporary_folder.hpp"
#include "support/zip_case.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

std::string_view text_of(std::span<std::byte const> bytes) {
  return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

/// What is wrong with the archive, after its name.
std::string complaint(std::string const& file) { return test::complaint_of<ZipArchive>(file); }

/// The text with the number at a place replaced.
template <class N> std::string with(std::string text, std::size_t at, N number) {
  return text.replace(at, sizeof(number), le(number));
}

/// Every way to announce a member.
std::vector<ZipMemberCase> all_ways() {
  std::vector<ZipMemberCase> members;
  for (bool const zip64 : {false, true})
    for (bool const descriptor : {false, true})
      for (bool const checksum : {false, true})
        for (std::uint64_t const padding : {0u, 4u, 61u})
          members.push_back({.name = "m" + std::to_string(members.size()),
                             .bytes = std::string(members.size(), 'x') + "bytes",
                             .zip64 = zip64,
                             .descriptor = descriptor,
                             .checksum = checksum,
                             .padding = padding});
  return members;
}

/// One member 'a' of three bytes: local header at 0, bytes at 31, entry at 34, end at 81.
std::string small(ZipEnd const& how = {}) { return zip_of({{.name = "a", .bytes = "abc"}}, how); }
constexpr std::size_t entry = 34, end = 81;

}  // namespace

TEST_CASE("zip: members in every way to announce them") {
  for (bool const zip64 : {false, true})
    for (std::string const comment : {"", "a comment", "PK\5\6 in a comment that is longer than the record itself"}) {
      std::vector<ZipMemberCase> const members = all_ways();
      std::string const file = zip_of(members, {zip64, comment});
      ZipArchive const archive(bytes_of(file));
      REQUIRE(archive.members().size() == members.size());
      for (ZipMemberCase const& expected : members) {
        auto const found = archive.find(expected.name);
        REQUIRE(found);
        CHECK(found->name == expected.name);
        CHECK(text_of(found->bytes) == expected.bytes);
        CHECK(found->crc == expected.crc());
        CHECK(found->bytes.data() >= bytes_of(file).data());
        CHECK(found->bytes.data() < bytes_of(file).data() + file.size());
      }
    }
}

TEST_CASE("zip: members come in the order of names, and no other is found") {
  std::string const file = zip_of({{.name = "b"}, {.name = "a/c"}, {.name = "a", .bytes = "1"}, {.name = ""}});
  ZipArchive const archive(bytes_of(file));
  std::vector<std::string_view> names;
  for (ZipMember const& member : archive.members()) names.push_back(member.name);
  CHECK(names == std::vector<std::string_view>{"", "a", "a/c", "b"});
  CHECK_FALSE(archive.find("c"));
  CHECK_FALSE(archive.find("a/"));
  CHECK_FALSE(archive.find("A"));
  std::string const nothing = zip_of({});
  CHECK(ZipArchive(bytes_of(nothing)).members().empty());
}

TEST_CASE("zip: comments up to the longest") {
  for (std::size_t const size : {1u, 21u, 22u, 65535u}) {
    std::string const file = small({false, std::string(size, 'P')});
    CHECK(ZipArchive(bytes_of(file)).find("a"));
  }
  CHECK(complaint(small() + "x") ==
        "expected a zip directory at the end of its 104 bytes, found none: the file is damaged or cut short");
}

TEST_CASE("zip: an archive cut at any length, from either side, is refused") {
  for (bool const zip64 : {false, true}) {
    std::string const whole = zip_of(all_ways(), {zip64, ""});
    for (std::size_t size = 0; size < whole.size(); ++size) {
      CAPTURE(size);
      CHECK(complaint(whole.substr(0, size)) != "");
      if (size > 0) CHECK(complaint(whole.substr(size)) != "");
    }
  }
}

TEST_CASE("zip: the end of the directory is checked before it is used") {
  CHECK(complaint("") ==
        "expected a zip directory at the end of its 0 bytes, found none: the file is damaged or cut short");
  std::string const several = "the archive is one of several parts";
  CHECK(complaint(with(small(), end + 4, std::uint16_t{1})) == several);
  CHECK(complaint(with(small(), end + 6, std::uint16_t{2})) == several);
  CHECK(complaint(with(small(), end + 8, std::uint16_t{2})) == several);
  std::string const many = with(with(small(), end + 8, std::uint16_t{2}), end + 10, std::uint16_t{2});
  CHECK(complaint(many) == "the directory states 2 members in 47 bytes");
  CHECK(complaint(with(small(), end + 12, std::uint32_t{48})) ==
        "the directory lies at 34 (48 bytes), expected it in front of byte 81: the file is damaged");
  CHECK(complaint(with(small(), end + 16, UINT32_MAX)) ==
        "the directory lies at 4294967295 (47 bytes), expected it in front of byte 81: the file is damaged");
  std::string const none = with(with(small(), end + 8, std::uint16_t{0}), end + 10, std::uint16_t{0});
  CHECK(complaint(none) == "the directory has 47 bytes behind its last member");
  CHECK(complaint(with(small(), end + 12, std::uint32_t{46})) == "the directory ends inside of its member at byte 34");
}

TEST_CASE("zip: the zip64 end of the directory is checked before it is used") {
  std::string const file = small({.zip64 = true});  // the record at 81, the locator at 137, the other end at 157
  CHECK(ZipArchive(bytes_of(file)).find("a"));
  for (std::uint64_t const at : {std::uint64_t{0}, std::uint64_t{82}, std::uint64_t{137}, UINT64_MAX})
    CHECK(complaint(with(file, 145, at)) ==
          "expected the zip64 end of the directory at byte " + std::to_string(at) + ", found none");
  std::string const several = "the archive is one of several parts";
  CHECK(complaint(with(file, 141, std::uint32_t{1})) == several);
  CHECK(complaint(with(file, 153, std::uint32_t{2})) == several);
  CHECK(complaint(with(file, 97, std::uint32_t{1})) == several);
  CHECK(complaint(with(file, 105, std::uint64_t{2})) == several);
  CHECK(complaint(with(with(file, 105, UINT64_MAX), 113, UINT64_MAX)) ==
        "the directory states 18446744073709551615 members in 47 bytes");
  CHECK(complaint(with(file, 121, UINT64_MAX)) ==
        "the directory lies at 34 (18446744073709551615 bytes), expected it in front of byte 81: the file is damaged");
  CHECK(
      complaint(with(file, 129, UINT64_MAX - 5)).starts_with("the directory lies at 18446744073709551610 (47 bytes)"));
  // Both ends may state a number, if it is the same.
  CHECK(ZipArchive(bytes_of(with(file, 173, std::uint32_t{34}))).find("a"));
  CHECK(complaint(with(file, 173, std::uint32_t{35})) == "the two ends of the directory differ: 35 and 34");
}

TEST_CASE("zip: entries of the directory are checked before they are used") {
  CHECK(complaint(with(small(), entry, 'Q')) == "expected a member in the directory at byte 34, found none");
  for (std::size_t const at : {28u, 30u, 32u})  // sizes of name, extra fields and comment
    CHECK(complaint(with(small(), entry + at, std::uint16_t{0xfff0})) ==
          "the directory ends inside of its member at byte 34");
  CHECK(complaint(with(small(), entry + 34, std::uint16_t{1})) == "member 'a': lies in another part of the archive");
  CHECK(complaint(with(small(), entry + 8, std::uint16_t{1})) == "member 'a': is encrypted");
  CHECK(complaint(with(small(), entry + 10, std::uint16_t{8})) ==
        "member 'a': is compressed (method 8), expected it stored as it is: torch.save never compresses");
  CHECK(complaint(with(small(), entry + 20, std::uint32_t{2})) == "member 'a': states 3 bytes and stores 2");
  CHECK(complaint(with(small(), entry + 42, std::uint32_t{1})) ==
        "member 'a': expected its header at byte 1, found none");
  CHECK(complaint(with(small(), entry + 42, std::uint32_t{34})) ==
        "member 'a': expected its header at byte 34, found none");
  CHECK(complaint(with(small(), entry + 42, UINT32_MAX)) ==
        "member 'a': states a size or place of zip64 without saying which");
}

TEST_CASE("zip: local headers must agree with the directory") {
  auto const sizes = [](std::uint32_t size) {
    return with(with(with(small(), entry + 20, size), entry + 24, size), entry + 16, std::uint32_t{0});
  };
  CHECK(complaint(sizes(4)) ==
        "member 'a': its bytes lie at 31 (4 bytes), expected them in front of byte 34, where the directory is");
  std::string const other = "member 'a': has other sizes or another checksum in its header than in the directory";
  CHECK(complaint(sizes(2)) == other);
  CHECK(complaint(with(small(), entry + 16, std::uint32_t{7})) == other);
  CHECK(complaint(with(small(), 30, 'b')) == "member 'a': is called 'b' in its header");
  CHECK(complaint(with(small(), 26, std::uint16_t{0})) == "member 'a': is called '' in its header");
  CHECK(complaint(with(small(), 26, std::uint16_t{0xffff}))
            .starts_with("member 'a': its bytes lie at 65565 (3 bytes), expected them in front of byte 34"));
  CHECK(complaint(with(small(), 6, std::uint16_t{1})) == "member 'a': is encrypted");
  CHECK(complaint(with(small(), 8, std::uint16_t{12})).starts_with("member 'a': is compressed (method 12)"));
}

TEST_CASE("zip: extra fields are checked before they are used") {
  ZipMemberCase const member{.name = "a", .bytes = "abc", .zip64 = true};  // header at 0, bytes at 51, entry at 54
  std::string const file = zip_of({member});
  std::size_t const local = 31, extra = 54 + 47;
  CHECK(ZipArchive(bytes_of(file)).find("a"));
  for (std::size_t const at : {local, extra}) {
    CHECK(complaint(with(file, at + 2, std::uint16_t{0xffff})) == "member 'a': has an extra field that is cut short");
    CHECK(complaint(with(file, at, std::uint16_t{2})) ==
          "member 'a': states a size or place of zip64 without saying which");
    CHECK(complaint(with(file, at + 2, std::uint16_t{12})) ==
          "member 'a': states a size or place of zip64 without saying which");
  }
  std::string const huge = with(with(file, extra + 4, UINT64_MAX), extra + 12, UINT64_MAX);
  CHECK(complaint(huge) ==
        "member 'a': its bytes lie at 51 (18446744073709551615 bytes), expected them in front of byte 54, "
        "where the directory is");
  CHECK(complaint(with(file, extra + 20, UINT64_MAX)) ==
        "member 'a': expected its header at byte 18446744073709551615, found none");
}

TEST_CASE("zip: a name twice, or bytes twice, are refused") {
  CHECK(complaint(zip_of({{.name = "a"}, {.name = "b"}, {.name = "a"}})) == "member 'a': is given twice");
  // Two entries, one local header.
  ZipMemberCase const a{.name = "a", .bytes = "abc"};
  std::string const local = zip_local_header(a, 3) + a.bytes, one = zip_entry(a, 3, 0);
  CHECK(complaint(local + one + one + zip_end({}, 2, 2 * one.size(), local.size())) == "members 'a' and 'a' overlap");
  // A member inside of another.
  ZipMemberCase const inner{.name = "i", .bytes = "in"};
  ZipMemberCase const outer{.name = "o", .bytes = zip_local_header(inner, 2) + inner.bytes};
  std::string const nested = zip_local_header(outer, outer.bytes.size()) + outer.bytes;
  std::string const two = zip_entry(outer, outer.bytes.size(), 0) + zip_entry(inner, 2, nested.size() - 33);
  CHECK(complaint(nested + two + zip_end({}, 2, two.size(), nested.size())) == "members 'o' and 'i' overlap");
}

TEST_CASE("zip: strange names are shown on one short line") {
  std::string const name = "n\n" + std::string(1000, 'n');
  CHECK(complaint(zip_of({{.name = name}, {.name = name}})) ==
        "member 'n\\x0a" + std::string(118, 'n') + "...': is given twice");
}

TEST_CASE("zip: random damage is refused or harmless") {
  std::mt19937 random(20250307);
  std::vector<ZipMemberCase> members = all_ways();
  int opened = 0, refused = 0;
  for (int trial = 0; trial < 20'000; ++trial) {
    members.resize(1 + random() % 24, members.front());
    std::string file = zip_of(members, {trial % 2 == 0, ""});
    for (std::size_t change = 0; change <= random() % 3; ++change) {
      std::size_t const at = random() % file.size();
      if (random() % 4 == 0)
        file.erase(at, 1 + random() % 4);
      else
        file[at] = static_cast<char>(random() % 2 == 0 ? random() : random() % 2 * 255);
    }
    std::vector<std::byte> const exact(bytes_of(file).begin(), bytes_of(file).end());
    try {
      ZipArchive const archive{std::span(exact)};
      unsigned sum = 0;
      for (ZipMember const& member : archive.members())
        for (std::byte const byte : member.bytes) sum += static_cast<unsigned>(byte);
      CHECK(sum < 1'000'000);
      ++opened;
    } catch (std::runtime_error const&) {
      ++refused;
    }
  }
  CHECK(refused > 10'000);
  CHECK(opened > 50);
}
