#include "aviary/io/pickle.hpp"

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "support/temporary_folder.hpp"
#include "support/zip_case.hpp"

using namespace aviary;
using namespace aviary::test;
using Kind = Pickle::Kind;

namespace {

constexpr std::array<std::string_view, 2> globals{"collections OrderedDict", "torch._utils _rebuild"};

/// The whole of a value as one line, read from memory that ends with the pickle.
std::string shown(Pickle::Value value) {
  switch (value.kind()) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return value.number() != 0 ? "True" : "False";
    case Kind::integer:
      return std::to_string(value.number());
    case Kind::long_integer:
      return "long";
    case Kind::real:
      return std::to_string(std::bit_cast<double>(value.number()));
    case Kind::string:
      return "'" + std::string(value.text()) + "'";
    case Kind::bytes:
      return "b'" + std::string(value.text()) + "'";
    case Kind::global:
      return std::string(globals[static_cast<std::size_t>(value.number())]);
    default:
      break;
  }
  std::string out;
  for (Pickle::Value const item : value.items()) out += (out.empty() ? "" : ",") + shown(item);
  switch (value.kind()) {
    case Kind::tuple:
      return "(" + out + ")";
    case Kind::list:
      return "[" + out + "]";
    case Kind::set:
      return "set(" + out + ")";
    case Kind::dict:
      return "{" + out + "}";
    case Kind::persistent:
      return "id(" + out + ")";
    default:
      return "call(" + out + ")";
  }
}
std::string read_whole(std::string const& pickle) {
  std::vector<std::byte> const exact(bytes_of(pickle).begin(), bytes_of(pickle).end());
  return shown(Pickle(exact, globals).root());
}
std::string read(std::string const& value) { return read_whole(pickled::whole(value)); }

/// What is wrong with a pickle, after its name; positions count from its begin.
std::string complaint_about(std::string const& pickle) {
  std::string const message = message_of([&] { read_whole(pickle); });
  CHECK(message.starts_with("memory, byte "));
  CHECK(message.find('\n') == message.npos);
  return message.size() > 8 ? message.substr(8) : message;
}
/// The complaint about one that begins at byte 2 and need not end.
std::string complaint(std::string const& opcodes) { return complaint_about("\x80\x02" + opcodes); }

std::string bytes(std::initializer_list<int> codes) {
  std::string out;
  for (int const code : codes) out += static_cast<char>(code);
  return out;
}

}  // namespace

TEST_CASE("pickle: values of every kind") {
  CHECK(read("N") == "None");
  CHECK(read("\x88") == "True");
  CHECK(read("\x89") == "False");
  CHECK(read("K\xff") == "255");
  CHECK(read("M\xff\xff") == "65535");
  CHECK(read("J" + le(std::int32_t{-5})) == "-5");
  CHECK(read(bytes({0x8a, 0})) == "0");
  CHECK(read(bytes({0x8a, 1, 0xff})) == "-1");
  CHECK(read(bytes({0x8a, 2, 0xff, 0})) == "255");
  CHECK(read(pickled::number(INT64_MIN)) == "-9223372036854775808");
  CHECK(read(bytes({0x8a, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1})) == "long");
  CHECK(read("\x8b" + le(std::int32_t{3}) + bytes({1, 2, 3})) == "197121");
  CHECK(read("G" + bytes({0x3f, 0xf8, 0, 0, 0, 0, 0, 0})) == "1.500000");
  CHECK(read("X" + le(std::uint32_t{2}) + "ab") == "'ab'");
  CHECK(read("\x8c\x02"
             "ab") == "'ab'");
  CHECK(read("\x8d" + le(std::uint64_t{2}) + "ab") == "'ab'");
  CHECK(read("T" + le(std::int32_t{2}) + "ab") == "'ab'");
  CHECK(read(bytes({'U', 0})) == "''");
  CHECK(read("B" + le(std::uint32_t{2}) + "ab") == "b'ab'");
  CHECK(read("C\x02"
             "ab") == "b'ab'");
  CHECK(read("\x8e" + le(std::uint64_t{2}) + "ab") == "b'ab'");
  CHECK(read("\x96" + le(std::uint64_t{2}) + "ab") == "b'ab'");
}

TEST_CASE("pickle: values in values") {
  CHECK(read(")") == "()");
  CHECK(read("(t") == "()");
  CHECK(read("N\x85") == "(None)");
  CHECK(read("NK\1\x86") == "(None,1)");
  CHECK(read("NK\1K\2\x87") == "(None,1,2)");
  CHECK(read("(NK\1K\2K\3t") == "(None,1,2,3)");
  CHECK(read("]K\1aK\2a") == "[1,2]");
  CHECK(read("](K\1K\2e(K\3e(e") == "[1,2,3]");
  CHECK(read("}K\1K\2s") == "{1,2}");
  CHECK(read("}(K\1K\2K\3K\4u(u") == "{1,2,3,4}");
  CHECK(read("\x8f(K\1K\2\x90") == "set(1,2)");
  CHECK(read("(K\1K\2\x91") == "set(1,2)");
  CHECK(read("K\7Q") == "id(7)");
  CHECK(read("](](](K\1eee") == "[[[1]]]");
  CHECK(read("](K\1}(K\2](K\3euK\4e") == "[1,{2,[3]},4]");
}

TEST_CASE("pickle: globals and calls are kept, not made") {
  CHECK(read("ccollections\nOrderedDict\n") == "collections OrderedDict");
  CHECK(read(pickled::text("torch._utils") + pickled::text("_rebuild") + "\x93") == "torch._utils _rebuild");
  CHECK(read("ccollections\nOrderedDict\n)R") == "call(collections OrderedDict,())");
  CHECK(read("ccollections\nOrderedDict\n)RK\1K\2s") == "call(collections OrderedDict,(),1,2)");
  CHECK(read("ccollections\nOrderedDict\n)R(K\1K\2u}K\7K\7sb") == "call(collections OrderedDict,(),1,2)");
  CHECK(read("ctorch._utils\n_rebuild\n(K\1K\2tR") == "call(torch._utils _rebuild,(1,2))");
}

TEST_CASE("pickle: the memo gives values again, the same ones") {
  CHECK(read(bytes({'(', ']', 'q', 0, 'h', 0, 'K', 1, 'a', 't'})) == "([1],[1])");
  CHECK(read("(K\5r" + le(std::uint32_t{3}) + "K\6\x94j" + le(std::uint32_t{3}) + "h\4t") == "(5,6,5,6)");
  CHECK(read(bytes({'K', 1, 'q', 0, 'q', 1, 'h', 1, 0x86})) == "(1,1)");
  CHECK(complaint(bytes({'h', 0})) == "byte 2: memo 0 is used before it is given");
  CHECK(complaint(bytes({'N', 'q', 1, 'h', 0})) == "byte 5: memo 0 is used before it is given");
  CHECK(complaint("j" + le(UINT32_MAX)) == "byte 2: memo 4294967295 is used before it is given");
  CHECK(complaint("Nr" + le(UINT32_MAX)) == "byte 3: expected a smaller number of a memo, found 4294967295");
  CHECK(complaint(bytes({'q', 0})) == "byte 2: expected a value on the stack, found none");
}

TEST_CASE("pickle: a list that holds itself is one") {
  std::string const pickle = pickled::whole(bytes({']', 'q', 0, 'h', 0, 'a'}));
  Pickle const read(bytes_of(pickle), {});
  Pickle::Value const item = *read.root().items().begin();
  CHECK(item.kind() == Kind::list);
  CHECK((*item.items().begin()).kind() == Kind::list);
}

TEST_CASE("pickle: what a value does not have is empty") {
  for (std::string const value : {"N", "K\7", "]"}) {
    std::string const pickle = pickled::whole(value);
    Pickle const read(bytes_of(pickle), {});
    CHECK(read.root().text() == "");
    CHECK(read.root().items().begin() == read.root().items().end());
    CHECK(read.root().number() == (value == "K\7" ? 7 : 0));
  }
}

TEST_CASE("pickle: protocols 2 to 5") {
  for (int const protocol : {2, 3, 4, 5}) CHECK(read_whole(bytes({0x80, protocol, 'N', '.'})) == "None");
  for (int const protocol : {0, 1, 6, 255})
    CHECK(complaint_about(bytes({0x80, protocol, 'N', '.'})) ==
          "byte 0: expected protocol 2 to 5, found " + std::to_string(protocol));
}

TEST_CASE("pickle: every opcode is either read or refused with name and position") {
  std::string const read =
      std::string(".()0NKJMGXUTBCtabcehjqrRsQu]}") + bytes({0x80, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d,
                                                            0x8e, 0x8f, 0x90, 0x91, 0x93, 0x94, 0x95, 0x96});
  int refused = 0;
  for (int code = 0; code < 256; ++code) {
    std::string const message = complaint("NK\1K\2\x86" + bytes({code}));
    CAPTURE(code);
    bool const is_refused = message.ends_with("is not among those that data need");
    refused += is_refused ? 1 : 0;
    if (is_refused) CHECK(message.starts_with("byte 8: opcode "));
    CHECK(is_refused == (code == '0' || read.find(static_cast<char>(code)) == read.npos));
  }
  CHECK(refused == 256 - 46);
  CHECK(complaint("N0") == "byte 3: opcode POP is not among those that data need");
  CHECK(complaint(bytes({0x81})) == "byte 2: opcode NEWOBJ is not among those that data need");
  CHECK(complaint("(i") == "byte 3: opcode INST is not among those that data need");
  CHECK(complaint("P1\n") == "byte 2: opcode PERSID is not among those that data need");
  CHECK(complaint(bytes({0x82, 1})) == "byte 2: opcode EXT1 is not among those that data need");
  CHECK(complaint(bytes({0})) == "byte 2: opcode 0 is not among those that data need");
}

TEST_CASE("pickle: a global that is not in the list is refused with name and position") {
  std::string const tail = " is not among those that state dicts need, and nothing in a file is executed";
  CHECK(complaint("cos\nsystem\n(X" + le(std::uint32_t{2}) + "lstR.") == "byte 2: global 'os system'" + tail);
  CHECK(complaint(pickled::text("builtins") + pickled::text("eval") + "\x93") ==
        "byte 24: global 'builtins eval'" + tail);
  for (std::string const name : {"torch._utils\n_rebuild_", "torch._utils\n_rebuil", "torch\n_utils _rebuild",
                                 "torch._utils _rebuild\n", "\ntorch._utils _rebuild", "torch._util\n _rebuild"})
    CHECK(complaint("c" + name + "\n").ends_with(tail));
  CHECK(complaint("ca\x01"
                  "b\n\n") == "byte 2: global 'a\\x01b '" + tail);
  CHECK(complaint("c" + std::string(1000, 'm') + "\nn\n").size() < 400);
  CHECK(complaint("cos") == "byte 2: expected a line, found no end of it");
  CHECK(complaint("cos\nsystem") == "byte 2: expected a line, found no end of it");
  CHECK(complaint("NN\x93") == "byte 4: expected a str as the name of a global, found None");
}

TEST_CASE("pickle: lengths are checked before use") {
  auto const left = [](std::string const& expected, int found) {
    return "byte 2: expected " + expected + " bytes, found " + std::to_string(found) + " left in the pickle";
  };
  CHECK(complaint("X" + le(UINT32_MAX)) == left("4294967295", 0));
  CHECK(complaint("X" + le(std::uint32_t{3}) + "ab") == left("3", 2));
  CHECK(complaint("\x8d" + le(UINT64_MAX) + "a") == left("18446744073709551615", 1));
  CHECK(complaint("\x8e" + le(UINT64_MAX - 10)) == left("18446744073709551605", 0));
  CHECK(complaint("\x95" + le(std::uint64_t{5}) + "N.") == left("5", 2));
  CHECK(complaint("\x8c\x05") == left("5", 0));
  CHECK(complaint("\x8c") == left("1", 0));
  CHECK(complaint("J\1\1\1") == left("4", 3));
  CHECK(complaint("G1234567") == left("8", 7));
  CHECK(complaint("T" + le(std::int32_t{-1})) == "byte 2: expected a length from 0 on, found -1");
  CHECK(complaint("\x8b" + le(INT32_MIN)) == "byte 2: expected a length from 0 on, found -2147483648");
  CHECK(complaint("N") == "byte 3: expected 1 bytes, found 0 left in the pickle");
}

TEST_CASE("pickle: stack and marks are checked before use") {
  CHECK(complaint(".") == "byte 2: expected a value on the stack, found none");
  CHECK(complaint("\x85") == "byte 2: expected 1 values on the stack, found 0");
  CHECK(complaint("NN\x87") == "byte 4: expected 3 values on the stack, found 2");
  CHECK(complaint("N(\x85") == "byte 4: expected 1 values on the stack, found 0");  // a mark is no value
  CHECK(complaint("](a") == "byte 4: expected 1 values on the stack, found 0");
  CHECK(complaint("t") == "byte 2: expected a mark on the stack, found none");
  CHECK(complaint("(tt") == "byte 4: expected a mark on the stack, found none");
  CHECK(complaint("(e") == "byte 3: expected a value on the stack, found none");
  CHECK(complaint("NN.") == "byte 4: expected one value at the end, found 2");
  CHECK(complaint("(N.") == "byte 4: expected one value at the end, found 1");
  CHECK(complaint("N(.") == "byte 4: expected a value on the stack, found none");
  CHECK(complaint("N.N") == "byte 3: the pickle ends, and 1 bytes follow");
}

TEST_CASE("pickle: opcodes are checked to fit their values") {
  CHECK(complaint("NNa") == "byte 4: expected a list to add to, found None");
  CHECK(complaint("}Na") == "byte 4: expected a list to add to, found a dict");
  CHECK(complaint("](NNu") == "byte 6: expected a dict to add to, found a list");
  CHECK(complaint("]NNs") == "byte 5: expected a dict to add to, found a list");
  CHECK(complaint("](N\x90") == "byte 5: expected a set to add to, found a list");
  CHECK(complaint("}(Nu") == "byte 5: expected keys with values, found a key without one");
  CHECK(complaint("N)R") == "byte 4: expected a global to call, found None");
  CHECK(complaint("ccollections\nOrderedDict\n]R") == "byte 28: expected a tuple of arguments, found a list");
  CHECK(complaint("}}b") == "byte 4: expected the result of a call to give a state, found a dict");
}

TEST_CASE("pickle: what is no pickle, or is too large, is refused") {
  CHECK(complaint_about("") == "byte 0: expected the opcode PROTO, found none: not a pickle");
  CHECK(complaint_about("\x80") == "byte 0: expected the opcode PROTO, found none: not a pickle");
  CHECK(complaint_about("(dp0\n.") == "byte 0: expected the opcode PROTO, found none: not a pickle");
  std::vector<std::byte> const large(Pickle::size_limit + 1);
  CHECK(message_of([&] { Pickle(large, {}, "f"); }) == "f, byte 0: expected at most 67108864 bytes, found 67108865");
}

TEST_CASE("pickle: one cut at any length is refused") {
  std::string const whole = pickled::whole(
      pickled::dict({pickled::text("a"), pickled::list({pickled::number(1), "K\1", "N"}), pickled::text("b"),
                     pickled::call("ctorch._utils\n_rebuild\n", {pickled::numbers({1, 2}), pickled::ordered_dict()})}));
  CHECK(read_whole(whole) ==
        "{'a',[1,1,None],'b',call(torch._utils _rebuild,((1,2),call(collections OrderedDict,())))}");
  for (std::size_t size = 0; size < whole.size(); ++size) CHECK(complaint_about(whole.substr(0, size)) != "");
}

TEST_CASE("pickle: random opcodes are refused or harmless") {
  std::mt19937 random(20250308);
  constexpr std::string_view common = "().]}aesutNKQhqRb\x85\x86\x8f\x90\x91\x94.";
  int opened = 0;
  for (int trial = 0; trial < 200'000; ++trial) {
    std::string pickle = "\x80\x02";
    for (std::size_t length = random() % 12; length > 0; --length)
      pickle += random() % 8 == 0 ? static_cast<char>(random()) : common[random() % common.size()];
    pickle += '.';
    std::vector<std::byte> const exact(bytes_of(pickle).begin(), bytes_of(pickle).end());
    try {
      Pickle const read(exact, globals);
      for (Pickle::Value const item : read.root().items()) opened += item.text().size() < 12 ? 1 : 0;
    } catch (std::runtime_error const&) {
      continue;
    }
  }
  CHECK(opened > 100);
}
