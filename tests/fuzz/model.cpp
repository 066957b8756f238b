/// Reads any bytes as the checkpoint of a whole model, of any generation, and lets it read a token.
#include "models/any.hpp"

#include "fuzz/target.hpp"
#include "models/names.hpp"

int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace aviary;
  fuzz::may_refuse([&] {
    TensorFile const file = models::with_released_names(open_checkpoint(std::as_bytes(std::span(data, size))));
    models::Loaded const loaded = models::load_any<float>(file);
    fuzz::require(loaded.unused.size() <= file.size(), "what is not used is in the file");
    loaded.model->step(0);
    std::any const state = loaded.model->save();
    std::vector<float> const logits(loaded.model->step(0).begin(), loaded.model->logits().end());
    loaded.model->restore(state);
    auto const again = loaded.model->step(0);
    fuzz::require(std::ranges::equal(std::as_bytes(std::span(logits)), std::as_bytes(again)),
                  "a restored state goes on");
  });
  return 0;
}
