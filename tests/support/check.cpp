#include "support/check.hpp"

#include <doctest/doctest.h>

#include <utility>
#include <vector>

namespace aviary::test {
namespace {

std::vector<std::string>& notes() {
  static std::vector<std::string> all;
  return all;
}

/// The place of a check, and the notes around it.
std::string context(Place place) {
  std::string text = std::string(place.file) + ":" + std::to_string(place.line);
  for (std::string const& note : notes()) text += ", " + note;
  return text;
}

/// A line of what was compared, for numbers that must be equal.
std::string difference(NumberSpan x, NumberSpan expected) {
  if (x.size() != expected.size())
    return std::to_string(x.size()) + " numbers, expected " + std::to_string(expected.size());
  if (x.size() == 0) return "no numbers to compare";
  for (Index i = 0; i < x.size(); ++i)
    if (!(x[i] <= expected[i] && x[i] >= expected[i]))
      return "at " + std::to_string(i) + ": " + std::to_string(x[i]) + ", expected " + std::to_string(expected[i]);
  return {};
}

}  // namespace

void check_close(NumberSpan x, NumberSpan expected, double bound, Place place) {
  INFO(context(place));
  CHECK(max_error(x, expected) <= bound);
}

void check_l2(NumberSpan x, NumberSpan expected, double bound, Place place) {
  INFO(context(place));
  CHECK(l2_error(x, expected) <= bound);
}

void check_equal(NumberSpan x, NumberSpan expected, Place place) {
  INFO(context(place));
  CHECK(difference(x, expected) == "");
}

void check_that(bool so, char const* what, Place place) {
  INFO(context(place));
  CHECK_MESSAGE(so, what);
}

void check_each(Index n, char const* what, std::function<bool(Index i)> const& so, Place place) {
  INFO(context(place));
  for (Index i = 0; i < n; ++i) {
    CAPTURE(i);
    CHECK_MESSAGE(so(i), what);
  }
}

void check_approx(NumberSpan x, NumberSpan expected, double epsilon, Place place) {
  INFO(context(place));
  bool const comparable = x.size() == expected.size() && x.size() > 0;
  CAPTURE(x.size());
  REQUIRE(comparable);
  for (Index i = 0; i < x.size(); ++i) {
    CAPTURE(i);
    CHECK(x[i] == doctest::Approx(expected[i]).epsilon(epsilon));
  }
}

void require_empty(std::string const& message, Place place) {
  INFO(context(place));
  REQUIRE(message == "");
}

Note::Note(char const* name, std::string value) { notes().push_back(std::string(name) + " is " + std::move(value)); }
Note::~Note() { notes().pop_back(); }

}  // namespace aviary::test
