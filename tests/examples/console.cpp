/// What generate reads and writes besides its text.
#include "generate/console.hpp"

#include <doctest/doctest.h>

#include <sstream>

#include "support/temporary_folder.hpp"

using aviary::test::message_of;

TEST_CASE("console: a line without end is refused") {
  std::istringstream lines("four\n\nfive5\nlast");
  std::string line;
  CHECK((generate::read_line(lines, line, 4) && line == "four"));
  CHECK((generate::read_line(lines, line, 4) && line.empty()));
  CHECK(message_of([&] { generate::read_line(lines, line, 4); }) ==
        "standard input: expected lines of at most 4 bytes, found more");
  std::istringstream rest("last");
  CHECK((generate::read_line(rest, line, 4) && line == "last"));
  CHECK_FALSE(generate::read_line(rest, line, 4));
}
