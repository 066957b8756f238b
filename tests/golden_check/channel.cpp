#include "golden_check/channel.hpp"

#include <stdexcept>

#include "aviary/wkv4.hpp"
#include "support/channel_case.hpp"
#include "support/emulated.hpp"
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

/// Gradients of a file. Its final state is (aa, bb, pp), with pp the largest exponent so far: a loss that reads it depends on
/// pp too, and so on where that came from, which is a key or the initial state.
struct Gradients {
  std::vector<double> w_log, u, k, v, aa0, bb0, pp0;

  /// pp_end also has a gradient, of which that through aaT and bbT is a part.
  void add_exponents(test::GoldenFile const& file, Index tokens) {
    auto const gpp = file.numbers("gppT"), pp = file.numbers("pp0"), keys = file.numbers("k"),
               decays = file.numbers("w_log");
    auto const aa = file.numbers("aaT"), bb = file.numbers("bbT"), gaa = file.numbers("gaaT"),
               gbb = file.numbers("gbbT");
    for (std::size_t i = 0, channels = decays.size(); i < pp.size(); ++i) {
      std::size_t const c = i % channels, first = i / channels * to_size(tokens) * channels + c;
      double largest = pp[i], *from = &pp0[i];
      Index since = 0;
      for (std::size_t t = 0; t < to_size(tokens); ++t) {
        largest += decays[c];
        ++since;
        if (keys[first + t * channels] <= largest) continue;
        largest = keys[first + t * channels];
        from = &k[first + t * channels];
        since = 0;
      }
      double const g = gpp[i] - aa[i] * gaa[i] - bb[i] * gbb[i];
      *from += g;
      w_log[c] += g * static_cast<double>(since);
    }
  }
};

template <class M>
void check_gradients(test::GoldenFile const& file, std::string const& type, typename M::BackwardCall call,
                     bool of_states, Report& report) {
  using T = typename M::T;
  Index const sequences = file.size("out", 0), each = file.size("out", 1), channels = file.size("out", 2);
  auto const minus = [&](std::string const& name) {
    Numbers<T> x(file, name);
    for (T& e : x) e = -e;
    return x;
  };
  std::vector<T> dlog_w(to_size(channels)), du(dlog_w), dk(to_size(sequences * each * channels)), dv(dk),
      workspace(M::backward_workspace(call.x, call.offsets, call.tape.every));
  std::vector<typename M::StateGradient> dstates(to_size(sequences), test::channel_state<typename M::State>(channels));
  if (of_states) {
    Numbers<T> const aa(file, "gaaT"), bb(file, "gbbT"), pp = minus("ppT");  // of sums aa e^pp: relative to e^-pp
    for (Index s = 0; s < sequences; ++s)
      import_state(dstates[to_size(s)].view(), aa.row(s, channels), bb.row(s, channels), pp.row(s, channels));
  }
  call.dx = {.log_w = {dlog_w.data(), 1, channels},
             .k = {dk.data(), sequences * each, 1, channels},
             .v = {dv.data(), sequences * each, 1, channels},
             .u = {du.data(), 1, channels}};
  call.dstates = dstates;
  call.workspace = workspace;
  if (std::string const wrong = M::check(call); !wrong.empty()) throw std::runtime_error(wrong);
  M::backward(call);

  test::RelativeSums sums;
  auto pp = file.numbers("pp0");
  for (double& e : pp) e = -e;
  for (std::size_t s = 0; s < dstates.size(); ++s) sums.append(dstates[s], pp.data() + s * to_size(channels));
  Gradients x{.w_log = {dlog_w.begin(), dlog_w.end()},
              .u = {du.begin(), du.end()},
              .k = {dk.begin(), dk.end()},
              .v = {dv.begin(), dv.end()},
              .aa0 = sums.aa,
              .bb0 = sums.bb,
              .pp0 = {}};
  auto const aa0 = file.numbers("aa0"), bb0 = file.numbers("bb0"), w_log = file.numbers("w_log");
  for (std::size_t i = 0; i < aa0.size(); ++i) x.pp0.push_back(aa0[i] * x.aa0[i] + bb0[i] * x.bb0[i]);
  if (of_states) x.add_exponents(file, each);
  auto w_raw = x.w_log;  // w_log = -exp(w_raw)
  for (std::size_t c = 0; c < w_raw.size(); ++c) w_raw[c] *= w_log[c];

  std::string const before = of_states ? "grad_" : "gradout_";
  double const bound = channel_bound<T>(file), bound_of_decay = sizeof(T) == 4 ? 1e-4 : bound;
  auto const compare = [&](char const* name, std::vector<double> const& one, double bound_of_one) {
    auto expected = file.numbers(before + name);
    // w_log is no input of the files' graph, whose second gradient was added to the first: grad_w_log is the sum of both.
    if (of_states && name == std::string("w_log"))
      for (std::size_t c = 0; auto const& e : file.numbers("gradout_w_log")) expected[c++] -= e;
    report.compare(file.path(), before + name, type, one, expected, bound_of_one);
  };
  compare("w_raw", w_raw, bound_of_decay);
  compare("w_log", x.w_log, bound_of_decay);
  compare("u", x.u, bound);
  compare("k", x.k, bound);
  compare("v", x.v, bound);
  compare("aa0", x.aa0, bound);
  compare("bb0", x.bb0, bound);
  compare("pp0", x.pp0, bound);
}

template <class M> void check_memory(test::GoldenFile const& file, std::string const& type, Report& report) {
  using T = typename M::T;
  Index const sequences = file.size("out", 0), each = file.size("out", 1), channels = file.size("out", 2);
  Index const tokens = sequences * each;
  std::vector<Index> offsets;
  for (Index s = 0; s <= sequences; ++s) offsets.push_back(s * each);

  Numbers<T> const aa(file, "aa0"), bb(file, "bb0"), pp(file, "pp0");
  std::vector<typename M::State> states;
  for (Index s = 0; s < sequences; ++s) {
    states.push_back(test::channel_state<typename M::State>(channels));
    import_state(states.back().view(), aa.row(s, channels), bb.row(s, channels), pp.row(s, channels));
  }

  Numbers<T> const log_w(file, "w_log"), k(file, "k"), v(file, "v"), u(file, "u");
  std::vector<T> y(to_size(tokens * channels));
  typename M::Inputs const x{.log_w = {log_w.data(), 1, channels},
                             .k = {k.data(), tokens, 1, channels},
                             .v = {v.data(), tokens, 1, channels},
                             .u = {u.data(), 1, channels}};
  std::vector<typename M::State> kept(M::tape_size(x, offsets), test::channel_state<typename M::State>(channels));
  typename M::ForwardCall const call{
      .x = x, .y = {y.data(), tokens, 1, channels}, .states = states, .offsets = offsets, .tape = {.states = kept}};
  if (std::string const wrong = M::check(call); !wrong.empty()) throw std::runtime_error(wrong);
  M::forward(call);

  double const bound = channel_bound<T>(file);
  report.compare(file.path(), "out", type, y, file.numbers("out"), bound);
  auto const pp_end = file.numbers("ppT");
  test::RelativeSums sums;
  for (std::size_t s = 0; s < states.size(); ++s) sums.append(states[s], pp_end.data() + s * to_size(channels));
  report.compare(file.path(), "aaT", type, sums.aa, file.numbers("aaT"), bound);
  report.compare(file.path(), "bbT", type, sums.bb, file.numbers("bbT"), bound);

  Numbers<T> const dy(file, "gout");
  for (bool const of_states : {false, true})
    check_gradients<M>(
        file, type,
        {.x = x, .dy = {dy.data(), tokens, 1, channels}, .tape = call.tape, .workspace = {}, .offsets = offsets},
        of_states, report);
}

}  // namespace

void check_wkv4(std::filesystem::path const& path, Report& report) {
  test::GoldenFile const file(path);
  check_memory<Wkv4<float>>(file, "float", report);
  check_memory<Wkv4<double>>(file, "double", report);
  check_memory<test::Emulated<Wkv4<float>>>(file, "float as on a device", report);
  check_memory<test::Emulated<Wkv4<double>>>(file, "double as on a device", report);
  if (file.size("out", 2) != 32) return;
  check_memory<Wkv4<float, 32>>(file, "float<32>", report);
  check_memory<Wkv4<double, 32>>(file, "double<32>", report);
}

}  // namespace aviary::golden_check
