#pragma once
/// Golden files of matrix memories through the kernels. A model is a Case: its memory, and where its inputs are in a file.
#include <deque>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "aviary/dplr.hpp"
#include "aviary/wkv7.hpp"
#include "golden_check/report.hpp"
#include "support/golden.hpp"

namespace aviary::golden_check {

/// max|x - ref| / max|ref| of a recurrence in arithmetic T.
template <class T> inline constexpr double recurrence_bound = std::is_same_v<T, float> ? 2e-6 : 1e-12;

/// The tensors of a file as inputs of a kernel, rounded to T; the batch becomes packed sequences.
template <class T> class Tensors {
 public:
  explicit Tensors(test::MatrixGolden const& file) : file_(file) {}
  test::MatrixGolden const& file() const { return file_; }

  /// A tensor (batch, tokens, heads, N), or (batch, tokens, heads) for N = 1.
  template <Index N> Source<N> source(std::string const& name) { return source<N>(name, file_.numbers(name)); }
  /// Other numbers in the place and shape of a tensor.
  template <Index N> Source<N> source(std::string const& name, std::vector<double> const& numbers) {
    Index const tokens = file_.batch() * file_.tokens(), heads = file_.size(name, 2);
    Index const size = static_cast<Index>(numbers.size()) / (tokens * heads);
    if (N != dynamic && size != N)
      throw std::runtime_error("tensor '" + name + "' has " + std::to_string(size) + " numbers a head, expected " +
                               std::to_string(N));
    return {keep(numbers), tokens, heads, size};
  }

 private:
  T const* keep(std::vector<double> const& numbers) {
    kept_.emplace_back(numbers.begin(), numbers.end());
    return kept_.back().data();
  }

  test::MatrixGolden const& file_;
  std::deque<std::vector<T>> kept_;
};

struct Wkv7Case {
  template <class T, Index K, Index V> using Memory = Wkv7<T, K, V>;
  template <class M> static typename M::Inputs inputs(Tensors<typename M::T>& x) {
    constexpr Index K = M::keys, V = M::values;
    auto const& file = x.file();
    return {.r = x.template source<K>("r"),
            .log_w = x.template source<K>("w", file.wkv7_log_w()),
            .k = x.template source<K>("k"),
            .v = x.template source<V>("v"),
            .kappa_hat = x.template source<K>("kk"),
            .a = x.template source<K>("a")};
  }
};

struct DplrCase {
  template <class T, Index K, Index V> using Memory = Dplr<T, K, V>;
  template <class M> static typename M::Inputs inputs(Tensors<typename M::T>& x) {
    constexpr Index K = M::keys, V = M::values;
    auto const& file = x.file();
    return {.q = x.template source<K>("q", file.scaled_q()),
            .log_w = x.template source<K>("gk"),
            .k = x.template source<K>("k"),
            .v = x.template source<V>("v"),
            .alpha = x.template source<K>("alpha"),
            .beta = x.template source<K>("beta")};
  }
};

/// An empty context, whichever way its sizes are known.
template <class State> State empty_state(Index keys, Index values) {
  if constexpr (std::is_constructible_v<State, Extent<dynamic>, Extent<dynamic>>)
    return State{keys, values};
  else
    return State{};
}

/// One file through forward of memory M.
template <class M, class Case>
void check_memory(test::MatrixGolden const& file, std::string const& type, Report& report) {
  using T = typename M::T;
  Index const keys = file.keys(), values = file.values(), sequences = file.batch(), tokens = sequences * file.tokens();
  std::vector<Index> offsets;
  for (Index s = 0; s <= sequences; ++s) offsets.push_back(s * file.tokens());

  std::vector<double> s = file.state("state0");
  std::vector<typename M::State> states(static_cast<std::size_t>(sequences * file.heads()),
                                        empty_state<typename M::State>(keys, values));
  auto const for_each_number = [&](auto&& f) {  // f(number of a state, its place in s)
    std::size_t n = 0;
    for (auto& state : states)
      for (Index i = 0; i < values; ++i)
        for (Index j = 0; j < keys; ++j) f(state.view()(j, i), n++);
  };
  for_each_number([&](T& number, std::size_t n) { number = static_cast<T>(s[n]); });

  Tensors<T> tensors(file);
  std::vector<T> y(static_cast<std::size_t>(tokens * file.heads() * values)), final_states(s.size());
  typename M::Forward const call{.x = Case::template inputs<M>(tensors),
                                 .y = {y.data(), tokens, file.heads(), values},
                                 .states = states,
                                 .offsets = offsets};
  if (std::string const wrong = M::check(call); !wrong.empty()) throw std::runtime_error(wrong);
  M::forward(call);
  for_each_number([&](T& number, std::size_t n) { final_states[n] = number; });

  report.compare(file.path(), "out", type, y, file.numbers("out"), recurrence_bound<T>);
  report.compare(file.path(), "stateT", type, final_states, file.state("stateT"), recurrence_bound<T>);
}

/// One file with sizes known at run time, and at compile time where the sizes are among those.
template <class Case, class T>
void check_type(test::MatrixGolden const& file, std::string const& type, Report& report) {
  check_memory<typename Case::template Memory<T, dynamic, dynamic>, Case>(file, type, report);
  Index const keys = file.keys(), values = file.values();
  if (keys == 16 && values == 16)
    check_memory<typename Case::template Memory<T, 16, 16>, Case>(file, type + "<16>", report);
  if (keys == 64 && values == 64)
    check_memory<typename Case::template Memory<T, 64, 64>, Case>(file, type + "<64>", report);
}

template <class Case> void check_matrix(std::filesystem::path const& path, Report& report) {
  test::MatrixGolden const file(path);
  check_type<Case, float>(file, "float", report);
  check_type<Case, double>(file, "double", report);
}

}  // namespace aviary::golden_check
