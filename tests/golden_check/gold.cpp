#include "golden_check/gold.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

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

/// The gradients of a file by the names of its tensors, without "grad_": sequences one after another, weights' their sum.
template <class T> std::map<std::string, std::vector<T>> gradients_of(test::GoldenFile const& file) {
  std::map<std::string, std::vector<T>> all;
  auto const append = [&](char const* name, auto const& x) { all[name].insert(all[name].end(), x.begin(), x.end()); };
  for (Index b = 0; b < test::GoldCase<T>::sequences(file); ++b) {
    test::GoldCase<T> const given(file, b);
    test::GoldRun<T> run(given, given.tokens);
    run.run({given.tokens});
    test::GoldGradients<T> d(given, given.tokens);
    d.add(run, test::GoldCase<T>::rows(file, "gout", b).view(), 0, given.tokens);
    test::Matrix<T> hidden(given.tokens, given.channels);
    run.token_cat.append_backward(given.view("w_a"), given.hidden.view(), d.c.view(), hidden.view(), d.view("w_a"));
    append("x", d.x.numbers);
    append("xo", d.e.numbers);
    append("hidden", hidden.numbers);
    append("shift0", d.state.x);
    for (auto const& [tensor, numbers] : d.tensors) {
      std::vector<T>& sum = all[test::GoldCase<T>::name_in_files(tensor)];
      sum.resize(numbers.numbers.size());
      std::transform(sum.begin(), sum.end(), numbers.numbers.begin(), sum.begin(), std::plus<>());
    }
  }
  return all;
}

template <class T> void check_gradients(test::GoldenFile const& file, std::string const& type, Report& report) {
  if (!file.contains("gout")) return;
  auto gradients = gradients_of<T>(file);
  for (std::string_view const tensor : file.tensors().names()) {
    std::string const name(tensor);
    if (!name.starts_with("grad_")) continue;
    std::vector<double> expected = file.numbers(name);
    if (!gradients.contains(name.substr(5))) {
      report.fail(file.path(), "nothing computes " + name);
      continue;
    }
    std::vector<T>& found = gradients.at(name.substr(5));
    if (name == "grad_att.ln_k.bias") {
      // This bias adds the same to all scores of a query, which softmax does not see: its gradient is 0, and files have what
      // rounding leaves of the sum. It is measured beside that of the weight, a sum of the same terms.
      auto const weight = file.numbers("grad_att.ln_k.weight");
      expected.insert(expected.end(), weight.begin(), weight.end());
      auto const& of_weight = gradients.at("att.ln_k.weight");
      found.insert(found.end(), of_weight.begin(), of_weight.end());
    }
    report.compare(file.path(), name, type, found, expected, gold_bound<T>);
  }
}

}  // namespace

void check_gold_attention(std::filesystem::path const& path, Report& report) {
  test::GoldenFile const file(path);
  for (Index b = 0; b < test::GoldCase<double>::sequences(file); ++b) {
    check_type<float>(file, b, "float", report);
    check_type<double>(file, b, "double", report);
  }
  check_gradients<float>(file, "float", report);
  check_gradients<double>(file, "double", report);
}

}  // namespace aviary::golden_check
