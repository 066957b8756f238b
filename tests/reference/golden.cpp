/// The references against published code: the committed golden files, and all of a folder that the build may name.
#include <doctest/doctest.h>

#include <string>

#include "support/compare.hpp"
#include "support/golden_models.hpp"

namespace {

using namespace aviary::test;

constexpr double bound = 1e-12;

/// Checks every file of a folder with the model's op; how many there were.
template <class Golden> int check_all(std::string const& folder) {
  int files = 0;
  for (auto const& path : golden_files(folder)) {
    if (GoldenFile(path).op() != Golden::op) continue;
    ++files;
    MatrixGolden const file(path);
    CAPTURE(file.path());
    MatrixResult const expected = golden_result(file);
    MatrixResult const x = reference_of<typename Golden::Reference>(golden_case<Golden>(file));
    CHECK(max_error(x.y, expected.y) <= bound);
    CHECK(max_error(x.state, expected.state) <= bound);
  }
  return files;
}

}  // namespace

TEST_CASE_TEMPLATE("golden: the references agree with published files", Golden, Wkv5Golden, Wkv5PerHeadGolden,
                   Wkv6Golden, Wkv7Golden, GlaGolden, DeltaNetGolden, GatedDeltaNetGolden, KdaGolden, DplrGolden,
                   IplrGolden) {
  CHECK(check_all<Golden>(AVIARY_TEST_GOLDEN_DIR) > 0);
  std::string const data = AVIARY_TEST_DATA_DIR;
  if (data.empty())
    MESSAGE("AVIARY_TEST_DATA_DIR is empty: the committed files alone");
  else
    CHECK(check_all<Golden>(data + "/golden") > 0);
}
