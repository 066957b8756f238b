#pragma once
/// A conversation on standard input, output and error.
#include <chrono>
#include <cstdio>
#include <istream>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "generate/console.hpp"
#include "models/conversation.hpp"
#include "models/inputs.hpp"
#include "models/interruption.hpp"
#include "models/progress.hpp"

namespace generate {
inline namespace AVIARY_ISA {

using aviary::TokenId;

/// What the program says about speed.
class Stopwatch {
 public:
  explicit Stopwatch(bool speaks) : speaks_(speaks) {}

  /// Prints the rate of what happened since the watch was made.
  void stop(char const* what, Index tokens) const {
    if (!speaks_) return;
    double const seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    std::fprintf(stderr, "%s: %td tokens, %.4g s, %.4g tokens/s\n", what, tokens, seconds,
                 seconds > 0 ? static_cast<double>(tokens) / seconds : 0);
  }

 private:
  using Clock = std::chrono::steady_clock;
  bool speaks_;
  Clock::time_point begin_ = Clock::now();
};

/// Keeps references to the conversation and to the files that it must not write over. What it throws, Interrupted among it,
/// leaves a context that ends with the last token that was shown, or with a block of the prompt.
class Session {
 public:
  /// Replies have up to `length` tokens; `stats`: say how fast.
  Session(models::Conversation& conversation, models::Inputs const& inputs, Index length, bool stats)
      : conversation_(conversation), inputs_(inputs), length_(length), stats_(stats) {}

  /// Reads a prompt, with progress on a terminal.
  void read(std::span<TokenId const> tokens) {
    Stopwatch const time(stats_);
    {
      models::Progress progress(std::cerr, models::is_terminal(2));
      conversation_.read(tokens, [&](Index done, Index all) {
        models::Interruption::check();
        progress(done, all);
      });
    }
    time.stop("prefill", static_cast<Index>(tokens.size()));
  }

  /// Prints a reply as it is made, and a line end if that is wanted; a list of ids has one in any case.
  void reply(bool ends_line = false) {
    Stopwatch const time(stats_);
    Index const made = conversation_.reply(length_, [](std::string_view text) {
      models::Interruption::check();
      if (!text.empty()) print(text);
    });
    if (ends_line || (conversation_.text().is_ids() && made > 0)) print("\n");
    time.stop("decode", made);
  }

  /// Takes lines as prompts and commands until they end. What is wrong with a line is said, and the next one taken.
  void interact(std::istream& lines, bool prompt_sign) {
    for (std::string line; sign(prompt_sign), read_line(lines, line);) {
      models::Interruption::check();
      if (line.starts_with("//"))
        turn(std::string_view(line).substr(1));
      else if (line.starts_with('/'))
        command(line);
      else
        turn(line);
    }
    if (prompt_sign) std::cerr << '\n';
    models::Interruption::check();
  }

 private:
  static void sign(bool shown) {
    if (shown) std::cerr << "> " << std::flush;
  }

  void turn(std::string_view prompt) {
    std::vector<TokenId> tokens;
    try {
      tokens = conversation_.text().tokens(prompt);
    } catch (std::invalid_argument const& error) {
      return complain(std::string("prompt: ") + error.what());
    }
    read(tokens);
    reply(true);
  }

  void save(std::string const& file) {
    inputs_.check_target(file, "to save the context in");
    conversation_.save(file);
  }

  void command(std::string_view line) {
    std::size_t const blank = line.find(' ');
    std::string const name(line.substr(0, blank)), file(blank == line.npos ? "" : line.substr(blank + 1));
    try {
      if (name == "/reset" && file.empty())
        conversation_.reset();
      else if (name == "/save" && !file.empty())
        save(file);
      else if (name == "/load" && !file.empty())
        conversation_.load(file);
      else
        complain("expected /reset, /save FILE or /load FILE, found " + aviary::in_quotes(line));
    } catch (std::runtime_error const& error) {
      complain(error.what());
    }
  }

  models::Conversation& conversation_;
  models::Inputs const& inputs_;
  Index length_;
  bool stats_;
};

}  // namespace AVIARY_ISA
}  // namespace generate
