#pragma once
/// Prompts as lines of a file, and replies as lines of JSON. No type of the library, no inline function: compiled once for all
/// instruction sets of a program.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <istream>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace generate {

/// A prompt of a file, of which one of text and tokens is given; or what is wrong with its line.
struct PromptLine {
  std::string id;  ///< as JSON, if it has one
  std::optional<std::string> text;
  std::vector<std::int32_t> tokens;
  std::string error;

  // Not inline, or each instruction set would have its own.
  PromptLine();
  PromptLine(PromptLine&&) noexcept;
  PromptLine& operator=(PromptLine&&) noexcept;
  ~PromptLine();
};

/// The lines of a file, one prompt each. In files called *.jsonl or *.ndjson a line is JSON: a string, or an object with
/// "prompt" (a string) or "tokens" (a list of ids), and an "id" if one is wanted. In others it is the prompt itself, without
/// the end of the line.
class PromptLines {
 public:
  /// "-" is standard input, of plain lines. Throws std::system_error if the file cannot be opened.
  explicit PromptLines(std::filesystem::path path);
  ~PromptLines();

  /// The next prompt, or nothing at the end. Throws std::runtime_error if the file cannot be read.
  std::optional<PromptLine> next();

 private:
  std::filesystem::path path_;
  std::unique_ptr<std::istream> file_;  // null: standard input
  bool is_json_;
};

/// What a prompt became.
struct ReplyLine {
  std::size_t index;  ///< of the prompt in its file, from 0 on
  std::string id, text, error;
  std::span<std::int32_t const> tokens;
  bool stopped;
};

/// {"index": 0, "id": ..., "text": ..., "tokens": [...], "end": "length"} or "stop", or {"index": 0, "id": ..., "error": ...},
/// with the end of the line. Bytes of a text that are no UTF-8 become U+FFFD; the tokens say what they were.
std::string json_line(ReplyLine const& reply);

}  // namespace generate
