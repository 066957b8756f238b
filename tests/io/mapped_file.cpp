#include "aviary/io/mapped_file.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <type_traits>
#include <utility>

#include "aviary/io/output_file.hpp"
#include "support/temporary_folder.hpp"

#if AVIARY_IO_MAPS_FILES
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
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

TEST_CASE("output_file: appears whole with commit and replaces an older file") {
  TemporaryFolder const folder;
  std::filesystem::path const path = folder.file("f", "old");
  OutputFile file(path);
  file.write(bytes_of("new "));
  file.write({});
  file.write(bytes_of("content"));
  CHECK(content_of(path) == "old");
  file.commit();
  CHECK(content_of(path) == "new content");
  CHECK(folder.files() == 1);
}

TEST_CASE("output_file: leaves nothing behind without commit") {
  TemporaryFolder const folder;
  std::filesystem::path const path = folder.file("f", "old");
  {
    OutputFile file(path);
    file.write(bytes_of("new"));
    CHECK(folder.files() == 2);
  }
  CHECK(content_of(path) == "old");
  CHECK(folder.files() == 1);
}

TEST_CASE("output_file: follows symbolic links, keeps permissions, takes the longest names") {
  namespace fs = std::filesystem;
  TemporaryFolder const folder;
  fs::path const target = folder.file("target", "old"), link = folder / "link";
  fs::permissions(target, fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink("target", link);
  for (fs::path const& path : {link, folder / std::string(255, 'n')}) {
    OutputFile file(path);
    file.write(bytes_of("new"));
    file.commit();
    CHECK(content_of(path) == "new");
  }
  CHECK(fs::is_symlink(link));
  CHECK(content_of(target) == "new");
  CHECK(fs::status(target).permissions() == (fs::perms::owner_read | fs::perms::owner_write));
}

TEST_CASE("output_file: errors name the path and the reason") {
  TemporaryFolder const folder;
  std::string const nowhere = (folder / "no" / "f").string();
  CHECK(message_of([&] { OutputFile{nowhere}; }) == nowhere + ": cannot create: No such file or directory");
  CHECK(message_of([&] { OutputFile{folder.path()}; }) == folder.path().string() + ": is a directory");
  std::string const path = (folder / "f").string();
  OutputFile file(path);
  std::filesystem::create_directory(path);  // somebody takes the name meanwhile
  CHECK(message_of([&] { file.commit(); }).starts_with(path + ": cannot rename a temporary file to this: "));
}

#if AVIARY_IO_MAPS_FILES
TEST_CASE("output_file: a full disk is an error, the old file stays and nothing else") {
  TemporaryFolder const folder;
  std::filesystem::path const path = folder.file("f", "old");
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  rlimit const small{1 << 16, before.rlim_max};
  auto const handler = std::signal(SIGXFSZ, SIG_IGN);
  std::string message;
  {
    OutputFile file(path);
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    message = message_of([&] {
      for (int i = 0; i < 8; ++i) file.write(bytes_of(std::string(1 << 15, 'x')));
      file.commit();
    });
    ::setrlimit(RLIMIT_FSIZE, &before);
  }
  std::signal(SIGXFSZ, handler);
  CHECK(message == path.string() + ": cannot write: File too large");
  CHECK(content_of(path) == "old");
  CHECK(folder.files() == 1);
}
#endif
