#include "models/stop_texts.hpp"

#include <doctest/doctest.h>

#include "support/allocation_counter.hpp"
#include "support/random.hpp"
#include "support/temporary_folder.hpp"

using models::StopTexts;

namespace {

using Texts = std::vector<std::string>;

/// What comes out, piece by piece; the last one is what finish() gives. Ends at a stop text.
Texts shown(StopTexts& stop, Texts const& pieces) {
  Texts out;
  for (std::string const& piece : pieces) {
    out.emplace_back(stop(piece));
    if (stop.found()) break;
  }
  out.emplace_back(stop.finish());
  return out;
}
Texts shown(Texts const& stops, Texts const& pieces) {
  StopTexts stop(stops);
  return shown(stop, pieces);
}

}  // namespace

TEST_CASE("stop texts: without any, all comes out at once") {
  StopTexts none;
  CHECK(shown(none, {"ab", "", "c"}) == Texts{"ab", "", "c", ""});
  CHECK(shown(Texts{}, {"ab", "\n"}) == Texts{"ab", "\n", ""});
}

TEST_CASE("stop texts: what may begin one is held back") {
  CHECK(shown({"\nUser:"}, {"Hi", "\n", "User", ":"}) == Texts{"Hi", "", "", "", ""});
  CHECK(shown({"\nUser:"}, {"Hi", "\n", "User", "s"}) == Texts{"Hi", "", "", "\nUsers", ""});
  CHECK(shown({"\nUser:"}, {"Hi", "\n", "Us"}) == Texts{"Hi", "", "", "\nUs"});
  CHECK(shown({"aab"}, {"a", "a", "a", "b"}) == Texts{"", "", "a", "", ""});
  CHECK(shown({"abab"}, {"aba", "ca", "bab"}) == Texts{"", "abac", "", ""});
}

TEST_CASE("stop texts: inside of a piece, the rest of which is not shown") {
  CHECK(shown({"ab"}, {"xabc"}) == Texts{"x", ""});
  CHECK(shown({"ab"}, {"a", "bab"}) == Texts{"", "", ""});
  CHECK(shown({"a"}, {"bca"}) == Texts{"bc", ""});
}

TEST_CASE("stop texts: of several, the first to come up") {
  CHECK(shown({"bcd", "c"}, {"a", "b", "c"}) == Texts{"a", "", "b", ""});
  CHECK(shown({"xyz", "yq"}, {"x", "y", "q"}) == Texts{"", "", "x", ""});
  CHECK(shown({"xyz", "yq"}, {"xyzyq"}) == Texts{"", ""});
}

TEST_CASE("stop texts: begin anew after each text") {
  StopTexts stop({"ab"});
  CHECK(shown(stop, {"a"}) == Texts{"", "a"});
  CHECK(shown(stop, {"b", "ab"}) == Texts{"b", "", ""});
  CHECK(shown(stop, {"b", "c"}) == Texts{"b", "c", ""});
}

TEST_CASE("stop texts: what comes out is the text up to the stop text, however it is cut") {
  aviary::test::Random random(2);
  for (int i = 0; i < 3000; ++i) {
    auto const word = [&](aviary::Index most) {
      std::string text(static_cast<std::size_t>(1 + random.below(most)), 'a');
      for (char& c : text) c = random.below(2) ? 'a' : 'b';
      return text;
    };
    Texts const stops{word(6), word(6)};
    StopTexts stop(stops);
    std::string text, out;
    for (int piece = 0; piece < 8 && !stop.found(); ++piece) {
      std::string const next = word(4);
      text += next;
      out += stop(next);
      std::size_t const end = std::min(text.find(stops[0]), text.find(stops[1]));
      CHECK(stop.found() == (end != std::string::npos));
      CHECK(text.substr(0, end).starts_with(out));
      CHECK(out.size() + 5 >= std::min(end, text.size()));  // no more is held back than may begin one
    }
    std::size_t const end = std::min(text.find(stops[0]), text.find(stops[1]));
    out += stop.finish();
    CHECK(out == text.substr(0, end));
  }
}

TEST_CASE("stop texts: an empty one is refused, and none allocates") {
  CHECK(aviary::test::message_of<std::invalid_argument>([] {
          StopTexts({"a", ""});
        }) == "expected a text to stop at, found an empty one");
  StopTexts stop({std::string(40, 'a'), "b"}, 30);
  aviary::test::AllocationCounter const allocations;
  for (int i = 0; i < 100; ++i) stop(i % 3 == 2 ? "cccccccccccccccccccccccccccccc" : "aaaaaaaaaaaaaaa");
  stop.finish();
  CHECK(allocations.count() == 0);
}
