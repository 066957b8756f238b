/// golden_check DIR...: every golden file below DIR through the kernels, in float and in double, with sizes known at run
/// time and, where the sizes are common ones, at compile time. tests/golden/README.md says what the files are.
#include <algorithm>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "golden_check/block.hpp"
#include "golden_check/channel.hpp"
#include "golden_check/gold.hpp"
#include "golden_check/matrix.hpp"
#include "golden_check/report.hpp"
#include "support/generations.hpp"
#include "support/golden_models.hpp"

namespace {

using namespace aviary::golden_check;
using namespace aviary::test;

/// What is done with a file, by the op in its metadata.
struct Op {
  char const* name;
  void (*check)(std::filesystem::path const&, Report&);
};

#if !defined(AVIARY_TEST_MODELS)
void without_models(std::filesystem::path const& path, Report& report) {
  report.skip(path.string(), "this build has kernels alone");
}
#endif

std::vector<Op> all_ops() {
  std::vector<Op> ops{{"wkv4", check_wkv4}, {"gold_attention", check_gold_attention}};
  MatrixGoldens::for_each([&]<class Golden>() { ops.push_back({Golden::op, check_matrix<Golden>}); });
#if defined(AVIARY_TEST_MODELS)
  ops.push_back({"goldfinch_model", check_goldfinch_model});
  Generations::for_each([&]<class Generation>() { ops.push_back({Generation::golden, check_block<Generation>}); });
#else
  ops.push_back({"goldfinch_model", without_models});
  Generations::for_each([&]<class Generation>() { ops.push_back({Generation::golden, without_models}); });
#endif
  return ops;
}

void check_file(std::filesystem::path const& path, Report& report) {
  try {
    std::string const op = GoldenFile(path).op();
    static std::vector<Op> const ops = all_ops();
    auto const known = std::find_if(ops.begin(), ops.end(), [&](Op const& o) { return o.name == op; });
    if (known != ops.end()) return known->check(path, report);
    report.skip(path.string(), op.empty() ? "no op in its metadata" : "op " + op + " is not among the known ones");
  } catch (std::exception const& error) {
    report.fail(path.string(), error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::filesystem::path> const folders(argv + std::min(argc, 1), argv + argc);
  if (folders.empty()) {
    std::cerr << "golden_check: expected folders with golden files, found none. Prints, for each file and quantity, "
                 "max|x - ref| / max|ref|, the bound, ok or FAIL; exits with 1 on any FAIL\n";
    return 2;
  }
  Report report;
  try {
    for (auto const& folder : folders)
      for (auto const& path : golden_files(folder)) check_file(path, report);
  } catch (std::filesystem::filesystem_error const& error) {
    report.fail(error.path1().string(), error.what());
  }
  if (report.seen() == 0) {
    std::cerr << "golden_check: no .safetensors file below these folders\n";
    return 2;
  }
  return report.finish() ? 0 : 1;
}
