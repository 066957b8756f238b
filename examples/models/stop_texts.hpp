#pragma once
/// Texts that end a reply. They may come in several tokens, so whatever may be the beginning of one is held back until it
/// is known to be none; what comes out never shows a part of a stop text that was found.
#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace models {
inline namespace AVIARY_ISA {

class StopTexts {
 public:
  /// None: everything comes out at once.
  StopTexts() = default;

  /// `longest_piece` bytes are the most that will be added at a time without allocating.
  /// Throws std::invalid_argument for an empty text.
  explicit StopTexts(std::vector<std::string> texts, std::size_t longest_piece = 0) : texts_(std::move(texts)) {
    std::size_t longest = 0;
    for (std::string const& text : texts_) {
      if (text.empty()) throw std::invalid_argument("expected a text to stop at, found an empty one");
      longest = std::max(longest, text.size());
    }
    text_.reserve(longest + longest_piece);
  }

  /// Adds a piece of text and returns what may be shown now, valid until the next call: up to the first stop text, or up
  /// to what may be the beginning of one. Nothing is to be added after a stop text.
  std::string_view operator()(std::string_view piece) {
    text_.erase(0, shown_);
    text_ += piece;
    std::size_t end = text_.size();
    for (std::string const& stop : texts_) end = std::min(end, text_.find(stop));
    found_ = end < text_.size();
    shown_ = found_ ? end : text_.size() - held();
    return std::string_view(text_).substr(0, shown_);
  }

  /// Whether a stop text has come up.
  bool found() const noexcept { return found_; }

  /// What is held back and was no stop text after all. Begins a new text.
  std::string_view finish() {
    text_.erase(0, found_ ? text_.size() : shown_);
    shown_ = text_.size();
    found_ = false;
    return text_;
  }

 private:
  /// Bytes at the end that a stop text begins with.
  std::size_t held() const noexcept {
    std::size_t most = 0;
    for (std::string const& stop : texts_)
      for (std::size_t n = std::min(stop.size() - 1, text_.size()); n > most; --n)
        if (text_.ends_with(std::string_view(stop).substr(0, n))) most = n;
    return most;
  }

  std::vector<std::string> texts_;
  std::string text_;       // what is held back, and what was shown last
  std::size_t shown_ = 0;  // bytes of it
  bool found_ = false;
};

}  // namespace AVIARY_ISA
}  // namespace models
