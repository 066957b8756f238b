#pragma once
/// Inputs of WKV-7 through its memories, from empty states.
#include "aviary/wkv7.hpp"
#include "support/random.hpp"
#include "support/rule_case.hpp"

namespace aviary::test {

template <class M> RuleRun<M> wkv7_run(Wkv7Inputs<double> const& x) {
  std::vector<double> const state(x.state.size());
  return RuleRun<M>({{x.keys, x.values, x.heads, {0, x.tokens}},
                     {.r = x.r, .log_w = x.log_w, .k = x.k, .v = x.v, .kappa_hat = x.kappa_hat, .a = x.a},
                     state});
}

}  // namespace aviary::test
