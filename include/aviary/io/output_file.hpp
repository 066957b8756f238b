#pragma once
/// A file that appears whole or not at all: written under another name in the same folder, renamed at the end.
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "aviary/io/mapped_file.hpp"
#include "aviary/io/message.hpp"

#if AVIARY_IO_MAPS_FILES
#include <dirent.h>
#include <sys/file.h>
#endif

namespace AVIARY_NAMESPACE {

namespace detail {

/// A name for a file that is to become `target`. Its length does not depend on the target's name, which may be as long as
/// the system allows.
inline std::filesystem::path temporary_beside(std::filesystem::path const& target) {
  std::random_device random;
  auto const number = (std::uint64_t{random()} << 32) | random();
  return target.parent_path() / (".aviary-" + std::to_string(number) + ".tmp");
}
/// Whether a file is called as such a file is.
constexpr bool is_temporary(std::string_view name) noexcept {
  constexpr std::string_view begin = ".aviary-", end = ".tmp";
  if (!name.starts_with(begin) || !name.ends_with(end) || name.size() <= begin.size() + end.size()) return false;
  std::string_view const number = name.substr(begin.size(), name.size() - begin.size() - end.size());
  return number.find_first_not_of("0123456789") == number.npos;
}

/// The folder of a file, by a name that the system takes.
inline std::filesystem::path folder_of(std::filesystem::path const& file) {
  return file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
}

struct CloseFile {
  void operator()(std::FILE* file) const noexcept { std::fclose(file); }
};
using OpenFile = std::unique_ptr<std::FILE, CloseFile>;

}  // namespace detail

/// What is written becomes the file `path` with commit(); without it nothing is left behind and an older file of that
/// name stays as it was. Every failure throws std::runtime_error with the path and the system's reason.
///
/// An older file gives the new one its permissions, from the first byte on. A symbolic link is followed. Of a file with
/// several names (hard links) the others keep the old content. What a program left behind that was killed while it wrote,
/// the next OutputFile in the same folder removes; it knows by a lock which files nobody writes any more (POSIX systems).
class OutputFile {
 public:
  /// Opens a temporary file beside `path`. An existing `path` must be a regular file that may be written, or a link to one.
  explicit OutputFile(std::filesystem::path const& path) : OutputFile(path, resolve(path)) {
    remove_abandoned(detail::folder_of(target_));
    while (!create()) {
    }
  }
  OutputFile(OutputFile const&) = delete;
  OutputFile& operator=(OutputFile const&) = delete;
  ~OutputFile() {
    std::error_code ignored;
    if (!temporary_.empty()) std::filesystem::remove(temporary_, ignored);
  }

  void write(std::span<std::byte const> bytes) {
    if (!bytes.empty() && std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size())
      throw_errno(errno, path_, "write");
  }

  /// Brings the bytes to the disk, gives the file its name, and brings that to the disk, too. To be called once, last.
  void commit() {
    if (std::fflush(file_.get()) != 0 || synchronize(file_.get()) != 0) throw_errno(errno, path_, "write");
    if (!keeps_lock && std::fclose(file_.release()) != 0) throw_errno(errno, path_, "write");
    std::error_code error;
    std::filesystem::rename(temporary_, target_, error);
    if (error) throw_errno(error.default_error_condition().value(), path_, "rename a temporary file to this");
    temporary_.clear();
    file_.reset();
    if (synchronize_folder(detail::folder_of(target_)) != 0) throw_errno(errno, path_, "synchronize the folder of");
  }

 private:
  /// Whoever delegates to this may throw: the destructor then removes what there is.
  OutputFile(std::filesystem::path const& path, std::filesystem::path target)
      : path_(path), target_(std::move(target)) {}

  static std::filesystem::path resolve(std::filesystem::path const& path) {
    auto const fail = [&](char const* what) { throw std::runtime_error(path.string() + what); };
    std::error_code error;
    auto const status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) {
      if (std::filesystem::is_symlink(std::filesystem::symlink_status(path, error))) fail(": is a link to no file");
      return path;
    }
    if (!std::filesystem::is_regular_file(status))
      detail::throw_not_regular(path, std::filesystem::is_directory(status));
    if (!may_be_written(path, status.permissions())) fail(": is read-only, expected a file that may be written");
    return std::filesystem::canonical(path);
  }

  static constexpr bool keeps_lock = AVIARY_IO_MAPS_FILES != 0;
  static bool may_be_written(std::filesystem::path const& path, std::filesystem::perms permissions);
  static void remove_abandoned(std::filesystem::path const& folder) noexcept;
  static int synchronize(std::FILE* file) noexcept;
  static int synchronize_folder(std::filesystem::path const& folder) noexcept;
  /// Makes the temporary file; false: somebody took it away at once.
  bool create();

  std::filesystem::path path_, target_, temporary_;
  detail::OpenFile file_;
};

#if AVIARY_IO_MAPS_FILES

/// Who may do anything is asked to mean it: a file without any permission to write is read-only for everybody.
inline bool OutputFile::may_be_written(std::filesystem::path const& path, std::filesystem::perms permissions) {
  using std::filesystem::perms;
  constexpr perms any = perms::owner_write | perms::group_write | perms::others_write;
  return (permissions & any) != perms::none && ::access(path.c_str(), W_OK) == 0;
}

inline bool OutputFile::create() {
  std::filesystem::path name = detail::temporary_beside(target_);
  struct stat older = {};
  bool const replaces = ::stat(target_.c_str(), &older) == 0;
  auto const mode = static_cast<mode_t>(replaces ? older.st_mode & 0777u : 0666u);
  detail::Descriptor file(::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (file.number < 0) throw_errno(errno, path_, "create");
  temporary_ = std::move(name);
  // Between these lines it looks as if nobody wrote it. A system without locks never removes such a file.
  bool const is_taken = ::flock(file.number, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  struct stat made = {};
  if (::fstat(file.number, &made) != 0) throw_errno(errno, path_, "inspect");
  if (is_taken || made.st_nlink == 0) return ::unlink(temporary_.c_str()), false;
  if (replaces && ::fchmod(file.number, mode) != 0) throw_errno(errno, path_, "set the permissions of");  // the mask
  file_.reset(::fdopen(file.number, "wb"));
  if (!file_) throw_errno(errno, path_, "create");
  file.number = -1;
  return true;
}

/// Failures are for others to complain of.
inline void OutputFile::remove_abandoned(std::filesystem::path const& folder) noexcept {
  DIR* const list = ::opendir(folder.c_str());
  if (list == nullptr) return;
  int const place = ::dirfd(list);
  while (dirent const* const entry = ::readdir(list)) {
    if (!detail::is_temporary(entry->d_name)) continue;
    detail::Descriptor const file(::openat(place, entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    struct stat status = {};
    if (file.number < 0 || ::fstat(file.number, &status) != 0 || !S_ISREG(status.st_mode)) continue;
    if (::flock(file.number, LOCK_EX | LOCK_NB) == 0) ::unlinkat(place, entry->d_name, 0);
  }
  ::closedir(list);
}

/// Else a power failure soon after the rename could leave an empty file under the final name.
inline int OutputFile::synchronize(std::FILE* file) noexcept { return ::fsync(::fileno(file)); }

/// Else it could leave the old file. Not every file system does it, and not everybody may open the folder.
inline int OutputFile::synchronize_folder(std::filesystem::path const& folder) noexcept {
  detail::Descriptor const file(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return file.number < 0 || ::fsync(file.number) == 0 || errno == EINVAL || errno == ENOTSUP ? 0 : -1;
}

#else

inline bool OutputFile::may_be_written(std::filesystem::path const&, std::filesystem::perms permissions) {
  return (permissions & std::filesystem::perms::owner_write) != std::filesystem::perms::none;
}

inline bool OutputFile::create() {
  std::filesystem::path name = detail::temporary_beside(target_);
  file_.reset(std::fopen(name.string().c_str(), "wbx"));  // x: never somebody else's file
  if (!file_) throw_errno(errno, path_, "create");
  temporary_ = std::move(name);
  std::error_code none;
  auto const older = std::filesystem::status(target_, none);
  if (std::filesystem::exists(older)) std::filesystem::permissions(temporary_, older.permissions(), none);
  return true;
}

inline void OutputFile::remove_abandoned(std::filesystem::path const&) noexcept {}
inline int OutputFile::synchronize(std::FILE*) noexcept { return 0; }
inline int OutputFile::synchronize_folder(std::filesystem::path const&) noexcept { return 0; }

#endif

}  // namespace AVIARY_NAMESPACE
