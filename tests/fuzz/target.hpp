#pragma once
/// What the fuzzing targets have in common. A target reads everything it can from bytes that may be anything; it may meet
/// the exceptions that the library documents, and nothing else: what must not be ends the program.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "aviary/io/safetensors.hpp"
#include "aviary/io/tensor_file.hpp"

/// Called by libFuzzer, or by main.cpp, with bytes that end where their memory does.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size);

namespace aviary::fuzz {

inline void require(bool holds, char const* what) {
  if (holds) return;
  std::cerr << "does not hold: " << what << '\n';
  std::abort();
}

template <Element T> bool same_bits(std::vector<T> const& a, std::vector<T> const& b) {
  return std::ranges::equal(std::as_bytes(std::span(a)), std::as_bytes(std::span(b)));
}

/// Reads the numbers of a tensor as they are, and as every other type that they may be read as.
inline void read_numbers(Tensor const& tensor) {
  with_element(tensor.dtype, [&]<class T>() {
    std::vector<T> const numbers = tensor.read<T>();
    require(static_cast<Index>(numbers.size()) == tensor.size(), "read gives size() numbers");
    if (auto const view = tensor.in_place<T>())
      require(std::ranges::equal(std::as_bytes(*view), std::as_bytes(std::span(numbers))), "in_place is read");
    if constexpr (Stored<T>) {
      require(tensor.read<float>().size() == numbers.size() && tensor.read<bf16>().size() == numbers.size(),
              "a conversion keeps the size");
    }
  });
}

/// Whether the writer takes the tensor; not so a name that is no UTF-8, or reserved.
inline bool add(SafeTensorsWriter& writer, Tensor const& tensor) {
  try {
    writer.add(tensor);
    return true;
  } catch (std::invalid_argument const&) {
    return false;
  }
}

/// Reads all tensors, at most some millions of numbers, and writes and reads them again.
inline void read_all(TensorFile const& file) {
  Index left = Index{1} << 21;
  SafeTensorsWriter writer;
  std::vector<std::string_view> added;
  for (std::string_view const name : file.names()) {
    Tensor const tensor = file.tensor(name);
    require(tensor.name == name && file.contains(name), "a tensor has its name");
    if ((left -= tensor.size()) < 0) break;
    read_numbers(tensor);
    if (add(writer, tensor)) added.push_back(name);
  }
  std::ostringstream out;
  writer.write(out);
  std::string const bytes = out.str();
  SafeTensors const copy(std::as_bytes(std::span(bytes)));
  require(copy.names() == added, "what is written is read");
  for (std::string_view const name : added) {
    Tensor const tensor = file.tensor(name), again = copy.tensor(name, tensor.shape);
    with_element(tensor.dtype,
                 [&]<class T>() { require(same_bits(tensor.read<T>(), again.read<T>()), "numbers stay the same"); });
  }
}

/// Does what a reader does, which may refuse its input.
void may_refuse(auto&& read) {
  try {
    read();
  } catch (std::runtime_error const& refused) {
    std::string_view const text = refused.what();
    require(text.size() < 1000 && text.find('\n') == text.npos, "a message is one short line");
  }
}

}  // namespace aviary::fuzz
