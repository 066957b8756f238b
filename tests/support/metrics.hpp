#pragma once
/// What a run of train left in its file of metrics.
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "support/temporary_folder.hpp"

namespace aviary::test {

/// The numbers called so in the lines of a file of metrics.
inline std::vector<double> numbers_called(std::string const& name, std::filesystem::path const& file) {
  std::vector<double> numbers;
  std::istringstream lines(content_of(file));
  for (std::string line; std::getline(lines, line);) {
    std::size_t const at = line.find("\"" + name + "\": ");
    if (at != line.npos) numbers.push_back(std::strtod(line.c_str() + at + name.size() + 4, nullptr));
  }
  return numbers;
}

}  // namespace aviary::test
