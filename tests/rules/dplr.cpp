#include "aviary/dplr.hpp"

#include "rules/check_model.hpp"

using namespace aviary::test;

TEST_CASE_TEMPLATE("dplr: forward, step and backward agree with the reference", Model, DplrModel, IplrModel) {
  check_model<Model>();
}
