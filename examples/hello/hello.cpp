/// One head of WKV-7 takes a step for each of a hundred tokens, and is compared with the same equations in double.
#include <aviary/reference/wkv7.hpp>
#include <aviary/wkv7.hpp>
#include <cmath>
#include <cstdio>
#include <random>
#include <string_view>
#include <vector>

using Memory = aviary::Wkv7<float, 64>;  // a model, a number type, a head size
using Row = std::vector<float>;

int main(int argc, char** argv) {
  if (argc > 1) {
    bool const help = std::string_view(argv[1]) == "--help";
    std::fputs("hello: compares 100 steps of a WKV-7 head with the equations; takes no arguments\n",
               help ? stdout : stderr);
    return help ? 0 : 2;
  }
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  auto const row = [&](auto f) {  // 64 seeded numbers
    Row x(64);
    for (float& e : x) e = f(normal(random));
    return x;
  };
  auto const plain = [](float x) { return x; };
  auto const rate = [](float x) { return 1 / (1 + std::exp(-x)); };
  auto const log_decay = [&](float x) { return -0.6065f * rate(x); };  // w between 0.545 and 1
  auto const unit = [](float x) { return std::copysign(0.125f, x); };  // 64 of these have length 1
  auto const twin = [](Row const& x) { return std::vector<double>(x.begin(), x.end()); };

  Memory::State state{};  // the empty context
  Row y(64);
  std::vector<double> exact_state(64 * 64), exact_y(64);
  double error = 0, largest = 0;
  for (int token = 0; token < 100; ++token) {
    Row const r = row(plain), log_w = row(log_decay), k = row(plain), v = row(plain), kappa_hat = row(unit),
              a = row(rate);
    Memory::step(state, {.r = r, .log_w = log_w, .k = k, .v = v, .kappa_hat = kappa_hat, .a = a}, y);

    aviary::reference::Wkv7<double>::step(
        {exact_state.data(), 64, 64},
        {.r = twin(r), .log_w = twin(log_w), .k = twin(k), .v = twin(v), .kappa_hat = twin(kappa_hat), .a = twin(a)},
        exact_y);
    for (std::size_t i = 0; i < 64; ++i) {
      double const difference = std::fabs(double(y[i]) - exact_y[i]);
      if (!(difference <= error) && !std::isnan(error)) error = difference;  // NaN stays
      largest = std::fmax(largest, std::fabs(exact_y[i]));
    }
  }
  bool const ok = error <= 3e-6 * largest;
  std::printf("y[0] = %.6f after 100 tokens; largest error %.1e of the largest output: %s\n", double(y[0]),
              error / largest, ok ? "ok" : "WRONG");
  return ok ? 0 : 1;
}
