/// One program of builds/everything.cpp for the oldest processors of its architecture and for this one: each has functions of
/// its own, which give the same numbers.
#include <cmath>
#include <cstdio>
#include <vector>

double run_baseline(double const* x, int n);
double run_native(double const* x, int n);

int main() {
  std::vector<double> x(1000);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<double>(i));
  double const baseline = run_baseline(x.data(), 1000), native = run_native(x.data(), 1000);
  std::printf("baseline %g, native %g\n", baseline, native);
  return baseline > 400 && std::abs(baseline - native) <= 1e-4 * baseline ? 0 : 1;
}
