/// Reads any bytes as a World vocabulary, and as a text for its tokenizer.
#include "aviary/io/vocabulary.hpp"

#include "aviary/io/tokenizer.hpp"
#include "fuzz/target.hpp"

namespace {

void use(aviary::Vocabulary vocabulary, std::string_view text) {
  for (aviary::TokenId id = -1; id <= vocabulary.size(); ++id)
    aviary::fuzz::require(vocabulary.contains(id) != vocabulary.bytes(id).empty(), "a token has bytes");
  aviary::WorldTokenizer const tokenizer(std::move(vocabulary));
  try {
    aviary::fuzz::require(tokenizer.decode(tokenizer.encode(text)) == text, "what is encoded is decoded");
  } catch (std::invalid_argument const&) {
    return;  // no token begins with one of the bytes
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view const text(reinterpret_cast<char const*>(data), size);
  aviary::fuzz::may_refuse([&] { use(aviary::Vocabulary::parse_world(text), text); });
  return 0;
}
