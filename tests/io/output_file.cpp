/// Files that appear whole or not at all.
#include "aviary/io/output_file.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "support/temporary_folder.hpp"

#if AVIARY_IO_MAPS_FILES
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#endif

using namespace aviary;
using namespace aviary::test;
namespace fs = std::filesystem;

namespace {
/// The one file of the folder besides `known`.
fs::path other_than(fs::path const& known, TemporaryFolder const& folder) {
  for (auto const& entry : fs::directory_iterator(folder.path()))
    if (entry.path() != known) return entry.path();
  return {};
}
}  // namespace

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

TEST_CASE("output_file: links are followed, and one to no file is refused") {
  TemporaryFolder const folder;
  fs::path const target = folder.file("target", "old"), link = folder / "link", second = folder / "second";
  fs::create_symlink("link", second);
  fs::create_symlink("target", link);
  OutputFile file(second);
  file.write(bytes_of("new"));
  file.commit();
  CHECK(content_of(target) == "new");
  CHECK((fs::is_symlink(link) && fs::is_symlink(second)));
  fs::remove(target);
  CHECK(message_of([&] { OutputFile{second}; }) == second.string() + ": is a link to no file");
  fs::create_symlink("loop", folder / "loop");
  CHECK(message_of([&] { OutputFile{folder / "loop"}; }) == (folder / "loop").string() + ": is a link to no file");
  CHECK(folder.files() == 3);
}

TEST_CASE("output_file: of a file with two names the other keeps its content") {
  TemporaryFolder const folder;
  fs::path const path = folder.file("a", "old"), other = folder / "b";
  fs::create_hard_link(path, other);
  OutputFile file(path);
  file.write(bytes_of("new"));
  file.commit();
  CHECK(content_of(path) == "new");
  CHECK(content_of(other) == "old");
}

TEST_CASE("output_file: a read-only file is refused, by everybody") {
  TemporaryFolder const folder;
  fs::path const path = folder.file("f", "old"), link = folder / "link";
  fs::permissions(path, fs::perms::owner_read | fs::perms::group_read);
  fs::create_symlink("f", link);
  for (fs::path const& name : {path, link})
    CHECK(message_of([&] { OutputFile{name}; }) ==
          name.string() + ": is read-only, expected a file that may be written");
  CHECK(content_of(path) == "old");
  CHECK(folder.files() == 2);
}

#if AVIARY_IO_MAPS_FILES
TEST_CASE("output_file: has the permissions of the older file from the start, whatever the mask") {
  TemporaryFolder const folder;
  fs::path const path = folder.file("f", "old");
  mode_t const mask = ::umask(022);
  for (mode_t const mode : {0600u, 0640u, 0666u, 0200u}) {
    REQUIRE(::chmod(path.c_str(), mode) == 0);
    OutputFile file(path);
    file.write(bytes_of("secret"));
    CHECK(static_cast<mode_t>(fs::status(other_than(path, folder)).permissions()) == mode);
    file.commit();
    CHECK(static_cast<mode_t>(fs::status(path).permissions()) == mode);
  }
  OutputFile fresh(folder / "g");
  fresh.commit();
  CHECK(static_cast<mode_t>(fs::status(folder / "g").permissions()) == 0644);
  ::umask(mask);
}

TEST_CASE("output_file: takes away what a killed program left behind, and nothing that somebody writes") {
  TemporaryFolder const folder;
  fs::path const path = folder.file("f", "old"), alike = folder.file(".aviary-note.tmp", "mine");
  pid_t const child = ::fork();
  if (child == 0) {
    OutputFile file(path);
    file.write(bytes_of("half"));
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  REQUIRE(folder.files() == 3);
  OutputFile file(folder / "g");
  CHECK(folder.files() == 3);  // one gone, one new
  OutputFile other(folder / "h");
  CHECK(folder.files() == 4);
  file.write(bytes_of("g"));
  file.commit();
  other.commit();
  CHECK(content_of(folder / "g") == "g");
  CHECK(content_of(path) == "old");
  CHECK(content_of(alike) == "mine");
  CHECK(folder.files() == 4);
}

TEST_CASE("output_file: a write that fails at any byte leaves the old file and nothing else") {
  TemporaryFolder const folder;
  fs::path const path = folder.file("f", "old");
  std::string const content(20'000, 'x');
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  auto const handler = std::signal(SIGXFSZ, SIG_IGN);
  int failures = 0;
  for (rlim_t most = 0; most < content.size(); most += 1999) {
    OutputFile file(path);
    rlimit const small{most, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    try {
      file.write(bytes_of(content));
      file.commit();
    } catch (std::runtime_error const&) {
      ++failures;
    }
    ::setrlimit(RLIMIT_FSIZE, &before);
  }
  std::signal(SIGXFSZ, handler);
  CHECK(failures == 11);
  CHECK(content_of(path) == "old");
  CHECK(folder.files() == 1);
}
#endif

#if defined(__linux__)
namespace {
int synchronized = 0;  // a digit for each call: 1 for a file, 2 for a folder
}
/// In place of the system's, for this program.
extern "C" int fsync(int file) {
  struct stat status = {};
  ::fstat(file, &status);
  synchronized = 10 * (synchronized % 1000) + (S_ISDIR(status.st_mode) ? 2 : 1);
  return static_cast<int>(::syscall(SYS_fsync, file));
}

TEST_CASE("output_file: brings the file to the disk, and then its name") {
  TemporaryFolder const folder;
  OutputFile file(folder / "f");
  synchronized = 0;
  file.commit();
  CHECK(synchronized == 12);
}
#endif
