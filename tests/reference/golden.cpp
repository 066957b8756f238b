/// The references against published code: the committed golden files, and all of a folder that the build may name.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "aviary/reference/recurrence.hpp"
#include "aviary/reference/wkv7.hpp"
#include "support/compare.hpp"
#include "support/golden.hpp"

namespace {

using namespace aviary;
using test::MatrixGolden;
using Numbers = std::vector<double>;

constexpr double bound = 1e-12;

/// One head of one sequence of a packed tensor (batch, tokens, heads, size).
struct Head {
  MatrixGolden const& file;
  Index sequence, head;
  MatView<double const> operator()(Numbers const& x) const {
    return {x.data() + offset(size(x)), file.tokens(), size(x), stride(size(x))};
  }
  MatView<double> operator()(Numbers& x) const {
    return {x.data() + offset(size(x)), file.tokens(), size(x), stride(size(x))};
  }

 private:
  Index size(Numbers const& x) const {
    return static_cast<Index>(x.size()) / (file.batch() * file.tokens() * file.heads());
  }
  Index stride(Index size) const { return file.heads() * size; }
  Index offset(Index size) const { return (sequence * file.tokens() * file.heads() + head) * size; }
};

/// Runs forward(head, state, y) for all heads of all sequences and compares outputs and final states.
template <class Forward> void check(MatrixGolden const& file, Forward&& forward) {
  Numbers s = file.state("state0");
  Numbers y(file.numbers("out").size());
  for (Index n = 0; n < file.batch() * file.heads(); ++n) {
    Head const head{file, n / file.heads(), n % file.heads()};
    MatView<double> const state(s.data() + n * file.values() * file.keys(), file.values(), file.keys());
    forward(head, state, head(y));
  }
  CAPTURE(file.path());
  CHECK(test::max_error(y, file.numbers("out")) <= bound);
  CHECK(test::max_error(s, file.state("stateT")) <= bound);
}

Numbers each(Numbers x, std::function<double(double)> const& f) {
  for (double& e : x) e = f(e);
  return x;
}

void check_wkv7(MatrixGolden const& file) {
  Numbers const r = file.numbers("r"), log_w = file.wkv7_log_w(), k = file.numbers("k"), v = file.numbers("v");
  Numbers const kappa_hat = file.numbers("kk"), a = file.numbers("a");
  check(file, [&](Head const& head, MatView<double> s, MatView<double> y) {
    reference::Wkv7<>::forward(
        s, {.r = head(r), .log_w = head(log_w), .k = head(k), .v = head(v), .kappa_hat = head(kappa_hat), .a = head(a)},
        y);
  });

  Numbers const w = each(log_w, [](double x) { return std::exp(x); });
  Numbers const p = each(kappa_hat, [](double x) { return -x; });
  Numbers q = a;
  for (std::size_t i = 0; i < q.size(); ++i) q[i] *= kappa_hat[i];
  check(file, [&](Head const& head, MatView<double> s, MatView<double> y) {
    reference::Recurrence<>::forward(
        s, {.r = head(r), .w = head(w), .p = head(p), .q = head(q), .k = head(k), .v = head(v)}, y);
  });
}

void check_dplr(MatrixGolden const& file) {
  Numbers const q = file.scaled_q(), w = each(file.numbers("gk"), [](double x) { return std::exp(x); });
  Numbers const k = file.numbers("k"), v = file.numbers("v"), alpha = file.numbers("alpha"),
                beta = file.numbers("beta");
  check(file, [&](Head const& head, MatView<double> s, MatView<double> y) {
    reference::Recurrence<>::forward(
        s, {.r = head(q), .w = head(w), .p = head(alpha), .q = head(beta), .k = head(k), .v = head(v)}, y);
  });
}

/// Calls check for each file of a folder with the given op; how many there were.
int for_each_golden(std::string const& folder, std::string const& op, void (*check)(MatrixGolden const&)) {
  int files = 0;
  for (auto const& path : test::golden_files(folder)) {
    if (test::GoldenFile(path).op() != op) continue;
    check(MatrixGolden(path));
    ++files;
  }
  return files;
}

}  // namespace

TEST_CASE("golden: the references agree with the committed files") {
  CHECK(for_each_golden(AVIARY_TEST_GOLDEN_DIR, "wkv7", check_wkv7) == 3);
  CHECK(for_each_golden(AVIARY_TEST_GOLDEN_DIR, "dplr", check_dplr) == 1);
}

TEST_CASE("golden: the references agree with all published files") {
  std::string const data = AVIARY_TEST_DATA_DIR;
  if (data.empty()) {
    MESSAGE("AVIARY_TEST_DATA_DIR is empty: skipped");
    return;
  }
  CHECK(for_each_golden(data + "/golden", "wkv7", check_wkv7) > 0);
  CHECK(for_each_golden(data + "/golden", "dplr", check_dplr) > 0);
}
