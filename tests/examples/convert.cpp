/// The program `convert`, run as its users run it.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "aviary/io/checkpoint_file.hpp"
#include "aviary/io/safetensors.hpp"
#include "support/container_case.hpp"
#include "support/process.hpp"
#include "support/temporary_folder.hpp"
#include "support/zip_case.hpp"

using namespace aviary;
using test::Arguments;
using test::Finished;
using test::TemporaryFolder;

namespace {

Finished convert(Arguments const& arguments) { return test::run_program("convert", arguments); }

/// Fails with status and one line, and prints nothing on standard output.
void check_failure(Arguments const& arguments, int status, std::string const& message) {
  Finished const run = convert(arguments);
  CAPTURE(message);
  CHECK(run.status == status);
  CHECK(run.out == "");
  CHECK(run.err == "convert: " + message + "\n");
}

std::filesystem::path samples() { return std::filesystem::path(AVIARY_TEST_GOLDEN_DIR).parent_path() / "io" / "torch"; }

/// A checkpoint of six floats: 'x' row-major, 'y' transposed.
std::string small_checkpoint() {
  std::string const six = test::pickled::storage("FloatStorage", "0", 6);
  return test::torch_of(
      test::pickled::dict({test::pickled::text("x"), test::pickled::tensor(six, 0, {2, 3}, {3, 1}),
                           test::pickled::text("long.name"), test::pickled::tensor(six, 0, {3, 2}, {1, 3})}),
      {{"0", test::le(0.0f, 1.0f, 2.0f, 3.0f, 4.0f, 5.0f)}});
}

}  // namespace

TEST_CASE("convert: lists names, number types and shapes of either format") {
  TemporaryFolder const folder;
  std::string const torch = folder.file("m.pth", small_checkpoint()).string();
  std::string const written = (folder / "m.safetensors").string();
  REQUIRE(convert({torch, written}).status == 0);
  for (std::string const& path : {torch, written}) {
    Finished const run = convert({path, "--list"});
    CHECK(run.status == 0);
    CHECK(run.err == "");
    CHECK(run.out ==
          "long.name  f32   [3, 2]\n"
          "x          f32   [2, 3]\n"
          "2 tensors, 12 numbers, 48 bytes\n");
    CHECK(convert({"--list", path}).out == run.out);
  }
}

TEST_CASE("convert: lists every kind of name on one line, and all sizes of a shape") {
  TemporaryFolder const folder;
  std::vector<float> const one{1};
  std::vector<std::uint8_t> const two{1, 2};
  SafeTensorsWriter writer;
  writer.add("a\nb", std::vector<std::int64_t>(10, 1), one)
      .add("\xc3\xa9", {2}, two)
      .add(std::string(200, 'n'), {}, one);
  writer.write(folder / "m.safetensors");
  CHECK(convert({(folder / "m.safetensors").string(), "--list"}).out ==
        "a\\x0ab" + std::string(54, ' ') + "  f32   [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + std::string(200, 'n') +
            "  f32   []\n" + "\xc3\xa9" + std::string(59, ' ') + "  u8    [2]\n3 tensors, 4 numbers, 10 bytes\n");
}

TEST_CASE("convert: what torch wrote becomes a safetensors file of the same tensors") {
  TemporaryFolder const folder;
  for (char const* const name : {"dtypes", "views", "nested", "views_zip64"}) {
    std::filesystem::path const from = samples() / (std::string(name) + ".pth"), to = folder / "m.safetensors";
    Finished const run = convert({from.string(), to.string()});
    CHECK(run.status == 0);
    CHECK(run.out == "");
    CHECK(run.err == "");
    SafeTensors const written(to);
    TensorFile const read = open_checkpoint(from);
    CHECK(written.metadata() == Metadata{{"format", "pt"}});
    REQUIRE(written.names() == read.names());
    for (std::string_view const tensor : read.names()) {
      Tensor const expected = read.tensor(tensor), found = written.tensor(tensor, expected.shape);
      CHECK(found.dtype == expected.dtype);
      with_element(found.dtype, [&]<class T>() {
        auto const a = found.read<T>(), b = expected.read<T>();
        CHECK(std::ranges::equal(std::as_bytes(std::span(a)), std::as_bytes(std::span(b))));
      });
    }
    // Once more changes nothing.
    std::filesystem::path const again = folder / "again.safetensors";
    CHECK(convert({to.string(), again.string()}).status == 0);
    CHECK(test::content_of(again) == test::content_of(to));
  }
  CHECK(folder.files() == 2);
}

TEST_CASE("convert: never writes over what it reads, under whatever name") {
  namespace fs = std::filesystem;
  TemporaryFolder const folder;
  fs::path const from = folder.file("m.safetensors", ""), link = folder / "link.safetensors",
                 hard = folder / "hard.safetensors";
  SafeTensorsWriter().write(from);
  fs::create_symlink(from, link);
  fs::create_hard_link(from, hard);
  std::string const before = test::content_of(from);
  for (fs::path const& to : {from, link, hard, folder / "." / "m.safetensors"})
    check_failure({from.string(), to.string()}, 2,
                  "expected another file to write than the one to read, found '" + to.string() + "'");
  CHECK(test::content_of(from) == before);
  fs::path const closed = folder.file("closed.safetensors", "kept");
  fs::permissions(closed, fs::perms::owner_read);
  check_failure({from.string(), closed.string()}, 1,
                closed.string() + ": is read-only, expected a file that may be written");
  CHECK(test::content_of(closed) == "kept");
}

TEST_CASE("convert: a published checkpoint is listed as torch lists it") {
  std::filesystem::path const folder = std::filesystem::path(AVIARY_TEST_DATA_DIR) / "models";
  if (std::string_view(AVIARY_TEST_DATA_DIR).empty() || !exists(folder / "small-torch-checkpoint.json")) {
    MESSAGE("not run: AVIARY_TEST_DATA_DIR has no models/small-torch-checkpoint.json");
    return;
  }
  auto const expected = nlohmann::json::parse(test::content_of(folder / "small-torch-checkpoint.json"))["tensors"];
  std::istringstream lines(convert({(folder / "small-torch-checkpoint.pth").string(), "--list"}).out);
  std::string name, dtype, shape;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    lines >> name >> dtype >> std::ws;
    std::getline(lines, shape);
    REQUIRE(expected.contains(name));
    CHECK(expected[name]["dtype"] == "float32");
    CHECK(dtype == "f32");
    CHECK(nlohmann::json::parse(shape) == expected[name]["shape"]);
  }
  std::getline(lines, name);
  CHECK(name.starts_with("18 tensors, "));
}

TEST_CASE("convert: wrong arguments are status 2 and say what was expected and found") {
  TemporaryFolder const folder;
  std::string const from = folder.file("m.safetensors", "").string(), other = (folder / "n.safetensors").string();
  check_failure({}, 2, "expected a checkpoint, found none; --help says more");
  check_failure({from}, 2, "expected --list or a file to write, found neither");
  check_failure({from, other, "--list"}, 2, "expected --list or a file to write, found both");
  check_failure({from, "m.pth"}, 2, "expected a file to write that ends in .safetensors, found 'm.pth'");
  std::filesystem::create_symlink(from, folder / "link.safetensors");
  std::filesystem::create_hard_link(from, folder / "hard.safetensors");
  for (std::string const& to : {from, (folder.path() / "." / "m.safetensors").string(),
                                (folder / "link.safetensors").string(), (folder / "hard.safetensors").string()})
    check_failure({from, to}, 2, "expected another file to write than the one to read, found '" + to + "'");
  for (Arguments const& arguments : {Arguments{from, other, "more"}, {from, "--lists"}}) {
    Finished const run = convert(arguments);  // the parser's own messages
    CHECK(run.status == 2);
    CHECK(run.out == "");
    CHECK(run.err.starts_with("convert: "));
    CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
  }
  Finished const help = convert({"--help"});
  CHECK(help.status == 0);
  CHECK(help.err == "");
  CHECK(help.out.find("--list") != std::string::npos);
}

TEST_CASE("convert: bad files are status 1, and nothing half-written stays") {
  TemporaryFolder const folder;
  std::string const to = (folder / "out.safetensors").string(), missing = (folder / "missing.pth").string();
  check_failure({missing, to}, 1, missing + ": cannot open: No such file or directory");
  check_failure({missing, "--list"}, 1, missing + ": cannot open: No such file or directory");
  check_failure({folder.path().string(), "--list"}, 1,
                folder.path().string() +
                    ": is a folder, expected one with a file of model.safetensors.index.json, model.safetensors, "
                    "pytorch_model.bin.index.json, pytorch_model.bin, found none");
  std::string const empty = folder.file("empty.pth", "").string();
  check_failure({empty, "--list"}, 1, empty + ": expected 8 bytes of header length, found a file of 0 bytes");
  std::string const old = (samples() / "before_1_6.pth").string();
  check_failure({old, to}, 1,
                old +
                    ": is in the format of torch before 1.6, expected a zip archive: save it again with "
                    "torch.save(torch.load(...), ...)");

  std::string damaged = test::content_of(samples() / "views.pth");
  damaged[damaged.find(test::le(7.0f))] = 1;
  std::string const from = folder.file("damaged.pth", damaged).string();
  CHECK(convert({from, "--list"}).status == 0);
  check_failure({from, to}, 1, from + ": member 'archive/data/0': its bytes do not fit its checksum: it is damaged");

  std::string const good = folder.file("good.pth", small_checkpoint()).string();
  std::string const nowhere = (folder / "no" / "out.safetensors").string();
  check_failure({good, nowhere}, 1, nowhere + ": cannot create: No such file or directory");
  std::filesystem::create_directory(folder / "dir.safetensors");
  std::string const directory = (folder / "dir.safetensors").string();
  check_failure({good, directory}, 1, directory + ": is a directory");
  std::string const name = "\xff\xfe";
  std::string const strange =
      folder
          .file("strange.pth",
                test::torch_of(test::pickled::dict(
                                   {test::pickled::text(name),
                                    test::pickled::tensor(test::pickled::storage("ByteStorage", "0", 1), 0, {1}, {1})}),
                               {{"0", "x"}}))
          .string();
  check_failure({strange, to}, 1, "expected a tensor name in UTF-8, found '\\xff\\xfe'");
  CHECK(folder.files() == 5);  // what this test wrote itself
  CHECK_FALSE(std::filesystem::exists(to));

  // An older file stays as it was.
  folder.file("out.safetensors", "old");
  CHECK(convert({from, to}).status == 1);
  CHECK(test::content_of(to) == "old");
  CHECK(convert({good, to}).status == 0);
  CHECK(SafeTensors(std::filesystem::path(to)).tensor("long.name", {3, 2}).read<float>() ==
        std::vector<float>{0, 3, 1, 4, 2, 5});
}

TEST_CASE("convert: models of other containers become released ones") {
  TemporaryFolder const folder;
  std::filesystem::path const containers = samples().parent_path() / "containers", to = folder / "m.safetensors";
  for (auto const& [name, version] : {std::pair{"rwkv6.gguf", test::Version::v6},
                                      {"rwkv7.gguf", test::Version::v7},
                                      {"fla", test::Version::v7},
                                      {"transformers", test::Version::v4}}) {
    std::string const sample = name;
    CAPTURE(sample);
    Finished const run = convert({(containers / name).string(), to.string()});
    CHECK(run.status == 0);
    CHECK(run.err == "");
    SafeTensors const written(to);
    for (auto const& [tensor, entry] : test::sample_model(version).tensors)
      CHECK(written.tensor(tensor).read<float>() == entry.numbers);
  }
  Finished const list = convert({(containers / "formats.gguf").string(), "--list"});
  CHECK(list.out.find("q4_k         q4_k  [1, 512]\n") != list.out.npos);
  CHECK(list.out.find("q4_k.floats  f32   [1, 512]\n") != list.out.npos);
}

TEST_CASE("convert: no shard is written over") {
  TemporaryFolder const folder;
  std::filesystem::copy(samples().parent_path() / "containers" / "fla", folder / "fla");
  std::string const from = (folder / "fla").string(),
                    to = (folder / "fla" / "model-00002-of-00002.safetensors").string();
  std::string const before = test::content_of(to);
  check_failure({from, to}, 2, "expected another file to write than the one to read, found '" + to + "'");
  CHECK(test::content_of(to) == before);
}
