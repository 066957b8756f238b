/// Reads any bytes as a file of states, once as they are and once with a checksum that fits.
#include "aviary/io/state_file.hpp"

#include "aviary/wkv4.hpp"
#include "aviary/wkv7.hpp"
#include "fuzz/rewritten.hpp"
#include "fuzz/target.hpp"

namespace {

using namespace aviary;

/// Reads a group into states of the sizes that the file says it has.
template <class M> void read(StateFile const& file, std::string_view name, typename M::State const& empty) {
  fuzz::may_refuse([&] {
    StateInfo const info = file.info(name);
    std::vector<typename M::State> states(to_size(info.sequences * info.heads), empty), again = states;
    if (states.empty()) return;
    file.read<M>(name, states, info.heads, {.orientation = true, .dtype = true});
    std::ostringstream out;
    StateWriter().add<M>("again", states, info.heads).write(out);
    std::string const bytes = out.str();
    StateFile(std::as_bytes(std::span(bytes))).read<M>("again", again, info.heads);
    std::ostringstream second;
    StateWriter().add<M>("again", again, info.heads).write(second);
    fuzz::require(second.str() == bytes, "what is written is read");
  });
}

void read_all(std::span<std::byte const> bytes) {
  fuzz::may_refuse([&] {
    StateFile const file(bytes);
    for (std::string_view const name : file.names())
      fuzz::may_refuse([&] {
        StateInfo const info = file.info(name);
        Index const numbers = file.tensors().tensor(name).size();
        if (numbers > 4096 || info.rows > 256 || info.columns > 256) return;  // rows are padded
        if (info.layout == "num_den_exponent") return read<Wkv4<float>>(file, name, Wkv4<float>::State(info.columns));
        bool const turned = info.layout == "value_key";
        using M = Wkv7<float, dynamic>;
        read<M>(file, name, M::State(turned ? info.columns : info.rows, turned ? info.rows : info.columns));
      });
  });
}

}  // namespace

int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  return aviary::fuzz::read_both(data, size, read_all);
}
