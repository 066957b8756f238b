#include "golden_check/channel.hpp"

#include <stdexcept>

#include "aviary/wkv4.hpp"
#include "support/golden.hpp"

namespace aviary::golden_check {
namespace {

/// max|x - ref| / max|ref| in arithmetic T.
template <class T> double channel_bound(test::GoldenFile const& file) {
  bool const extreme = file.path().find("extreme") != std::string::npos;
  return sizeof(T) == 8 ? 1e-12 : extreme ? 1e-4 : 1e-5;
}

/// Numbers of a file in type T, of which a row or a part is used.
template <class T> class Numbers : public std::vector<T> {
 public:
  Numbers(test::GoldenFile const& file, std::string const& name) {
    for (double const e : file.numbers(name)) this->push_back(static_cast<T>(e));
  }
  VecView<T const> row(Index i, Index size) const { return {this->data() + i * size, size}; }
};

template <class M> void check_memory(test::GoldenFile const& file, std::string const& type, Report& report) {
  using T = typename M::T;
  Index const sequences = file.size("out", 0), each = file.size("out", 1), channels = file.size("out", 2);
  Index const tokens = sequences * each;
  std::vector<Index> offsets;
  for (Index s = 0; s <= sequences; ++s) offsets.push_back(s * each);

  Numbers<T> const aa(file, "aa0"), bb(file, "bb0"), pp(file, "pp0");
  std::vector<typename M::State> states;
  for (Index s = 0; s < sequences; ++s) {
    if constexpr (M::channels == dynamic)
      states.emplace_back(channels);
    else
      states.emplace_back();
    import_state(states.back().view(), aa.row(s, channels), bb.row(s, channels), pp.row(s, channels));
  }

  Numbers<T> const log_w(file, "w_log"), k(file, "k"), v(file, "v"), u(file, "u");
  std::vector<T> y(to_size(tokens * channels));
  typename M::ForwardCall const call{.x = {.log_w = {log_w.data(), 1, channels},
                                           .k = {k.data(), tokens, 1, channels},
                                           .v = {v.data(), tokens, 1, channels},
                                           .u = {u.data(), 1, channels}},
                                     .y = {y.data(), tokens, 1, channels},
                                     .states = states,
                                     .offsets = offsets};
  if (std::string const wrong = M::check(call); !wrong.empty()) throw std::runtime_error(wrong);
  M::forward(call);

  double const bound = channel_bound<T>(file);
  report.compare(file.path(), "out", type, y, file.numbers("out"), bound);
  auto const pp_end = file.numbers("ppT");
  test::RelativeSums sums;
  for (std::size_t s = 0; s < states.size(); ++s) sums.append(states[s], pp_end.data() + s * to_size(channels));
  report.compare(file.path(), "aaT", type, sums.aa, file.numbers("aaT"), bound);
  report.compare(file.path(), "bbT", type, sums.bb, file.numbers("bbT"), bound);
}

}  // namespace

void check_wkv4(std::filesystem::path const& path, Report& report) {
  test::GoldenFile const file(path);
  check_memory<Wkv4<float>>(file, "float", report);
  check_memory<Wkv4<double>>(file, "double", report);
  if (file.size("out", 2) != 32) return;
  check_memory<Wkv4<float, 32>>(file, "float<32>", report);
  check_memory<Wkv4<double, 32>>(file, "double<32>", report);
}

}  // namespace aviary::golden_check
