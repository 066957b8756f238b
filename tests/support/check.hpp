#pragma once
/// Checks that are one call where they are made. doctest's macros expand to much code, and a template that contains them is
/// compiled with all of it for each of its types. Each function counts as one assertion, and on failure prints the place of
/// the call and the notes around it. Nothing compared with nothing is a failure, but for check_each.
#include <functional>
#include <string>

#include "support/compare.hpp"

namespace aviary::test {

/// Where a check is called.
struct Place {
  char const* file = __builtin_FILE();
  int line = __builtin_LINE();
};

/// x is within a bound of what is expected, by max_error.
void check_close(NumberSpan x, NumberSpan expected, double bound, Place place = {__builtin_FILE(), __builtin_LINE()});
/// The same by l2_error.
void check_l2(NumberSpan x, NumberSpan expected, double bound, Place place = {__builtin_FILE(), __builtin_LINE()});
/// x is what is expected, number by number; a NaN is unequal to all.
void check_equal(NumberSpan x, NumberSpan expected, Place place = {__builtin_FILE(), __builtin_LINE()});
/// `what` says what is expected to be so.
void check_that(bool so, char const* what, Place place = {__builtin_FILE(), __builtin_LINE()});
/// The same with one assertion for each i of n.
void check_each(Index n, char const* what, std::function<bool(Index i)> const& so,
                Place place = {__builtin_FILE(), __builtin_LINE()});
/// Each number is what is expected but for `epsilon` of it, or of 1: an assertion for each.
void check_approx(NumberSpan x, NumberSpan expected, double epsilon,
                  Place place = {__builtin_FILE(), __builtin_LINE()});
/// Ends the test case unless the message is empty.
void require_empty(std::string const& message, Place place = {__builtin_FILE(), __builtin_LINE()});

/// What the checks above print on failure while it lives: "keys is 16".
class Note {
 public:
  Note(char const* name, std::string value);
  Note(char const* name, Index value) : Note(name, std::to_string(value)) {}
  Note(Note const&) = delete;
  Note& operator=(Note const&) = delete;
  ~Note();
};

}  // namespace aviary::test
