#pragma once
/// The files that a program reads, which it must never write over.
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "aviary/io/message.hpp"

namespace models {
inline namespace AVIARY_ISA {

class Inputs {
 public:
  /// A file, and what it is: "the file of --model".
  void add(std::string what, std::filesystem::path path) { files_.emplace_back(std::move(what), std::move(path)); }

  /// Throws std::runtime_error if the target is one of them, under whatever name: a link, a hard link, another path. Files
  /// that are not there yet have nothing but their names.
  /// @param use  what it is for: "to save the context in"
  void check_target(std::filesystem::path const& target, std::string const& use) const {
    for (auto const& [what, path] : files_)
      if (std::error_code no_such_file; std::filesystem::equivalent(path, target, no_such_file) ||
                                        path.lexically_normal() == target.lexically_normal())
        throw std::runtime_error(target.string() + ": is " + what + ", expected another file " + use);
  }

 private:
  std::vector<std::pair<std::string, std::filesystem::path>> files_;
};

}  // namespace AVIARY_ISA
}  // namespace models
