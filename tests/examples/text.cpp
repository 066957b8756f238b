#include "models/text.hpp"

#include <doctest/doctest.h>

#include "support/allocation_counter.hpp"
#include "support/temporary_folder.hpp"

using aviary::Vocabulary;
using aviary::test::message_of;
using models::ids_in;
using models::Text;
using models::TokenId;

namespace {

using Ids = std::vector<TokenId>;

Vocabulary words() { return Vocabulary::parse_world("1 'ab' 2\n2 'a' 1\n3 'b' 1\n5 'abcdef' 6\n"); }

}  // namespace

TEST_CASE("text: lists of ids") {
  CHECK(ids_in("1,2,3") == Ids{1, 2, 3});
  CHECK(ids_in("0") == Ids{0});
  CHECK(ids_in("2147483647") == Ids{2147483647});
  for (char const* text : {"", ",", "1,", ",1", "1,,2", "1, 2", " 1", "a", "-1", "+1", "1.5", "2147483648", "1\n"})
    CHECK(!ids_in(text));
}

TEST_CASE("text: words of a vocabulary") {
  Text text(8, words());
  CHECK(!text.is_ids());
  CHECK(text.vocab_size() == 8);
  CHECK(text.tokens("abab") == Ids{1, 1});
  CHECK(text.tokens("").empty());
  CHECK(text.end_of_text() == 0);
  CHECK(text(1, true) == "ab");
  CHECK(text(1, false) == "ab");
  for (TokenId const unknown : {0, 4, 6, 7}) CHECK(text(unknown, true) == "");
  CHECK(text.longest() == 6);
  CHECK(message_of<std::invalid_argument>([&] { text.tokens("abx"); }) ==
        "no token begins with byte 120 at position 2 of the text");
  CHECK(message_of<std::invalid_argument>([] { Text(5, words()); }) ==
        "expected at most the model's 5 tokens, found ids up to 5");
}

TEST_CASE("text: bytes") {
  Text text(256);
  CHECK(!text.is_ids());
  CHECK(text.tokens("\xff!") == Ids{255, 33});
  CHECK(text(255, false) == "\xff");
  CHECK(text(0, false) == std::string_view("\0", 1));
  CHECK(!text.end_of_text());
  CHECK(text.longest() == 1);
}

TEST_CASE("text: ids where nothing says what they are") {
  Text text(1000);
  CHECK(text.is_ids());
  CHECK(text.tokens("7,999") == Ids{7, 999});
  CHECK(text.tokens("").empty());
  CHECK(text(7, true) == "7");
  CHECK(text(999, false) == ",999");
  CHECK(!text.end_of_text());
  CHECK(text.longest() >= std::string_view(",999").size());
  CHECK(message_of<std::invalid_argument>([&] { text.tokens("7;8"); }) ==
        "expected token ids from 0 on, separated by commas, found '7;8'");
  CHECK(message_of<std::invalid_argument>([&] { text.tokens("7,1000"); }) ==
        "expected token ids from 0 to 999, found '1000'");
  CHECK(message_of<std::invalid_argument>([&] { text.check(Ids{-1}); }) ==
        "expected token ids from 0 to 999, found '-1'");
}

TEST_CASE("text: showing a token allocates nothing") {
  Text known(8, words()), bytes(256), ids(1 << 24);
  aviary::test::AllocationCounter const allocations;
  std::size_t shown = 0;
  for (TokenId id = 0; id < 8; ++id)
    for (Text* const text : {&known, &bytes, &ids}) shown += (*text)(id, false).size();
  CHECK(allocations.count() == 0);
  CHECK(shown == (2 + 1 + 1 + 6) + 8 + 8 * 2);
}
