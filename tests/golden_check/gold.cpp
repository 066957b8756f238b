#include "golden_check/gold.hpp"

#include "support/gold_case.hpp"

namespace aviary::golden_check {
namespace {

/// max|x - ref| / max|ref| in arithmetic T.
template <class T> inline constexpr double gold_bound = std::is_same_v<T, float> ? 2e-5 : 1e-12;

template <class T> void check_type(test::GoldenFile const& file, Index b, std::string const& type, Report& report) {
  test::GoldCase<T> const given(file, b);
  auto const compare = [&](std::string const& tensor, std::string const& how, std::vector<T> const& x) {
    report.compare(file.path(), tensor, type + how, x, test::GoldCase<double>::rows(file, tensor, b).numbers,
                   gold_bound<T>);
  };
  test::GoldRun<T> whole(given, given.tokens), steps(given, 1), kept(given, 1, true);
  compare("out", "", whole.run({given.tokens}).numbers);
  std::vector<Index> const single(to_size(given.tokens), 1);
  compare("out_prefill_decode", " token by token", steps.run(single).numbers);
  compare("out_prefill_decode", " rebuilt once", kept.run(single).numbers);
  compare("shiftT", "", {whole.state.x.begin(), whole.state.x.end()});

  test::Matrix<T> keys(given.tokens, whole.cache.width()), kd(given.tokens, given.channels), eh = kd;
  whole.cache.read(0, keys.view());
  compare("compressed", "", keys.numbers);
  whole.token_cat(whole.cache, 0, kd.view(), eh.view(), whole.scratch);
  compare("k_cache", "", kd.numbers);
}

}  // namespace

void check_gold_attention(std::filesystem::path const& path, Report& report) {
  test::GoldenFile const file(path);
  for (Index b = 0; b < test::GoldCase<double>::sequences(file); ++b) {
    check_type<float>(file, b, "float", report);
    check_type<double>(file, b, "double", report);
  }
}

}  // namespace aviary::golden_check
