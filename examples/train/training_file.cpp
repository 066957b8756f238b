#include "train/training_file.hpp"

#include <charconv>
#include <deque>

#include "aviary/core/convert.hpp"
#include "aviary/io/fingerprint.hpp"
#include "aviary/io/safetensors.hpp"

namespace train {
namespace {

constexpr char const* version_key = "aviary.training";
constexpr char const* step_key = "aviary.step";
constexpr char const* setup_prefix = "setup ";

std::span<float const> span_of(aviary::VecView<float const> numbers) {
  return {numbers.data(), aviary::to_size(numbers.size())};
}

Index step_of(aviary::TensorFile const& file) {
  std::string_view const text = file.text(step_key, file.message("is no file to resume from"));
  Index step = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), step);
  if (error != std::errc() || end != text.data() + text.size() || step < 0)
    throw std::runtime_error(file.message("expected the number of a step, found " + aviary::in_quotes(text)));
  return step;
}

/// Calls f(name, numbers) for the arrays of carried states.
template <class F> void for_each_state(Progress const& progress, F&& f) {
  if (progress.states == nullptr) return;
  Index i = 0;
  progress.states->for_each([&](aviary::VecView<float> numbers) { f("states/" + std::to_string(i++), numbers); });
}

template <class T>
void read(aviary::TensorFile const& file, std::string const& name, std::span<std::int64_t const> shape,
          std::span<T> to) {
  file.tensor(name, shape).expect_dtype(aviary::format_of<T>).read_into(to);
}

}  // namespace

void save(std::filesystem::path const& path, Setup const& setup, Progress const& progress) {
  aviary::SafeTensorsWriter writer;
  progress.optimizer->for_each([&](std::string const& name, std::span<std::int64_t const> shape, auto numbers) {
    writer.add(name, {shape.begin(), shape.end()}, span_of(numbers));
  });
  for_each_state(progress,
                 [&](std::string const& name, auto numbers) { writer.add(name, {numbers.size()}, span_of(numbers)); });
  if (!progress.places.empty())
    writer.add("places", {static_cast<std::int64_t>(progress.places.size())},
               std::span<std::int64_t const>(progress.places));
  writer.set_metadata(version_key, "1").set_metadata(step_key, std::to_string(progress.step));
  for (auto const& [what, value] : setup) writer.set_metadata(setup_prefix + what, value);
  writer.add_checksum().write(path);
}

void load(std::filesystem::path const& path, Setup const& setup, Progress& progress) {
  aviary::SafeTensors const file(path);
  aviary::Differences differences;
  differences.expect("a file to resume from of version", "1",
                     file.text(version_key, file.message("is no file to resume from")));
  for (auto const& [what, value] : setup)
    differences.expect(what, value, file.text(setup_prefix + what, file.message("is no file to resume from")));
  differences.throw_any(file);
  file.expect_checksum();
  file.verify();
  progress.step = step_of(file);
  progress.optimizer->for_each([&](std::string const& name, std::span<std::int64_t const> shape, auto numbers) {
    read<float>(file, name, shape, {numbers.data(), aviary::to_size(numbers.size())});
  });
  for_each_state(progress, [&](std::string const& name, auto numbers) {
    std::int64_t const size = numbers.size();
    read<float>(file, name, {&size, 1}, {numbers.data(), aviary::to_size(numbers.size())});
  });
  if (!progress.places.empty()) {
    auto const streams = static_cast<std::int64_t>(progress.places.size());
    read(file, "places", {&streams, 1}, progress.places);
  }
}

void write_tensors(std::filesystem::path const& path, std::span<Written const> tensors, aviary::NumberFormat format,
                   std::map<std::string, std::string> const& texts) {
  aviary::SafeTensorsWriter writer;
  std::deque<std::vector<aviary::bf16>> narrow;
  for (Written const& t : tensors)
    if (format == aviary::NumberFormat::bf16) {
      auto& numbers = narrow.emplace_back(aviary::to_size(t.values.size()));
      aviary::convert(t.values.data(), numbers.data(), t.values.size());
      writer.add(t.name, t.shape, std::span<aviary::bf16 const>(numbers));
    } else {
      writer.add(t.name, t.shape, span_of(t.values));
    }
  writer.set_metadata("format", "pt");  // without which some programs read nothing
  for (auto const& [key, text] : texts) writer.set_metadata(key, text);
  writer.write(path);
}

std::string fingerprint_of(std::span<aviary::TokenId const> tokens) {
  auto const size = static_cast<std::int64_t>(tokens.size());
  aviary::Fingerprint fingerprint;
  fingerprint.add({.name = "tokens",
                   .dtype = aviary::format_of<aviary::TokenId>,
                   .shape = {&size, 1},
                   .bytes = std::as_bytes(tokens)});
  return fingerprint.text();
}

std::string fingerprint_of_frozen(models::WeightStore<float> const& weights) {
  aviary::Fingerprint fingerprint;
  aviary::TensorFile const file = weights.file();
  for (auto const& e : weights.entries())
    if (!e.learns()) fingerprint.add(file.tensor(e.name));
  return fingerprint.text();
}

}  // namespace train
