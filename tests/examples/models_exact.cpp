/// Models of all generations in double, with head sizes known at run time and at compile time.
#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "aviary/io/safetensors.hpp"
#include "models/rwkv4.hpp"
#include "models/rwkv5.hpp"
#include "models/rwkv6.hpp"
#include "models/rwkv7.hpp"
#include "support/compare.hpp"
#include "support/generations.hpp"
#include "support/plain_rwkv.hpp"
#include "support/reader.hpp"
#include "support/temporary_folder.hpp"
#include "support/worst.hpp"

using namespace aviary;

namespace {

/// A generation in double, with heads of a size, known at compile time or not.
template <class G, Index head_size, Index known = head_size> struct Kind : G {
  using Model = typename G::template Model<double, known>;
  static constexpr Index size = head_size;
};

/// Logits in double.
template <class K> auto exact(models::Reader& model, std::span<TokenId const> tokens) {
  return test::exact_logits<models::BlockModel<typename K::Model::Block>>(model, tokens);
}

}  // namespace

TEST_CASE_TEMPLATE("models exact: logits of the equations to all digits", K, Kind<test::Rwkv4, 24>,
                   Kind<test::Rwkv5_0, 24, dynamic>, Kind<test::Rwkv5_1, 8>, Kind<test::Rwkv5_2, 8>,
                   Kind<test::Rwkv6, 24, dynamic>, Kind<test::Rwkv6, 8>, Kind<test::Rwkv7, 24, dynamic>,
                   Kind<test::Rwkv7, 64>) {
  for (Index const more_channels : {0, 9}) {
    auto const weights = test::random_rwkv(
        {.version = K::version, .head_size = K::size, .more_channels = more_channels, .first_state = true});
    models::Reader model(models::load_model<typename K::Model>(weights.file()).model);
    test::PlainRwkv plain(weights);
    for (TokenId const token : {3, 1, 10, 0, 0, 7, 3}) {
      auto const expected = plain.step(token);
      CHECK(test::max_error(exact<K>(model, {&token, 1}), expected) <= 1e-12);
      CHECK(test::max_error(model.logits(), expected) <= 1e-7);  // rounded to float
    }
  }
}

TEST_CASE_TEMPLATE("models exact: trained models", K, Kind<test::Rwkv4, 24>, Kind<test::Rwkv5_2, 8>,
                   Kind<test::Rwkv6, 8>, Kind<test::Rwkv7, 64>) {
  std::filesystem::path const folder = std::filesystem::path(AVIARY_TEST_DATA_DIR) / "models";
  std::string const name = K::trained;
  if (std::string_view(AVIARY_TEST_DATA_DIR).empty() || !exists(folder / (name + ".json"))) {
    MESSAGE("not run: AVIARY_TEST_DATA_DIR has no models/" << name << ".json");
    return;
  }
  std::ifstream json(folder / (name + ".json"));
  auto const expected = nlohmann::json::parse(json);
  models::LoadOptions options;
  if (expected.at("group_norm_eps").is_number()) options.group_norm_eps = expected.at("group_norm_eps");
  models::Reader model(
      models::load_model<typename K::Model>(SafeTensors(folder / (name + ".safetensors")), options).model);
  auto const logits = exact<K>(model, expected.at("prompt").get<std::vector<TokenId>>());
  auto const reference = expected.at("logits").get<std::vector<double>>();
  REQUIRE(logits.size() == reference.size());
  test::Worst worst;
  for (std::size_t i = 0; i < logits.size(); ++i) worst.add(std::abs(logits[i] - reference[i]));
  CHECK(worst <= 2e-6);  // the reference carries some roundings to float
}
