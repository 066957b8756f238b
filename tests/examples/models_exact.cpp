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
#include "support/plain_rwkv.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Version;

namespace {

/// A generation in double, the version that it is tried with, and its trained checkpoint.
template <class G, Version v, Index head_size = 24> struct Kind {
  using Generation = G;
  static constexpr Version version = v;
  static constexpr Index size = head_size;
  static std::string trained() { return "tiny-rwkv-" + test::name(version).substr(0, 1); }
};

using Rwkv4Kind = Kind<models::Rwkv4<double>, Version::v4>;
using Rwkv5_0Kind = Kind<models::Rwkv5PerHead<double, dynamic>, Version::v5_0>;
using Rwkv5_1Kind = Kind<models::Rwkv5PerHead<double, 8>, Version::v5_1, 8>;
using Rwkv5_2Kind = Kind<models::Rwkv5PerChannel<double, 8>, Version::v5_2, 8>;
using Rwkv6Kind = Kind<models::Rwkv6<double, dynamic>, Version::v6>;
using Rwkv6SizedKind = Kind<models::Rwkv6<double, 8>, Version::v6, 8>;
using Rwkv7Kind = Kind<models::Rwkv7<double, dynamic>, Version::v7>;
using Rwkv7SizedKind = Kind<models::Rwkv7<double, 64>, Version::v7, 64>;

}  // namespace

TEST_CASE_TEMPLATE("models exact: logits of the equations to all digits", K, Rwkv4Kind, Rwkv5_0Kind, Rwkv5_1Kind,
                   Rwkv5_2Kind, Rwkv6Kind, Rwkv6SizedKind, Rwkv7Kind, Rwkv7SizedKind) {
  for (Index const more_channels : {0, 9}) {
    auto const weights = test::random_rwkv(
        {.version = K::version, .head_size = K::size, .more_channels = more_channels, .first_state = true});
    std::string const text = weights.text();
    auto const loaded = models::load_model<typename K::Generation>(SafeTensors(test::bytes_of(text)));
    auto& model = dynamic_cast<models::BlockModel<typename K::Generation::Block>&>(*loaded.model);
    test::PlainRwkv plain(weights);
    for (TokenId const token : {3, 1, 10, 0, 0, 7, 3}) {
      auto const expected = plain.step(token);
      CHECK(test::max_error(model.read({&token, 1}), expected) <= 1e-12);
      CHECK(test::max_error(model.logits(), expected) <= 1e-7);  // rounded to float
    }
  }
}

TEST_CASE_TEMPLATE("models exact: trained models", K, Rwkv4Kind, Rwkv5_2Kind, Rwkv6SizedKind, Rwkv7SizedKind) {
  std::filesystem::path const folder = std::filesystem::path(AVIARY_TEST_DATA_DIR) / "models";
  std::string const name = K::trained() + (K::version == Version::v5_2 ? "v2" : "v0");
  if (std::string_view(AVIARY_TEST_DATA_DIR).empty() || !exists(folder / (name + ".json"))) {
    MESSAGE("not run: AVIARY_TEST_DATA_DIR has no models/" << name << ".json");
    return;
  }
  std::ifstream json(folder / (name + ".json"));
  auto const expected = nlohmann::json::parse(json);
  models::LoadOptions options;
  if (expected.at("group_norm_eps").is_number()) options.group_norm_eps = expected.at("group_norm_eps");
  auto const loaded =
      models::load_model<typename K::Generation>(SafeTensors(folder / (name + ".safetensors")), options);
  auto& model = dynamic_cast<models::BlockModel<typename K::Generation::Block>&>(*loaded.model);
  auto const logits = model.read(expected.at("prompt").get<std::vector<TokenId>>());
  auto const reference = expected.at("logits").get<std::vector<double>>();
  double most = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) most = std::max(most, std::abs(logits[i] - reference[i]));
  CHECK(logits.size() == reference.size());
  CHECK(most <= 2e-6);  // the reference carries some roundings to float
}
