#include "aviary/wkv6.hpp"

#include "rules/check_model.hpp"

using namespace aviary::test;

TEST_CASE_TEMPLATE("wkv6: forward and step agree with the reference", Model, Wkv6Model, FinchC2Model) {
  check_model<Model>();
}
