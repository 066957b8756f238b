#include "aviary/layers/functions.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "support/random.hpp"

using namespace aviary;

namespace {

template <class T> double square_of(std::vector<T> const& x) {
  double sum = 0;
  for (T const e : x) sum += static_cast<double>(e) * static_cast<double>(e);
  return sum;
}

/// A sum of n squares in T, its root, an inverse and a product: (n + 4) eps / 2 at most.
template <class T> double bound(Index n) {
  return 0.5 * static_cast<double>(n + 4) * static_cast<double>(std::numeric_limits<T>::epsilon());
}

}  // namespace

TEST_CASE_TEMPLATE("normalize: rows get unit length, or that of |x| / sqrt(|x|^2 + eps)", T, float, double) {
  for (Index const n : {1, 3, 16, 24, 64, 100}) {
    CAPTURE(n);
    auto const x = test::Random(5).normals<T>(n);
    double const square = square_of(x);
    auto unit = x, nearly = x, coarse = x;
    normalize_max<T>(unit);
    normalize_plus<T>(nearly);
    normalize_plus<T>(coarse, T(0.5));
    for (std::size_t i = 0; i < x.size(); ++i) {
      double const e = static_cast<double>(x[i]);
      CHECK(static_cast<double>(unit[i]) == doctest::Approx(e / std::sqrt(square)).epsilon(bound<T>(n)));
      CHECK(static_cast<double>(nearly[i]) ==
            doctest::Approx(e / std::sqrt(square + static_cast<double>(T(1e-6)))).epsilon(bound<T>(n)));
      CHECK(static_cast<double>(coarse[i]) == doctest::Approx(e / std::sqrt(square + 0.5)).epsilon(bound<T>(n)));
    }
  }
}

TEST_CASE_TEMPLATE("normalize: short rows", T, float, double) {
  std::vector<T> zeros(20), tiny(20, T(1e-15)), other(20, T(1e-15));
  normalize_max<T>(zeros);
  CHECK(square_of(zeros) == 0);
  normalize_plus<T>(zeros);
  CHECK(square_of(zeros) == 0);
  normalize_max<T>(tiny);  // |x| is below 1e-12 and counts as that
  CHECK(static_cast<double>(tiny[19]) == doctest::Approx(1e-3).epsilon(1e-6));
  normalize_max<T>(other, T(1));
  CHECK(static_cast<double>(other[0]) == doctest::Approx(1e-15).epsilon(1e-6));
}
