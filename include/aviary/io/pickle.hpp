#pragma once
/// What a pickle of Python says, read without doing it: nothing is imported, called or executed. A global is a name from a
/// list that the caller gives, and a call is kept as what would be called, with what, and what would be added to its
/// result. The opcodes are those that protocols 2 to 5 use for data; every other is refused.
/// Format: the comments of https://github.com/python/cpython/blob/v3.13.0/Lib/pickletools.py
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aviary/io/message.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {
class PickleReader;
}

/// The values of a pickle. Strings and bytes are views of the pickle, which the caller keeps.
/// Memory: some bytes for each byte of the pickle, at most 60 for the worst of them while it is read. A pickle has at most
/// 64 MiB, enough for the names of some hundred thousand tensors.
class Pickle {
  struct Node;

 public:
  static constexpr std::size_t size_limit = std::size_t{1} << 26;

  enum class Kind : unsigned char {
    none,
    boolean,       ///< number()
    integer,       ///< number()
    long_integer,  ///< beyond 64 bits: what it is nobody kept
    real,          ///< bits of a double in number()
    string,        ///< text()
    bytes,         ///< text()
    tuple,         ///< items()
    list,          ///< items()
    set,           ///< items()
    dict,          ///< items(): a key, its value, the next key ...
    global,        ///< number(): its place in the caller's list
    persistent,    ///< items(): one, the id of something that lies outside of the pickle
    call           ///< items(): what is called, the tuple of arguments, then keys and values that the result is given
  };
  class Items;

  /// A value, as long as its pickle is neither moved nor destroyed. A list, a set, a dict and a call may hold themselves.
  class Value {
   public:
    Kind kind() const noexcept { return node().kind; }
    /// The number of a value that is one; else 0.
    std::int64_t number() const noexcept { return is_number(kind()) ? std::bit_cast<std::int64_t>(node().b) : 0; }
    /// The text of a value that has one; else an empty one.
    std::string_view text() const noexcept {
      return is_text(kind()) ? pickle_->text_.substr(node().b, node().a) : std::string_view();
    }
    /// The values that this one holds, if any.
    Items items() const noexcept;

   private:
    friend class Pickle;
    friend class Items;
    Value(Pickle const& pickle, std::uint32_t index) noexcept : pickle_(&pickle), index_(index) {}
    Node const& node() const noexcept { return pickle_->nodes_[index_]; }

    Pickle const* pickle_;
    std::uint32_t index_;
  };

  /// The values in a value, one after the other.
  class Items {
   public:
    class Iterator {
     public:
      Value operator*() const noexcept { return {*pickle_, pickle_->links_[link_].value}; }
      Iterator& operator++() noexcept {
        link_ = pickle_->links_[link_].next;
        return *this;
      }
      friend bool operator==(Iterator const&, Iterator const&) = default;

     private:
      friend class Items;
      Iterator(Pickle const& pickle, std::uint32_t link) noexcept : pickle_(&pickle), link_(link) {}
      Pickle const* pickle_;
      std::uint32_t link_;
    };
    Iterator begin() const noexcept { return {*value_.pickle_, has_items(value_.kind()) ? value_.node().a : nowhere}; }
    Iterator end() const noexcept { return {*value_.pickle_, nowhere}; }

   private:
    friend class Value;
    explicit Items(Value value) noexcept : value_(value) {}
    Value value_;
  };

  /// Reads all of it. `globals` are the names that it may use, as "module name"; `file` stands for it in messages.
  /// Throws std::runtime_error "FILE, byte N: what is wrong": damage, an opcode or a global that is not in its list, a
  /// pickle that is too large.
  Pickle(std::span<std::byte const> bytes, std::span<std::string_view const> globals, std::string_view file = "memory");

  /// What was pickled.
  Value root() const noexcept { return {*this, root_}; }

 private:
  friend class detail::PickleReader;
  static constexpr std::uint32_t nowhere = UINT32_MAX;

  static constexpr bool is_text(Kind kind) noexcept { return kind == Kind::string || kind == Kind::bytes; }
  static constexpr bool is_number(Kind kind) noexcept {
    return kind == Kind::boolean || kind == Kind::integer || kind == Kind::real || kind == Kind::global;
  }
  static constexpr bool has_items(Kind kind) noexcept {
    return kind != Kind::none && !is_text(kind) && !is_number(kind);
  }

  struct Node {
    Kind kind;
    std::uint32_t a;  // length of a text, or the first link of items
    std::uint64_t b;  // a number, the place of a text, or the last link
  };
  struct Link {
    std::uint32_t value, next;
  };

  std::string_view text_;
  std::vector<Node> nodes_;
  std::vector<Link> links_;
  std::uint32_t root_ = 0;
};

inline Pickle::Items Pickle::Value::items() const noexcept { return Items(*this); }

namespace detail {

/// "a dict", for messages.
constexpr std::string_view text_of(Pickle::Kind kind) noexcept {
  constexpr std::array<std::string_view, 14> names{"None",   "a bool",   "an int",          "a long int", "a float",
                                                   "a str",  "bytes",    "a tuple",         "a list",     "a set",
                                                   "a dict", "a global", "a persistent id", "a call"};
  return names[static_cast<std::size_t>(kind)];
}

/// The machine that a pickle is a program for: a stack of values, marks on it, and a memo of values to be used again.
class PickleReader {
  using Kind = Pickle::Kind;
  using Slot = std::uint32_t;  // the place of a value among all

 public:
  PickleReader(Pickle& pickle, std::span<std::byte const> bytes, std::span<std::string_view const> globals,
               std::string_view file)
      : pickle_(pickle), bytes_(bytes), globals_(globals), file_(file) {}

  void read() {
    if (bytes_.size() > Pickle::size_limit)
      fail("expected at most " + std::to_string(Pickle::size_limit) + " bytes, found " + std::to_string(bytes_.size()));
    pickle_.text_ = {reinterpret_cast<char const*>(bytes_.data()), bytes_.size()};
    for (Kind const kind : {Kind::none, Kind::tuple, Kind::boolean, Kind::boolean}) add({kind, Pickle::nowhere, 0});
    pickle_.nodes_[true_value].b = 1;
    if (bytes_.size() < 2 || bytes_[0] != std::byte{0x80}) fail("expected the opcode PROTO, found none: not a pickle");
    while (!stopped_) {
      start_ = at_;
      auto const code = take<std::uint8_t>();
      Opcode const* const opcode = find(code);
      if (opcode == nullptr || opcode->run == nullptr)
        fail("opcode " + (opcode != nullptr ? std::string(opcode->name) : std::to_string(code)) +
             " is not among those that data need");
      opcode->run(*this);
    }
    if (at_ != bytes_.size()) fail("the pickle ends, and " + std::to_string(bytes_.size() - at_) + " bytes follow");
  }

 private:
  /// Values that many others hold: they are made once.
  static constexpr Slot none = 0, empty_tuple = 1, false_value = 2, true_value = 3;

  struct Opcode {
    std::uint8_t code;
    std::string_view name;
    void (*run)(PickleReader&);  // null: known, and refused
  };

  static Opcode const* find(std::uint8_t code) {
    using R = PickleReader;
    static constexpr std::array opcodes{
        Opcode{0x80, "PROTO", [](R& r) { r.check_protocol(); }},
        Opcode{0x95, "FRAME", [](R& r) { r.check_length(r.take<std::uint64_t>()); }},
        Opcode{'.', "STOP", [](R& r) { r.stop(); }},

        Opcode{'N', "NONE", [](R& r) { r.push(none); }},
        Opcode{0x88, "NEWTRUE", [](R& r) { r.push(true_value); }},
        Opcode{0x89, "NEWFALSE", [](R& r) { r.push(false_value); }},
        Opcode{'J', "BININT", [](R& r) { r.push_integer(r.take<std::int32_t>()); }},
        Opcode{'K', "BININT1", [](R& r) { r.push_integer(r.take<std::uint8_t>()); }},
        Opcode{'M', "BININT2", [](R& r) { r.push_integer(r.take<std::uint16_t>()); }},
        Opcode{0x8a, "LONG1", [](R& r) { r.push_long(r.take_bytes(r.take<std::uint8_t>())); }},
        Opcode{0x8b, "LONG4", [](R& r) { r.push_long(r.take_bytes(r.take_length())); }},
        Opcode{'G', "BINFLOAT", [](R& r) { r.push_real(r.take<std::uint64_t>()); }},

        Opcode{'X', "BINUNICODE", [](R& r) { r.push_text(Kind::string, r.take<std::uint32_t>()); }},
        Opcode{0x8c, "SHORT_BINUNICODE", [](R& r) { r.push_text(Kind::string, r.take<std::uint8_t>()); }},
        Opcode{0x8d, "BINUNICODE8", [](R& r) { r.push_text(Kind::string, r.take<std::uint64_t>()); }},
        Opcode{'T', "BINSTRING", [](R& r) { r.push_text(Kind::string, r.take_length()); }},
        Opcode{'U', "SHORT_BINSTRING", [](R& r) { r.push_text(Kind::string, r.take<std::uint8_t>()); }},
        Opcode{'B', "BINBYTES", [](R& r) { r.push_text(Kind::bytes, r.take<std::uint32_t>()); }},
        Opcode{'C', "SHORT_BINBYTES", [](R& r) { r.push_text(Kind::bytes, r.take<std::uint8_t>()); }},
        Opcode{0x8e, "BINBYTES8", [](R& r) { r.push_text(Kind::bytes, r.take<std::uint64_t>()); }},
        Opcode{0x96, "BYTEARRAY8", [](R& r) { r.push_text(Kind::bytes, r.take<std::uint64_t>()); }},

        Opcode{'(', "MARK", [](R& r) { r.marks_.push_back(r.stack_.size()); }},
        Opcode{')', "EMPTY_TUPLE", [](R& r) { r.push(empty_tuple); }},
        Opcode{'t', "TUPLE", [](R& r) { r.push_items(Kind::tuple, r.pop_mark()); }},
        Opcode{0x85, "TUPLE1", [](R& r) { r.push_items(Kind::tuple, r.pop_items(1)); }},
        Opcode{0x86, "TUPLE2", [](R& r) { r.push_items(Kind::tuple, r.pop_items(2)); }},
        Opcode{0x87, "TUPLE3", [](R& r) { r.push_items(Kind::tuple, r.pop_items(3)); }},
        Opcode{']', "EMPTY_LIST", [](R& r) { r.push_items(Kind::list, {}); }},
        Opcode{'a', "APPEND", [](R& r) { r.append_items(Kind::list, r.pop_items(1)); }},
        Opcode{'e', "APPENDS", [](R& r) { r.append_items(Kind::list, r.pop_mark()); }},
        Opcode{'}', "EMPTY_DICT", [](R& r) { r.push_items(Kind::dict, {}); }},
        Opcode{'s', "SETITEM", [](R& r) { r.append_items(Kind::dict, r.pop_items(2)); }},
        Opcode{'u', "SETITEMS", [](R& r) { r.append_items(Kind::dict, r.pop_mark()); }},
        Opcode{0x8f, "EMPTY_SET", [](R& r) { r.push_items(Kind::set, {}); }},
        Opcode{0x90, "ADDITEMS", [](R& r) { r.append_items(Kind::set, r.pop_mark()); }},
        Opcode{0x91, "FROZENSET", [](R& r) { r.push_items(Kind::set, r.pop_mark()); }},

        Opcode{'q', "BINPUT", [](R& r) { r.remember(r.take<std::uint8_t>()); }},
        Opcode{'r', "LONG_BINPUT", [](R& r) { r.remember(r.take<std::uint32_t>()); }},
        Opcode{0x94, "MEMOIZE", [](R& r) { r.remember(r.memo_.size()); }},
        Opcode{'h', "BINGET", [](R& r) { r.recall(r.take<std::uint8_t>()); }},
        Opcode{'j', "LONG_BINGET", [](R& r) { r.recall(r.take<std::uint32_t>()); }},

        Opcode{'c', "GLOBAL", [](R& r) { r.push_global_of_lines(); }},
        Opcode{0x93, "STACK_GLOBAL", [](R& r) { r.push_global_of_stack(); }},
        Opcode{'R', "REDUCE", [](R& r) { r.push_call(); }},
        Opcode{'b', "BUILD", [](R& r) { r.drop_state(); }},
        Opcode{'Q', "BINPERSID", [](R& r) { r.push_items(Kind::persistent, r.pop_items(1)); }},

        Opcode{'0', "POP", nullptr},
        Opcode{'1', "POP_MARK", nullptr},
        Opcode{'2', "DUP", nullptr},
        Opcode{'I', "INT", nullptr},
        Opcode{'L', "LONG", nullptr},
        Opcode{'F', "FLOAT", nullptr},
        Opcode{'S', "STRING", nullptr},
        Opcode{'V', "UNICODE", nullptr},
        Opcode{'l', "LIST", nullptr},
        Opcode{'d', "DICT", nullptr},
        Opcode{'p', "PUT", nullptr},
        Opcode{'g', "GET", nullptr},
        Opcode{'P', "PERSID", nullptr},
        Opcode{'i', "INST", nullptr},
        Opcode{'o', "OBJ", nullptr},
        Opcode{0x81, "NEWOBJ", nullptr},
        Opcode{0x92, "NEWOBJ_EX", nullptr},
        Opcode{0x82, "EXT1", nullptr},
        Opcode{0x83, "EXT2", nullptr},
        Opcode{0x84, "EXT4", nullptr},
        Opcode{0x97, "NEXT_BUFFER", nullptr},
        Opcode{0x98, "READONLY_BUFFER", nullptr},
    };
    static constexpr auto places = [] {
      std::array<std::uint8_t, 256> table{};
      for (std::size_t i = 0; i < opcodes.size(); ++i) table[opcodes[i].code] = static_cast<std::uint8_t>(i + 1);
      return table;
    }();
    return places[code] > 0 ? &opcodes[places[code] - 1u] : nullptr;
  }

  // --- bytes ---------------------------------------------------------------------------------------------------------

  void check_length(std::uint64_t length) const {
    if (length > bytes_.size() - at_)
      fail("expected " + std::to_string(length) + " bytes, found " + std::to_string(bytes_.size() - at_) +
           " left in the pickle");
  }
  /// Little-endian.
  template <class N> N take() {
    check_length(sizeof(N));
    N number{};
    std::memcpy(&number, bytes_.data() + at_, sizeof(number));
    at_ += sizeof(number);
    return number;
  }
  std::uint64_t take_length() {
    auto const length = take<std::int32_t>();
    if (length < 0) fail("expected a length from 0 on, found " + std::to_string(length));
    return static_cast<std::uint64_t>(length);
  }
  std::span<std::byte const> take_bytes(std::uint64_t length) {
    check_length(length);
    at_ += length;
    return bytes_.subspan(at_ - length, length);
  }
  std::string_view take_line() {
    std::size_t const end = pickle_.text_.find('\n', at_);
    if (end == std::string_view::npos) fail("expected a line, found no end of it");
    std::string_view const line = pickle_.text_.substr(at_, end - at_);
    at_ = end + 1;
    return line;
  }
  void check_protocol() {
    auto const protocol = take<std::uint8_t>();
    if (protocol < 2 || protocol > 5) fail("expected protocol 2 to 5, found " + std::to_string(protocol));
  }

  // --- values --------------------------------------------------------------------------------------------------------

  Slot add(Pickle::Node const& node) {
    pickle_.nodes_.push_back(node);
    return static_cast<Slot>(pickle_.nodes_.size() - 1);
  }
  Pickle::Node& node(Slot value) { return pickle_.nodes_[value]; }
  void push(Slot value) { stack_.push_back(value); }
  void push_number(Kind kind, std::uint64_t bits) { push(add({kind, Pickle::nowhere, bits})); }
  void push_integer(std::int64_t number) { push_number(Kind::integer, std::bit_cast<std::uint64_t>(number)); }
  void push_text(Kind kind, std::uint64_t length) {
    std::span<std::byte const> const text = take_bytes(length);
    push(add({kind, static_cast<std::uint32_t>(text.size()), at_ - text.size()}));
  }
  /// Big-endian, unlike all others.
  void push_real(std::uint64_t bits) {
    auto bytes = std::bit_cast<std::array<std::byte, 8>>(bits);
    std::ranges::reverse(bytes);
    push_number(Kind::real, std::bit_cast<std::uint64_t>(bytes));
  }
  /// Two's complement, little-endian, of any length.
  void push_long(std::span<std::byte const> bytes) {
    if (bytes.size() > 8) return push_number(Kind::long_integer, 0);
    bool const negative = !bytes.empty() && (bytes.back() & std::byte{0x80}) != std::byte{0};
    std::uint64_t bits = negative ? ~std::uint64_t{0} : 0;
    if (!bytes.empty()) std::memcpy(&bits, bytes.data(), bytes.size());
    push_number(Kind::integer, bits);
  }

  void push_items(Kind kind, std::span<Slot const> items) {
    Slot const value = add({kind, Pickle::nowhere, Pickle::nowhere});
    link(value, items);
    push(value);
  }
  /// Appends to the list, set or dict on top; keys and values also to the result of a call.
  void append_items(Kind kind, std::span<Slot const> items) {
    Slot const value = top();
    Kind const found = node(value).kind;
    if (found != kind && !(kind == Kind::dict && found == Kind::call))
      fail("expected " + std::string(text_of(kind)) + " to add to, found " + std::string(text_of(found)));
    if (kind == Kind::dict && items.size() % 2 != 0) fail("expected keys with values, found a key without one");
    link(value, items);
  }
  void link(Slot value, std::span<Slot const> items) {
    for (Slot const item : items) {
      auto const last = static_cast<Slot>(pickle_.links_.size());
      pickle_.links_.push_back({item, Pickle::nowhere});
      Pickle::Node& to = node(value);
      (to.a == Pickle::nowhere ? to.a : pickle_.links_[to.b].next) = last;
      to.b = last;
    }
  }

  void push_call() {
    std::span<Slot const> const items = pop_items(2);
    if (Kind const kind = node(items[0]).kind; kind != Kind::global)
      fail("expected a global to call, found " + std::string(text_of(kind)));
    if (Kind const kind = node(items[1]).kind; kind != Kind::tuple)
      fail("expected a tuple of arguments, found " + std::string(text_of(kind)));
    push_items(Kind::call, items);
  }
  /// Attributes of an object: what is read here has none that matter.
  void drop_state() {
    pop_items(1);
    if (Kind const kind = node(top()).kind; kind != Kind::call)
      fail("expected the result of a call to give a state, found " + std::string(text_of(kind)));
  }

  void push_global_of_lines() {
    std::string_view const module = take_line();
    push_global(module, take_line());
  }
  void push_global_of_stack() {
    std::span<Slot const> const items = pop_items(2);
    for (Slot const item : items)
      if (Kind const kind = node(item).kind; kind != Kind::string)
        fail("expected a str as the name of a global, found " + std::string(text_of(kind)));
    auto const text = [&](Slot value) { return pickle_.text_.substr(node(value).b, node(value).a); };
    push_global(text(items[0]), text(items[1]));
  }
  void push_global(std::string_view module, std::string_view name) {
    auto const is = [&](std::string_view known) {
      return known.size() == module.size() + 1 + name.size() && known.starts_with(module) && known.ends_with(name) &&
             known[module.size()] == ' ';
    };
    auto const known = std::ranges::find_if(globals_, is);
    if (known == globals_.end())
      fail("global " + in_quotes(std::string(printable(module)) + " " + printable(name)) +
           " is not among those that state dicts need, and nothing in a file is executed");
    push_number(Kind::global, static_cast<std::uint64_t>(known - globals_.begin()));
  }

  // --- stack and memo ------------------------------------------------------------------------------------------------

  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  Slot top() const {
    if (stack_.size() == floor()) fail("expected a value on the stack, found none");
    return stack_.back();
  }
  /// Valid until the next push.
  std::span<Slot const> pop_items(std::size_t count) {
    if (stack_.size() - floor() < count)
      fail("expected " + std::to_string(count) + " values on the stack, found " +
           std::to_string(stack_.size() - floor()));
    return pop_from(stack_.size() - count);
  }
  std::span<Slot const> pop_mark() {
    if (marks_.empty()) fail("expected a mark on the stack, found none");
    std::size_t const begin = marks_.back();
    marks_.pop_back();
    return pop_from(begin);
  }
  std::span<Slot const> pop_from(std::size_t begin) {
    popped_.assign(stack_.begin() + static_cast<std::ptrdiff_t>(begin), stack_.end());
    stack_.resize(begin);
    return popped_;
  }

  /// Whoever writes a pickle counts them, so that their numbers are smaller than the pickle.
  void remember(std::uint64_t number) {
    if (number >= bytes_.size()) fail("expected a smaller number of a memo, found " + std::to_string(number));
    Slot const value = top();
    if (number >= memo_.size()) memo_.resize(number + 1, Pickle::nowhere);
    memo_[number] = value;
  }
  void recall(std::uint64_t number) {
    if (number >= memo_.size() || memo_[number] == Pickle::nowhere)
      fail("memo " + std::to_string(number) + " is used before it is given");
    push(memo_[number]);
  }

  void stop() {
    pickle_.root_ = top();
    if (stack_.size() != 1 || !marks_.empty())
      fail("expected one value at the end, found " + std::to_string(stack_.size()));
    stopped_ = true;
  }

  [[noreturn]] void fail(std::string const& what) const {
    throw std::runtime_error(std::string(file_) + ", byte " + std::to_string(start_) + ": " + what);
  }

  Pickle& pickle_;
  std::span<std::byte const> bytes_;
  std::span<std::string_view const> globals_;
  std::string_view file_;
  std::size_t at_ = 0, start_ = 0;  // the byte to read, and where the opcode at hand begins
  std::vector<Slot> stack_, popped_, memo_;
  std::vector<std::size_t> marks_;  // sizes of the stack
  bool stopped_ = false;
};

}  // namespace detail

inline Pickle::Pickle(std::span<std::byte const> bytes, std::span<std::string_view const> globals,
                      std::string_view file) {
  detail::PickleReader(*this, bytes, globals, file).read();
}

}  // namespace AVIARY_NAMESPACE
