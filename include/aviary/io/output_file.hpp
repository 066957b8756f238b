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
#include <string>
#include <system_error>

#include "aviary/io/mapped_file.hpp"
#include "aviary/io/message.hpp"

namespace AVIARY_NAMESPACE {

/// What is written becomes the file `path` with commit(); without it nothing is left behind and an older file of that
/// name stays as it was. Every failure throws std::runtime_error with the path and the system's reason.
class OutputFile {
 public:
  /// Opens a temporary file beside `path`. A symbolic link is followed; an existing `path` must be a regular file.
  explicit OutputFile(std::filesystem::path const& path) : path_(path), target_(resolve(path)) {
    std::filesystem::path const name = temporary_beside(target_);
    file_.reset(std::fopen(name.string().c_str(), "wbx"));  // x: never somebody else's file
    if (!file_) throw_errno(errno, path_, "create");
    temporary_ = name;
  }
  OutputFile(OutputFile const&) = delete;
  OutputFile& operator=(OutputFile const&) = delete;
  ~OutputFile() {
    file_.reset();
    std::error_code ignored;
    if (!temporary_.empty()) std::filesystem::remove(temporary_, ignored);
  }

  void write(std::span<std::byte const> bytes) {
    if (!bytes.empty() && std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size())
      throw_errno(errno, path_, "write");
  }

  /// Brings the bytes to the disk and gives the file its name. To be called once, last.
  void commit() {
    if (std::fflush(file_.get()) != 0 || synchronize(file_.get()) != 0) throw_errno(errno, path_, "write");
    if (std::fclose(file_.release()) != 0) throw_errno(errno, path_, "write");
    std::error_code error;
    auto const older = std::filesystem::status(target_, error);
    if (std::filesystem::exists(older)) std::filesystem::permissions(temporary_, older.permissions(), error);
    std::filesystem::rename(temporary_, target_, error);
    if (error) throw_errno(error.default_error_condition().value(), path_, "rename a temporary file to this");
    temporary_.clear();
  }

 private:
  struct Close {
    void operator()(std::FILE* file) const noexcept { std::fclose(file); }
  };

  static std::filesystem::path resolve(std::filesystem::path const& path) {
    std::error_code error;
    auto const status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) return path;
    if (!std::filesystem::is_regular_file(status))
      detail::throw_not_regular(path, std::filesystem::is_directory(status));
    return std::filesystem::canonical(path);
  }

  /// The length of this name does not depend on the file's name, which may be as long as the system allows.
  static std::filesystem::path temporary_beside(std::filesystem::path const& target) {
    std::random_device random;
    auto const number = (std::uint64_t{random()} << 32) | random();
    return target.parent_path() / (".aviary-" + std::to_string(number) + ".tmp");
  }

  /// Else a power failure soon after the rename could leave an empty file under the final name.
  static int synchronize([[maybe_unused]] std::FILE* file) noexcept {
#if AVIARY_IO_MAPS_FILES
    return ::fsync(::fileno(file));
#else
    return 0;
#endif
  }

  std::filesystem::path path_, target_, temporary_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace AVIARY_NAMESPACE
