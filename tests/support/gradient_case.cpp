#include "support/gradient_case.hpp"

#include <algorithm>

namespace aviary::test {
namespace {

double norm(std::vector<double> const& x) {
  double sum = 0;
  for (double const e : x) sum += e * e;
  return std::sqrt(sum);
}

/// The derivative of a loss along a direction, by central differences of the fourth order: exact for polynomials of degree four.
double derivative(std::vector<double>& x, std::vector<double> const& direction, std::function<double()> const& loss) {
  std::vector<double> const at = x;
  auto const difference = [&](double step) {
    double sides[2];
    for (int side = 0; side < 2; ++side) {
      double const signed_step = side == 0 ? step : -step;
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = at[i] + signed_step * direction[i];
      sides[side] = loss();
    }
    return (sides[0] - sides[1]) / (2 * step);
  };
  constexpr double step = 2e-4;
  double const derivative = (4 * difference(step) - difference(2 * step)) / 3;
  x = at;
  return derivative;
}

/// The derivative with respect to number i.
double derivative(std::vector<double>& x, std::size_t i, std::function<double()> const& loss) {
  std::vector<double> direction(x.size());
  direction[i] = 1;
  return derivative(x, direction, loss);
}

/// f(gradient, the expected one) for each of them.
template <class F>
void for_each_pair(std::span<NamedNumbers const> x, std::span<NamedNumbers const> expected, Place place, F&& f) {
  check_that(x.size() == expected.size(), "as many gradients as expected", place);
  for (std::size_t i = 0; i < std::min(x.size(), expected.size()); ++i) {
    Note const note("gradient of", expected[i].name);
    f(*x[i].numbers, *expected[i].numbers);
  }
}

}  // namespace

void check_gradients(std::span<NamedNumbers const> x, std::span<NamedNumbers const> expected, double bound,
                     Place place) {
  for_each_pair(x, expected, place, [&](NumberSpan g, NumberSpan other) { check_l2(g, other, bound, place); });
}

void check_same_gradients(std::span<NamedNumbers const> x, std::span<NamedNumbers const> expected, Place place) {
  for_each_pair(x, expected, place, [&](NumberSpan g, NumberSpan other) { check_equal(g, other, place); });
}

void check_central_differences(std::span<NamedNumbers const> x, std::span<NamedNumbers const> gradients,
                               std::function<double()> const& loss, double bound, Place place) {
  Random random(5);
  for (std::size_t f = 0; f < x.size(); ++f) {
    Note const note("gradient of", x[f].name);
    std::vector<double>& at = *x[f].numbers;
    std::vector<double> const& g = *gradients[f].numbers;
    check_that(g.size() == at.size() && !g.empty(), "a gradient for each number", place);
    if (g.size() != at.size() || g.empty()) continue;

    auto const direction = random.normals<double>(static_cast<Index>(g.size()));
    double along = 0;
    for (std::size_t i = 0; i < g.size(); ++i) along += g[i] * direction[i];
    double const length = norm(g) > 0 ? norm(g) : 1;
    std::vector<double> x_scaled{along / length}, expected{derivative(at, direction, loss) / length};

    auto const largest =
        std::max_element(g.begin(), g.end(), [](double a, double b) { return std::abs(a) < std::abs(b); });
    double const size = std::abs(*largest) > 0 ? std::abs(*largest) : 1;
    Index const n = static_cast<Index>(g.size());
    for (Index const i : {static_cast<Index>(largest - g.begin()), random.below(n), random.below(n)}) {
      x_scaled.push_back(g[to_size(i)] / size);
      expected.push_back(derivative(at, to_size(i), loss) / size);
    }
    check_close(x_scaled, expected, bound, place);
  }
}

}  // namespace aviary::test
