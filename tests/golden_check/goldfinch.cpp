#include "models/goldfinch.hpp"

#include "golden_check/gold.hpp"
#include "support/block_case.hpp"
#include "support/reader.hpp"

namespace aviary::golden_check {
namespace {

/// max|x - ref| / max|ref| of a whole model in arithmetic T.
template <class T> inline constexpr double model_bound = std::is_same_v<T, float> ? 5e-5 : 1e-12;

template <class T> void check_type(test::BlockGolden const& file, std::string const& type, Report& report) {
  auto const compare = [&](std::string const& tensor, auto const& x, std::vector<double> const& expected,
                           char const* how = "") {
    report.compare(file.path(), tensor, type + how, std::vector(x.begin(), x.end()), expected, model_bound<T>);
  };
  using Made = models::LanguageModel<models::GoldFinchBody<T, dynamic>>;
  models::Reader model(models::load_goldfinch_with<models::GoldFinch<T, dynamic>>(file.tensors(), {}).model);
  auto const read = [&](std::span<TokenId const> ids) { return test::exact_logits<Made>(model, ids); };
  auto const tokens = file.ids("tokens");
  auto const expected = file.numbers("logits");
  compare("logits", read(tokens), {expected.end() - model.vocab_size(), expected.end()});
  model.reset();
  std::vector<T> logits;
  for (TokenId const token : tokens) {
    auto const next = read({&token, 1});
    logits.insert(logits.end(), next.begin(), next.end());
  }
  compare("logits", logits, expected, " token by token");

  auto const& context = dynamic_cast<Made const&>(model.model()).body_of(model.context());
  auto const& cache = std::get<TokenCache<T>>(context.cache);
  compare("compressed", cache.stored_keys(), file.numbers("compressed"));
  Index layer = 0;
  auto const compare_state = [&](auto const& state) {
    for (auto const& part : file.compare_state(layer++, state)) compare(part.tensor, part.got, part.expected);
  };
  for (auto const& state : context.recurrent) compare_state(state);
  for (auto const& state : context.attention) compare_state(state);
}

}  // namespace

void check_goldfinch_model(std::filesystem::path const& path, Report& report) {
  test::BlockGolden const file(path);
  check_type<float>(file, "float", report);
  check_type<double>(file, "double", report);
}

}  // namespace aviary::golden_check
