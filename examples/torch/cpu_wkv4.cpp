/// WKV-4 on a processor.
#include <algorithm>
#include <span>

#include "wkv4.hpp"

namespace aviary_torch {
namespace {

/// The library's states, and tensors (n, 3, C) of them.
template <class T> struct ChannelStates {
  using State = typename aviary::Wkv4<T>::State;
  std::vector<State> states;

  ChannelStates(Index n, Index channels) : states(aviary::to_size(n), State(channels)) {}

  /// Row `part` of state s.
  static std::span<T> row(Tensor const& x, std::size_t s, Index part) {
    Index const channels = x.size(2);
    return {x.data_ptr<T>() + (static_cast<Index>(s) * 3 + part) * channels, aviary::to_size(channels)};
  }
  /// From and to states as published.
  void read(Tensor const& from) {
    for (std::size_t s = 0; s < states.size(); ++s)
      import_state(states[s].view(), row(from, s, 0), row(from, s, 1), row(from, s, 2));
  }
  void write(Tensor const& to) const {
    for (std::size_t s = 0; s < states.size(); ++s) {
      auto const part = [&](Index i) { return aviary::VecView<T>(row(to, s, i)); };
      export_state(states[s].view(), part(0), part(1), part(2));
    }
  }
  /// f(row of a tensor, numbers of the state) for each state as it lies.
  template <class F> void for_rows(Tensor const& x, F&& f) {
    for (std::size_t s = 0; s < states.size(); ++s) {
      f(row(x, s, 0), states[s].num);
      f(row(x, s, 1), states[s].den);
      f(row(x, s, 2), states[s].exponent);
    }
  }
  void read_numbers(Tensor const& from) {
    for_rows(from, [](auto row, auto& numbers) { std::copy_n(row.data(), row.size(), numbers.data()); });
  }
  void write_numbers(Tensor const& to) {
    for_rows(to, [](auto row, auto& numbers) { std::copy_n(numbers.data(), row.size(), row.data()); });
  }
};

struct Cpu {
  static constexpr bool has_double = true;

  template <class T>
  static void forward(ChannelArguments<T> const& x, Tensor const& y, Tensor const& initial, Tensor const& final_state,
                      Tensor const& kept, Index every) {
    using M = aviary::Wkv4<T>;
    ChannelStates<T> all(initial.size(0), x.channels), keeps(kept.size(0), x.channels);
    all.read(initial);
    typename M::ForwardCall call{
        .x = x.inputs(), .y = x.template rows<aviary::Sink<>>(y), .states = all.states, .offsets = x.sequences.offsets};
    if (every > 0) call.tape = {.every = every, .states = keeps.states};
    require(M::check(call));
    M::forward(call, Threads());
    all.write(final_state);
    keeps.write_numbers(kept);
  }

  template <class T>
  static Tensor backward(ChannelArguments<T> const& x, Tensor const& kept, Tensor const& dy, Tensor const& dfinal,
                         typename aviary::Wkv4<T>::Gradients const& dx, Index every) {
    using M = aviary::Wkv4<T>;
    ChannelStates<T> all(dfinal.size(0), x.channels), keeps(kept.size(0), x.channels);
    all.read(dfinal);
    keeps.read_numbers(kept);
    auto const inputs = x.inputs();
    std::size_t const room = M::backward_workspace(inputs, x.sequences.offsets, every);
    Tensor const workspace = at::empty({static_cast<Index>(room)}, x.state_options());
    typename M::BackwardCall const call{.x = inputs,
                                        .dy = x.template rows<aviary::Source<>>(dy),
                                        .tape = {.every = every, .states = keeps.states},
                                        .dx = dx,
                                        .dstates = all.states,
                                        .workspace = {workspace.data_ptr<T>(), room},
                                        .offsets = x.sequences.offsets};
    require(M::check(call));
    M::backward(call, Threads());
    Tensor const dstates = x.make_states(dfinal.size(0));
    all.write_numbers(dstates);
    return dstates;
  }
};

}  // namespace
}  // namespace aviary_torch

TORCH_LIBRARY_IMPL(aviary, CPU, library) { aviary_torch::implement_channels<aviary_torch::Cpu>(library); }
