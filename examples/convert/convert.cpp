/// convert: lists the tensors of a checkpoint, or writes them as a safetensors file.
///   convert model.pth --list
///   convert model.gguf model.safetensors
/// Reads what torch.save, safetensors and llama.cpp's GGUF write, and folders of Hugging Face repositories; the content tells
/// which, not the name. Tensors of models get the names of the released files. Executes nothing that is in a file.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "aviary/io/checkpoint_file.hpp"
#include "aviary/io/message.hpp"
#include "aviary/io/safetensors.hpp"
#include "models/names.hpp"

namespace {

/// A mistake on the command line.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Arguments {
  std::string from, to;
  bool list = false;
};

/// What is wrong with the command line; empty: nothing.
std::string complaint(Arguments const& a) {
  if (a.from.empty()) return "expected a checkpoint, found none; --help says more";
  if (a.list && !a.to.empty()) return "expected --list or a file to write, found both";
  if (a.list) return {};
  if (a.to.empty()) return "expected --list or a file to write, found neither";
  if (std::filesystem::path(a.to).extension() != ".safetensors")
    return "expected a file to write that ends in .safetensors, found " + aviary::in_quotes(a.to);
  return {};
}

/// A name as it is shown: on one line, and as many columns as it has characters of one column each.
struct Label {
  std::string text;
  std::size_t width;

  explicit Label(std::string_view name) : text(aviary::printable(name, name.size())) {
    auto const begins = [](char c) { return (static_cast<unsigned char>(c) & 0xc0u) != 0x80u; };
    width = static_cast<std::size_t>(std::ranges::count_if(text, begins));
  }
  std::string padded(std::size_t columns) const { return text + std::string(std::max(columns, width) - width, ' '); }
};

/// One line for each tensor: name, what its numbers lie as, shape; then a line with the totals.
void list(aviary::TensorFile const& file) {
  constexpr std::size_t widest = 60;  // longer names push the rest of their line aside
  std::size_t columns = 0;
  for (std::string_view const name : file.names()) columns = std::max(columns, Label(name).width);
  columns = std::min(columns, widest);
  std::uint64_t numbers = 0, bytes = 0;
  for (std::string_view const name : file.names()) {
    aviary::Tensor const tensor = file.tensor(name);
    std::cout << Label(name).padded(columns) << "  " << Label(tensor.format_name()).padded(4) << "  "
              << aviary::shape_text(tensor.shape, tensor.shape.size()) << '\n';
    numbers += static_cast<std::uint64_t>(tensor.size());
    bytes += tensor.stored_size();
  }
  std::cout << file.size() << " tensors, " << numbers << " numbers, " << bytes << " bytes\n";
  if (!std::cout.flush()) throw std::runtime_error("cannot write to standard output");
}

/// Writes all tensors and texts. Numbers go from the one file to the other in pieces; tensors that share some have them twice.
void write(aviary::TensorFile const& file, std::filesystem::path const& to) {
  file.verify();
  aviary::SafeTensorsWriter writer;
  for (std::string_view const name : file.names()) writer.add(file.tensor(name));
  for (auto const& [key, text] : file.metadata()) writer.set_metadata(key, text);
  if (file.metadata().empty()) writer.set_metadata("format", "pt");  // without which some programs read nothing
  writer.write(to);
}

/// Throws UsageError if the file to write is one that is read, under whatever name.
void check_target(Arguments const& a) {
  std::error_code no_such_file;
  for (std::filesystem::path const& input : aviary::checkpoint_files(a.from))
    if (std::filesystem::equivalent(input, a.to, no_such_file))
      throw UsageError("expected another file to write than the one to read, found " + aviary::in_quotes(a.to));
}

void run(Arguments const& a) {
  if (!a.list) check_target(a);
  aviary::TensorFile const file = models::open_model(a.from);
  a.list ? list(file) : write(file, a.to);
}

/// Prints one line on standard error, whatever the text; returns the status.
int fail(std::string text, int status) {
  std::ranges::replace(text, '\n', ' ');
  std::cerr << "convert: " << aviary::printable(text, text.size()) << '\n';
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments a;
  CLI::App app(
      "Lists the tensors of a checkpoint (of torch.save, safetensors or GGUF), or writes them as a safetensors file.",
      "convert");
  app.add_option("FROM", a.from,
                 "checkpoint to read: .pth, .pt, .bin, .safetensors or .gguf, an index of shards, or a folder; the "
                 "content tells which");
  app.add_option("TO", a.to, "file to write, .safetensors; an older one is replaced when all is written");
  app.add_flag("--list", a.list, "print names, number types and shapes");
  try {
    app.parse(argc, argv);
    if (std::string const wrong = complaint(a); !wrong.empty()) return fail(wrong, 2);
    run(a);
    return 0;
  } catch (CLI::ParseError const& error) {
    return error.get_exit_code() == 0 ? app.exit(error) : fail(error.what(), 2);
  } catch (UsageError const& error) {
    return fail(error.what(), 2);
  } catch (std::exception const& error) {
    return fail(error.what(), 1);
  }
}
