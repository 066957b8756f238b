#pragma once
/// What all models share around their layers, going forward and back:
///
///   x = LN_ln0(emb[token])        x = Body(x)        loss = cross-entropy of head . LN_ln_out(x)
#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "aviary/layers/embedding.hpp"
#include "aviary/layers/norm.hpp"
#include "models/learner.hpp"
#include "models/learning_stack.hpp"
#include "models/timing.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// A learner around a Body, which has
///
///   T, States, StateGradients          its number type, and what it carries of the sequences of a batch
///   channels(), make_states(sequences), make_state_gradients(sequences), reset(states, sequence), refresh(), bytes()
///   forward(ids, x, cut, states, keeps)
///   backward(ids, d, cut, carried, dstates, seconds)
///
/// as LearningStack has them.
template <class Body> class LanguageLearner final : public Learner<typename Body::T> {
 public:
  using T = typename Body::T;
  using typename Learner<T>::Call;

  /// @param make_body  (file, channels) -> Body
  template <class MakeBody>
  LanguageLearner(WeightStore<T>& weights, aviary::TensorFile file, LearnerOptions const& options,
                  MakeBody const& make_body)
      : file_(std::move(file)),
        options_(options),
        embedding_(weights["emb.weight"]),
        head_(weights["head.weight"]),
        body_(make_body(file_, embedding_.shape.back())),
        parts_(aviary::to_size(std::min(options.parts, options.sequences))) {
    Index const c = channels();
    WeightReader<T> read(file_);
    (void)read.matrix("head.weight", vocab_size(), c);
    for (Norm* norm : {&ln0_, &ln_out_}) {
      std::string const name = norm == &ln0_ ? "blocks.0.ln0" : "ln_out";
      norm->weight = &weights[name + ".weight"], norm->bias = &weights[name + ".bias"];
      read.layer_norm(name, c);
    }
    for (auto& part : parts_) part.resize(aviary::to_size(4 * aviary::padded<T>(c)));
    make_norms();
  }

  Index vocab_size() const noexcept override { return embedding_.shape.front(); }
  Index channels() const noexcept { return body_.channels(); }

  std::unique_ptr<Carried<T>> make_states(Index sequences) const override {
    return std::make_unique<CarriedStates>(*this, body_.make_states(sequences));
  }
  std::unique_ptr<Carried<T>> make_state_gradients(Index sequences) const override {
    return std::make_unique<CarriedGradients>(*this, body_.make_state_gradients(sequences));
  }

  aviary::Loss learn(Call const& call) override { return run(call, true); }
  aviary::Loss evaluate(Call const& call) override { return run(call, false); }

  void refresh() override {
    times_.refresh += seconds([&] {
      make_norms();
      body_.refresh();
    });
  }

  LearningTimes times() const noexcept override { return times_; }
  std::size_t bytes() const override {
    return body_.bytes() + sizeof(T) * (x_.size() + normal_.size() + logits_.size()) + sizeof(double) * losses_.size();
  }

 private:
  using Entry = typename WeightStore<T>::Entry;
  using View = aviary::MatView<T>;

  /// A norm of the frame, and the store's names of it.
  struct Norm {
    Entry const *weight = nullptr, *bias = nullptr;
    std::unique_ptr<aviary::LayerNorm<T>> layer;

    void make() { layer = std::make_unique<aviary::LayerNorm<T>>(weight->values, bias->values); }
  };

  template <class Of, bool states> struct CarriedIn final : Carried<T> {
    CarriedIn(LanguageLearner const& whose, Of what) : learner(whose), held(std::move(what)) {}
    std::unique_ptr<Carried<T>> copy() const override { return std::make_unique<CarriedIn>(learner, held); }
    void reset([[maybe_unused]] Index sequence) override {
      if constexpr (states) learner.body_.reset(held, sequence);
    }
    void for_each(std::function<void(aviary::VecView<T>)> const& f) override { held.for_each(f); }

    LanguageLearner const& learner;
    Of held;
  };
  using CarriedStates = CarriedIn<typename Body::States, true>;
  using CarriedGradients = CarriedIn<typename Body::StateGradients, false>;

  template <class Held> auto* held_in(Carried<T>* carried) const {
    auto* const found = dynamic_cast<Held*>(carried);
    if (carried != nullptr && (found == nullptr || &found->learner != this))
      throw std::invalid_argument("these states belong to another learner");
    return found ? &found->held : nullptr;
  }

  void make_norms() {
    ln0_.make();
    ln_out_.make();
  }

  void check(Call const& call) const {
    Batch const& b = call.batch;
    auto const fail = [](std::string const& what) { throw std::invalid_argument("batch: expected " + what); };
    Index const tokens = static_cast<Index>(b.tokens.size());
    if (tokens == 0 || tokens > options_.tokens)
      fail("1 to " + std::to_string(options_.tokens) + " tokens, found " + std::to_string(tokens));
    if (b.targets.size() != b.tokens.size())
      fail(std::to_string(tokens) + " targets, found " + std::to_string(b.targets.size()));
    if (b.offsets.size() < 2 || static_cast<Index>(b.offsets.size()) > options_.sequences + 1)
      fail("1 to " + std::to_string(options_.sequences) + " sequences, found " +
           std::to_string(static_cast<Index>(b.offsets.size()) - 1));
    if (b.offsets.front() != 0 || b.offsets.back() != tokens || !std::ranges::is_sorted(b.offsets))
      fail("ascending offsets from 0 to " + std::to_string(tokens));
    auto const id = [&](TokenId token, char const* what, TokenId least) {
      if (token < least || token >= vocab_size())
        fail(std::string(what) + " from " + std::to_string(least) + " to " + std::to_string(vocab_size() - 1) +
             ", found " + std::to_string(token));
    };
    for (TokenId const token : b.tokens) id(token, "tokens", 0);
    for (TokenId const token : b.targets) id(token, "targets", -1);
    if (call.state_gradients != nullptr && call.states == nullptr) fail("states with their gradients");
  }

  aviary::Loss run(Call const& call, bool learns) {
    check(call);
    auto* const states = held_in<CarriedStates>(call.states);
    auto* const dstates = held_in<CarriedGradients>(call.state_gradients);
    auto const& ids = call.batch.tokens;
    Index const tokens = static_cast<Index>(ids.size()), c = channels();
    Parts const cut(call.batch.offsets, options_.parts);
    View const x = room(x_, tokens, c), normal = room(normal_, tokens, c);

    times_.embedding += seconds([&] {
      cut.run(options_.threads, [&](Index, Parts::Part const& part, Threads) {
        embed(ids, part, part.of(x));
        (*ln0_.layer)(part.of(x), part.of(x));
      });
    });
    times_.forward += seconds([&] { body_.forward(ids, x, cut, states, learns); });

    aviary::Loss loss;
    times_.head += seconds([&] {
      cut.run(options_.threads,
              [&](Index, Parts::Part const& part, Threads) { (*ln_out_.layer)(part.of(x), part.of(normal)); });
      View const dx = learns ? room(dnormal_, tokens, c) : View(nullptr, 0, 0);
      if (learns) std::ranges::fill(dnormal_, T(0));
      losses_.resize(aviary::to_size(tokens));
      loss = aviary::head_cross_entropy<T>(
          {.x = normal,
           .head = head_.as_rows(head_.values),
           .logits = room(logits_, std::min(tokens, Index{256}), vocab_size()),
           .losses = losses_,
           .scale = call.scale,
           .dx = learns ? aviary::MatSink<T>(dx) : aviary::MatSink<T>(),
           .dhead =
               learns && head_.learns() ? aviary::MatSink<T>(head_.as_rows(head_.gradients)) : aviary::MatSink<T>()},
          call.batch.targets, options_.threads);
    });
    if (!learns) return loss;

    View const d = room(dnormal_, tokens, c);
    times_.head += seconds([&] { norm_back(ln_out_, cut, x, d, 0); });
    double sums = 0;
    double const back = seconds([&] { body_.backward(ids, d, cut, states != nullptr, dstates, sums); });
    times_.backward += back - sums;
    times_.sums += sums;
    times_.embedding += seconds([&] {
      cut.run(options_.threads, [&](Index, Parts::Part const& part, Threads) { embed(ids, part, part.of(x)); });
      norm_back(ln0_, cut, x, d, 2);
      if (embedding_.learns())
        aviary::add_embedding_gradient<T>(ids, d, embedding_.as_rows(embedding_.gradients), options_.threads);
    });
    return loss;
  }

  /// The rows of the table for the tokens of a part.
  void embed(std::span<TokenId const> ids, Parts::Part const& part, View x) const noexcept {
    View const table = embedding_.as_rows(embedding_.values);
    for (Index t = 0; t < x.rows(); ++t) {
      auto const row = table[static_cast<Index>(ids[aviary::to_size(part.row + t)])];
      std::copy(row.begin(), row.end(), x[t].begin());
    }
  }

  /// d, what reached the outputs of a norm, becomes what reaches its inputs x. Its own gradients are those of parts, from
  /// vector number `first` on.
  void norm_back(Norm const& norm, Parts const& cut, View x, View d, Index first) {
    Index const c = channels(), stride = aviary::padded<T>(c);
    auto const vector = [&](Index p, Index n) {
      return aviary::VecView<T>(parts_[aviary::to_size(p)].data() + (first + n) * stride, c);
    };
    cut.run(options_.threads, [&](Index p, Parts::Part const& part, Threads) {
      for (Index n = 0; n < 2; ++n) std::ranges::fill(vector(p, n), T(0));
      norm.layer->backward(part.of(x), part.of(d), part.of(d), vector(p, 0), vector(p, 1));
    });
    for (Index n = 0; n < 2; ++n) {
      Entry const& entry = n == 0 ? *norm.weight : *norm.bias;
      if (!entry.learns()) continue;
      std::vector<T*> sums;
      for (Index p = 0; p < cut.size(); ++p) sums.push_back(vector(p, n).data());
      add_parts<T>(entry.gradients, sums, Threads(1));
    }
  }

  /// Rows of a buffer that grows.
  static View room(aviary::AlignedVector<T>& numbers, Index rows, Index columns) {
    Index const stride = aviary::padded<T>(columns);
    if (static_cast<Index>(numbers.size()) < rows * stride) numbers.resize(aviary::to_size(rows * stride));
    return {numbers.data(), rows, columns, stride};
  }

  aviary::TensorFile file_;  // of the weights
  LearnerOptions options_;
  Entry const &embedding_, &head_;
  Norm ln0_, ln_out_;
  Body body_;
  std::vector<aviary::AlignedVector<T>> parts_;  // gradients of norms
  aviary::AlignedVector<T> x_, normal_, dnormal_, logits_;
  std::vector<double> losses_;
  LearningTimes times_;
};

/// The learner of a generation whose blocks are all of one type.
template <class Generation>
std::unique_ptr<Learner<typename Generation::T>> make_block_learner(WeightStore<typename Generation::T>& weights,
                                                                    LearnerOptions const& options) {
  using Stack = LearningStack<typename Generation::Block>;
  return std::make_unique<LanguageLearner<Stack>>(
      weights, weights.file(), options, [&](aviary::TensorFile const& file, Index channels) {
        return Stack(weights, file, 0, count_layers(file), channels, options,
                     [](auto& reader) { return Generation::parameters(reader); });
      });
}

}  // namespace AVIARY_ISA
}  // namespace models
