#include "aviary/linear_attention.hpp"

#include "rules/check_model.hpp"

using namespace aviary::test;

TEST_CASE_TEMPLATE("linear_attention: forward, step and backward agree with the reference", Model, LinearAttentionModel,
                   RetNetModel, SimpleGlaModel, GlaModel) {
  check_model<Model>();
}
