/// The operators and their arguments, for every device. Files of each device say how it runs them: cpu_*.cpp, and
/// cuda_wkv4.cu with those that CMake makes of cuda.hpp.
#include "operator.hpp"

namespace {

std::vector<std::string> names{"wkv4"};

void define_one(torch::Library& library, std::string const& schema) {
  library.def(torch::schema(schema.c_str(), c10::AliasAnalysisKind::FROM_SCHEMA), {at::Tag::pt2_compliant_tag});
}
template <class... R> void define(torch::Library& library, aviary_torch::Rules<R...>) {
  auto const each = [&](char const* name, std::array<std::string, 2> const& schemas) {
    names.emplace_back(name);
    for (std::string const& schema : schemas) define_one(library, schema);
  };
  (each(R::name, aviary_torch::schemas<R>()), ...);
}

}  // namespace

TORCH_LIBRARY(aviary, library) {
  library.set_python_module("aviary_torch");
  // WKV-4 has channels in place of heads: k, v, y (B, T, C), log_w and u (C), states (sequences, 3, C) as (aa, bb, pp).
  define_one(
      library,
      "wkv4_forward(Tensor log_w, Tensor k, Tensor v, Tensor u, Tensor? initial_state, Tensor? offsets, int every) "
      "-> (Tensor y, Tensor final_state, Tensor tape)");
  define_one(library,
             "wkv4_backward(Tensor log_w, Tensor k, Tensor v, Tensor u, Tensor tape, Tensor dy, Tensor? dfinal_state, "
             "Tensor? offsets, int every) -> (Tensor dlog_w, Tensor dk, Tensor dv, Tensor du, Tensor dinitial_state)");
  define(library, aviary_torch::AllRules());
  library.def("rules() -> str[]", [] { return names; });
}
