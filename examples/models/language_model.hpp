#pragma once
/// What all models share around their layers:
///
///   x = LN_ln0(emb[token])        x = Body(x)        logits = head . LN_ln_out(x)
#include <algorithm>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "aviary/dense/linear.hpp"
#include "aviary/layers/embedding.hpp"
#include "aviary/layers/norm.hpp"
#include "aviary/layers/packed.hpp"
#include "models/context_file.hpp"
#include "models/threads.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// A model around a Body, which has
///
///   T, Context                         its number type, and what it has read: a value
///   channels(), empty_context()
///   Workspace, make_workspace(tokens)  what it computes with
///   run(ids, x, contexts, wants, workspace, threads)
///                                      takes x (tokens, C) of Packed<Context> through its layers in place. For a sequence s
///                                      with wants(s) the last row must be right, for others the context alone
///   same_shape(a, b)                   whether contexts are those of models of one shape
///   description(), write(to, context), read(from, context)  for files, see context_file.hpp
template <class Body> class LanguageModel : public Model {
 public:
  using T = typename Body::T;

  struct Weights {
    aviary::Embedding<T> embedding;
    aviary::LayerNorm<T> ln0;
    Body body;
    aviary::LayerNorm<T> ln_out;
    aviary::Linear<T> head;
    aviary::Fingerprint fingerprint = {};  ///< of all of these, as the checkpoint has them
  };

  explicit LanguageModel(Weights weights, Threads threads = Threads())
      : weights_(std::move(weights)), threads_(threads), empty_(weights_.body.empty_context()) {}

  Index vocab_size() const noexcept override { return weights_.head.out(); }
  Index channels() const noexcept { return weights_.head.in(); }
  /// What the body keeps of a context of this model, and its logits in the model's own number type.
  typename Body::Context const& body_of(Context const& context) const { return held(context).saved.context; }
  std::span<T const> logits_of(Context const& context) const { return held(context).saved.logits; }

  Context empty_context() const override {
    return Context(std::make_unique<Held>(Saved{empty_, {}, weights_.fingerprint}, vocab_size()));
  }
  void reset(Context& context) const override {
    Held& held = this->held(context);
    held.saved.context = empty_;
    held.forget_logits();
  }

  bool owns(Context const& context) const noexcept override {
    auto const* const held = dynamic_cast<Held const*>(&context.held());
    return held != nullptr && held->saved.weights == weights_.fingerprint && held->vocab_size == vocab_size() &&
           weights_.body.same_shape(empty_, held->saved.context);
  }

  std::unique_ptr<models::Workspace> make_workspace(Index contexts) const override {
    return std::make_unique<Workspace>(*this, contexts);
  }

  void check(std::span<TokenId const> tokens) const override {
    if (tokens.empty()) throw std::invalid_argument("expected at least one token, found none");
    for (TokenId const token : tokens)
      if (token < 0 || token >= vocab_size())
        throw std::invalid_argument("expected token ids from 0 to " + std::to_string(vocab_size() - 1) + ", found " +
                                    std::to_string(token));
  }

  using Model::advance;
  void advance(std::span<Turn const> turns, models::Workspace& workspace) const override {
    auto* const own = dynamic_cast<Workspace*>(&workspace);
    if (own == nullptr || own->x.size() != aviary::to_size(stretch * channels()))
      throw std::invalid_argument("this workspace belongs to another model");
    for (Turn const& turn : turns) check(turn.tokens);
    take_turns(turns, *own);
    if (turns.empty()) return;
    auto const context = [&](Index s) { return own->contexts[aviary::to_size(s)]; };
    aviary::States<Held> const contexts(context, static_cast<Index>(turns.size()), 1);
    aviary::Packed<Held>(contexts, own->offsets).for_parts(stretch, [&](Index, aviary::Packed<Held> const& part) {
      run(turns, part, *own);
    });
  }

  void save(Context const& context, std::filesystem::path const& path) const override {
    write_context(path, weights_.body, held(context).saved, vocab_size());
  }

  void load(Context& context, std::filesystem::path const& path) const override {
    Held loaded(Saved{empty_, {}, weights_.fingerprint}, vocab_size());
    read_context(path, weights_.body, loaded.saved, vocab_size());
    loaded.narrow_logits();
    held(context).assign(loaded);
  }

 private:
  using View = aviary::MatView<T>;
  using Saved = SavedContext<typename Body::Context, T>;

  struct Held final : HeldContext {
    Held(Saved what, Index tokens) : saved(std::move(what)), vocab_size(tokens) { make_room(); }
    Held(Held const& other)
        : HeldContext(other), saved(other.saved), vocab_size(other.vocab_size), narrow(other.narrow) {
      make_room();
    }
    Held& operator=(Held const&) = default;

    std::unique_ptr<HeldContext> copy() const override { return std::make_unique<Held>(*this); }
    bool assign(HeldContext const& other) override {
      auto const* const from = dynamic_cast<Held const*>(&other);
      if (from == nullptr) return false;
      if constexpr (requires { saved.context.make_room(saved.context); }) saved.context.make_room(from->saved.context);
      *this = *from;
      return true;
    }
    std::span<float const> logits() const noexcept override {
      if constexpr (std::is_same_v<T, float>)
        return saved.logits;
      else
        return narrow;
    }
    Index cache_bytes() const noexcept override {
      if constexpr (requires { saved.context.cache_bytes(); })
        return saved.context.cache_bytes();
      else
        return 0;
    }

    void forget_logits() noexcept {
      saved.logits.clear();
      narrow.clear();
    }
    void narrow_logits() {
      if constexpr (std::is_same_v<T, float>) return;
      narrow.resize(saved.logits.size());
      aviary::convert(saved.logits.data(), narrow.data(), static_cast<Index>(narrow.size()));
    }
    /// So that later calls need not allocate.
    void make_room() {
      saved.logits.reserve(aviary::to_size(vocab_size));
      if constexpr (!std::is_same_v<T, float>) narrow.reserve(aviary::to_size(vocab_size));
    }

    Saved saved;
    Index vocab_size;
    std::vector<float> narrow;  ///< the logits, unless T is float
  };

  struct Workspace final : models::Workspace {
    /// Rows of logits that are made at once.
    static constexpr Index most_rows = 64;

    Workspace(LanguageModel const& model, Index count)
        : x(aviary::to_size(stretch * model.channels())),
          body(model.weights_.body.make_workspace(stretch)),
          vocab_size(model.vocab_size()),
          channels(model.channels()) {
      ids.reserve(aviary::to_size(stretch));
      make_room(count);
    }
    void make_room(Index count) {
      contexts.reserve(aviary::to_size(count));
      sorted.reserve(aviary::to_size(count));
      offsets.reserve(aviary::to_size(count + 1));
      Index const wanted = std::min(count, most_rows);
      if (wanted <= rows) return;
      last.resize(aviary::to_size(wanted * channels));
      finished.reserve(aviary::to_size(wanted));
      if (wanted > 1) logits.resize(aviary::to_size(wanted * vocab_size));
      rows = wanted;
    }

    aviary::AlignedVector<T> x;  // (stretch, C)
    typename Body::Workspace body;
    std::vector<TokenId> ids;  // of the rows of x
    std::vector<Held*> contexts, sorted;
    std::vector<Index> offsets;
    aviary::AlignedVector<T> last;    // (rows, C), of contexts that want logits
    aviary::AlignedVector<T> logits;  // (rows, vocabulary), unless there is one row
    std::vector<Held*> finished;      // whose rows are in `last`
    Index vocab_size, channels, rows = 0;
  };

  static Held& held(Context& context) { return dynamic_cast<Held&>(context.held()); }
  static Held const& held(Context const& context) { return dynamic_cast<Held const&>(context.held()); }

  /// Checks the contexts, and lays them out.
  void take_turns(std::span<Turn const> turns, Workspace& own) const {
    own.make_room(static_cast<Index>(turns.size()));
    own.contexts.clear();
    own.offsets.assign(1, 0);
    for (Turn const& turn : turns) {
      if (!owns(*turn.context)) throw std::invalid_argument("this context belongs to another model");
      own.contexts.push_back(&held(*turn.context));
      own.offsets.push_back(own.offsets.back() + static_cast<Index>(turn.tokens.size()));
    }
    own.sorted = own.contexts;
    std::ranges::sort(own.sorted, std::less<>());
    if (std::ranges::adjacent_find(own.sorted) != own.sorted.end())
      throw std::invalid_argument("a context has two turns, expected one of each");
    for (Held* const context : own.contexts) context->forget_logits();
  }

  /// Takes some rows of a call through the model.
  void run(std::span<Turn const> turns, aviary::Packed<Held> const& part, Workspace& own) const {
    own.ids.clear();
    for (Index s = part.first(); s < part.end(); ++s) {
      auto const tokens = turns[aviary::to_size(s)].tokens;
      std::size_t const count = aviary::to_size(part.end_of(s) - part.begin_of(s));
      auto const ids = tokens.subspan(tokens.size() - aviary::to_size(part.left_of(s)) - count, count);
      own.ids.insert(own.ids.end(), ids.begin(), ids.end());
    }
    View const x(own.x.data(), part.rows(), channels());
    weights_.embedding(own.ids, x);
    weights_.ln0(x, x);
    auto const wants = [&](Index s) {
      return turns[aviary::to_size(s)].wants_logits && part.left_of(s) == 0 && part.begin_of(s) < part.end_of(s);
    };
    auto const context = [&](Index s) { return &part.state(s).saved.context; };
    weights_.body.run(own.ids, x, part.template with_states<typename Body::Context>(context), wants, own.body,
                      threads_);
    for (Index s = part.first(); s < part.end(); ++s)
      if (wants(s)) {
        std::copy_n(&x(part.end_of(s) - 1, 0), channels(),
                    own.last.data() + static_cast<Index>(own.finished.size()) * channels());
        own.finished.push_back(&part.state(s));
        if (static_cast<Index>(own.finished.size()) == own.rows) make_logits(own);
      }
    make_logits(own);
  }

  /// Gives logits to the contexts that are finished.
  void make_logits(Workspace& own) const {
    Index const count = static_cast<Index>(own.finished.size());
    if (count == 0) return;
    View const last(own.last.data(), count, channels());
    weights_.ln_out(last, last);
    for (Held* const context : own.finished) context->saved.logits.resize(aviary::to_size(vocab_size()));
    T* const to = count == 1 ? own.finished[0]->saved.logits.data() : own.logits.data();
    weights_.head(last, View(to, count, vocab_size()), threads_);
    for (Index i = 0; i < count; ++i) {
      Held& context = *own.finished[aviary::to_size(i)];
      if (count > 1) std::copy_n(to + i * vocab_size(), vocab_size(), context.saved.logits.data());
      context.narrow_logits();
    }
    own.finished.clear();
  }

  Weights weights_;
  Threads threads_;
  typename Body::Context empty_;
};

}  // namespace AVIARY_ISA
}  // namespace models
