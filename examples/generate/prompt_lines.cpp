#include "generate/prompt_lines.hpp"

#include <cerrno>
#include <fstream>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "generate/console.hpp"

namespace generate {
namespace {

using Json = nlohmann::ordered_json;

/// Throws std::invalid_argument with what is wrong.
void read_json(std::string const& line, PromptLine& prompt) {
  auto const fail = [](std::string const& what) { throw std::invalid_argument("expected " + what); };
  Json const json = Json::parse(line, nullptr, false);
  if (json.is_discarded()) fail("a line of JSON, found none");
  if (json.is_string()) {
    prompt.text = json.get<std::string>();
    return;
  }
  if (!json.is_object()) fail("a string or an object, found another kind of JSON");
  if (json.contains("id")) prompt.id = json["id"].dump(-1, ' ', false, Json::error_handler_t::replace);
  for (auto const& [key, value] : json.items())
    if (key != "id" && key != "prompt" && key != "tokens") fail("id, prompt and tokens, found another member");
  if (json.contains("prompt") == json.contains("tokens")) fail("one of prompt and tokens");
  if (json.contains("prompt")) {
    if (!json["prompt"].is_string()) fail("a string as prompt");
    prompt.text = json["prompt"].get<std::string>();
    return;
  }
  auto const& tokens = json["tokens"];
  if (!tokens.is_array()) fail("a list of ids as tokens");
  for (auto const& token : tokens) {
    bool const fits = token.is_number_unsigned() &&
                      token.get<std::uint64_t>() <= std::uint64_t{std::numeric_limits<std::int32_t>::max()};
    if (!fits)
      fail("ids from 0 on as tokens, found " + token.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 40));
    prompt.tokens.push_back(token.get<std::int32_t>());
  }
}

}  // namespace

PromptLine::PromptLine() = default;
PromptLine::PromptLine(PromptLine&&) noexcept = default;
PromptLine& PromptLine::operator=(PromptLine&&) noexcept = default;
PromptLine::~PromptLine() = default;

PromptLines::PromptLines(std::filesystem::path path)
    : path_(std::move(path)), is_json_(path_.extension() == ".jsonl" || path_.extension() == ".ndjson") {
  if (path_ == "-") return;
  errno = 0;
  file_ = std::make_unique<std::ifstream>(path_, std::ios::binary);
  if (!*file_) throw std::system_error(errno, std::generic_category(), path_.string() + ": cannot open");
}
PromptLines::~PromptLines() = default;

std::optional<PromptLine> PromptLines::next() {
  std::istream& from = file_ ? *file_ : std::cin;
  std::string line;
  errno = 0;
  Line const read = read_at_most(from, line);
  if (from.bad()) throw std::system_error(errno, std::generic_category(), path_.string() + ": cannot read");
  if (read == Line::none) return std::nullopt;
  if (line.ends_with('\r')) line.pop_back();
  PromptLine prompt;
  try {
    if (read == Line::too_long) {
      from.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
      throw std::invalid_argument("expected a line of at most " + std::to_string(prompt_limit) + " bytes, found more");
    }
    if (is_json_)
      read_json(line, prompt);
    else
      prompt.text = std::move(line);
  } catch (std::invalid_argument const& error) {
    prompt.error = error.what();
  }
  return prompt;
}

std::string json_line(ReplyLine const& reply) {
  Json json;
  json["index"] = reply.index;
  if (!reply.id.empty()) json["id"] = Json::parse(reply.id);
  if (reply.error.empty()) {
    json["text"] = reply.text;
    json["tokens"] = std::vector<std::int32_t>(reply.tokens.begin(), reply.tokens.end());
    json["end"] = reply.stopped ? "stop" : "length";
  } else {
    json["error"] = reply.error;
  }
  std::string line = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  line += '\n';
  return line;
}

}  // namespace generate
