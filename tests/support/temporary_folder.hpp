#pragma once
/// A folder for the files of one test, and what a call throws.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace aviary::test {

/// A new empty folder, removed with all that is in it at the end of the scope.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::random_device random;
    do path_ = std::filesystem::temp_directory_path() / ("aviary-test-" + std::to_string(random()));
    while (!std::filesystem::create_directory(path_));
  }
  TemporaryFolder(TemporaryFolder const&) = delete;
  TemporaryFolder& operator=(TemporaryFolder const&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::filesystem::path const& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

  /// Writes a file into the folder and returns its path.
  std::filesystem::path file(std::string_view name, std::string_view content) const {
    std::filesystem::path const path = path_ / name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

  std::size_t files() const {
    std::size_t count = 0;
    for ([[maybe_unused]] auto const& entry : std::filesystem::directory_iterator(path_)) ++count;
    return count;
  }

 private:
  std::filesystem::path path_;
};

inline std::string content_of(std::filesystem::path const& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::span<std::byte const> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

/// The text of the exception of type E that the call throws; "" and a failed check if it throws nothing. Other exceptions pass.
template <class E = std::runtime_error> std::string message_of(auto&& call) {
  try {
    call();
  } catch (E const& error) {
    return error.what();
  }
  FAIL_CHECK("nothing was thrown");
  return {};
}

/// What a reader File says is wrong with a file, after its name. The file's bytes end where their memory does.
template <class File> std::string complaint_of(std::string const& file) {
  std::vector<std::byte> const exact(bytes_of(file).begin(), bytes_of(file).end());
  std::string const message = message_of([&] { File(exact, "f"); });
  CHECK(message.starts_with("f: "));
  CHECK(message.find('\n') == message.npos);
  return message.size() > 3 ? message.substr(3) : message;
}

}  // namespace aviary::test
