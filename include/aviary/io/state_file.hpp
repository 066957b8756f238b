#pragma once
/// States of memories in a safetensors file, so that a context can be continued another day, by another program.
///
///     StateWriter writer;
///     writer.add<Memory>("blocks.0", states, heads).write("context.safetensors");
///
///     StateFile("context.safetensors").read<Memory>("blocks.0", states, heads);
///
/// A tensor holds a group of states, (sequences, heads, keys, values) or, on request, (sequences, heads, values, keys);
/// of channel memories (sequences, heads, 3, channels), the three being num, den and exponent. The file's metadata say
/// which (the layout), of which rule the states are, and the version of all this:
///
///     aviary.states                  "2"
///     aviary.states.blocks.0.rule    "wkv7"
///     aviary.states.blocks.0.layout  "key_value", "value_key" or "num_den_exponent"
///
/// and, for the whole file, a checksum of its content, and the fingerprint of the weights that the states come from, where
/// the writer was told it (fingerprint.hpp). Files of version 1, which have neither, are read as ever, without that check.
///
/// What a file holds must be what the reader expects: else every difference is named, and no state is touched.
#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "aviary/io/safetensors.hpp"
#include "aviary/matrix/state.hpp"

namespace AVIARY_NAMESPACE {

/// How a group of states lies in a file.
struct StateFormat {
  Orientation orientation = Orientation::key_value;  ///< of matrix states
  std::optional<NumberFormat> dtype = {};            ///< a floating one; none: that of the states
};

/// What StateFile::read may convert. What it may not, the file must hold as the states have it in memory.
struct StateConversion {
  bool orientation = false;
  bool dtype = false;
};

/// What a file says about a group of states.
struct StateInfo {
  std::string_view rule, layout;
  NumberFormat dtype;
  Index sequences, heads;
  Index rows, columns;  ///< keys and values, or values and keys, or 3 and channels: as the layout says
};

namespace detail {

inline constexpr std::string_view states_key = "aviary.states";
inline constexpr std::string_view key_value = "key_value", value_key = "value_key",
                                  num_den_exponent = "num_den_exponent";

inline std::string states_key_of(std::string_view name, char const* what) {
  return std::string(states_key) + "." + std::string(name) + "." + what;
}

/// How the numbers of a state are arranged in a file.
template <class State> struct StateCodec;

template <class State>
requires requires(State const& state) { state.keys(), state.values(); }
struct StateCodec<State> {
  using Number = std::remove_cvref_t<decltype(*std::declval<State&>().view().s)>;
  static constexpr bool any_dtype = true;
  static constexpr std::array layouts{key_value, value_key};

  static std::string_view layout(Orientation orientation) {
    return orientation == Orientation::key_value ? key_value : value_key;
  }
  static std::array<Index, 2> shape(State const& state, std::string_view layout) {
    if (layout == key_value) return {state.keys(), state.values()};
    return {state.values(), state.keys()};
  }
  static std::array<char const*, 2> axes(std::string_view layout) {
    if (layout == key_value) return {"keys", "values"};
    return {"values", "keys"};
  }
  template <class U> static void put(State const& state, std::span<U> to, std::string_view layout) {
    export_state(state.view(), to, orientation(layout));
  }
  template <class U> static void get(State& state, std::span<U const> from, std::string_view layout) {
    import_state(state.view(), from, orientation(layout));
  }

 private:
  static Orientation orientation(std::string_view layout) {
    return layout == key_value ? Orientation::key_value : Orientation::value_key;
  }
};

template <class State>
requires requires(State const& state) { state.channels(), state.num, state.den, state.exponent; }
struct StateCodec<State> {
  using Number = std::remove_cvref_t<decltype(*std::declval<State&>().view().num)>;
  static constexpr bool any_dtype = false;  // an exponent is a whole number of up to seven digits
  static constexpr std::array layouts{num_den_exponent};

  static std::string_view layout(Orientation) { return num_den_exponent; }
  static std::array<Index, 2> shape(State const& state, std::string_view) { return {3, state.channels()}; }
  static std::array<char const*, 2> axes(std::string_view) { return {"rows", "channels"}; }
  template <class U> static void put(State const& state, std::span<U> to, std::string_view) {
    Index row = 0;
    for (auto const* from : {&state.num, &state.den, &state.exponent})
      convert(from->data(), to.data() + row++ * state.channels(), state.channels());
  }
  template <class U> static void get(State& state, std::span<U const> from, std::string_view) {
    Index row = 0, n = state.channels();
    for (auto* to : {&state.num, &state.den, &state.exponent}) {
      convert(from.data() + row++ * n, to->data(), n);
      std::fill(to->data() + n, to->data() + padded<Number>(n), Number(0));
    }
  }
};

template <class State> bool is_state_dtype(NumberFormat dtype) noexcept {
  using enum NumberFormat;
  if (dtype == f64 || dtype == f32) return true;
  return StateCodec<State>::any_dtype && (dtype == f16 || dtype == bf16);
}

}  // namespace detail

/// Collects groups of states and writes them as a file. Copies the states.
class StateWriter {
 public:
  StateWriter() {
    tensors_.set_metadata(std::string(detail::states_key), std::string(detail::state_version)).add_checksum();
  }

  /// Adds the states (sequences, heads) of memory M under its name, M::name.
  /// Throws std::invalid_argument for a repeated name, a number of states that is no multiple of heads, none at all,
  /// states of different sizes, or a dtype that does not hold them.
  template <class M>
  StateWriter& add(std::string const& name, std::span<typename M::State const> states, Index heads,
                   StateFormat const& format = {}) {
    using State = typename M::State;
    using Codec = detail::StateCodec<State>;
    auto const fail = [&](std::string const& what) {
      throw std::invalid_argument("cannot write states " + in_quotes(name) + ": " + what);
    };
    Index const count = static_cast<Index>(states.size());
    if (heads < 1 || count == 0 || count % heads != 0)
      fail("expected a multiple of " + std::to_string(heads) + " heads, found " + std::to_string(count) + " states");
    NumberFormat const dtype = format.dtype.value_or(format_of<typename Codec::Number>);
    if (!detail::is_state_dtype<State>(dtype)) fail(std::string(name_of(dtype)) + " does not hold them");
    std::string_view const layout = Codec::layout(format.orientation);
    auto const shape = Codec::shape(states.front(), layout);
    for (State const& state : states)
      if (auto const other = Codec::shape(state, layout); other != shape)
        fail("the first is " + size_text(shape) + ", another " + size_text(other));

    with_element(dtype, [&]<class U>() {
      if constexpr (Stored<U>) {
        Index const size = shape[0] * shape[1];
        auto const numbers = std::make_shared<std::vector<U>>(to_size(count * size));
        for (Index s = 0; s < count; ++s)
          Codec::put(states[to_size(s)], std::span(*numbers).subspan(to_size(s * size), to_size(size)), layout);
        tensors_.add(name, {count / heads, heads, shape[0], shape[1]}, *numbers);
        numbers_.push_back(numbers);
      }
    });
    tensors_.set_metadata(detail::states_key_of(name, "rule"), M::name);
    tensors_.set_metadata(detail::states_key_of(name, "layout"), std::string(layout));
    return *this;
  }

  /// The file that is being made, for what belongs to the states but is none: further tensors (the last token's activations,
  /// say), metadata.
  SafeTensorsWriter& tensors() noexcept { return tensors_; }

  /// Writes the file: the old one, if any, is replaced when all is written, and stays if anything fails.
  /// Throws std::runtime_error with path and reason.
  void write(std::filesystem::path const& path) const { tensors_.write(path); }
  void write(std::ostream& to) const { tensors_.write(to); }

 private:
  static std::string size_text(std::array<Index, 2> const& shape) {
    return std::to_string(shape[0]) + " x " + std::to_string(shape[1]);
  }

  SafeTensorsWriter tensors_;
  std::vector<std::shared_ptr<void const>> numbers_;  // what tensors_ refers to
};

/// The states of a file. Every std::runtime_error names the file, the group, what was expected and what was found.
class StateFile {
 public:
  /// Maps the file and compares all of it with its checksum. Throws std::runtime_error if it cannot be read, is damaged, is
  /// no safetensors file, holds no states, or states of another version of the format.
  explicit StateFile(std::filesystem::path const& path) : StateFile(SafeTensors(path)) {}
  /// Reads bytes that the caller keeps. `name` stands for the file in messages.
  explicit StateFile(std::span<std::byte const> bytes, std::string const& name = "memory")
      : StateFile(SafeTensors(bytes, name)) {}

  /// Names of the groups of states, in alphabetical order.
  std::vector<std::string_view> names() const {
    std::vector<std::string_view> names;
    for (std::string_view const name : tensors_.names())
      if (tensors_.metadata().contains(detail::states_key_of(name, "rule"))) names.push_back(name);
    return names;
  }

  /// What is said about a group. Throws std::runtime_error if there is none of that name, or a damaged one.
  StateInfo info(std::string_view name) const {
    Tensor const tensor = tensors_.tensor(name);
    std::string_view const rule = metadata(tensor, "rule"), layout = metadata(tensor, "layout");
    tensor.expect_shape({dynamic, dynamic, layout == detail::num_den_exponent ? 3 : dynamic, dynamic});
    auto const size = [&](std::size_t axis) { return static_cast<Index>(tensor.shape[axis]); };
    return {rule, layout, tensor.dtype, size(0), size(1), size(2), size(3)};
  }

  /// Reads a group into the states (sequences, heads) of memory M, which have the sizes that are expected.
  /// Throws std::runtime_error that names all differences: of the rule, the numbers of sequences and heads, the sizes,
  /// the orientation and the number type, of which `convert` may allow the last two. Throws std::invalid_argument if
  /// the number of states is no multiple of heads, or they differ in size. No state is touched then.
  template <class M>
  void read(std::string_view name, std::span<typename M::State> states, Index heads,
            StateConversion const& convert = {}) const {
    using Codec = detail::StateCodec<typename M::State>;
    check_destination<M>(name, states, heads);
    StateInfo const found = info(name);
    Tensor const tensor = tensors_.tensor(name);
    compare<M>(found, states, heads, convert).throw_any(tensor);
    with_element(found.dtype, [&]<class U>() {
      if constexpr (Stored<U>) {
        std::vector<U> const numbers = tensor.read<U>();
        std::size_t const size = numbers.size() / states.size();
        for (std::size_t s = 0; s < states.size(); ++s)
          Codec::get(states[s], std::span(numbers).subspan(s * size, size), found.layout);
      }
    });
  }

  /// All tensors and texts of the file.
  SafeTensors const& tensors() const noexcept { return tensors_; }

 private:
  explicit StateFile(SafeTensors tensors) : tensors_(std::move(tensors)) {
    std::string_view const version =
        tensors_.text(std::string(detail::states_key), tensors_.message("holds no states"));
    Differences found;
    detail::expect_version(found, "states of format version", version);
    found.throw_any(tensors_);
    if (version != detail::state_version_before) tensors_.expect_checksum();
    tensors_.verify();
  }

  std::string_view metadata(Tensor const& tensor, char const* what) const {
    return tensors_.text(detail::states_key_of(tensor.name, what), tensor.message("holds no states"));
  }

  template <class M>
  static void check_destination(std::string_view name, std::span<typename M::State const> states, Index heads) {
    using Codec = detail::StateCodec<typename M::State>;
    auto const fail = [&](std::string const& what) {
      throw std::invalid_argument("cannot read states " + in_quotes(name) + ": " + what);
    };
    if (heads < 1 || states.empty() || static_cast<Index>(states.size()) % heads != 0)
      fail("expected a multiple of " + std::to_string(heads) + " heads as the destination, found " +
           std::to_string(states.size()) + " states");
    auto const shape = [](auto const& state) { return Codec::shape(state, Codec::layouts.front()); };
    for (auto const& state : states)
      if (shape(state) != shape(states.front())) fail("the states of the destination differ in size");
  }

  template <class M>
  static Differences compare(StateInfo const& found, std::span<typename M::State const> states, Index heads,
                             StateConversion const& convert) {
    using Codec = detail::StateCodec<typename M::State>;
    Differences differences;
    auto const expect = [&](char const* what, Index expected, Index is) {
      if (is != expected) differences.add(std::to_string(expected) + " " + what, std::to_string(is));
    };
    if (found.rule != M::name) differences.add("states of rule " + in_quotes(M::name), in_quotes(found.rule));
    expect("sequences", static_cast<Index>(states.size()) / heads, found.sequences);
    expect("heads", heads, found.heads);
    std::string const layout = "layout " + std::string(Codec::layout(Orientation::key_value));
    if (std::ranges::find(Codec::layouts, found.layout) != Codec::layouts.end()) {
      auto const shape = Codec::shape(states.front(), found.layout);
      auto const axes = Codec::axes(found.layout);
      expect(axes[0], shape[0], found.rows);
      expect(axes[1], shape[1], found.columns);
      if (found.layout != Codec::layout(Orientation::key_value) && !convert.orientation)
        differences.add(layout, std::string(found.layout) + " (StateConversion::orientation converts)");
    } else {
      differences.add(layout, in_quotes(found.layout));
    }
    NumberFormat const dtype = format_of<typename Codec::Number>;
    bool const convertible = detail::is_state_dtype<typename M::State>(found.dtype);
    if (found.dtype != dtype && !(convertible && convert.dtype))
      differences.add("dtype " + std::string(name_of(dtype)),
                      std::string(name_of(found.dtype)) + (convertible ? " (StateConversion::dtype converts)" : ""));
    return differences;
  }

  SafeTensors tensors_;
};

}  // namespace AVIARY_NAMESPACE
