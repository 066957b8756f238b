/// Reads a million tokens with a random GoldFinch, and prints what a token costs on the way.
///
/// While a prompt is read, the attention layers do nothing: the recurrent layers leave a few numbers of each token in a
/// cache, and take the same time for the first token as for the millionth. Only what is made after the prompt looks back at
/// all of it. So the time of a token of the prompt stays, that of a token that is made grows with the length, and memory
/// grows by the cache, which is a small part of the keys and values that a transformer keeps.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "models/any.hpp"
#include "models/peak_memory.hpp"
#include "models/progress.hpp"
#include "models/random_checkpoint.hpp"
#include "models/reader.hpp"
#include "models/timing.hpp"

namespace {

using aviary::Index;
using models::median;
using models::seconds;
using models::TokenId;

constexpr Index piece = 4096;         // tokens of the prompt at once
constexpr Index shortest = 1024;      // the first length at which a token is decoded; then four times as many each
constexpr Index most_window = 65536;  // at the beginning and at the end of the prompt

struct Request {
  models::GoldFinchSizes sizes;
  Index tokens = Index{1} << 20, threads = 1;
  aviary::NumberFormat cache = aviary::NumberFormat::bf16;
};

/// The model, what it reads, and what that took.
class Reader {
 public:
  explicit Reader(Request const& r)
      : model_(models::load_goldfinch<float>(models::random_checkpoint(r.sizes).file(),
                                             {.threads = models::Threads(r.threads), .cache = r.cache})
                   .model),
        vocab_(r.sizes.vocab),
        all_(r.tokens),
        progress_(std::cerr, models::is_terminal(2)) {}

  /// Reads the prompt up to so many tokens.
  void read(Index to) {
    while (read_ < to) {
      progress_(read_, all_);
      Index const n = std::min(piece, to - read_);
      ids_.clear();
      for (Index t = 0; t < n; ++t) ids_.push_back(any_id());
      double const time = seconds([&] { model_.read_on(ids_); });
      pieces_.push_back({read_, read_ + n, time / static_cast<double>(n)});
      read_ += n;
    }
    progress_.clear();
  }

  /// Seconds for a token after what was read, the median of a few. They stay in the context.
  double decode() {
    model_.step(any_id());  // makes up for what the attention layers have not done
    std::vector<double> times;
    for (double sum = 0; times.size() < 3 || sum < 0.05; sum += times.back())
      times.push_back(seconds([&] { model_.step(any_id()); }));
    return median(times);
  }

  /// Seconds for a token of the prompt from `first` to `last`, the median of the pieces that have a part in it.
  double prefill(Index first, Index last) const {
    std::vector<double> times;
    for (Piece const& read : pieces_)
      if (read.first < last && first < read.last) times.push_back(read.per_token);
    return median(times);
  }

  Index cache_bytes() const { return model_.cache_bytes(); }

 private:
  struct Piece {
    Index first, last;
    double per_token;  // seconds
  };

  TokenId any_id() { return static_cast<TokenId>(random_() % static_cast<unsigned>(vocab_)); }

  models::Reader model_;
  Index vocab_, all_, read_ = 0;
  models::Progress progress_;
  std::vector<TokenId> ids_;
  std::vector<Piece> pieces_;  // that were read
  std::minstd_rand random_;
};

/// 1024, 4096, ... and all tokens.
std::vector<Index> lengths(Index tokens) {
  std::vector<Index> all;
  for (Index n = shortest; n < tokens; n *= 4) all.push_back(n);
  all.push_back(tokens);
  return all;
}

void run(Request const& r) {
  models::GoldFinchSizes const& n = r.sizes;
  Reader reader(r);
  double const before = models::peak_memory();
  std::printf(
      "GoldFinch, %td recurrent and %td attention layers, %td channels, vocabulary %td, cache of %s; threads %td\n",
      n.recurrent_layers(), n.attention_layers(), n.channels, n.vocab, std::string(aviary::name_of(r.cache)).c_str(),
      models::Threads(r.threads).concurrency());
  std::printf("%10s %18s %16s %14s %24s %8s\n", "tokens", "prefill, us/token", "decode, ms", "cache, bytes",
              "of a transformer, bytes", "ratio");
  Index done = 0;
  for (Index const length : lengths(r.tokens)) {
    reader.read(length);
    double const keys_and_values = static_cast<double>(n.transformer_bytes(length));
    double const bytes = static_cast<double>(reader.cache_bytes());
    double const decode = reader.decode();
    std::printf("%10td %18.2f %16.3f %14.0f %24.0f %8.1f\n", length, 1e6 * reader.prefill(done, length), 1e3 * decode,
                bytes, keys_and_values, keys_and_values / bytes);
    std::fflush(stdout);
    done = length;
  }
  Index const window = std::min(most_window, (r.tokens + 1) / 2);
  double const first = reader.prefill(0, window), last = reader.prefill(r.tokens - window, r.tokens);
  std::printf("prefill, us/token: first %td tokens %.2f, last %td %.2f, %+.1f%%\n", window, 1e6 * first, window,
              1e6 * last, 100 * (last / first - 1));
  if (before > 0)
    std::printf("memory at most, MiB: %.1f, of which %.1f before the first token\n", models::peak_memory() / (1 << 20),
                before / (1 << 20));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "long_context: reads many tokens with a random GoldFinch, and prints what a token of the prompt takes, what one\n"
      "that is made, and the bytes of the cache beside those of a transformer's keys and values in 16 bits");
  Request r;
  std::map<std::string, aviary::NumberFormat> formats;
  for (aviary::NumberFormat const format : models::kept_formats) formats.emplace(aviary::name_of(format), format);
  CLI::Validator const whole_heads(
      [](std::string& text) {
        return std::stol(text) % 64 == 0 ? std::string() : "expected a multiple of 64, found " + text;
      },
      "");
  app.add_option("--layers", r.sizes.layers, "a third of them attend, default 6")->check(CLI::Range(2, 1024));
  app.add_option("--channels", r.sizes.channels, "a multiple of 64, default 128")
      ->check(CLI::Range(64, 65536))
      ->check(whole_heads);
  app.add_option("--tokens", r.tokens, "to read, default 1048576")->check(CLI::Range(1, 1 << 30));
  app.add_option("--threads", r.threads, "default 1")->check(CLI::Range(1, 1024));
  app.add_option("--cache", r.cache, "numbers of the cache: f32, bf16 (default), f16 or q8")
      ->transform(CLI::CheckedTransformer(formats).description(""));
  try {
    app.parse(argc, argv);
    run(r);
    return 0;
  } catch (CLI::CallForHelp const& help) {
    return app.exit(help);
  } catch (CLI::ParseError const& error) {
    std::cerr << "long_context: " << error.what() << '\n';
    return 2;
  } catch (std::exception const& error) {
    std::cerr << "long_context: " << error.what() << '\n';
    return 1;
  }
}
