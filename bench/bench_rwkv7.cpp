/// Speed of a whole model: RWKV-7 with random weights and the sizes of the released 0.1B model. A token that is decoded is
/// bound by the bytes of the weights, and measured by how long it takes to read as many; a prompt is bound by arithmetic,
/// and measured by the peak of fused multiply-adds.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "models/any.hpp"
#include "models/random_checkpoint.hpp"
#include "models/reader.hpp"
#include "support/peak.hpp"
#include "support/program.hpp"

namespace {

using namespace aviary;

struct Format {
  WeightFormat format;
  char const* name;
  double bytes, bytes_of_head;  // of a weight
};
constexpr Format formats[]{
    {WeightFormat::full, "f32", 4, 4},
    {NumberFormat::bf16, "bf16", 2, 2},
    {{NumberFormat::bf16, Arithmetic::bits16}, "bf16/bits16", 2, 2},
    {{NumberFormat::bf16, Arithmetic::bits8}, "bf16/bits8", 2, 2},
    {NumberFormat::q8, "q8", 17. / 16, 17. / 16},
    {{NumberFormat::q8, Arithmetic::bits16}, "q8/bits16", 17. / 16, 17. / 16},
    {{NumberFormat::q8, Arithmetic::bits8}, "q8/bits8", 17. / 16, 17. / 16},
    {NumberFormat::q4, "q4", 9. / 16, 17. / 16},  // see models/checkpoint.hpp
    {{NumberFormat::q4, Arithmetic::bits16}, "q4/bits16", 9. / 16, 17. / 16},
    {{NumberFormat::q4, Arithmetic::bits8}, "q4/bits8", 9. / 16, 17. / 16},
};
constexpr models::Rwkv7Sizes sizes;
constexpr Index prompt = 512;
constexpr Index most_contexts = 16;
constexpr Index head = sizes.vocab * sizes.channels;

models::RandomCheckpoint const& checkpoint() {
  static models::RandomCheckpoint const made = models::random_checkpoint(sizes);
  return made;
}

class Problem {
 public:
  explicit Problem(Format const& format, Index threads = 1)
      : bytes_(static_cast<double>(sizes.multiplied() - head) * format.bytes +
               static_cast<double>(head) * format.bytes_of_head),
        model_(models::load_rwkv7<float>(checkpoint().file(),
                                         {.format = format.format, .threads = models::Threads(threads)})
                   .model),
        workspace_(model_.model().make_workspace(most_contexts)),
        contexts_(to_size(most_contexts), model_.model().empty_context()) {
    for (Index t = 0; t < prompt; ++t) tokens_.push_back(static_cast<models::TokenId>(t * 97 % sizes.vocab));
  }

  double bytes() const { return bytes_; }
  double flops() const {
    double const memory = 9.0 * static_cast<double>(sizes.layers * sizes.channels * sizes.head_size);
    return static_cast<double>(prompt) * (2.0 * static_cast<double>(sizes.multiplied_per_prompt_token()) + memory);
  }
  void decode() { benchmark::DoNotOptimize(model_.step(17)); }
  /// A token for each of so many contexts.
  void decode(Index contexts) {
    std::vector<models::Turn> turns;
    for (std::size_t i = 0; i < to_size(contexts); ++i)
      turns.push_back({&contexts_[i], std::span(tokens_).subspan(i, 1)});
    model_.model().advance(turns, *workspace_);
    benchmark::DoNotOptimize(contexts_[0].logits());
  }
  void prefill() { benchmark::DoNotOptimize(model_.prefill(tokens_)); }

 private:
  double bytes_;
  models::Reader model_;
  std::unique_ptr<models::Workspace> workspace_;
  std::vector<models::Context> contexts_;
  std::vector<models::TokenId> tokens_;
};

template <class F> void add(std::string const& name, F&& measure) {
  benchmark::RegisterBenchmark((name + "/" + bench::instruction_set()).c_str(), measure)->Unit(benchmark::kMillisecond);
}

void add_all() {
  for (Index const threads : {Index{1}, Index{2}})
    for (Format const& format : formats) {
      std::string const end = std::string("/") + format.name + "/threads" + std::to_string(threads);
      add("rwkv7/0.1B/decode" + end, [=](benchmark::State& state) {
        Problem problem(format, threads);
        for (auto _ : state) problem.decode();
        state.SetItemsProcessed(state.iterations());
        state.SetBytesProcessed(static_cast<std::int64_t>(problem.bytes()) * state.iterations());
      });
      for (Index const contexts : {Index{8}, most_contexts})
        add("rwkv7/0.1B/decode/contexts" + std::to_string(contexts) + end, [=](benchmark::State& state) {
          Problem problem(format, threads);
          for (auto _ : state) problem.decode(contexts);
          state.SetItemsProcessed(contexts * state.iterations());
        });
      add("rwkv7/0.1B/prefill" + end, [=](benchmark::State& state) {
        Problem problem(format, threads);
        double const elapsed = bench::seconds([&] {
          for (auto _ : state) problem.prefill();
        });
        state.SetItemsProcessed(prompt * state.iterations());
        state.counters["% of peak"] =
            100 * problem.flops() * static_cast<double>(state.iterations()) / elapsed / bench::peak<float>();
      });
    }
}

/// Medians of rounds in which the model and what it is measured by take turns.
void row(Format const& format, Problem& floats) {
  Problem problem(format);
  std::vector<float> const same_bytes(static_cast<std::size_t>(problem.bytes()) / sizeof(float), 1.0f);
  std::vector<double> decode, to_read, of_eight, of_sixteen, prefill, of_floats, of_peak;
  for (int round = 0; round < 9; ++round) {
    double const read = bench::seconds([&] { bench::read(same_bytes.data(), static_cast<Index>(same_bytes.size())); });
    double const token = bench::seconds([&] { problem.decode(); });
    double const eight = bench::seconds([&] { problem.decode(8); });
    double const sixteen = bench::seconds([&] { problem.decode(16); });
    double const peak = bench::peak_burst<float>();
    double const whole = bench::seconds([&] { problem.prefill(); });
    double const with_floats = bench::seconds([&] { floats.prefill(); });
    decode.push_back(1 / token);
    to_read.push_back(token / read);
    of_eight.push_back(8 * token / eight);
    of_sixteen.push_back(16 * token / sixteen);
    prefill.push_back(static_cast<double>(prompt) / whole);
    of_floats.push_back(with_floats / whole);
    of_peak.push_back(100 * problem.flops() / whole / peak);
  }
  std::printf("%-12s %16.1f %22.2f %14.2f %12.2f %20.0f %8.2f %12.1f\n", format.name, bench::median(decode),
              bench::median(to_read), bench::median(of_eight), bench::median(of_sixteen), bench::median(prefill),
              bench::median(of_floats), bench::median(of_peak));
  std::fflush(stdout);
}

void short_table() {
  std::printf(
      "RWKV-7, %td layers of %td channels, vocabulary %td, one thread; medians of 9 rounds; FMA peak %.0f GFLOP/s\n",
      sizes.layers, sizes.channels, sizes.vocab, bench::peak<float>() / 1e9);
  std::printf("%-12s %16s %22s %14s %12s %20s %8s %12s\n", "", "decode, token/s", "x reading the weights",
              "x of 8 at once", "x of 16", "prefill 512, token/s", "x f32", "% of peak");
  Problem floats(formats[0]);
  for (Format const& format : formats) row(format, floats);
}

}  // namespace

int main(int argc, char** argv) {
  add_all();
  return bench::run(argc, argv, short_table);
}
