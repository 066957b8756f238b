/// Speed of GOLD with 1k to 256k tokens in the cache: appending to it; one attention layer of 768 channels, with keys and
/// values rebuilt, bound by arithmetic and measured by the peak of fused multiply-adds, or kept, bound by their bytes and
/// measured by how long it takes to read as many; and a small whole GoldFinch that decodes.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "aviary/layers/gold.hpp"
#include "models/goldfinch.hpp"
#include "models/random_checkpoint.hpp"
#include "models/reader.hpp"
#include "support/peak.hpp"
#include "support/program.hpp"

namespace {

using namespace aviary;

constexpr models::GoldFinchSizes attention_sizes{.layers = 2, .channels = 768};  // one layer attends
constexpr models::GoldFinchSizes model_sizes;
constexpr Index shortest = 1024, longest = Index{1} << 18, many = 64;

/// 1k, 4k, 16k ... tokens.
std::vector<Index> lengths(Index last) {
  std::vector<Index> all;
  for (Index n = shortest; n <= last; n *= 4) all.push_back(n);
  return all;
}

AlignedVector<float> random_numbers(Index n) {
  std::minstd_rand random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  AlignedVector<float> numbers(to_size(n));
  for (float& x : numbers) x = uniform(random);
  return numbers;
}

std::vector<std::int32_t> random_ids(Index n, Index vocab) {
  std::minstd_rand random(2);
  std::vector<std::int32_t> ids;
  for (Index t = 0; t < n; ++t) ids.push_back(static_cast<std::int32_t>(random() % static_cast<unsigned>(vocab)));
  return ids;
}

/// f(first, count) for pieces of 1024 of n.
template <class F> void pieces(Index n, F&& f) {
  for (Index first = 0; first < n; first += shortest) f(first, std::min(shortest, n - first));
}

/// The attention layer and what it shares with others.
struct Layer {
  static constexpr models::GoldFinchSizes n = attention_sizes;

  explicit Layer(models::RandomCheckpoint const& made = models::random_checkpoint(n)) : Layer(made.file()) {}
  explicit Layer(TensorFile const& file) : Layer(file, models::WeightReader<float>(file)) {}
  Layer(TensorFile const& file, models::WeightReader<float> read)
      : token_cat(Embedding<float>(read.matrix("emb.weight", n.vocab, n.channels)),
                  read.layer_norm("blocks.0.ln0", n.channels),
                  {.compress = read.matrix("w_kv_cache_a.weight", n.width(), n.channels),
                   .expand = read.matrix("w_kv_cache_b.weight", n.channels, n.channels + n.width())}),
        gold(attention(file, read)) {}

  static Gold<float> attention(TensorFile const& file, models::WeightReader<float>& read) {
    models::LoadOptions const options;
    models::BlockReader<models::WeightReader<float>> block(file, read, n.recurrent_layers(), n.channels, options);
    return Gold<float>(models::GoldFinch<float, 64>::attention_parameters(block, options).time_mix);
  }

  static Layer const& shared() {
    static Layer const made;
    return made;
  }

  TokenCat<float> token_cat;
  Gold<float> gold;
};

/// A cache of so many tokens, to which more are appended again and again.
template <KeyStorage S> class Append {
 public:
  static constexpr Index more = 256;

  explicit Append(Index tokens)
      : tokens_(tokens),
        ids_(random_ids(shortest, Layer::n.vocab)),
        keys_(random_numbers(shortest * Layer::n.width())),
        hidden_(random_numbers(more * Layer::n.channels)),
        scratch_(more * padded<float>(Layer::n.width())),
        cache_(Layer::shared().token_cat.empty_cache<S>()) {
    cache_.reserve(tokens + more);
    pieces(tokens, [&](Index, Index count) {
      cache_.append(std::span(ids_).first(to_size(count)), MatView<float const>(keys_.data(), count, Layer::n.width()));
    });
  }

  TokenCache<S> const& cache() const { return cache_; }
  void append() {
    Layer::shared().token_cat.append(std::span<std::int32_t const>(ids_).first(to_size(more)),
                                     MatView<float const>(hidden_.data(), more, Layer::n.channels), cache_, scratch_);
    cache_.truncate(tokens_);
  }

 private:
  Index tokens_;
  std::vector<std::int32_t> ids_;
  AlignedVector<float> keys_, hidden_;
  Scratch<float> scratch_;
  TokenCache<S> cache_;
};

/// The last queries of so many tokens, and what they attend to.
class Queries {
 public:
  Queries(Index tokens, Index queries)
      : tokens_(tokens),
        queries_(queries),
        x_(random_numbers(queries * Layer::n.channels)),
        y_(x_.size()),
        state_(Layer::shared().gold.empty_state()),
        scratch_(queries * Layer::shared().gold.scratch_size()),
        workspace_(Layer::shared().gold.workspace_size(Layer::shared().token_cat)) {}

  /// Positions that the queries see, together.
  double seen() const { return static_cast<double>(queries_ * tokens_ - queries_ * (queries_ - 1) / 2); }
  /// What must be done whoever does it: a token's expansion, mix and two low-rank maps, a query's scores and sums. What is
  /// of a query alone, its projections, does not count.
  double flops() const {
    models::GoldFinchSizes const n = Layer::n;
    Index const token = n.channels * (n.channels + n.width() + 4 * n.rank_mix + 4 * n.rank_keys());
    return 2 * (static_cast<double>(tokens_ * token) + seen() * static_cast<double>(2 * n.channels));
  }

  void attend(TokenCache<bf16> const& cache) {
    Layer const& layer = Layer::shared();
    layer.gold(x(), state_, y(), scratch_, GoldContext(layer.token_cat, cache, queries_, workspace_));
    benchmark::ClobberMemory();
  }
  void attend(KeyValueCache<float> const& kept) {
    kept.attend(x(), tokens_ - queries_, y(), scratch_);
    benchmark::ClobberMemory();
  }

 private:
  MatView<float const> x() const { return {x_.data(), queries_, Layer::n.channels}; }
  MatView<float> y() { return {y_.data(), queries_, Layer::n.channels}; }

  Index tokens_, queries_;
  AlignedVector<float> x_, y_;
  Gold<float>::State state_;
  Scratch<float> scratch_, workspace_;
};

/// Keys and values of so many tokens.
KeyValueCache<float> kept_keys(Index tokens) {
  KeyValueCache<float> kept = Layer::shared().gold.empty_rebuilt();
  AlignedVector<float> const rows = random_numbers(shortest * Layer::n.channels);
  kept.reserve(tokens);
  pieces(tokens, [&](Index, Index count) {
    MatView<float const> const numbers(rows.data(), count, Layer::n.channels);
    kept.append(numbers, numbers);
  });
  return kept;
}

/// How long it takes to read many bytes. From 256 MiB on no cache helps, and the rest takes in proportion.
class Bytes {
 public:
  explicit Bytes(std::size_t bytes)
      : numbers_(std::min(bytes, std::size_t{1} << 28) / sizeof(float), 1.0f),
        parts_(static_cast<double>(bytes) / static_cast<double>(numbers_.size() * sizeof(float))) {}

  double read() const {
    return parts_ * bench::seconds([&] { bench::read(numbers_.data(), static_cast<Index>(numbers_.size())); });
  }

 private:
  std::vector<float> numbers_;
  double parts_;
};

/// A whole model that has read so many tokens.
class Decoder {
 public:
  Decoder()
      : model_(
            models::load_goldfinch<float>(models::random_checkpoint(model_sizes).file(), {.cache = NumberFormat::bf16})
                .model) {}

  /// Goes on from what was read before where that is no more.
  void read_to(Index tokens) {
    if (tokens == read_) return;
    if (tokens < read_ || read_ == 0)
      model_.reset(), read_ = 0;
    else
      model_.restore(*saved_);
    model_.read_on(random_ids(tokens - read_ - 1, model_sizes.vocab));
    model_.step(17);
    saved_ = model_.save();
    read_ = tokens;
  }
  /// Seconds for a token after these.
  double step() {
    model_.restore(*saved_);
    return bench::seconds([&] { benchmark::DoNotOptimize(model_.step(17)); });
  }

  double cache_bytes() {
    model_.restore(*saved_);
    return static_cast<double>(model_.cache_bytes());
  }
  double transformer_bytes() const { return static_cast<double>(model_sizes.transformer_bytes(read_)); }

  /// One for all lengths, as reading takes longer than what is measured.
  static Decoder& shared() {
    static Decoder made;
    return made;
  }

 private:
  models::Reader model_;
  Index read_ = 0;
  std::optional<models::Context> saved_;
};

template <class F> void add(std::string const& name, Index tokens, F&& measure) {
  std::string const end = "/n" + std::to_string(tokens) + "/" + bench::instruction_set();
  auto* const made = benchmark::RegisterBenchmark((name + end).c_str(), measure);
  made->Unit(benchmark::kMicrosecond)->UseManualTime();
}

/// Times f(), which gives seconds, and returns what it took in the mean.
template <class F> double time(benchmark::State& state, F&& f) {
  double sum = 0;
  for (auto _ : state) {
    double const elapsed = f();
    state.SetIterationTime(elapsed);
    sum += elapsed;
  }
  return sum / static_cast<double>(state.iterations());
}

template <KeyStorage S> void add_append(char const* storage, Index tokens) {
  add(std::string("gold/append/") + storage, tokens, [=](benchmark::State& state) {
    Append<S> problem(tokens);
    double const seconds = time(state, [&] { return bench::seconds([&] { problem.append(); }); });
    state.counters["ns per token"] = 1e9 * seconds / Append<S>::more;
  });
}

void add_attend(Index tokens, Index queries) {
  std::string const end = "/queries" + std::to_string(queries);
  add("gold/attend/rebuilt" + end, tokens, [=](benchmark::State& state) {
    Append<bf16> const filled(tokens);
    Queries problem(tokens, queries);
    double const seconds = time(state, [&] { return bench::seconds([&] { problem.attend(filled.cache()); }); });
    state.counters["% of peak"] = 100 * problem.flops() / seconds / bench::peak<float>();
  });
  add("gold/attend/kept" + end, tokens, [=](benchmark::State& state) {
    KeyValueCache<float> const kept = kept_keys(tokens);
    Queries problem(tokens, queries);
    double const seconds = time(state, [&] { return bench::seconds([&] { problem.attend(kept); }); });
    Bytes const same(kept.size_bytes());
    state.counters["x reading as much"] = seconds / bench::median({same.read(), same.read(), same.read()});
    state.SetBytesProcessed(static_cast<std::int64_t>(kept.size_bytes()) * state.iterations());
  });
}

std::string shape_text() {
  return std::to_string(model_sizes.recurrent_layers()) + " recurrent and " +
         std::to_string(model_sizes.attention_layers()) + " attention layers of " +
         std::to_string(model_sizes.channels) + " channels";
}

void add_decode(Index tokens) {
  add("goldfinch/decode", tokens, [=](benchmark::State& state) {
    Decoder& decoder = Decoder::shared();
    decoder.read_to(tokens);
    time(state, [&] { return decoder.step(); });
    state.SetLabel(shape_text());
    state.counters["tokens"] = static_cast<double>(tokens);
    state.counters["cache bytes"] = decoder.cache_bytes();
    state.counters["transformer bytes"] = decoder.transformer_bytes();
  });
}

void add_all() {
  for (Index const n : lengths(longest)) {
    add_append<float>("f32", n);
    add_append<bf16>("bf16", n);
    add_append<f16>("f16", n);
    add_append<q8>("q8", n);
  }
  for (Index const queries : {Index{1}, many})
    for (Index const n : lengths(longest)) add_attend(n, queries);
  for (Index const n : lengths(longest)) add_decode(n);
}

/// f() in rounds: 9, or as many as half a second holds, at least one.
template <class F> void rounds(F&& f) {
  double spent = 0;
  for (int round = 0; round < 9 && spent < 0.5; ++round) spent += bench::seconds(f);
}

/// Medians of rounds in which attention and what it is measured by take turns.
void attention_row(Index tokens) {
  Append<bf16> appended(tokens);
  std::vector<double> append, kept_time, to_read;
  rounds([&] { append.push_back(1e9 * bench::seconds([&] { appended.append(); }) / Append<bf16>::more); });
  std::printf("%10td %18.1f", tokens, bench::median(append));
  for (Index const queries : {Index{1}, many}) {
    Queries problem(tokens, queries);
    std::vector<double> rebuilt, of_peak;
    rounds([&] {
      double const before = bench::peak_burst<float>();
      rebuilt.push_back(bench::seconds([&] { problem.attend(appended.cache()); }));
      double const peak = (before + bench::peak_burst<float>()) / 2;
      of_peak.push_back(100 * problem.flops() / rebuilt.back() / peak);
    });
    std::printf(" %14.2f %10.1f", 1e3 * bench::median(rebuilt), bench::median(of_peak));
  }
  KeyValueCache<float> const kept = kept_keys(tokens);
  Bytes const same_bytes(kept.size_bytes());
  Queries problem(tokens, 1);
  rounds([&] {
    double const read = same_bytes.read();
    kept_time.push_back(bench::seconds([&] { problem.attend(kept); }));
    to_read.push_back(kept_time.back() / read);
  });
  std::printf(" %14.2f %18.2f\n", 1e3 * bench::median(kept_time), bench::median(to_read));
  std::fflush(stdout);
}

void decode_row(Index tokens) {
  Decoder& decoder = Decoder::shared();
  decoder.read_to(tokens);
  std::vector<double> times;
  rounds([&] { times.push_back(decoder.step()); });
  double const bytes = decoder.cache_bytes(), transformer = decoder.transformer_bytes();
  std::printf("%10td %18.3f %18.1f %16.0f %22.0f %8.1f\n", tokens, 1e3 * bench::median(times),
              1e9 * bench::median(times) / static_cast<double>(tokens), bytes, transformer, transformer / bytes);
  std::fflush(stdout);
}

void short_table() {
  std::printf("GOLD, one layer of %td channels, cache of bf16, one thread; medians of rounds; FMA peak %.0f GFLOP/s\n",
              Layer::n.channels, bench::peak<float>() / 1e9);
  std::printf("%10s %18s %14s %10s %14s %10s %14s %18s\n", "tokens", "append, ns/token", "1 query, ms", "% of peak",
              "64 queries, ms", "% of peak", "kept, 1 query", "x reading as much");
  for (Index const n : lengths(longest / 4)) attention_row(n);
  std::printf("GoldFinch, %s, cache of bf16\n", shape_text().c_str());
  std::printf("%10s %18s %18s %16s %22s %8s\n", "tokens", "decode, ms", "ns per token held", "cache, bytes",
              "of a transformer", "ratio");
  for (Index const tokens : lengths(longest)) decode_row(tokens);
}

}  // namespace

int main(int argc, char** argv) {
  add_all();
  return bench::run(argc, argv, short_table);
}
