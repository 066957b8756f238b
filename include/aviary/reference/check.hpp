#pragma once
/// What the references have in common besides mathematics: a wrong size is an exception that names the input.
#include <stdexcept>
#include <string>

#include "aviary/core/config.hpp"
#include "aviary/core/view.hpp"

namespace aviary::reference::detail {

/// Throws std::invalid_argument unless have == want.
inline void expect_size(char const* model, char const* input, Index have, Index want) {
  if (have != want)
    throw std::invalid_argument(std::string("aviary::reference::") + model + ": " + input + " has size " +
                                std::to_string(have) + ", expected " + std::to_string(want));
}

/// The inputs of one token beside its state (V x K) and its output (V):
///     TokenSizes("DeltaNet", s, y).keys("q", x.q).keys("k", x.k).values("v", x.v);
template <class T> class TokenSizes {
 public:
  TokenSizes(char const* model, MatView<T> s, VecView<T> y) : model_(model), keys_(s.columns()), values_(s.rows()) {
    expect_size(model, "y", y.size(), values_);
  }
  TokenSizes const& keys(char const* input, VecView<T const> x) const {
    expect_size(model_, input, x.size(), keys_);
    return *this;
  }
  TokenSizes const& values(char const* input, VecView<T const> x) const {
    expect_size(model_, input, x.size(), values_);
    return *this;
  }

 private:
  char const* model_;
  Index keys_, values_;
};

/// The inputs of a sequence, each with a row or a number for each of n tokens:
///     TokenCounts("DeltaNet", y.rows())("q", x.q)("k", x.k)("v", x.v)("beta", x.beta);
class TokenCounts {
 public:
  TokenCounts(char const* model, Index tokens) : model_(model), tokens_(tokens) {}
  template <class T> TokenCounts const& operator()(char const* input, MatView<T> x) const {
    return expect(input, x.rows());
  }
  template <class T> TokenCounts const& operator()(char const* input, VecView<T> x) const {
    return expect(input, x.size());
  }

 private:
  TokenCounts const& expect(char const* input, Index have) const {
    if (have != tokens_) expect_size(model_, (std::string(input) + " (tokens)").c_str(), have, tokens_);
    return *this;
  }
  char const* model_;
  Index tokens_;
};

}  // namespace aviary::reference::detail
