#pragma once
/// Golden files: inputs and outputs that published reference code computed in float64. tests/golden/README.md says what is
/// in them.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numbers>
#include <stdexcept>
#include <string>
#include <vector>

#include "aviary/core/config.hpp"
#include "aviary/io/safetensors.hpp"

namespace aviary::test {

/// The .safetensors files below a folder, in alphabetical order.
inline std::vector<std::filesystem::path> golden_files(std::filesystem::path const& folder) {
  std::vector<std::filesystem::path> files;
  for (auto const& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && entry.path().extension() == ".safetensors") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

/// One golden file. Members throw std::runtime_error where it lacks a tensor or holds another shape.
class GoldenFile {
 public:
  explicit GoldenFile(std::filesystem::path const& path) : tensors_(path), path_(path.string()) {}

  std::string const& path() const { return path_; }
  SafeTensors const& tensors() const { return tensors_; }
  bool contains(std::string const& name) const { return tensors_.contains(name); }
  /// What the file is about: "wkv7", "dplr" ...; empty where it is no golden file.
  std::string op() const { return text("op"); }
  std::string text(std::string const& key) const {
    auto const found = tensors_.metadata().find(key);
    return found == tensors_.metadata().end() ? std::string() : found->second;
  }
  /// A whole number of the configuration, which is JSON.
  Index config(std::string const& key) const {
    std::string const config = text("config"), before = '"' + key + "\":";
    std::size_t const at = config.find(before);
    if (at == config.npos) throw std::runtime_error(path_ + ": its configuration has no " + key);
    return static_cast<Index>(std::stoll(config.substr(at + before.size())));
  }
  std::vector<double> numbers(std::string const& name) const { return tensors_.tensor(name).read<double>(); }
  std::vector<std::int32_t> ids(std::string const& name) const {
    auto const ids = tensors_.tensor(name).read<std::int64_t>();
    return {ids.begin(), ids.end()};
  }
  Index size(std::string const& name, std::size_t axis) const {
    auto const shape = tensors_.tensor(name).shape;
    if (axis >= shape.size()) throw std::runtime_error(path_ + ": tensor '" + name + "' has too few axes");
    return static_cast<Index>(shape[axis]);
  }

 private:
  SafeTensors tensors_;
  std::string path_;
};

/// The sums of a channel memory's state as files have them, relative to e^pp: a state of ours has no pp of its own.
struct RelativeSums {
  std::vector<double> aa, bb;

  template <class State> void append(State const& state, double const* pp) {
    for (Index c = 0; c < state.channels(); ++c) {
      double const scale = std::exp(double{state.exponent[c]} * std::numbers::ln2 - pp[c]);
      aa.push_back(double{state.num[c]} * scale);
      bb.push_back(double{state.den[c]} * scale);
    }
  }
};

/// A golden file of a matrix memory: batch sequences of tokens each, through heads with a state of values x keys.
class MatrixGolden : public GoldenFile {
 public:
  explicit MatrixGolden(std::filesystem::path const& path) : GoldenFile(path) {}

  Index batch() const { return size("out", 0); }
  Index tokens() const { return size("out", 1); }
  Index heads() const { return size("out", 2); }
  Index values() const { return size("out", 3); }
  Index keys() const { return size("state0", key_major() ? 2 : 3); }

  /// state0 or stateT as (batch, heads, values, keys), whatever the layout of the file: S of the formulas, row-major.
  std::vector<double> state(std::string const& name) const {
    tensors().tensor(name, key_major() ? std::vector<std::int64_t>{batch(), heads(), keys(), values()}
                                       : std::vector<std::int64_t>{batch(), heads(), values(), keys()});
    auto const stored = numbers(name);
    if (!key_major()) return stored;
    std::vector<double> s(stored.size());
    Index const rows = values(), columns = keys();
    for (Index n = 0; n < batch() * heads(); ++n)
      for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < columns; ++j)
          s[at((n * rows + i) * columns + j)] = stored[at((n * columns + j) * rows + i)];
    return s;
  }

  /// log_w of a file of WKV-5 or WKV-6: -exp(w_raw), or as it stands in the file.
  std::vector<double> wkv6_log_w() const {
    bool const raw = contains("w_raw");
    auto x = numbers(raw ? "w_raw" : "w_log");
    if (raw)
      for (double& e : x) e = -std::exp(e);
    return x;
  }
  /// log_w of a WKV-7 file: -exp(-1/2) sigmoid(w_pre) where the file has the pre-activation, else the logarithm of w.
  std::vector<double> wkv7_log_w() const {
    bool const raw = contains("w_pre");
    auto x = numbers(raw ? "w_pre" : "w");
    for (double& e : x) e = raw ? -std::exp(-0.5) / (1 + std::exp(-e)) : std::log(e);
    return x;
  }
  /// A query as the library takes it: the published delta-rule code multiplies it by 1/sqrt(K), the library does not.
  std::vector<double> scaled_q() const {
    auto x = numbers("q");
    for (double& e : x) e /= std::sqrt(static_cast<double>(keys()));
    return x;
  }

 private:
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }
  bool key_major() const {
    std::string const layout = text("state_layout");
    if (layout != "BHKV" && layout != "BHVK")
      throw std::runtime_error(path() + ": expected state_layout BHKV or BHVK, found '" + layout + "'");
    return layout == "BHKV";
  }
};

}  // namespace aviary::test
