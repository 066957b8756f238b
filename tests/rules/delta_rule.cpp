#include "aviary/delta_rule.hpp"

#include "rules/check_model.hpp"

using namespace aviary;
using namespace aviary::test;

TEST_CASE_TEMPLATE("delta_rule: forward, step and backward agree with the reference", Model, DeltaNetModel,
                   GatedDeltaNetModel, KdaModel, GatedDeltaNet2Model, CombaModel) {
  check_model<Model>();
}
