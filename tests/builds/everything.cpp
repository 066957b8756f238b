/// Every public template, instantiated; next to nothing is run. tests/CMakeLists.txt has this file compiled with its
/// headers and the front doors the other way round, without optimisation, and for two instruction sets of one program.
#include <filesystem>
#include <span>
#include <string_view>
#include <utility>
#include <vector>
#include "aviary/aviary.hpp"
#include "aviary/io/checkpoint_file.hpp"
#include "aviary/io/state_file.hpp"
#include "aviary/io/token_cache_file.hpp"
#include "aviary/io/tokenizer.hpp"
#include "aviary/io/weights.hpp"
#include "aviary/layers/block.hpp"
#include "aviary/layers/gold.hpp"
#include "aviary/layers/gold_backward.hpp"
#include "aviary/layers/rotary.hpp"
#include "aviary/layers/time_mix4.hpp"
#include "aviary/layers/time_mix5.hpp"
#include "aviary/layers/time_mix6.hpp"
#include "aviary/layers/time_mix7.hpp"
#include "aviary/layers/time_mix_c2.hpp"
#include "aviary/reference/delta_rule.hpp"
#include "aviary/reference/dplr.hpp"
#include "aviary/reference/gold.hpp"
#include "aviary/reference/linear_attention.hpp"
#include "aviary/reference/wkv4.hpp"
#include "aviary/reference/wkv5.hpp"
#include "aviary/reference/wkv6.hpp"
#include "aviary/reference/wkv7.hpp"
#include "aviary/training/adamw.hpp"
#include "aviary/training/initialize.hpp"
#include "aviary/training/loss.hpp"
#include "aviary/training/parameter_groups.hpp"
#include "aviary/training/schedule.hpp"

namespace everything {

using namespace aviary;

/// All verbs of a memory.
template <class M> struct Memory {
  using T = typename M::T;
  using Segment = typename M::Segment;

  struct Calls {
    typename M::Token const& token;
    typename M::ForwardCall const& forward;
    typename M::SummarizeCall const& summarize;
    typename M::AddInitialStateCall const& add_initial_state;
  };
  static void run(Calls const& calls, std::span<typename M::State> states, VecView<T> y, Segment& segment) {
    M::step(states[0], calls.token, y);
    M::forward(calls.forward);
    Parallel threads(2, [](Index count, auto const& task) {
      for (Index i = 0; i < count; ++i) task(i);
    });
    M::forward(calls.forward, threads);
    M::summarize(calls.summarize, threads);
    M::compose(segment, segment, segment);
    M::apply(states[0], segment, states[1]);
    M::add_initial_state(calls.add_initial_state);
    if (!(M::check(calls.forward) + M::check(calls.summarize) + M::check(calls.add_initial_state)).empty()) return;
    if (!M::check(states[0], calls.token, y).empty()) return;
    states[0].clear();
    if (M::tape_size(calls.forward.x) > 0) aviary::rewind(calls.forward, 0, 1);
    History<typename M::State> history(states, 2);
    history.record(states);
    if (history.rewind(states, 1)) history.clear();
  }

  static void files(StateWriter& writer, StateFile const& file, std::span<typename M::State> states) {
    writer.add<M>("states", states, 1);
    file.read<M>("states", states, 1);
  }
};

template <class M> void chunk(typename M::ForwardCall const& call, std::span<typename M::T> workspace) {
  M::template chunk<16>(call, workspace);
}
template void chunk<Wkv7<float, 16>>(Wkv7<float, 16>::ForwardCall const&, std::span<float>);

template <class M> void backward(typename M::BackwardCall const& call) {
  if (M::check(call).empty()) M::backward(call);
  if (M::backward_workspace(call.x, 1) > 0) M::backward(call, Parallel(2, [](Index, auto const& task) { task(0); }));
}
template void backward<Wkv6<float, 16>>(Wkv6<float, 16>::BackwardCall const&);
template void backward<Wkv7<float, 16, 16, bf16>>(Wkv7<float, 16, 16, bf16>::BackwardCall const&);

template <class M> void pull(typename M::PullOutputsCall const& call, typename M::Segment const& segment) {
  M::pull_outputs(call);
  if (M::check(call).empty()) M::pull_state(call.dstates[0], segment, call.dstates[1]);
}
template void pull<Wkv6<float, 16>>(Wkv6<float, 16>::PullOutputsCall const&, Wkv6<float, 16>::Segment const&);
template void pull<Wkv7<float, 16>>(Wkv7<float, 16>::PullOutputsCall const&, Wkv7<float, 16>::Segment const&);

template struct Memory<Wkv4<float>>;
template struct Memory<Wkv6<float, 16>>;
template struct Memory<Wkv7<float, 16, 16, bf16>>;

/// The other rules differ in what their maps say, and other sizes and numbers in the same places.
template <class M> struct Step {
  static void run(typename M::View s, typename M::Token const& x, VecView<typename M::T> y) { M::step(s, x, y); }
};
template struct Step<Wkv4<double, 8>>;
template struct Step<Wkv5<float, 16>>;
template struct Step<Wkv7<float, dynamic>>;
template struct Step<Wkv5PerHead<float, 16>>;
template struct Step<FinchC2<float, 16>>;
template struct Step<Wkv7<float, 16, 16, f16>>;
template struct Step<RetNet<float, 16>>;
template struct Step<DeltaNet<float, 16>>;
template struct Step<GatedDeltaNet<double, 16, 32>>;
template struct Step<GatedDeltaNet2<float, 16>>;
template struct Step<Comba<float, 16>>;
template struct Step<Kda<float, 16>>;
template struct Step<Iplr<float, 16>>;
template struct Step<Dplr<float, 16>>;
template struct Step<LinearAttention<float, 16>>;
template struct Step<SimpleGla<float, 16>>;
template struct Step<Gla<float, 16>>;

/// The calls of a layer.
template <class Layer, class... Shared>
void layer(typename Layer::Weights const& weights, MatView<typename Layer::T> x, Shared const&... shared) {
  using T = typename Layer::T;
  Layer const made(weights);
  Scratch<T> scratch(made.scratch_size());
  auto state = made.empty_state();
  made(MatView<T const>(x), state, x, scratch, shared...);
  made(MatView<T const>(x), state, x, scratch, shared..., Serial());
  made.reset(state);
  if constexpr (requires { made.make_tape(1); }) {
    auto dstate = made.empty_state_gradient();
    auto tape = made.make_tape(1);
    Scratch<T> room(made.backward_scratch_size(x.rows()));
    typename Layer::Gradients const dweights{};
    made.backward({.weights = weights,
                   .x = x,
                   .states = {std::as_const(state), x.rows()},
                   .dy = x,
                   .dx = x,
                   .dstates = {&dstate, 1},
                   .dweights = dweights},
                  tape, room, shared..., shared...);
    if constexpr (requires { dweights.first_state; }) made.reset_backward(dstate, dweights);
  }
}

/// And of a block around it.
template <class Layer, class... Shared>
void block(Block<Layer> const& made, MatView<typename Layer::T> x, Scratch<typename Layer::T>& scratch,
           Shared const&... shared) {
  auto state = made.empty_state();
  made(x, state, scratch, shared...);
  made.reset(state);
}
template <class Layer, class... Shared>
void block_backward(typename Block<Layer>::BackwardCall const& call, typename Layer::Tape& tape,
                    Shared const&... shared) {
  Block<Layer> const made(call.weights);
  Scratch<typename Layer::T> scratch(made.backward_scratch_size(1));
  made.backward(call, tape, scratch, shared..., shared...);
  made.reset_backward(*call.dstates.of(0, 1), call.dweights);
}
template <class M> constexpr auto time_mix = &layer<TimeMix<M>>;
template <class M> constexpr auto time_mix_sharing = &layer<TimeMix<M>, MatView<typename M::T>>;

template <class T> void layers(MatView<T> x, VecView<T> row, WeightMatrix const& weight) {
  Scratch<T> scratch(64);
  Linear<T> const linear(weight, row, NumberFormat::q8);
  linear(VecView<T const>(row), row);
  linear(MatView<T const>(x), x);
  LowRank<T> const low_rank(weight, weight);
  low_rank(MatView<T const>(x), activation::tanh, x, scratch);
  LowRankDecay<T> const decay(row, weight, weight);
  decay(MatView<T const>(x), x, scratch);
  ShiftedLinear<T> const shifted(row, ShareOf::previous, weight, WeightFormat::exact);
  shifted(MatView<T const>(x), MatView<T const>(x), x, scratch);
  TokenShift<T> const shift(row);
  rows_before(MatView<T const>(x), VecView<T const>(row), x);
  shift(MatView<T const>(x), MatView<T const>(x), x);
  LayerNorm<T> const norm(row, row);
  norm(MatView<T const>(x), x);
  norm.backward(MatView<T const>(x), MatView<T const>(x), x, row, row);
  GroupNorm<T>(row, row, 2)(MatView<T const>(x), x);
  Rotary(8)(x, 0);
  Rotary(8).backward(x, 0);
  normalize_max(row), normalize_plus(row), normalize_rms(row);
  normalize_max_gradient<T>(row, row, row), normalize_plus_gradient<T>(row, row, row);
  normalize_rms_gradient<T>(row, row, row);
  normalize_heads(x, 8);
  normalize_heads_gradient<T>(x, 8, x, x);
  std::vector<int> const ids(3);
  Embedding<T>{weight}(ids, x);
}
template void layers(MatView<float>, VecView<float>, WeightMatrix const&);
template void layers(MatView<double>, VecView<double>, WeightMatrix const&);

template <class T> void training(MatView<T> x, VecView<T> row, VecView<double> losses) {
  std::vector<int> const ids(3);
  softmax_cross_entropy(x, ids, 1, losses);
  head_cross_entropy(HeadLossCall<T>{.x = x, .head = x, .logits = x, .losses = losses}, ids);
  Parameter<T> const parameters[]{
      {.values = row, .gradients = row, .first = row, .second = row, .group = parameter_group("emb.weight", true, 1)}};
  Schedule const rate{.peak = 1, .steps = 2};
  adamw_update<T>({}, parameters, {.step = 1, .learning_rate = rate(0)});
  initialize({.recipe = Recipe::rwkv7, .layers = 1}, "emb.weight", std::span<Index const>(), row);
}
template void training(MatView<float>, VecView<float>, VecView<double>);
template void training(MatView<double>, VecView<double>, VecView<double>);

template <class T, KeyStorage S>
void gold(typename Gold<T>::Weights const& weights, TokenCat<T> const& token_cat, MatView<T> x,
          Block<Gold<T>> const& around, typename Block<Gold<T>>::BackwardCall const& call) {
  Scratch<T> scratch(64), workspace(64);
  auto cache = token_cat.template empty_cache<S>();
  std::vector<std::int32_t> const ids(3);
  token_cat.append(ids, x, cache, scratch);
  cache.truncate(1);
  GoldContext const context(token_cat, cache, x.rows(), workspace);
  layer<Gold<T>>(weights, x, context);
  block(around, x, scratch, context);
  using Backward = GoldBackward<T>;
  Gold<T> const gold(weights);
  Scratch<T> room(Backward::scratch_size(gold) + Backward::workspace_size(gold, token_cat));
  typename Gold<T>::State state = gold.empty_state();
  Backward::run(
      gold, {.weights = weights, .expand = weights.query, .x = x, .state = state, .dy = x, .dx = x, .dstate = state},
      room, context);
  GoldTape<T, S> const tape{.context = context, .expand = weights.query};
  around.backward(call, tape, room);
  token_cat.append_backward(weights.query, x, x, x, x);
  KeyValueCache<T> values(16, 2);
  values.append(x, x);
  values.attend(x, 0, x, scratch);
  save_token_cache("cache", cache);
  load_token_cache("cache", cache);
}
template void gold<float, q8>(Gold<float>::Weights const&, TokenCat<float> const&, MatView<float>,
                              Block<Gold<float>> const&, Block<Gold<float>>::BackwardCall const&);

template <class T> void files(std::filesystem::path const& path, std::string_view text) {
  TensorFile const file = open_checkpoint(checkpoint_files(path).front());
  file.release(Gguf(path).tensor(text));
  Tensor const tensor = file.tensor(text);
  std::vector<T> const numbers = tensor.read<T>();
  SafeTensorsWriter writer;
  writer.add("numbers", {2, 2}, numbers);
  writer.write(path);
  if (tensor.in_place<T>()) TorchCheckpoint{path}.verify();
  TensorWeights const weights(tensor);
  ByteTokenizer const bytes;
  if (!bytes.encode(text).empty()) WorldTokenizer{Vocabulary::parse_world(text, text)}.encode(text);
}
template void files<float>(std::filesystem::path const&, std::string_view);
template void files<double>(std::filesystem::path const&, std::string_view);

template <class R>
void run_reference(
    std::conditional_t<std::is_same_v<R, reference::Wkv4<>>, reference::Wkv4<>::State, MatView<double>> s,
    typename R::Inputs const& x, MatView<double> y) {
  R::forward(s, x, y);
}
template <class R> constexpr auto reference_of = &run_reference<R>;

template <class T> void convert_all(void* from, void* to, Index n) {
  with_type(NumberFormat::f32, from,
            [&](auto const* x) { with_type(NumberFormat::f32, to, [&](auto* y) { convert(x, y, n); }); });
}
template void convert_all<float>(void*, void*, Index);

/// Function templates whose types are long to write: taking their address compiles them.
[[maybe_unused]] void (*const functions[])() = {
    reinterpret_cast<void (*)()>(time_mix<Wkv4<float>>),
    reinterpret_cast<void (*)()>(time_mix<Wkv5<float, 16>>),
    reinterpret_cast<void (*)()>(time_mix<Wkv6<float, 16>>),
    reinterpret_cast<void (*)()>(time_mix<FinchC2<float, 16>>),
    reinterpret_cast<void (*)()>(time_mix_sharing<Wkv7<float, 16>>),
    reinterpret_cast<void (*)()>(&block<TimeMix<Wkv7<float, 16>>, MatView<float>>),
    reinterpret_cast<void (*)()>(&block_backward<TimeMix<Wkv4<float>>>),
    reinterpret_cast<void (*)()>(&block_backward<TimeMix<Wkv7<float, 16>>, MatView<float>>),
    reinterpret_cast<void (*)()>(reference_of<reference::Wkv4<>>),
    reinterpret_cast<void (*)()>(reference_of<reference::Wkv5<>>),
    reinterpret_cast<void (*)()>(reference_of<reference::Wkv6<>>),
    reinterpret_cast<void (*)()>(reference_of<reference::Wkv7<>>),
    reinterpret_cast<void (*)()>(reference_of<reference::DeltaNet<>>),
    reinterpret_cast<void (*)()>(reference_of<reference::Kda<>>),
    reinterpret_cast<void (*)()>(reference_of<reference::Dplr<>>),
    reinterpret_cast<void (*)()>(reference_of<reference::Gla<>>),
};

}  // namespace everything

#if defined(ENTRY)
/// What builds/main.cpp calls: one function for each instruction set.
double ENTRY(double const* x, int n);
double ENTRY(double const* x, int n) {
  using namespace aviary;
  std::vector<float> narrow(to_size(n));
  convert(x, narrow.data(), n);
  std::vector<bf16> narrower(to_size(n));
  convert(narrow.data(), narrower.data(), n);
  convert(narrower.data(), narrow.data(), n);
  Linear<float> const linear(MatView<float const>(narrow.data(), 1, n));
  float y = 0;
  linear(VecView<float const>(narrow), VecView<float>(&y, 1));
  return everything::functions[0] != nullptr ? static_cast<double>(y) : 0;
}
#endif
