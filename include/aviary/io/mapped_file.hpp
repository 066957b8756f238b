#pragma once
/// A file seen as bytes in memory. POSIX systems map it, so that pages are read when they are touched and shared between
/// processes; others (or a build with AVIARY_NO_MMAP defined) read it whole.
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "aviary/io/message.hpp"

#if !defined(AVIARY_NO_MMAP) && (defined(__unix__) || defined(__APPLE__))
#define AVIARY_IO_MAPS_FILES 1
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#else
#define AVIARY_IO_MAPS_FILES 0
#endif

namespace AVIARY_NAMESPACE {

namespace detail {
/// Gives back the memory of a file.
struct FileRelease {
  std::size_t size = 0;
  void operator()(std::byte const* data) const noexcept;
};
}  // namespace detail

/// The bytes of a file, read-only. Move-only; a move leaves the bytes where they are, so views of them stay valid.
/// The file must not shrink while it is mapped: the system ends a program that touches a page which is gone.
class MappedFile {
 public:
  /// No bytes.
  MappedFile() = default;

  /// Opens a regular file, which may be empty.
  /// Throws std::runtime_error "PATH: cannot open: reason" (a std::system_error where the system gave the reason).
  explicit MappedFile(std::filesystem::path const& path);

  std::span<std::byte const> bytes() const noexcept { return {data_.get(), data_ ? data_.get_deleter().size : 0}; }
  std::string_view text() const noexcept {
    return {reinterpret_cast<char const*>(data_.get()), data_ ? data_.get_deleter().size : 0};
  }

  /// Gives back the memory of some of the bytes, for whoever has copied them: they are read from the file again when they are
  /// touched. Does nothing for bytes that are not the file's, or where a file is read whole.
  void release(std::span<std::byte const> bytes) const noexcept;

 private:
  std::unique_ptr<std::byte const[], detail::FileRelease> data_;
};

namespace detail {

[[noreturn]] inline void throw_not_regular(std::filesystem::path const& path, bool directory) {
  throw std::runtime_error(path.string() + ": " + (directory ? "is a directory" : "is not a regular file"));
}

inline std::size_t checked_file_size(std::uintmax_t size, std::filesystem::path const& path) {
  if (size > static_cast<std::uintmax_t>(PTRDIFF_MAX))
    throw std::runtime_error(path.string() + ": " + std::to_string(size) +
                             " bytes are too many for this address space");
  return static_cast<std::size_t>(size);
}

}  // namespace detail

#if AVIARY_IO_MAPS_FILES

namespace detail {
/// An open file of the system, closed at the end of its scope. A mapping outlives it.
struct Descriptor {
  int number;
  explicit Descriptor(int n) noexcept : number(n) {}
  Descriptor(Descriptor const&) = delete;
  Descriptor& operator=(Descriptor const&) = delete;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
};

inline void FileRelease::operator()(std::byte const* data) const noexcept {
  ::munmap(const_cast<std::byte*>(data), size);
}
}  // namespace detail

inline MappedFile::MappedFile(std::filesystem::path const& path) {
  // Without O_NONBLOCK the opening of a named pipe waits for a writer.
  detail::Descriptor const file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.number < 0) throw_errno(errno, path, "open");
  struct stat status = {};
  if (::fstat(file.number, &status) != 0) throw_errno(errno, path, "inspect");
  if (!S_ISREG(status.st_mode)) detail::throw_not_regular(path, S_ISDIR(status.st_mode));
  std::size_t const size = detail::checked_file_size(static_cast<std::uintmax_t>(status.st_size), path);
  if (size == 0) return;  // the system refuses to map nothing
  void* const data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number, 0);
  if (data == MAP_FAILED) throw_errno(errno, path, "map");
  data_ = {static_cast<std::byte const*>(data), detail::FileRelease{size}};
}

inline void MappedFile::release(std::span<std::byte const> part) const noexcept {
  auto const all = bytes();
  std::less_equal<std::byte const*> const not_after;
  if (part.empty() || !not_after(all.data(), part.data()) ||
      !not_after(part.data() + part.size(), all.data() + all.size()))
    return;
  auto const page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));  // a mapping begins with one
  std::size_t const begin = static_cast<std::size_t>(part.data() - all.data()) / page * page;
  std::size_t const end = static_cast<std::size_t>(part.data() - all.data()) + part.size();
  ::madvise(const_cast<std::byte*>(all.data()) + begin, end - begin, MADV_DONTNEED);
}

#else

inline void MappedFile::release(std::span<std::byte const>) const noexcept {}

inline void detail::FileRelease::operator()(std::byte const* data) const noexcept { delete[] data; }

inline MappedFile::MappedFile(std::filesystem::path const& path) {
  std::error_code error;
  std::filesystem::file_status const status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) throw_errno(error ? error.value() : ENOENT, path, "open");
  if (!std::filesystem::is_regular_file(status)) detail::throw_not_regular(path, std::filesystem::is_directory(status));
  std::size_t const size = detail::checked_file_size(std::filesystem::file_size(path), path);
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw_errno(errno != 0 ? errno : EIO, path, "open");
  if (size == 0) return;
  auto data = std::make_unique<std::byte[]>(size);
  if (!file.read(reinterpret_cast<char*>(data.get()), static_cast<std::streamsize>(size)))
    throw_errno(errno != 0 ? errno : EIO, path, "read");
  data_ = {data.release(), detail::FileRelease{size}};
}

#endif

}  // namespace AVIARY_NAMESPACE
