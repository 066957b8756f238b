#pragma once
/// Blocks of one type that learn, one after another: between the passes each keeps its input and the states before it.
///
/// A batch is cut into parts of whole sequences. Every part goes through a block as a task of its own, with scratch and
/// gradients of its own, which are added up in pairs: (a + b) + (c + d). So the bits depend on the number of parts alone, and
/// two halves of a batch that are learned elsewhere have the same sum.
#include <algorithm>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

#include "aviary/core/flush_to_zero.hpp"
#include "aviary/layers/block.hpp"
#include "aviary/layers/gold_backward.hpp"
#include "models/checkpoint.hpp"
#include "models/learner.hpp"
#include "models/timing.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// Which sequences, and which rows, each part of a batch has.
class Parts {
 public:
  Parts(std::span<Index const> offsets, Index most) {
    Index const sequences = static_cast<Index>(offsets.size()) - 1,
                count = std::clamp(most, Index{1}, std::max(sequences, Index{1}));
    for (Index p = 0; p < count; ++p) {
      Index const first = sequences * p / count, end = sequences * (p + 1) / count;
      Part part{first, end - first, offsets[aviary::to_size(first)], {}};
      for (Index s = first; s <= end; ++s) part.offsets.push_back(offsets[aviary::to_size(s)] - part.row);
      parts_.push_back(std::move(part));
    }
  }

  struct Part {
    Index first, sequences;      ///< of the batch
    Index row;                   ///< of the batch
    std::vector<Index> offsets;  ///< from 0 to its number of rows

    Index rows() const noexcept { return offsets.back(); }
    template <class T> aviary::MatView<T> of(aviary::MatView<T> x) const noexcept { return x.rows(row, rows()); }
  };

  Index size() const noexcept { return static_cast<Index>(parts_.size()); }
  Part const& operator[](Index p) const noexcept { return parts_[aviary::to_size(p)]; }

  /// The most rows, and the most sequences, of a part.
  Index most_rows() const noexcept { return std::ranges::max(parts_, {}, &Part::rows).rows(); }
  Index most_sequences() const noexcept { return std::ranges::max(parts_, {}, &Part::sequences).sequences; }

  /// task(p, part, threads) for every part: the parts side by side, or a single one with all threads.
  template <class Task> void run(Threads threads, Task const& task) const {
    aviary::FlushToZero const flush;
    if (size() == 1) return task(Index{0}, parts_[0], threads);
    threads(size(), [&](Index p) {
      aviary::FlushToZero const flush_here;
      task(p, (*this)[p], Threads(1));
    });
  }

 private:
  std::vector<Part> parts_;
};

/// to += the sum of the numbers of all parts, in pairs. Those of the parts are lost.
template <class T> void add_parts(aviary::VecView<T> to, std::span<T* const> parts, Threads threads) {
  constexpr Index block = 4096;
  auto const add = [](auto const& a, auto const& b) { return a + b; };
  threads((to.size() + block - 1) / block, [&](Index i) {
    Index const first = i * block, n = std::min(block, to.size() - first);
    auto const sum = [&](auto const& self, std::span<T* const> of) -> T const* {
      if (of.size() == 1) return of[0] + first;
      T const* const left = self(self, of.first(of.size() / 2));
      T const* const right = self(self, of.subspan(of.size() / 2));
      aviary::simd::transform(n, of[0] + first, add, left, right);
      return of[0] + first;
    };
    aviary::simd::transform(n, to.data() + first, add, static_cast<T const*>(to.data() + first), sum(sum, parts));
  });
}

/// f(numbers) for every array of a memory's state.
template <class State, class F> void for_each_array(State& state, F const& f) {
  auto const view = state.view();
  if constexpr (requires { view.num; }) {
    for (auto* const numbers : {view.num, view.den, view.exponent}) f(aviary::VecView(numbers, view.channels()));
  } else {
    f(aviary::VecView(view.s, view.keys() * view.stride()));
  }
}

/// Things that tasks compute with: as many as run at once. Which one a task gets does not matter.
template <class Thing> class Pool {
 public:
  explicit Pool(Index count) : things_(aviary::to_size(count)) {
    for (Thing& thing : things_) free_.push_back(&thing);
  }
  std::vector<Thing>& all() noexcept { return things_; }
  std::vector<Thing> const& all() const noexcept { return things_; }

  /// One of them, until the end of its life.
  class Lent {
   public:
    explicit Lent(Pool& pool) : pool_(pool) {
      std::lock_guard const lock(pool.mutex_);
      thing_ = pool.free_.back();
      pool.free_.pop_back();
    }
    Lent(Lent const&) = delete;
    Lent& operator=(Lent const&) = delete;
    ~Lent() {
      std::lock_guard const lock(pool_.mutex_);
      pool_.free_.push_back(thing_);
    }
    Thing* operator->() const noexcept { return thing_; }

   private:
    Pool& pool_;
    Thing* thing_;
  };

 private:
  std::vector<Thing> things_;
  std::vector<Thing*> free_;
  std::mutex mutex_;
};

/// The tape of a time mix; nothing for a GOLD layer, which gets one in every call.
template <class Mix> struct TapeOf {
  struct Type {};
  static Type make(Mix const&, Index, Index) { return {}; }
};
template <class Mix>
requires requires { typename Mix::Tape; }
struct TapeOf<Mix> {
  using Type = typename Mix::Tape;
  static Type make(Mix const& mix, Index tokens, Index sequences) { return mix.make_tape(tokens, sequences); }
};

/// @tparam Block  aviary::Block<...>, of which the weights are those of a store
template <class Block> class LearningStack {
  using Tape = TapeOf<typename Block::TimeMix>;

 public:
  using T = typename Block::T;
  using State = typename Block::State;
  using StateGradient = typename Block::StateGradient;
  static constexpr bool shares_values = Block::TimeMix::shares_values;
  /// Whether blocks look at all that their sequences have read: both passes then take a function that says what that is.
  static constexpr bool attends = std::is_same_v<typename Block::TimeMix, aviary::Gold<T>>;

  /// @param first, layers  which blocks of the model these are
  /// @param parameters  as Generation::parameters
  template <class Parameters>
  LearningStack(WeightStore<T> const& store, aviary::TensorFile const& file, Index first, Index layers, Index channels,
                LearnerOptions const& options, Parameters const& parameters)
      : options_(options),
        values_(file),
        parts_(aviary::to_size(std::min(options.parts, options.sequences))),
        workspaces_(std::min<Index>(options.threads.concurrency(), count())) {
    Index most = 0;
    for (Index i = first; i < first + layers; ++i) {
      std::string const prefix = "blocks." + std::to_string(i) + ".";
      aviary::VecView<T> const gradients = store.gradients_of(prefix);
      most = std::max(most, gradients.size());
      BlockReader<WeightReader<T>> reader(file, values_, i, channels, options.load);
      for (auto const& entry : store.entries())
        if (entry.name.starts_with(prefix)) weights_ += entry.values.size();
      Layer& layer = layers_.emplace_back(Layer{parameters(reader), {}, {}, gradients, {}, {}});
      layer.block = std::make_unique<Block>(layer.weights);
      layer.empty = layer.block->empty_state();
    }
    for (Part& part : parts_) {
      part.gradients.resize(aviary::to_size(most));
      for (Layer& layer : layers_) {
        GradientReader<T> gradients(store, layer.gradients, part.gradients.data());
        BlockReader<GradientReader<T>> reader(file, gradients, first + static_cast<Index>(part.dweights.size()),
                                              channels, options.load);
        part.dweights.push_back(parameters(reader));
      }
    }
  }

  Index size() const noexcept { return static_cast<Index>(layers_.size()); }
  Index channels() const noexcept { return layers_.front().block->channels(); }

  /// The states of sequences, block by block, or their gradients.
  template <class Of> struct CarriedOf {
    std::vector<std::vector<Of>> layers;  ///< (layers, sequences)
    aviary::AlignedVector<T> begins;      ///< (sequences): 1 where nothing has been read yet, else 0

    /// f(numbers) for every array.
    template <class F> void for_each(F const& f) {
      for (auto& sequences : layers)
        for (Of& one : sequences) {
          f(aviary::VecView<T>(one.time_mix.x));
          for (auto& memory : one.time_mix.s) for_each_array(memory, f);
          f(aviary::VecView<T>(one.channel_mix.x));
        }
      f(aviary::VecView<T>(begins));
    }
  };
  using States = CarriedOf<State>;
  using StateGradients = CarriedOf<StateGradient>;
  States make_states(Index sequences) const {
    States made{{}, aviary::AlignedVector<T>(aviary::to_size(sequences), T(1))};
    for (Layer const& layer : layers_) made.layers.emplace_back(aviary::to_size(sequences), layer.empty);
    return made;
  }
  StateGradients make_state_gradients(Index sequences) const {
    StateGradients made{{}, {}};
    for (Layer const& layer : layers_)
      made.layers.emplace_back(aviary::to_size(sequences), layer.block->empty_state_gradient());
    return made;
  }
  void reset(States& states, Index sequence) const {
    for (std::size_t i = 0; i < layers_.size(); ++i) states.layers[i][aviary::to_size(sequence)] = layers_[i].empty;
    states.begins[aviary::to_size(sequence)] = T(1);
  }

  void refresh() {
    options_.threads(size(), [&](Index i) {
      Layer& layer = layers_[aviary::to_size(i)];
      layer.block.reset();  // its memory serves the new one
      layer.block = std::make_unique<Block>(layer.weights);
      layer.empty = layer.block->empty_state();
    });
  }

  /// Takes x (tokens, C) through all blocks in place.
  /// @param states  before the tokens, become those after; none: sequences begin
  /// @param keeps  whether backward() follows
  /// @param with_context  where blocks attend: with_context(p, part, f) calls f(aviary::GoldContext) for part number p
  template <class... WithContext>
  void forward(std::span<TokenId const>, aviary::MatView<T> x, Parts const& cut, States* states, bool keeps,
               WithContext const&... with_context) {
    static_assert(sizeof...(WithContext) == (attends ? 1 : 0));
    make_room(x.rows(), cut, keeps);
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      Layer& layer = layers_[i];
      if (keeps && states) layer.before = states->layers[i];
      cut.run(options_.threads, [&]([[maybe_unused]] Index p, Parts::Part const& of, Threads threads) {
        typename Pool<Workspace>::Lent const workspace(workspaces_);
        aviary::MatView<T> const rows = of.of(x);
        if (keeps) {
          aviary::MatView<T> const kept = of.of(input_of(layer, x.rows()));
          for (Index t = 0; t < rows.rows(); ++t) std::copy(rows[t].begin(), rows[t].end(), kept[t].begin());
        }
        if (!states) std::fill_n(workspace->states.begin(), of.sequences, layer.empty);
        auto const state = [&](Index s) {
          return states ? &states->layers[i][aviary::to_size(of.first + s)] : &workspace->states[aviary::to_size(s)];
        };
        aviary::Packed<State> const packed(aviary::States<State>(state, of.sequences, 1), of.offsets);
        auto const run = [&](auto const&... shared) {
          (*layer.block)(rows, packed, *workspace->forward, shared..., threads);
        };
        if constexpr (shares_values)
          run(of.of(values_of(v_first_, x.rows())));
        else if constexpr (attends)
          (with_context(p, of, run), ...);
        else
          run();
      });
    }
    if (states) begins_ = states->begins;
    if (states) std::ranges::fill(states->begins, T(0));
  }

  /// After forward(): takes d (tokens, C), what reaches the outputs of the last block, back to the first one's input, and
  /// adds to the gradients of the weights.
  /// @param dstates  of the states after the tokens, become those of the states before; none: they have no part in the loss
  /// @param seconds  what adding up the parts takes is added to
  /// @param with_tape  where blocks attend: with_tape(p, part, f) calls f(aviary::GoldTape) for part number p
  template <class... WithTape>
  void backward(std::span<TokenId const>, aviary::MatView<T> d, Parts const& cut, bool carried, StateGradients* dstates,
                double& seconds, WithTape const&... with_tape) {
    static_assert(sizeof...(WithTape) == (attends ? 1 : 0));
    if constexpr (shares_values) std::ranges::fill(dv_first_, T(0));
    for (std::size_t i = layers_.size(); i-- > 0;) {
      Layer& layer = layers_[i];
      cut.run(options_.threads, [&](Index p, Parts::Part const& of, Threads threads) {
        Part& part = parts_[aviary::to_size(p)];
        typename Pool<Workspace>::Lent const workspace(workspaces_);
        std::fill_n(part.gradients.begin(), layer.gradients.size(), T(0));
        if (!dstates) std::fill_n(workspace->dstates.begin(), of.sequences, layer.block->empty_state_gradient());
        auto const state = [&](Index s) -> State const* {
          return carried ? &layer.before[aviary::to_size(of.first + s)] : &layer.empty;
        };
        auto const dstate = [&](Index s) {
          return dstates ? &dstates->layers[i][aviary::to_size(of.first + s)] : &workspace->dstates[aviary::to_size(s)];
        };
        typename Block::BackwardCall const call{
            .weights = layer.weights,
            .x = of.of(input_of(layer, d.rows())),
            .states = aviary::Packed<State const>(aviary::States<State const>(state, of.sequences, 1), of.offsets),
            .d = of.of(d),
            .dstates = aviary::States<StateGradient>(dstate, of.sequences, 1),
            .dweights = part.dweights[i]};
        auto const run = [&](auto& tape, auto const&... shared) {
          layer.block->backward(call, tape, *workspace->backward, shared..., threads);
        };
        if constexpr (shares_values)
          run(workspace->tape, of.of(values_of(v_first_, d.rows())), of.of(values_of(dv_first_, d.rows())));
        else if constexpr (attends)
          (with_tape(p, of, run), ...);
        else
          run(workspace->tape);
        if constexpr (requires { layer.block->reset_backward(*dstate(0), part.dweights[i]); })
          for (Index s = 0; s < of.sequences; ++s)
            if (!carried || begins_[aviary::to_size(of.first + s)] != T(0))
              layer.block->reset_backward(*dstate(s), part.dweights[i]);
      });
      seconds += models::seconds([&] {
        std::vector<T*> sums;
        for (Index p = 0; p < cut.size(); ++p) sums.push_back(parts_[aviary::to_size(p)].gradients.data());
        add_parts<T>(layer.gradients, sums, options_.threads);
      });
    }
  }

  /// After forward() for backward(): what it was given (tokens, C).
  aviary::MatView<T> input(Index tokens) noexcept { return input_of(layers_.front(), tokens); }

  /// The blocks, as the weights were at the last refresh().
  Block const& block(Index i) const noexcept { return *layers_[aviary::to_size(i)].block; }

  /// Bytes of the layers, of what is kept between the passes, and of what tasks compute with.
  std::size_t bytes() const {
    std::size_t numbers = aviary::to_size(weights_) + v_first_.size() + dv_first_.size() + memories();
    for (Layer const& layer : layers_) numbers += layer.input.size();
    for (Part const& part : parts_) numbers += part.gradients.size();
    for (Workspace const& workspace : workspaces_.all())
      for (auto const& scratch : {&workspace.forward, &workspace.backward})
        if (*scratch) numbers += aviary::to_size((*scratch)->left());
    return numbers * sizeof(T);
  }

 private:
  struct Layer {
    typename Block::Weights weights;  // views of the store
    std::unique_ptr<Block> block;
    State empty;
    aviary::VecView<T> gradients;
    aviary::AlignedVector<T> input;
    std::vector<State> before;  // of carried sequences
  };
  struct Part {
    aviary::AlignedVector<T> gradients;  // of the block that is learning
    std::vector<typename Block::Gradients> dweights;
  };
  struct Workspace {
    std::unique_ptr<aviary::Scratch<T>> forward, backward;
    typename Tape::Type tape;
    std::vector<State> states;
    std::vector<StateGradient> dstates;
  };

  Index count() const noexcept { return static_cast<Index>(parts_.size()); }

  /// The numbers of all memories' states: of empty contexts, and of what tasks compute with.
  std::size_t memories() const {
    if constexpr (attends) {
      return 0;
    } else {
      State one = layers_.front().empty;
      std::size_t states = layers_.size() * one.time_mix.s.size(), numbers = 0;
      for (Workspace const& w : workspaces_.all())
        states += (w.states.size() + w.dstates.size()) * one.time_mix.s.size() + w.tape.states.size() +
                  w.tape.kept.size() + w.tape.dstates.size();
      for_each_array(one.time_mix.s.front(), [&](aviary::VecView<T> x) { numbers += aviary::to_size(x.size()); });
      return states * numbers;
    }
  }

  /// Allocates what the largest batch so far needs.
  void make_room(Index tokens, Parts const& cut, bool keeps) {
    Index const rows = cut.most_rows(), sequences = cut.most_sequences(), c = channels();
    // As Model::stretch. Attention rebuilds all keys for every stretch, so there is only one.
    Index const stretch = attends ? std::max(Index{96}, rows) : 96;
    Index const concurrency = cut.size() == 1 ? options_.threads.concurrency() : 1;
    Block const& block = *layers_.front().block;
    auto const grow = [](auto& to, Index size) {
      if (static_cast<Index>(to.size()) < size) to.resize(aviary::to_size(size));
    };
    Index forward = 0, backward = 0;
    for (Layer& layer : layers_) {
      forward = std::max(forward, stretch * layer.block->scratch_size());
      backward = std::max(backward, keeps ? layer.block->backward_scratch_size(rows, sequences, concurrency) : 0);
      if (keeps) grow(layer.input, tokens * aviary::padded<T>(c));
    }
    for (Workspace& workspace : workspaces_.all()) {
      auto const need = [](auto& scratch, Index numbers) {
        if (!scratch || scratch->left() < numbers) scratch = std::make_unique<aviary::Scratch<T>>(numbers);
      };
      need(workspace.forward, forward);
      if (static_cast<Index>(workspace.states.size()) < sequences)
        workspace.states.assign(aviary::to_size(sequences), layers_.front().empty);
      if (!keeps) continue;
      need(workspace.backward, backward);
      if (rows > tape_rows_ || sequences > tape_sequences_)
        workspace.tape = Tape::make(block.time_mix(), rows, sequences);
      if (static_cast<Index>(workspace.dstates.size()) < sequences)
        workspace.dstates.assign(aviary::to_size(sequences), block.empty_state_gradient());
    }
    if (keeps) {
      tape_rows_ = std::max(tape_rows_, rows);
      tape_sequences_ = std::max(tape_sequences_, sequences);
    }
    if constexpr (shares_values) {
      Index const numbers = tokens * aviary::padded<T>(block.time_mix().inner_channels());
      grow(v_first_, numbers);
      if (keeps) grow(dv_first_, numbers);
    }
  }

  aviary::MatView<T> input_of(Layer& layer, Index rows) const noexcept {
    return {layer.input.data(), rows, channels(), aviary::padded<T>(channels())};
  }
  aviary::MatView<T> values_of(aviary::AlignedVector<T>& values, Index rows) const noexcept {
    Index const inner = layers_.front().block->time_mix().inner_channels();
    return {values.data(), rows, inner, aviary::padded<T>(inner)};
  }

  LearnerOptions options_;
  WeightReader<T> values_;
  std::vector<Layer> layers_;
  std::vector<Part> parts_;
  Pool<Workspace> workspaces_;
  Index tape_rows_ = 0, tape_sequences_ = 0;
  aviary::AlignedVector<T> begins_;
  Index weights_ = 0;
  aviary::AlignedVector<T> v_first_, dv_first_;
};

}  // namespace AVIARY_ISA
}  // namespace models
