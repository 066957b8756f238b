#include "aviary/io/mapped_file.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <type_traits>
#include <utility>

#include "support/temporary_folder.hpp"

#if AVIARY_IO_MAPS_FILES
#include <sys/stat.h>
#endif

using namespace aviary;
using namespace aviary::test;

static_assert(std::is_nothrow_move_constructible_v<MappedFile> && std::is_nothrow_move_assignable_v<MappedFile>);
static_assert(!std::is_copy_constructible_v<MappedFile>);

TEST_CASE("mapped_file: bytes are those of the file, whatever its size") {
  TemporaryFolder const folder;
  for (std::size_t size :
       {std::size_t{0}, std::size_t{1}, std::size_t{4095}, std::size_t{4096}, std::size_t{100'001}}) {
    std::string content(size, '\0');
    for (std::size_t i = 0; i < size; ++i) content[i] = static_cast<char>(i * 37 + i / 256);
    MappedFile const file(folder.file("f", content));
    CHECK(file.text() == content);
    CHECK(file.bytes().size() == size);
  }
}

TEST_CASE("mapped_file: default and moved-from files are empty, bytes stay in place through moves") {
  TemporaryFolder const folder;
  CHECK(MappedFile().bytes().empty());
  CHECK(MappedFile().text().empty());
  MappedFile first(folder.file("a", "hello"));
  std::byte const* const data = first.bytes().data();
  MappedFile second = std::move(first);
  CHECK(second.bytes().data() == data);
  CHECK(first.bytes().empty());  // NOLINT(bugprone-use-after-move)
  MappedFile third(folder.file("b", "other"));
  third = std::move(second);
  CHECK(third.bytes().data() == data);
  CHECK(third.text() == "hello");
}

TEST_CASE("mapped_file: bytes outlive the name of the file") {
  TemporaryFolder const folder;
  std::filesystem::path const path = folder.file("f", "still here");
  MappedFile const file(path);
  std::filesystem::remove(path);
  CHECK(file.text() == "still here");
}

TEST_CASE("mapped_file: errors name the path and the reason") {
  TemporaryFolder const folder;
  std::string const missing = (folder / "missing").string();
  CHECK(message_of([&] { MappedFile{missing}; }) == missing + ": cannot open: No such file or directory");
  CHECK(message_of([&] { MappedFile{folder.path()}; }) == folder.path().string() + ": is a directory");
  std::string const below = (folder.file("f", "x") / "below").string();
  CHECK(message_of([&] { MappedFile{below}; }).starts_with(below + ": cannot open: "));
}

#if AVIARY_IO_MAPS_FILES
TEST_CASE("mapped_file: a pipe or a device is refused without waiting for it") {
  TemporaryFolder const folder;
  std::string const pipe = (folder / "pipe").string();
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(message_of([&] { MappedFile{pipe}; }) == pipe + ": is not a regular file");
  CHECK(message_of([&] { MappedFile{"/dev/zero"}; }) == "/dev/zero: is not a regular file");
}
#endif

TEST_CASE("mapped_file: bytes whose memory is given back are read again, and others are left alone") {
  TemporaryFolder const folder;
  std::string content(100'001, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 37 + i / 256);
  MappedFile const file(folder.file("f", content));
  auto const bytes = file.bytes();
  for (auto const& part : {bytes, bytes.subspan(5000, 1), bytes.subspan(4096, 8192), bytes.last(1), bytes.first(0)}) {
    file.release(part);
    CHECK(file.text() == content);
  }
  std::string other(100'001, 'x');  // of pages that nobody could bring back
  file.release(bytes_of(other));
  MappedFile().release(bytes_of(other));
  CHECK(other == std::string(100'001, 'x'));
}
