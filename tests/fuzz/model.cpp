/// Reads any bytes as the checkpoint of a whole model, of any generation, and lets it read a token.
#include "models/any.hpp"

#include "fuzz/target.hpp"
#include "models/names.hpp"
#include "models/reader.hpp"

int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace aviary;
  fuzz::may_refuse([&] {
    TensorFile const file = models::with_released_names(open_checkpoint(std::as_bytes(std::span(data, size))));
    models::Loaded const loaded = models::load_any<float>(file);
    fuzz::require(loaded.unused.size() <= file.size(), "what is not used is in the file");
    models::Reader reader(loaded.model);
    reader.step(0);
    models::Context const state = reader.save();
    std::vector<float> const logits(reader.step(0).begin(), reader.logits().end());
    reader.restore(state);
    auto const again = reader.step(0);
    fuzz::require(std::ranges::equal(std::as_bytes(std::span(logits)), std::as_bytes(again)),
                  "a restored state goes on");
  });
  return 0;
}
