#include "aviary/wkv5.hpp"

#include "rules/check_model.hpp"

using namespace aviary::test;

TEST_CASE_TEMPLATE("wkv5: forward, step and backward agree with the reference", Model, Wkv5Model, Wkv5PerHeadModel) {
  check_model<Model>();
}
