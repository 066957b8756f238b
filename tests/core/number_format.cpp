#include "aviary/core/number_format.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace aviary;

TEST_CASE_TEMPLATE("number format: a C++ type has a format, a size and a name, which is read again", T, double, float,
                   f16, bf16, q8, std::int64_t, std::int32_t, std::uint8_t) {
  constexpr NumberFormat format = format_of<T>;
  CHECK(size_of(format) == sizeof(T));
  CHECK(number_format(name_of(format)) == format);
  CHECK(all_number_formats[static_cast<std::size_t>(format)] == format);
}

TEST_CASE("number format: the names") {
  std::string names;
  for (NumberFormat const format : all_number_formats) names += std::string(name_of(format)) + " ";
  CHECK(names == "f64 f32 f16 bf16 q8 q4 i64 i32 u8 ");
  for (char const* const other : {"", "F32", "f", "f322", "int8"}) CHECK(!number_format(other));
}
